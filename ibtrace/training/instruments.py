"""Instruments and schedules as a configuration names them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ibtrace import estimators as known_estimators
from ibtrace import lenses as known_lenses
from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import MOST, is_alone, several, shown, whole
from ibtrace.runtime.schedule import Schedule, Steps, log_spaced, schedule
from ibtrace.tracer import At
from ibtrace.training import functions
from ibtrace.training.experiment import Instruments

Raw = dict[str, Any]


def instruments(
    epochs: int,
    estimators: str | list[str | Raw] | None = None,
    lenses: str | Sequence[str | Raw] = (),
    snapshots: int | list[int] | None = None,
    every: int | list[int] | str | None = None,
) -> Instruments:
    """What a configuration says is measured, and when.

    Args:
        epochs: Epochs of training.
        estimators: Registry names, or ``{name: …, field: …}``; ``snapshots`` or ``every`` in such
            an entry gives the estimator a schedule of its own. One name needs no list; None takes
            what can say something on the probe, as in `ibtrace.Tracer`. One of your own:
            ``{class_path: my_file.Mine, init_args: {…}}``.
        lenses: What else to measure, likewise: ``[saturation]``, or ``all``; none by default.
        snapshots: When to look: how many points, evenly on a log axis, or the epochs themselves;
            100 points where ``every`` does not say it either.
        every: When to look, as ``every`` of `ibtrace.Tracer`: an int (every n-th epoch), epochs,
            or as in Python ``Steps(100)`` (by optimiser steps) or ``log_spaced(8000, 400)``. The
            last epoch is measured in any case.

    Raises:
        ConfigError: If ``snapshots`` or ``every`` is no schedule, or both are given; if an entry
            has no name, or a field that its instrument does not have.
        UnknownName: If no instrument has that name.
    """
    if estimators is not None and not estimators:
        raise ConfigError("estimators: at least one is needed")
    due = _schedule(epochs, snapshots, every) or log_spaced(epochs)
    return Instruments(
        None
        if estimators is None
        else _built("estimators", several(estimators), known_estimators.make, epochs, due),
        _built("lenses", [*_each_lens(lenses)], known_lenses.make, epochs, due),
        due,
    )


def _each_lens(given: Any) -> Iterator[Any]:
    """The entries one by one, also of ``{name: all, every: …}``, which share a schedule."""
    for entry in known_lenses.expanded(given):
        if isinstance(entry, Mapping) and known_lenses.is_all(entry.get("name")):
            yield from ({**entry, "name": name} for name in known_lenses.names())
        else:
            yield entry


def _built(
    role: str,
    entries: Sequence[Any],
    make: Callable[..., Any],
    epochs: int,
    run: Schedule,
) -> list[Any]:
    """Instruments by their names and fields, or by their classes and arguments."""
    by_steps = isinstance(run, Steps)
    built = []
    for entry in entries:
        fields = {"name": entry} if isinstance(entry, str) else dict(entry)
        due = _schedule(epochs, fields.pop("snapshots", None), fields.pop("every", None))
        if "class_path" in fields:
            name, made = fields["class_path"], functions.instrument(role, fields)
        elif isinstance(name := fields.pop("name", None), str):
            made = make(name, **{key: _tuples(value) for key, value in fields.items()})
        else:
            raise ConfigError(
                f"{role}: an entry needs a 'name', got {shown(entry)}; as {{name: NAME, FIELD: "
                "VALUE}"
            )
        if due is not None and isinstance(due, Steps) != by_steps:
            counted = "steps" if by_steps else "epochs"
            raise ConfigError(
                f"{role}: {name} has a schedule of its own, which must count {counted} as "
                "that of the run does: every: Steps(…) counts steps, all others epochs"
            )
        built.append(made if due is None else At(made, due))
    return built


def require_entries(role: str, given: Any) -> None:
    """Raise for what names no instruments, before the parser says so in many lines.

    Args:
        role: ``estimators`` or ``lenses``.
        given: What the configuration says.

    Raises:
        ConfigError: If it is neither a name nor a list of names and mappings.
    """
    form = "{name: NAME, FIELD: VALUE}"
    if not isinstance(given, str) and is_alone(given):
        raise ConfigError(
            f"{role} must be a name, or a list of names and {form}, got {shown(given)}"
        )
    for entry in several(given):
        if not isinstance(entry, (str, Mapping)):
            raise ConfigError(f"{role}: an entry is a name, or {form}, got {shown(entry)}")


def _schedule(epochs: int, snapshots: Any, every: Any) -> Schedule | None:
    """What one of the two keys says, or None where both are left out."""
    if snapshots is not None and every is not None:
        raise ConfigError(
            f"snapshots is {snapshots} and every is {every}; give one of them (null: not given)"
        )
    if every is not None:
        return _as_in_python(every)
    if snapshots is None:
        return None
    if isinstance(snapshots, int):
        whole("snapshots", snapshots, least=1, most=MOST)
        return log_spaced(epochs, snapshots)
    return schedule([*snapshots, epochs])


_SCHEDULES: dict[str, Callable[..., Any]] = {"Steps": Steps, "log_spaced": log_spaced}


def _as_in_python(every: Any) -> Schedule:
    """What ``every`` of a tracer takes, but for functions: calls stand in YAML as text.

    Raises:
        ConfigError: If it is no schedule.

    Example:
        >>> _as_in_python("Steps([1, 10])")(10), _as_in_python(5)(12)
        (True, False)
    """
    if not isinstance(every, str):
        return schedule(every)
    try:
        return schedule(_evaluated(ast.parse(every.strip(), mode="eval").body))
    except ConfigError:
        raise
    except (SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(
            f"every must be an int, epochs, Steps(…) or log_spaced(total, count), got {every!r}"
        ) from error


def _evaluated(node: ast.expr) -> Any:
    """A literal, or the call of a schedule on such; nothing else is run."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return ast.literal_eval(node)
    if node.func.id not in _SCHEDULES:
        raise ValueError(f"no schedule {node.func.id}")
    named: dict[Any, Any] = {keyword.arg: _evaluated(keyword.value) for keyword in node.keywords}
    return _SCHEDULES[node.func.id](*map(_evaluated, node.args), **named)


def _tuples(value: Any) -> Any:
    """YAML's lists as tuples, so that estimators stay hashable."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
