"""Whether networks are still those that a snapshot was told of."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

from ibtrace.capture.undisturbed import undisturbed
from ibtrace.numerics.bins import digest
from ibtrace.runtime import distributed
from ibtrace.runtime.wrappers import unwrap
from ibtrace.tracer._architecture import kind_of
from ibtrace.tracer._attributes import FUNCTIONS, PLAIN, attributes

if TYPE_CHECKING:
    from ibtrace.tracer._observer import Networks

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_MADE = ("", "forward", *(name.strip("_") for name in _HOOKS))  # what each module has a part of
_ABSENT = object()
_Parts = dict[tuple[str, str], Any]
"""By the name of a module and of what it holds: a hash of a tensor's bytes, or the thing."""


class Weights:
    """Networks as they were: a hash of every tensor's bytes, and what else makes their forward.

    A snapshot that is not due keeps these in place of a look: should it turn out to have been the
    last, what is then measured must still be the network of its epoch, not one whose best weights
    were restored, that was pruned, that lost a unit, or that was trained on.

    Held are parameters and buffers, modules with their classes and settings, forwards put in their
    place, forward hooks, and attributes: functions, tensors and arrays, and numbers and words whose
    names do not begin with ``_`` (see `attributes`).

    Args:
        model: One module, or several networks.
    """

    def __init__(self, model: nn.Module | Networks) -> None:
        self._model = model
        self._parts = _parts(model)

    def changed(self, evaluate: Callable[[], object] | None = None) -> list[str]:
        """What is no longer what it was, by name: empty if the network is the same.

        Args:
            evaluate: Forwards the model. What a forward itself moves (a buffer that counts calls,
                an attribute that holds the last output) is no change of the network.
        """
        now = _parts(self._model)
        differing = {
            key
            for key in self._parts.keys() | now.keys()
            if not _same(self._parts.get(key, _ABSENT), now.get(key, _ABSENT))
        }
        differing -= _records(self._parts.keys(), now.keys(), differing)
        if differing and evaluate is not None and isinstance(self._model, nn.Module):
            differing -= self._moved(differing, evaluate)
        return sorted(".".join(filter(None, key)) or "the model" for key in differing)

    def _moved(self, differing: set[tuple[str, str]], evaluate: Callable[[], object]) -> set[Any]:
        """Which of these a forward moves, sets to what they are now, or never comes by.

        A metric or a loss that the model holds is not run by a forward, and neither are they the
        network; their parameters and buffers may be, for other modules can name them.
        """
        model = unwrap(self._model)  # type: ignore[arg-type]  # a module, as the caller has seen
        modules = dict(model.named_modules())
        with undisturbed(model):
            for owner, name in differing:
                before = self._parts.get((owner, name), _ABSENT)
                held = modules[owner].__dict__ if owner in modules else {}
                if name in held and isinstance(before, PLAIN):
                    held[name] = before
                elif name in held and before is _ABSENT:
                    del held[name]
            start = _states(model)
            run: set[int] = set()
            watch = register_module_forward_pre_hook(lambda module, _: run.add(id(module)))
            try:
                evaluate()
            except Exception:  # without what was set by hand it does not run
                return set()
            finally:
                watch.remove()
            end = _states(model)
        idle = {owner for owner, module in modules.items() if id(module) not in run}
        tensors = {_key(name) for name, _ in (*model.named_parameters(), *model.named_buffers())}
        return {
            key
            for key in differing
            if start.get(key) != end.get(key)
            or (key[0] in idle and key not in tensors and key[1] not in _MADE)
        }


