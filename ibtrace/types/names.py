"""How instruments and what they measure are called in tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from ibtrace.types.protocols import keeps


@runtime_checkable
class Labelled(Protocol):
    """An instrument that says itself how it is called in tables."""

    @property
    def label(self) -> str:
        """Its name in tables."""
        ...


@runtime_checkable
class Preset(Protocol):
    """An instrument whose fields may have a name together (``Binning.idnns()``)."""

    @property
    def preset(self) -> str:
        """The name that speaks for all the fields; empty if they have none."""
        ...


def label(estimator: object) -> str:
    """The estimator's short name in tables: its class and the fields that are not the default.

    What is `Labelled` says it itself, and a `Preset` speaks for all the fields. Objects that are no
    dataclass give their ``repr``.
    """
    if not dataclasses.is_dataclass(estimator) or isinstance(estimator, type):
        return repr(estimator)
    if keeps(estimator, Labelled):
        return estimator.label
    name = type(estimator).__name__
    if keeps(estimator, Preset) and estimator.preset:
        return f"{name}.{estimator.preset}"
    changed = []
    for item in dataclasses.fields(estimator):
        value = getattr(estimator, item.name)
        default = item.default
        if default is dataclasses.MISSING and item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if value != default:
            shown = label(value) if dataclasses.is_dataclass(value) else repr(value)
            changed.append(f"{item.name}={shown}")
    return f"{name}({', '.join(changed)})" if changed else name


def either(estimands: Iterable[tuple[str, str]]) -> str:
    """Several estimands in one line, each once, as an axis says it.

    Args:
        estimands: Pairs of what stands for T by an estimator, and how T was made of the layer's
            output (empty: it is the output): `Row.estimand` and `Row.variable`.

    Example:
        >>> either([("floor(T / 0.5)", "gap"), ("floor(T / 0.5)", ""), ("T in 30 bins", "")])
        'floor(T / 0.5); T: gap or as it is, or T in 30 bins'
    """
    variables: dict[str, list[str]] = {}
    for estimand, variable in dict.fromkeys(estimands):
        variables.setdefault(estimand, []).append(variable)
    parts = [
        f"{estimand}; T: {' or '.join(each or 'as it is' for each in made)}"
        if any(made)
        else estimand
        for estimand, made in variables.items()
    ]
    return ", or ".join(parts)
