"""A checkpoint's state dict, and a model from it, whatever either was wrapped in."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ibtrace.checkpoints._adapter import load_adapter
from ibtrace.checkpoints._find import Checkpoint
from ibtrace.checkpoints._hub import Revision
from ibtrace.checkpoints._read import few, is_adapter, tensors
from ibtrace.checkpoints._transformers import load_by_its_own_loader
from ibtrace.errors import InvalidInput
from ibtrace.runtime.wrappers import plain_name, unwrap


def state_dict(checkpoint: Checkpoint | Revision) -> dict[str, Tensor]:
    """The state dict of a checkpoint, on the CPU, with the names that it was saved with.

    It is the file's content itself, what its ``state_dict``, ``model_state_dict`` or ``model``
    holds, or the only dictionary of tensors in it.

    Raises:
        InvalidInput: If the file cannot be read, would run code of its own, or holds none.
    """
    return tensors(checkpoint.path)


def load_into(model: nn.Module, checkpoint: Checkpoint | Revision) -> None:
    """Load a checkpoint into a model, whatever either was wrapped in; all of it or nothing.

    Prefixes that the model's own names lack are dropped (``module.`` of DDP, ``_orig_mod.`` of
    ``torch.compile``, ``net.`` of a LightningModule; what lies outside the prefix is not the
    model's). Tied tensors may be stored under one of their names. Values are converted to the
    model's types, as ``load_state_dict`` does; what no state dict holds stays as it is. A folder
    of ``transformers`` whose tensors have other names than the model's, of its class, is read by
    the loader of ``transformers``, which knows older names; an adapter by that of PEFT.

    Args:
        model: Changed in place.
        checkpoint: From `find`, or `revisions_of`.

    Raises:
        InvalidInput: If tensors are missing, have no place in the model or another shape; or if
            the file cannot be read or holds several such models.
    """
    model = unwrap(model)
    if is_adapter(checkpoint.path):
        load_adapter(model, checkpoint.path)
        return
    own = model.state_dict(keep_vars=True)
    names = {plain_name(name): name for name in own}
    stored = state_dict(checkpoint)
    given = {plain_name(name): value for name, value in stored.items()}
    prefix = _prefix({name: own[names[name]] for name in names}, given, checkpoint.path)
    fitting = {names[name]: given[prefix + name] for name in names if prefix + name in given}
    loaded = {id(own[name]) for name in fitting}
    problems = {
        "missing from it": [name for name in own if id(own[name]) not in loaded],
        "without a place in the model": [
            name
            for name in given
            if name.startswith(prefix) and name.removeprefix(prefix) not in names
        ],
        "of another shape": [
            f"{name}: {_form(value)}, the model's {_form(own[name])}"
            for name, value in fitting.items()
            if not _same_shape(own[name], value)
        ],
    }
    if any(problems.values()) and load_by_its_own_loader(model, checkpoint.path):
        return
    if any(problems.values()):
        misfits = [
            f"{len(names)} {what} ({few(names)})" for what, names in problems.items() if names
        ]
        raise InvalidInput(
            f"{checkpoint.path} does not fit the model; tensors {', '.join(misfits)}; "
            "give the model with the architecture that was trained"
        )
    model.load_state_dict(_versioned(fitting, stored, prefix), strict=False)


def _prefix(own: Mapping[str, Any], given: Mapping[str, Tensor], path: Path) -> str:
    """What stands before the model's own names in a checkpoint: where most of them are."""
    counts = Counter(p for name in given for p in _prefixes(name) if name.removeprefix(p) in own)
    if not counts:
        raise InvalidInput(
            f"{path} has none of the model's tensors; it has {few(list(given))}, "
            f"the model {few(list(own))}"
        )
    best = [prefix for prefix, count in counts.items() if count == max(counts.values())]
    if len(best) == 1:
        return best[0]
    fitting = [
        prefix
        for prefix in best
        if all(_same_shape(own[n], given[prefix + n]) for n in own if prefix + n in given)
    ]
    if len(fitting) != 1:
        raise InvalidInput(
            f"{path} has the model's names under {few(best)}, with its shapes under "
            f"{few(fitting) or 'none'}; save the state dict of the one to be traced"
        )
    return fitting[0]


def _prefixes(name: str) -> Iterator[str]:
    """Every beginning of a name that ends with a dot, and the empty one."""
    yield ""
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()]


def _same_shape(own: Any, given: Any) -> bool:
    """Whether one may be loaded into the other; lazy parameters and extra state may take any."""
    if not isinstance(own, Tensor) or nn.parameter.is_lazy(own):
        return True
    return isinstance(given, Tensor) and _form(own) == _form(given)


def _form(value: Any) -> str:
    """The shape of a tensor, and its layout where that is not the common one."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    layout = "" if value.layout == torch.strided else f" {value.layout}"
    return f"{tuple(value.shape)}{layout}"


def _versioned(
    fitting: dict[str, Tensor], stored: Mapping[str, Tensor], prefix: str
) -> OrderedDict[str, Tensor]:
    """The tensors with the modules' version numbers, by which modules read their older formats."""
    versioned = OrderedDict(fitting)
    if versions := getattr(stored, "_metadata", None):
        plain = {plain_name(f"{name}."): value for name, value in versions.items()}
        below = {n.removeprefix(prefix): v for n, v in plain.items() if n.startswith(prefix)}
        vars(versioned)["_metadata"] = {name.rstrip("."): value for name, value in below.items()}
    return versioned
