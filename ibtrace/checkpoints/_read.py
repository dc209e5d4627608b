"""What is in a checkpoint's files; no code of theirs is run."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ibtrace.checkpoints._distributed import distributed_folder, distributed_tensors
from ibtrace.errors import InvalidInput

_HOLDERS = ("state_dict", "model_state_dict", "model")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
_ADAPTER_CONFIG = "adapter_config.json"
_DEEPSPEED = "*_model_states.pt"
_INDEX = ".index.json"
_SHOWN = 4


def record(path: Path) -> Mapping[str, Any]:
    """What a checkpoint says of itself beside its tensors; empty if that is nothing.

    Raises:
        InvalidInput: If it cannot be read, would run code of its own, or holds no state dict.
    """
    if path.is_dir():
        if distributed_folder(path) is None:
            _weights(path)
        state = path / "trainer_state.json"
        return _json(state) if state.is_file() else {}
    if _is_safetensors(path):
        return _header(path)
    content = _torch_load(path, lazily=True)
    return {} if _inside(content, path) is content else content


def tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, or in the shards of a Hugging Face folder.

    Raises:
        InvalidInput: If it cannot be read, would run code of its own, or there is none.
    """
    if path.is_dir():
        if (parts := distributed_folder(path)) is not None:
            return distributed_tensors(parts, _HOLDERS)
        weights = _weights(path)
        if not weights.name.endswith(_INDEX):
            return tensors(weights)
        shards = sorted(set(_json(weights).get("weight_map", {}).values()))
        return {name: value for shard in shards for name, value in tensors(path / shard).items()}
    if not _is_safetensors(path):
        return _inside(_torch_load(path), path)
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"{path} is not a readable safetensors file: {error}") from error


def few(names: Sequence[object]) -> str:
    """The first names and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(str, names[:_SHOWN])) + more


def _weights(folder: Path) -> Path:
    """The file of a Hugging Face folder with the weights, or with the index of their shards."""
    for name in _WEIGHTS:
        for path in (folder / name, folder / f"{name}{_INDEX}"):
            if path.is_file():
                return path
    if is_adapter(folder):
        return adapter_file(folder)
    _require_no_deepspeed(folder)
    raise InvalidInput(
        f"{folder} is a folder without {' or '.join(_WEIGHTS)}; "
        f"name the checkpoints in it by a pattern, such as '{folder}/*.pt'"
    )


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter of PEFT, and not a whole model."""
    return path.is_dir() and (path / _ADAPTER_CONFIG).is_file() and not _whole_model(path)


def adapter_file(folder: Path) -> Path:
    """The file with the tensors of an adapter.

    Raises:
        InvalidInput: If there is none.
    """
    for name in _ADAPTER:
        if (folder / name).is_file():
            return folder / name
    raise InvalidInput(f"{folder} has {_ADAPTER_CONFIG} but neither {' nor '.join(_ADAPTER)}")


def _whole_model(folder: Path) -> bool:
    names = [f"{name}{end}" for name in _WEIGHTS for end in ("", _INDEX)]
    return any((folder / name).is_file() for name in names)


def _require_no_deepspeed(folder: Path) -> None:
    """Raise if a folder is DeepSpeed's: its parts hold code, and a command converts them.

    Raises:
        InvalidInput: Naming the command.
    """
    steps = [p.parent for p in folder.glob(f"global_step*/{_DEEPSPEED}")]
    inside = any(True for _ in folder.glob(_DEEPSPEED))
    if steps or inside:
        root = folder if steps else folder.parent
        tag = "" if steps else f" -t {folder.name}"
        raise InvalidInput(
            f"{folder} is a checkpoint of DeepSpeed, in parts that only its own code reads; "
            f"convert it: python {root}/zero_to_fp32.py {root} OUT --safe_serialization{tag}, "
            "and give OUT"
        )


def _is_safetensors(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _header(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InvalidInput(f"{path} is not a readable safetensors file: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise InvalidInput(f"{path} is not a readable JSON mapping: {error}") from error


def _torch_load(path: Path, *, lazily: bool = False) -> Any:
    """What torch.save wrote; lazily: the tensors are mapped and not read, to see the rest."""
    mapped = lazily and _is_zip(path)  # the format before torch 1.6 cannot be mapped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'torch.load' received a zip file")  # told below
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # a torn or foreign file can raise anything
            message, cause = str(error), error
    if "TorchScript archive" in message:
        raise InvalidInput(f"{path} is a scripted module; save its state_dict()") from cause
    if code := re.search(r"GLOBAL (\S+)", message):
        raise InvalidInput(
            f"{path} holds {code[1]}, which only running code can load; save model.state_dict() in "
            "its place, or, if you trust it, allow it by torch.serialization.add_safe_globals"
        ) from cause
    reason = getattr(cause, "strerror", None) or type(cause).__name__
    raise InvalidInput(f"{path} is torn, or is no file of torch.save ({reason})") from cause


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # torn in the very place that tells
        return False


def _inside(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict that a loaded file is or holds: the object itself."""
    if isinstance(content, Mapping):
        for candidate in _candidates(content):
            return cast("dict[str, Tensor]", candidate)
    keys = f" of {few(list(content))}" if isinstance(content, Mapping) else ""
    raise InvalidInput(
        f"{path} holds no state dict but a {type(content).__name__}{keys}; "
        "save model.state_dict(), or a dictionary with it under 'state_dict'"
    )


def _candidates(content: Mapping[Any, Any]) -> Iterator[Any]:
    """What may be the state dict, the likeliest first."""
    yield from (content[key] for key in _HOLDERS if _has_tensors(content.get(key)))
    if _has_tensors(content, dimensions=1):  # an epoch beside a state dict may be a scalar tensor
        yield content
    only = [value for value in content.values() if _has_tensors(value, all)]
    yield from only if len(only) == 1 else []
    if _has_tensors(content):
        yield content


def _has_tensors(
    value: Any, how: Callable[[Iterable[bool]], bool] = any, dimensions: int = 0
) -> bool:
    """Whether any (or all) values of a mapping from names are tensors."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    fit = [isinstance(item, Tensor) and item.dim() >= dimensions for item in value.values()]
    return bool(fit) and how(fit)
