"""Which checkpoints there are, and after how many epochs each was saved."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ibtrace.checkpoints._read import few, record
from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import is_alone, require_path

Paths = str | Path | Iterable[str | Path]
Epochs = Sequence[int] | Callable[[Path], int]
_EPOCH_IN_NAME = re.compile(r"(?<![a-z])ep(?:och)?[-_= ]*(\d+)(?![\d]|\.\d)", re.IGNORECASE)
_DATE_IN_NAME = re.compile(
    r"(?<!\d)(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"(?:[-_.T ]?[0-2]\d[-_.:h]?[0-5]\d(?:[-_.:]?[0-5]\d)?)?(?!\d)"
)
"""A day, and perhaps a time: never an epoch, though its last number is a number."""
_NUMBER_IN_NAME = re.compile(r"(?:(?:step|iter(?:ation)?)s?[-_ .]*|[a-z=]*)\d+(?:\.\d+)*")


class Placed(Protocol):
    """The state of a network at a place in its training."""

    @property
    def epoch(self) -> int:
        """Epochs of training done, or what else the axis of a trace counts."""
        ...


_State = TypeVar("_State", bound=Placed)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Args:
        path: A file, or a Hugging Face checkpoint folder.
        epoch: Epochs of training done when it was saved.
        step: Optimiser steps done, if the checkpoint says so and there were any.
    """

    path: Path
    epoch: int
    step: int | None = None


def find(paths: Paths, epochs: Epochs | None = None) -> list[Checkpoint]:
    """The checkpoints that paths or patterns name, in the order of their epochs.

    Args:
        paths: A pattern (``"ckpts/*.pt"``, with ``**`` for any depth), a path, or several of
            both. A link to another match of its pattern is left out.
        epochs: Epochs of training done, in place of what the checkpoints say: a function of the
            path, or one for each in the order given. The matches of a pattern are in the order of
            their names, numbers by value: ``net2.pt`` comes before ``net10.pt``.

    Raises:
        ConfigError: If nothing matches, or an epoch is not known, not whole, or given twice.
        InvalidInput: If a file cannot be read, or holds no state dict.
    """
    files = [match for item in _items(paths) for match in _matches(item)]
    records = [_told(path) for path in files]
    if epochs is None:
        numbers = [_epoch(path, epoch) for path, (epoch, _) in zip(files, records, strict=True)]
    else:
        numbers = _given(files, epochs)
    steps = [_whole(step) or None for _, step in records]  # a live trace begins without one too
    found = [Checkpoint(*each) for each in zip(files, numbers, steps, strict=True)]
    return in_order(found, lambda a, b: f"{a.path} and {b.path} are both of epoch {a.epoch}")


def in_order(states: Iterable[_State], same: Callable[[_State, _State], str]) -> list[_State]:
    """States of a training by their epochs.

    Args:
        states: Each with its epoch.
        same: Says of two that they are of one epoch.

    Raises:
        ConfigError: If two are.
    """
    ordered = sorted(states, key=lambda state: state.epoch)
    for earlier, later in pairwise(ordered):
        if earlier.epoch == later.epoch:
            raise ConfigError(f"{same(earlier, later)}; leave one out, or pass epochs=")
    return ordered


def _items(paths: Any) -> list[str | Path]:
    items = [paths] if is_alone(paths) else list(paths)
    for item in items:
        require_path("checkpoints: each", item)
    if not items:
        raise ConfigError("checkpoints: none are given; give files, folders or a pattern of them")
    return items


def _matches(item: str | Path) -> list[Path]:
    """The checkpoints that a path or pattern names, in natural order."""
    pattern = os.path.expanduser(item)
    if Path(pattern).exists():  # a name may hold brackets, which a pattern reads otherwise
        matches = [Path(pattern)]
    else:
        matches = sorted(map(Path, glob.glob(pattern, recursive=True)), key=_natural)
        targets = {path.resolve() for path in matches if not path.is_symlink()}
        matches = [p for p in matches if not (p.is_symlink() and p.resolve() in targets)]
    if not matches:
        raise ConfigError(f"no checkpoint matches {item}; give files, folders or a pattern of them")
    return matches


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _given(paths: Sequence[Path], epochs: Epochs) -> list[int]:
    values = [epochs(path) for path in paths] if callable(epochs) else list(epochs)
    if len(values) != len(paths):
        raise ConfigError(
            f"epochs= gives {len(values)} for {len(paths)} checkpoints "
            f"({few([path.name for path in paths])}); give one for each"
        )
    for path, value in zip(paths, values, strict=True):
        if _whole(value) is None:
            raise ConfigError(f"epochs= gives {value!r} for {path}; give 0, 1, 2, …")
    return [int(value) for value in values]


def _told(path: Path) -> tuple[Any, Any]:
    """Epoch and step as the checkpoint itself records them; None for what it does not."""
    told = record(path)
    if "pytorch-lightning_version" in told:
        return _lightning_epoch(told), told.get("global_step")
    return told.get("epoch"), told.get("global_step", told.get("step"))


def _lightning_epoch(told: Mapping[str, Any]) -> int | str:
    """Epochs done by the progress of Lightning's loops; a text if that is no whole number."""
    try:
        loop = told["loops"]["fit_loop"]
        epochs, batches = loop["epoch_progress"]["total"], loop["epoch_loop.batch_progress"]
        started, done = int(epochs["started"]), int(epochs["processed"])
        ready, processed = batches["current"]["ready"], batches["current"]["processed"]
    except (KeyError, TypeError):  # from before Lightning kept its progress
        return f"{told.get('epoch')} or the next (Lightning's progress is not in it)"
    if started == done or processed == 0:
        return done
    whole = batches["is_last_batch"] and processed == ready
    return done + 1 if whole else f"{done} and {processed} batches"


def _epoch(path: Path, recorded: Any) -> int:
    """Epochs done, from the checkpoint's own record or else from its name."""
    if recorded is None:
        recorded = _epoch_in_name(path)
    if recorded is None:
        raise ConfigError(
            f"{path} does not say its epoch, nor does its name; "
            "pass epochs=, one for each checkpoint or a function of the path"
        )
    number = _whole(recorded)
    if number is None:
        shown = f"{recorded:.6g}" if isinstance(recorded, float) else recorded
        raise ConfigError(
            f"{path} was saved at epoch {shown}; a trace counts whole epochs done: "
            "leave it out, save at the ends of epochs, or pass epochs="
        )
    return number


def _epoch_in_name(path: Path) -> str | None:
    stem = path.name if path.is_dir() else path.stem
    named = _EPOCH_IN_NAME.findall(stem)
    if named or path.is_dir():  # Hugging Face's checkpoint-500 counts steps
        return str(named[-1]) if named else None
    numbers = _NUMBER_IN_NAME.findall(_DATE_IN_NAME.sub("-", stem).lower())
    return numbers[-1] if numbers and numbers[-1].isdecimal() else None


def _whole(value: Any) -> int | None:
    """The value as a whole number from 0, or None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number >= 0 and number.is_integer() else None
