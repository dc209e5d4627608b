"""What stands in a run folder before anything is trained or read: who may use it, and for what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ibtrace.errors import RunError
from ibtrace.runtime.files import FILE_NAME, held, is_free, written_whole
from ibtrace.training import configs

CONFIG = "config.yaml"
LOCK = ".lock"
"""Of a run folder, or that of a job of a sweep: who trains there holds it."""


def require_run(folder: str | Path) -> None:
    """Raise unless there is a trace in the folder, one level below, or it is one.

    Raises:
        RunError: If there is none.
    """
    path = Path(folder)
    if not (path.is_file() or (path / FILE_NAME).exists() or any(path.glob(f"*/{FILE_NAME}"))):
        raise RunError(f"{folder}: no {FILE_NAME} there")


def stored_config(folder: str | Path) -> configs.Raw:
    """The configuration that a run was started with.

    Raises:
        RunError: If the folder is not a run that a configuration started.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise RunError(f"{folder}: no {CONFIG} there; it is not a run that can be resumed")
    return configs.read(path)


def require_same(folder: str | Path, raw: configs.Raw) -> None:
    """Raise unless a run was started with this configuration; names every key that differs.

    Raises:
        RunError: If it was not, or the folder is not a run that a configuration started.
    """
    if differs := differing(stored_config(folder), raw):
        raise RunError(
            f"{folder}: holds a run of another configuration: {'; '.join(differs)}; "
            "leave that option out, or choose another folder with --out"
        )


def differing(stored: configs.Raw, asked: configs.Raw) -> list[str]:
    """Every key in which two configurations differ, in words.

    Args:
        stored: Of before.
        asked: Of now.

    Example:
        >>> differing({"split": {"fraction": 0.8}}, {"split": {"fraction": 0.5}})
        ['split.fraction was 0.8, not 0.5']
    """
    before, now = _flat(stored), _flat(asked)
    return [
        f"{key} was {before.get(key, 'not set')}, not {now.get(key, 'left out')}"
        for key in {**before, **now}
        if before.get(key, _flat) != now.get(key, _flat)
    ]


def _flat(raw: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in raw.items():
        inner = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{before}{key}.") if inner else {f"{before}{key}": value}
    return flat


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have a run folder for this process, until the end of the block.

    Args:
        folder: The folder, which is made if need be.

    Raises:
        RunError: If another process trains there, or the folder cannot be made.
    """
    with held(folder / LOCK) as free:
        if not free:
            raise RunError(
                f"{folder}: another process is training there; wait until it is over, or choose "
                "another folder with --out"
            )
        yield


def prepare(folder: Path, raw: configs.Raw, resume: bool) -> None:
    """Claim the folder for this configuration, or check that it is the one to resume."""
    if resume:
        require_same(folder, raw)
        return
    require_free(folder)
    with written_whole(folder / CONFIG) as part:
        part.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")


def require_usable(folder: str | Path, resume: bool) -> None:
    """Raise unless the folder is free for a new run, or holds one that can be resumed.

    Raises:
        RunError: If it is not.
    """
    if resume:
        stored_config(folder)
    else:
        require_free(Path(folder))


def require_free(folder: Path) -> None:
    """Raise unless a new run may go into the folder.

    Raises:
        RunError: If it holds something, or is no folder.
    """
    if not is_free(folder):
        raise RunError(f"{folder}: exists already; choose another with --out, or add --resume")
