"""A grid over a configuration: its points, and the jobs that a sweep of it has. Without torch.

A *point* is one value of every key of the grid, seeds apart; a *job* is a point with one seed or a
stated number of them. Networks of one point are seeds of one run; networks of two points never are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import yaml

from ibtrace.errors import ConfigError
from ibtrace.training import configs

SEEDS = "seeds"
VARIANT = "variant"
"""The axis that the variants of a configuration make."""

Engine = Literal["loky", "dask", "ray"]
"""Where jobs run; see `ibtrace.training.engines`."""

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_MOST = 100_000
_WORD = 40

Values = dict[str, list[Any]]
"""The values of each key, in the order in which they were given."""


@dataclass(frozen=True)
class Point:
    """One value of every key.

    Args:
        name: What tells it from the others, ``"activation=tanh, lr=0.001"``; a usable file name.
        values: The values by their dotted keys.
        raw: Its configuration, with the seeds of all its jobs.
    """

    name: str
    values: Mapping[str, Any]
    raw: configs.Raw


@dataclass(frozen=True)
class Job:
    """What is trained and traced as one, into one folder.

    Args:
        number: Its place among the jobs, from 0.
        name: Of its folder.
        point: The name of its point.
        seeds: Of its networks.
    """

    number: int
    name: str
    point: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A sweep: a configuration, a grid over it, and how many seeds a job has.

    Args:
        raw: The configuration, its seeds among those of the grid.
        grid: The values of every key but the seeds.
        seeds: The seeds of every point.
        seeds_per_job: How many of them a job trains.
        points: The points by name.
        jobs: The jobs in order.
    """

    raw: configs.Raw
    grid: Values
    seeds: tuple[int, ...]
    seeds_per_job: int
    points: Mapping[str, Point]
    jobs: tuple[Job, ...]

    @property
    def record(self) -> dict[str, Any]:
        """All that the sweep is made from, as YAML values."""
        return {
            "config": {key: value for key, value in self.raw.items() if key != SEEDS},
            "grid": self.grid,
            "seeds": list(self.seeds),
            "seeds_per_job": self.seeds_per_job,
        }

    @classmethod
    def of(cls, raw: configs.Raw, grid: Values, seeds_per_job: int = 1) -> Plan:
        """The sweep of a grid over a configuration.

        The variants of the configuration are an axis of the grid, ``variant``, unless the grid has
        values for everything that they set.

        Args:
            raw: The configuration.
            grid: What `parsed` gives. Seeds that are not in it are the configuration's.
            seeds_per_job: How many seeds a job trains.

        Raises:
            ConfigError: If a key is unknown, is set by a variant too, or lies inside another, the
                seeds are no different whole numbers, or there are controls.
        """
        if seeds_per_job < 1:
            raise ConfigError(f"--seeds-per-job must be 1 or more, got {seeds_per_job}")
        if raw.get("controls"):
            raise ConfigError("sweep: a sweep has no controls; leave them out (controls: [])")
        seeds = _seeds(grid[SEEDS] if SEEDS in grid else raw.get(SEEDS, configs.SEEDS))
        raw, grid = _with_axis({**raw, SEEDS: seeds}, {k: v for k, v in grid.items() if k != SEEDS})
        _require_keys(raw, grid)
        points = {point.name: point for point in _points(raw, grid)}
        parts = [tuple(seeds[i : i + seeds_per_job]) for i in range(0, len(seeds), seeds_per_job)]
        jobs = (
            Job(number, _job_name(point, part), point, part)
            for number, (point, part) in enumerate(product(points, parts))
        )
        return cls(raw, grid, tuple(seeds), seeds_per_job, points, tuple(jobs))

    def share(self, task: int, tasks: int | None = None) -> list[Job]:
        """The jobs of one task of a Slurm array: each task's are its own.

        Args:
            task: The number of the task, from 0.
            tasks: How many tasks there are; None is one for each job.

        Raises:
            ConfigError: If there is no such task.
        """
        tasks = len(self.jobs) if tasks is None else tasks
        if not 0 <= task < tasks:
            raise ConfigError(
                f"task {task} of the Slurm array has no job: with {tasks} tasks they are 0 to "
                f"{tasks - 1} (#SBATCH --array=0-{tasks - 1})"
            )
        return list(self.jobs[task::tasks])