def _parts(model: nn.Module | Networks) -> _Parts:
    network = unwrap(model) if isinstance(model, nn.Module) else model.template
    whole = not (isinstance(model, nn.Module) and distributed.is_sharded(network))
    parts: _Parts = {}
    for owner, module in network.named_modules():
        parts[owner, ""] = kind_of(module)
        parts[owner, "forward"] = vars(module).get("forward", type(module).forward)
        for name in _HOOKS:
            parts[owner, name.strip("_")] = tuple(vars(module).get(name, {}).values())
        for name, value in attributes(module):
            if isinstance(value, (Tensor, np.ndarray)):
                parts[owner, name] = _bytes(value) if whole else None
            elif isinstance(value, FUNCTIONS) or not name.startswith("_"):
                parts[owner, name] = value
    named = network if isinstance(model, nn.Module) else model
    if whole:
        tensors = {**dict(named.named_parameters()), **dict(named.named_buffers())}
        parts |= {_key(name): _bytes(value) for name, value in tensors.items()}
    return parts


def _key(name: str) -> tuple[str, str]:
    owner, _, last = name.rpartition(".")
    return owner, last


def _bytes(value: Tensor | np.ndarray[Any, Any]) -> tuple[Any, ...] | None:
    """Shape, type and hash of a dense tensor; of what holds no values of its own None."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc" or value.dtype.itemsize > 8:
            return (value.shape, str(value.dtype))
        value = torch.from_numpy(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    if is_lazy(value) or value.is_meta or value.is_nested:
        return None
    hashes = map(_checksum, _dense(value.detach()))
    return (tuple(value.shape), str(value.dtype), *hashes)


def _dense(value: Tensor) -> tuple[Tensor, ...]:
    """The dense tensors that hold what a tensor does; none of a layout whose memory is hidden."""
    if value.is_quantized:
        return (value.int_repr(), value.dequantize())
    if value.layout == torch.strided:
        return (value,)
    if value.layout == torch.sparse_coo:
        whole = value.coalesce()
        return (whole.indices(), whole.values())
    if value.layout in (torch.sparse_csr, torch.sparse_bsr):
        return (value.crow_indices(), value.col_indices(), value.values())
    if value.layout in (torch.sparse_csc, torch.sparse_bsc):
        return (value.ccol_indices(), value.row_indices(), value.values())
    return ()


def _checksum(value: Tensor) -> int:
    """A hash of a dense tensor's bytes.

    A snapshot that is not due pays for it: CRC-32 runs at memory speed and costs a microsecond a
    tensor, a quarter of `digest`, which needs no copy to the CPU where a tensor lies elsewhere.
    """
    if value.device.type != "cpu" or value.is_conj() or value.is_neg():
        return digest(value)
    data: Any = value.contiguous().reshape(-1).view(torch.uint8).numpy()  # its stub knows no buffer
    return zlib.crc32(data)


def _states(model: nn.Module) -> dict[tuple[str, str], tuple[Any, ...]]:
    """What a forward leaves traces of: which object stands there, and how often it was written."""

    def state(value: Any) -> tuple[Any, ...]:
        if isinstance(value, PLAIN):
            return (type(value), value)
        if not isinstance(value, Tensor):
            return (id(value),)
        return (id(value), 0 if value.is_inference() else value._version, _bytes(value))

    states: dict[tuple[str, str], tuple[Any, ...]] = {}
    for owner, module in model.named_modules():
        held = [*attributes(module), *module.named_buffers(recurse=False)]
        states |= {(owner, name): state(value) for name, value in held}
    return states


def _records(
    before: Collection[tuple[str, str]],
    now: Collection[tuple[str, str]],
    differing: Collection[tuple[str, str]],
) -> set[tuple[str, str]]:
    """What stands in a list or dict that grew or shrank: a record of the training, no setting."""
    lengths = [Counter(_container(key) for key in keys) for keys in (before, now)]
    return {
        key
        for key in differing
        if _container(key) != key and lengths[0][_container(key)] != lengths[1][_container(key)]
    }


def _container(key: tuple[str, str]) -> tuple[str, str]:
    owner, name = key
    return owner, name.partition(".")[0]


def _same(before: Any, now: Any) -> bool:
    if before is now:
        return True
    if isinstance(before, tuple) and isinstance(now, tuple):
        pairs = zip(before, now, strict=False)
        return len(before) == len(now) and all(_same(one, other) for one, other in pairs)
    if type(before) is not type(now):
        return False
    return bool(before == now) or (before != before and now != now)
