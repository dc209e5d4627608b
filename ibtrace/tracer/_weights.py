"""Whether networks are still those that a snapshot was told of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ibtrace.runtime import distributed
from ibtrace.runtime.wrappers import unwrap

if TYPE_CHECKING:
    from ibtrace.tracer._observer import Networks

_ENTRIES = 64


class Weights:
    """Parameters and buffers as they were, by some entries of each, spread over it.

    A snapshot that is not due keeps these in place of a look: should it turn out to have been the
    last, what is then measured must still be the network of its epoch, not one whose best weights
    were restored, that was pruned, or that was trained on.

    Args:
        model: One module, or several networks.
    """

    def __init__(self, model: nn.Module | Networks) -> None:
        self._model = model
        self._entries = {name: _sampled(value).clone() for name, value in _tensors(model)}

    def changed(self) -> bool:
        """Whether an entry is no longer what it was, or a tensor is gone or new."""
        now = {name: _sampled(value) for name, value in _tensors(self._model)}
        return now.keys() != self._entries.keys() or not all(
            _same(before, now[name]) for name, before in self._entries.items()
        )


def _tensors(model: nn.Module | Networks) -> Iterator[tuple[str, Tensor]]:
    """All that is whole and dense; of a model that lies on several ranks nothing."""
    if isinstance(model, nn.Module):
        model = unwrap(model)
        if distributed.is_sharded(model):
            return
    of_all: tuple[Mapping[str, Tensor], ...]
    of_all = (dict(model.named_parameters()), dict(model.named_buffers()))
    for tensors in of_all:
        for name, value in tensors.items():
            if not is_lazy(value) and not value.is_meta and value.layout == torch.strided:
                yield name, value.detach()


def _sampled(value: Tensor) -> Tensor:
    return value.reshape(-1)[:: max(1, value.numel() // _ENTRIES)]


def _same(before: Tensor, now: Tensor) -> bool:
    if before.shape != now.shape or before.dtype != now.dtype:
        return False
    before = before.to(now.device)
    return bool(((before == now) | ((before != before) & (now != now))).all())
