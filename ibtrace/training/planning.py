"""The runs of a configuration: its variants, and beside each the controls that it asks for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ibtrace.errors import ConfigError, IbtraceError
from ibtrace.runtime.imports import imported
from ibtrace.training import config, configs
from ibtrace.training.rehearsal import rehearsed
from ibtrace.types import CONTROL, CONTROLS, Control, ControlKind

_KEY = "controls"


@dataclass(frozen=True)
class Planned:
    """One run to be.

    Args:
        raw: Its configuration.
        left_out: Controls that were asked for and that it cannot have, and why.
    """

    raw: configs.Raw
    left_out: Mapping[str, str] = field(default_factory=dict)


def named(raw: configs.Raw) -> list[str]:
    """The names that the runs of a configuration may have: each variant, then its controls.

    Args:
        raw: The configuration.

    Raises:
        ConfigError: If ``controls`` are no list of known ones, or a variant has a control's name.
    """
    kinds, variants = _asked(raw), configs.variants(raw)
    names = []
    for name in variants:
        own = [_name(Control(kind, name)) for kind in kinds]
        if taken := [each for each in own if each in variants]:
            raise ConfigError(f"controls: {taken[0]} is a variant itself; give that another name")
        names += [name, *own]
    return names


def planned(raw: configs.Raw) -> dict[str, Planned]:
    """The runs of a configuration by name, the controls of a variant after it.

    A control that a variant cannot have is left out, and the variant told why.

    Args:
        raw: The configuration; its ``controls`` are a list of `ibtrace.types.CONTROLS`.

    Raises:
        ConfigError: If the configuration is wrong.
        IbtraceError: Whatever a look at a variant's networks objects to.
    """
    named(raw)
    runs: dict[str, Planned] = {}
    for name, own in configs.variants(raw).items():
        config.build(own)
        made: dict[str, Planned] = {}
        left_out: dict[str, str] = {}
        for kind in _asked(raw):
            control = Control(kind, name)
            try:
                made[_name(control)] = Planned(_controlled(own, control))
            except IbtraceError as error:
                left_out[kind] = str(error)
        runs |= {name: Planned(own, left_out), **made}
    return runs


def _asked(raw: configs.Raw) -> Sequence[ControlKind]:
    kinds = raw.get(_KEY) or []
    if not isinstance(kinds, list) or any(kind not in list(CONTROLS) for kind in kinds):
        raise ConfigError(f"controls must be a list of {', '.join(CONTROLS)}; got {kinds!r}")
    return list(dict.fromkeys(kinds))


def _name(control: Control) -> str:
    """What a control is called beside the variants, and its folder."""
    return "-".join(filter(None, (control.of, control.kind)))


def _controlled(raw: configs.Raw, control: Control) -> configs.Raw:
    """The configuration of a control, from its subject's.

    Raises:
        IbtraceError: If there can be no such control; says why.
    """
    changed = _linear(raw) if control.kind == "linear" else raw
    changed = {**changed, CONTROL: asdict(control)}
    config.build(changed)
    return changed


def _linear(raw: configs.Raw) -> configs.Raw:
    """The configuration of the linear network of the same widths, looked at in the same layers."""
    entry = raw["model"]
    entry = {"class_path": entry} if isinstance(entry, str) else entry
    path = entry["class_path"]
    parameters = _parameters(imported(path))
    if "activation" not in parameters:
        raise ConfigError(
            f"{path} takes no argument 'activation', which could be 'linear': how its units become "
            "linear is not known"
        )
    given = (entry.get("init_args") or {}).get("activation", parameters["activation"].default)
    if given == "linear":
        raise ConfigError("the network is linear itself: its control would be the subject again")
    layers = rehearsed(config.build(raw))
    made = configs.override({**raw, "model": entry}, "model.init_args.activation", "linear")
    return {**made, "layers": layers}


def _parameters(place: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(place).parameters
    except (TypeError, ValueError):  # of a function of C
        return {}
