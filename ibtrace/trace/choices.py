"""A grid of analysis choices: which estimators, on how much of the data, judged how."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, Literal

from ibtrace import estimators as registered
from ibtrace.errors import ConfigError, RunError
from ibtrace.runtime.arguments import is_alone, whole
from ibtrace.runtime.yaml_text import parsed
from ibtrace.types import Estimator

DEFAULT = Path(__file__).with_name("multiverse.yaml")

ALL, BEST_HALF, LEAVE_ONE_OUT = "all", "best half", "leave one out"
Seeds = Literal["all", "best half", "leave one out"] | int

_COMMON = ("samples", "training", "seeds", "least_drop")
_OWN = ("name", "estimator")


@dataclass(frozen=True)
class Judging:
    """What is judged, and by which least drop: choices that need no new estimate.

    Args:
        training: The share of the training from its start.
        seeds: Which of the seeds.
        least_drop: Bits.
    """

    training: Fraction
    seeds: Seeds
    least_drop: float


@dataclass(frozen=True)
class Family:
    """Estimators that differ in their settings alone, and what they are applied to.

    Args:
        name: Its name in tables and figures.
        estimators: Each with its choices as text, ``{"bins": "30"}``.
        samples: Shares of the probe.
        judgings: What each estimate is judged by.
    """

    name: str
    estimators: tuple[tuple[Estimator, Mapping[str, str]], ...]
    samples: tuple[Fraction, ...]
    judgings: tuple[Judging, ...]

    def __len__(self) -> int:
        return len(self.estimators) * len(self.samples) * len(self.judgings)


@dataclass(frozen=True)
class Choices:
    """A grid of analyses.

    Args:
        families: The families; all combinations of the choices of each.
        looks: At most so many of a run's snapshots; None for all.
    """

    families: tuple[Family, ...]
    looks: int | None = None

    def __len__(self) -> int:
        return sum(map(len, self.families))

    @classmethod
    def read(cls, grid: Choices | Mapping[str, Any] | str | os.PathLike[str] | None) -> Choices:
        """A grid from a YAML file, or from what one says; None is the default grid.

        Raises:
            ConfigError: If something in it is unknown, missing or impossible; says where.
            UnknownName: If there is no such estimator.
            RunError: If the file cannot be read.

        Example:
            >>> family = {"estimator": "binning", "bins": [10, 30], "samples": [1, "1/2"]}
            >>> len(Choices.read({"families": [family]}))
            4
        """
        if isinstance(grid, Choices):
            return grid
        if not isinstance(grid, Mapping | str | os.PathLike | None):
            raise ConfigError(f"multiverse: a grid is a mapping or a YAML file, got {grid!r}")
        raw = (
            grid if isinstance(grid, Mapping) else _loaded(Path(DEFAULT if grid is None else grid))
        )
        if unknown := sorted({*raw} - {"looks", "families", *_COMMON}):
            known = ", ".join(("families", "looks", *_COMMON))
            raise ConfigError(f"multiverse: {unknown[0]!r} is unknown; a grid has {known}")
        families = raw.get("families")
        if not isinstance(families, Sequence) or isinstance(families, str) or not families:
            raise ConfigError("multiverse: families must be a list with one family at least")
        made = tuple(_family(family, raw) for family in families)
        names = [family.name for family in made]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"multiverse: two families are called {twice[0]!r}; name one anew")
        looks = raw.get("looks")
        return cls(made, None if looks is None else whole("multiverse: looks", looks, least=2))


def _loaded(path: Path) -> Mapping[str, Any]:
    try:
        raw = parsed(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: no YAML: {error}") from error
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: a grid is a mapping with families, got {type(raw).__name__}")
    return raw


def _family(raw: Any, common: Mapping[str, Any]) -> Family:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("estimator"), str):
        raise ConfigError(f"multiverse: a family names its estimator, got {raw!r}")
    name = str(raw.get("name", raw["estimator"]))
    who = f"multiverse: {name}"
    chosen = {key: raw.get(key, common.get(key)) for key in _COMMON}
    judgings = product(
        _shares(f"{who}: training", chosen["training"]),
        _seeds(f"{who}: seeds", chosen["seeds"]),
        _drops(f"{who}: least_drop", chosen["least_drop"]),
    )
    fields = {key: value for key, value in raw.items() if key not in (*_OWN, *_COMMON)}
    return Family(
        name=name,
        estimators=tuple(_estimators(raw["estimator"], fields)),
        samples=_shares(f"{who}: samples", chosen["samples"]),
        judgings=tuple(Judging(*each) for each in judgings),
    )


def _estimators(
    name: str, fields: Mapping[str, Any]
) -> Iterator[tuple[Estimator, Mapping[str, str]]]:
    """Every combination of the fields' values, with those of the fields that have several."""
    values = {key: _listed(value) for key, value in fields.items()}
    for key, listed in values.items():
        if len({*map(repr, listed)}) < len(listed) or not listed:
            raise ConfigError(f"multiverse: {name}: {key}: different values, got {listed}")
    for combination in product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        try:
            made = _made(name, chosen)
        except ConfigError as error:
            for key, listed in values.items():
                if len(listed) > 1 and _can_be_made(name, {**chosen, key: listed}):
                    one = f"a list holds values to try: as one value write {key}: [{_text(listed)}]"
                    raise ConfigError(f"multiverse: {name}: {error}; {one}") from error
            raise
        yield made, {key: _text(value) for key, value in chosen.items()}


def _made(name: str, fields: Mapping[str, Any]) -> Estimator:
    tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    return registered.make(name, **tuples)


def _can_be_made(name: str, fields: Mapping[str, Any]) -> bool:
    try:
        _made(name, fields)
    except ConfigError:
        return False
    return True


def _listed(value: Any) -> list[Any]:
    if is_alone(value) or isinstance(value, Mapping):
        return [value]
    return list(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _shares(who: str, given: Any) -> tuple[Fraction, ...]:
    shares = []
    for value in _listed(1 if given is None else given):
        try:
            share = Fraction(str(value))
        except (ValueError, ZeroDivisionError) as error:
            raise ConfigError(f"{who}: a share such as 1/2, got {value!r}") from error
        if not 0 < share <= 1:
            raise ConfigError(f"{who}: a share above 0, at most 1, got {value!r}")
        shares.append(share)
    return _once(who, shares)


def _seeds(who: str, given: Any) -> tuple[Seeds, ...]:
    seeds = _listed(ALL if given is None else given)
    for value in seeds:
        if value not in (ALL, BEST_HALF, LEAVE_ONE_OUT):
            whole(f"{who} (or {ALL}, {BEST_HALF}, {LEAVE_ONE_OUT})", value, least=1)
    return _once(who, seeds)


def _drops(who: str, given: Any) -> tuple[float, ...]:
    drops = _listed(0.1 if given is None else given)
    for value in drops:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise ConfigError(f"{who}: bits, 0 or more, got {value!r}")
    return _once(who, [float(value) for value in drops])


def _once(who: str, values: list[Any]) -> tuple[Any, ...]:
    if not values or len({*values}) < len(values):
        raise ConfigError(f"{who}: different values, one at least, got {values}")
    return tuple(values)