def parsed(texts: Iterable[str]) -> Values:
    """``["a.b=1,2", "seeds=0..49"]`` as ``{"a.b": [1, 2], "seeds": [0, …, 49]}``.

    Values are YAML, parted by commas; ``0..49`` are the whole numbers from 0 to 49.

    Raises:
        ConfigError: If a text has no ``=`` or no values, they are not YAML, or a key or a value is
            there twice.

    Example:
        >>> parsed(["lr=1e-3,1e-2", "widths=[2, 3],[4]", "seeds=0..2,7"])
        {'lr': [0.001, 0.01], 'widths': [[2, 3], [4]], 'seeds': [0, 1, 2, 7]}
    """
    grid: Values = {}
    for text in texts:
        key, equals, listed = text.partition("=")
        if not equals or not key or not listed.strip():
            raise ConfigError(
                f"--grid takes KEY=VALUE,VALUE …, got {text!r}; a configuration is named before it"
            )
        if key in grid:
            raise ConfigError(f"--grid has {key} twice; give all its values at once, {key}=A,B")
        (values,) = configs.assignments([f"{key}=[{listed}]"], "--grid").values()
        spelt = [each for value in values for each in _spelt(key, value)]
        if twice := [v for n, v in enumerate(spelt) if any(_same(v, w) for w in spelt[:n])]:
            raise ConfigError(f"--grid {key}: {twice[0]!r} is there twice; give different values")
        if key == SEEDS and len(values) == 1 and isinstance(values[0], int):
            n = values[0]
            raise ConfigError(
                f"--grid seeds={n} may be one seed or {n}: write seeds=0..{n - 1} or seeds={n}..{n}"
            )
        grid[key] = spelt
    return grid


def _same(one: Any, other: Any) -> bool:
    """Equal, and true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _spelt(key: str, value: Any) -> list[Any]:
    """A value, or the whole numbers of a range."""
    ends = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if ends is None:
        return [value]
    first, last = map(int, ends.groups())
    if not 0 <= last - first < _MOST:
        raise ConfigError(f"--grid {key}: {value} is no range; write the lower number first")
    return list(range(first, last + 1))


def _seeds(given: Any) -> list[int]:
    seeds = list(range(given)) if type(given) is int else given
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be different whole numbers such as 0..49, got {given!r}")
    return list(seeds)


def _with_axis(raw: configs.Raw, grid: Values) -> tuple[configs.Raw, Values]:
    """The variants as an axis of the grid, or left out where it has all that they set.

    Raises:
        ConfigError: If the grid asks for variants that there are not, or sets a part of what they
            set.
    """
    variants = raw.get("variants")
    names = [name for name in configs.variants(raw) if name]
    if unknown := [name for name in grid.get(VARIANT, ()) if name not in names]:
        there = f"there are {', '.join(names)}" if names else "the configuration has none"
        raise ConfigError(f"--grid variant: no variant {unknown[0]!r}; {there}")
    if not names:
        return raw, grid
    assert isinstance(variants, Mapping)
    own = {key for changes in variants.values() for key in changes}
    if VARIANT not in grid and own <= grid.keys():
        return {key: value for key, value in raw.items() if key != "variants"}, grid
    asked = grid.get(VARIANT, names)
    taken = {name: changes for name, changes in variants.items() if str(name) in asked}
    configs.require_unset({"variants": taken}, [key for key in grid if key != VARIANT])
    return raw, {VARIANT: asked, **grid}


def _require_keys(raw: configs.Raw, grid: Values) -> None:
    """Raise for a key that no configuration has, and for one that lies inside another.

    Raises:
        ConfigError: If there is one.
    """
    for key in grid:
        first = key.partition(".")[0]
        if first not in configs.KEYS and key != VARIANT:
            known = ", ".join(sorted(configs.KEYS))
            raise ConfigError(f"--grid: no key {first!r} in a configuration; there are {known}")
        if inside := [other for other in grid if other.startswith(f"{key}.")]:
            raise ConfigError(f"--grid has {key}, and {inside[0]} inside it; give one of them")


def _points(raw: configs.Raw, grid: Values) -> Iterable[Point]:
    runs = configs.variants(raw)
    words = {key: _words(values) for key, values in grid.items()}
    short = _short(grid)
    for places in product(*(range(len(values)) for values in grid.values())):
        chosen = dict(zip(grid, places, strict=True))
        values = {key: grid[key][place] for key, place in chosen.items()}
        own = runs[values.get(VARIANT, "")]
        for key, value in values.items():
            if key != VARIANT:
                own = configs.override(own, key, value, "--grid")
        name = ", ".join(f"{short[key]}={words[key][place]}" for key, place in chosen.items())
        yield Point(name, values, own)


def _short(keys: Iterable[str]) -> dict[str, str]:
    """Each key by its last part, or by all of it where another ends likewise."""
    ends = [key.rpartition(".")[2] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def _words(values: Sequence[Any]) -> list[str]:
    """Each value as a part of a file name; those that read alike are numbered."""
    words = [_word(value) for value in values]
    return [
        f"{word}~{place}" if words.count(word) > 1 else word for place, word in enumerate(words)
    ]


def _word(value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
        value = value["class_path"].rpartition(".")[2]
    if isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
        text = "-".join(map(_word, value))
    elif isinstance(value, str):
        text = value
    elif isinstance(value, float) and float(f"{value:g}") == value:
        text = f"{value:g}"
    else:
        text = yaml.safe_dump(value, default_flow_style=True).partition("\n")[0]
    return re.sub(r"[^\w.+-]+", "_", text)[:_WORD]


def _job_name(point: str, seeds: Sequence[int]) -> str:
    several = f"s{seeds[0]}-{seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    return ",".join(filter(None, (point.replace(", ", ","), f"seed{several}")))
