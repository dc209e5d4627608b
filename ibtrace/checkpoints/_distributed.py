"""The tensors of a folder of ``torch.distributed.checkpoint``; no code that it holds is run."""

from __future__ import annotations

import importlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from ibtrace.errors import InvalidInput

_METADATA = ".metadata"
_PARTS = "pytorch_model_fsdp*"
"""Where accelerate, and with it Hugging Face's Trainer, puts one inside a checkpoint folder."""

_RECORDS = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
_HARMLESS = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    *(("pathlib", name) for name in ("PosixPath", "WindowsPath", "PurePosixPath")),
    *(("collections", name) for name in ("OrderedDict", "defaultdict")),
    *(("builtins", name) for name in ("set", "frozenset", "list", "dict", "tuple")),
}


def distributed_folder(path: Path) -> Path | None:
    """The folder of a distributed checkpoint that a path is, or holds; None if it is neither."""
    inside = sorted(part.parent for part in path.glob(f"{_PARTS}/{_METADATA}"))
    if (path / _METADATA).is_file():
        return path
    return inside[0] if len(inside) == 1 else None


def distributed_tensors(folder: Path, holders: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors in a distributed checkpoint, put together from the parts of all ranks.

    Args:
        folder: From `distributed_folder`.
        holders: The keys under which a model's tensors may lie; where there is one of them, only
            what it holds is read, and no optimiser's state.

    Raises:
        InvalidInput: If it cannot be read, or would run code of its own.
    """
    reader = _Reader(folder)
    try:
        known = reader.read_metadata().state_dict_metadata
        wanted = _wanted(known, holders)
        state: dict[str, Any] = {
            name: torch.empty(record.size, dtype=record.properties.dtype)
            for name, record in wanted.items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is one process, which is meant
            load(state, storage_reader=reader, no_dist=True)
    except InvalidInput:
        raise
    except Exception as error:  # a torn or foreign folder can raise anything
        raise InvalidInput(
            f"{folder} is no readable folder of torch.distributed.checkpoint "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        ) from error
    return state


def _wanted(known: Mapping[str, Any], holders: tuple[str, ...]) -> dict[str, TensorStorageMetadata]:
    """The records of tensors that may be the model's."""
    tensors = {n: each for n, each in known.items() if isinstance(each, TensorStorageMetadata)}
    for holder in holders:
        if held := {n: each for n, each in tensors.items() if n.startswith(f"{holder}.")}:
            return held
    return tensors


class _Reader(FileSystemReader):
    """Reads what a checkpoint holds without running what its metadata may name."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with (Path(self.path) / _METADATA).open("rb") as file:
            metadata: Metadata = _Unpickler(file).load()
        return metadata


class _Unpickler(pickle.Unpickler):
    """Finds records of tensors, types of numbers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        if module in _RECORDS or module == "torch":
            found = getattr(importlib.import_module(module), name, None)
            record = isinstance(found, type) and (is_dataclass(found) or issubclass(found, Enum))
            if isinstance(found, torch.dtype) or record:
                return found
        raise InvalidInput(
            f"{_METADATA} of a distributed checkpoint holds {module}.{name}, which only running "
            "code can load; if you trust it, convert it: python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pt"
        )
