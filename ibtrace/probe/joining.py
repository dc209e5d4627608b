"""Batches put together, padded to the longest of all where a mask says what is padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput
from ibtrace.probe.inputs import leaves, mapped, narrowed, read_inputs

_MASK = "attention_mask"
_IGNORED = -100


def joined(pieces: Sequence[Any], who: str, inputs: Sequence[Any] | None = None) -> Any:
    """Inputs, or labels, of batches one after the other.

    Args:
        pieces: Those of each batch: all of the same form.
        who: ``x`` or ``y``.
        inputs: The inputs that go with labels: labels of tokens are padded as their tokens are.

    Raises:
        InvalidInput: If the batches differ in form, or in shape and no mask says what is padding.
    """
    if all(piece is None for piece in pieces):
        return None
    if who == "y" and any(_is_names(piece) for piece in pieces):
        return [name for piece in pieces for name in piece]
    read = [read_inputs(piece, who, narrow=False) for piece in pieces]
    named = [dict(leaves(piece)) for piece in read]
    if any(piece.keys() != named[0].keys() for piece in named):
        keys = sorted({", ".join(piece) or "a tensor" for piece in named})
        raise InvalidInput(
            f"Probe: batches hold different {who}: {'; '.join(keys)}; make all alike"
        )
    arrays = {name for piece in pieces for name, value in leaves(piece) if _is_array(value)}
    padding = _Padding(named, who, named if inputs is None else [dict(leaves(x)) for x in inputs])

    def together(name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        values = [piece[name] for piece in named]
        mixed = len({value.is_floating_point() for value in values}) > 1
        if mixed:  # torch would join integers as the floats' own type, in which they may be equal
            values = [value.double() for value in values]
        whole = torch.cat(padding.padded(name, values))
        return narrowed(whole, name or who) if who == "x" and (mixed or name in arrays) else whole

    return mapped(read[0], together)


def _is_array(value: Any) -> bool:
    """Whether a leaf is NumPy's or pandas', or a list of numbers, whose float64 is a default."""
    if isinstance(value, list):
        return not any(isinstance(item, Tensor) for item in value)
    return not isinstance(value, Tensor) and hasattr(value, "__array__")


def _is_names(y: Any) -> bool:
    return isinstance(y, (list, tuple)) and bool(y) and isinstance(y[0], (str, bytes))


class _Padding:
    """How tokens are padded: on which side, and with what, as the batches themselves do it."""

    def __init__(
        self, pieces: Sequence[dict[str, Any]], who: str, inputs: Sequence[dict[str, Any]]
    ) -> None:
        self.who = who
        masks = [read_inputs(piece.get(_MASK), _MASK) for piece in inputs]
        self.masks = [m for m in masks if isinstance(m, Tensor) and m.dim() == 2]
        self.pieces = pieces
        self.left = any(bool((m[:, 0] == 0).any()) for m in self.masks if m.shape[1])

    def padded(self, name: str, values: list[Tensor]) -> list[Tensor]:
        """The values with as many tokens as the longest has."""
        dims = {value.dim() for value in values}
        shapes = {tuple(value.shape[1:]) for value in values}
        if len(shapes) == 1:
            return values
        shown = " and ".join(map(str, sorted(shapes)[:2]))
        tokens_only = len(dims) == 1 and len({shape[1:] for shape in shapes}) == 1
        as_masked = len(self.masks) == len(values) and all(
            len(m.shape) == 2 and m.shape[1] == v.shape[1]
            for m, v in zip(self.masks, values, strict=True)
        )
        if not tokens_only or not as_masked:
            raise InvalidInput(
                f"Probe: {name or self.who} has samples of shapes {shown}; give all one shape, as "
                "padding to max_length with an attention_mask does"
            )
        longest = max(value.shape[1] for value in values)
        fill = _IGNORED if self.who == "y" else self._filler(name)
        return [self._to(value, longest, fill) for value in values]

    def _to(self, value: Tensor, length: int, fill: float) -> Tensor:
        missing = value.new_full((len(value), length - value.shape[1], *value.shape[2:]), fill)
        return torch.cat([missing, value] if self.left else [value, missing], dim=1)

    def _filler(self, name: str) -> float:
        """The value that stands where the mask is 0; 0 if no batch has such a place."""
        for piece in self.pieces:
            padding = piece[name][piece[_MASK] == 0]
            if padding.numel():
                return float(padding.reshape(-1)[0])
        return 0.0
