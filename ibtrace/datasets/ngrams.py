"""n-grams of tokens as exact ids: contexts, which stand for X, and continuations, for Y."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput
from ibtrace.numerics.bins import dense_ids
from ibtrace.runtime.arguments import flag, shown, whole

NO_NGRAM = -100
"""Where a position has no n-gram: a probe's named variables leave these tokens out."""


def ngrams(
    ids: Tensor,
    order: int,
    *,
    ahead: bool = False,
    documents: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Which n-gram each position has, by number: equal tuples of tokens, equal ids, and no others.

    The context of order k at position i is the tuple of the tokens i - k + 1, …, i; the
    continuation (``ahead``) is that of i + 1, …, i + k. The distinct tuples are numbered from 0, in
    the order of their tokens, so that no vocabulary and no order overflows. A position whose tuple
    would begin before its row, end after it, hold padding or cross from one document into another
    has none: `NO_NGRAM` (-100), which a `ibtrace.Probe` leaves out. The numbers are those of this
    call: of another part of the text they are others.

    Args:
        ids: Tokens, integers ``(n, tokens)``, of which each row is a text of its own, or ``(n,)``.
        order: k, at least 1.
        ahead: Whether of the tokens that follow, not of those up to the position.
        documents: Which document each token is of, integers of the shape of ``ids``; None: a row.
        mask: Which tokens are real, of the shape of ``ids``; None: all.

    Returns:
        int64, of the shape of ``ids``.

    Raises:
        InvalidInput: If the tokens are no integers, or a shape is another.
        ConfigError: If the order is no whole number of at least 1.

    Example:
        >>> ids = torch.tensor([[5, 7, 5, 7]])
        >>> ngrams(ids, 2).tolist(), ngrams(ids, 1, ahead=True).tolist()
        ([[-100, 0, 1, 0]], [[1, 0, 1, -100]])
    """
    order, ahead = whole("ngrams: order", order, least=1), flag("ngrams: ahead", ahead)
    _require(ids, documents, mask)
    rows = ids.long() if ids.dim() > 1 else ids.long()[None]
    real = torch.ones_like(rows, dtype=torch.bool) if mask is None else mask.bool().view_as(rows)
    texts = None if documents is None else documents.view_as(rows)
    # the tuple of a position is spelt from its first token on: its places relative to the position
    places = range(1, order + 1) if ahead else range(1 - order, 1)
    length = rows.shape[1]
    whole_tuple = real.clone()
    for place in places:
        whole_tuple &= _at(real, place, fill=False)
        if texts is not None:
            within = torch.arange(length, device=rows.device) + place
            inside = (within >= 0) & (within < length)
            whole_tuple &= (_at(texts, place, fill=0) == texts) & inside
    numbered = torch.full_like(rows, NO_NGRAM)
    if bool(whole_tuple.any()):
        numbered[whole_tuple] = _numbers([_at(rows, p, fill=0)[whole_tuple] for p in places])
    return numbered.view_as(ids)


def _numbers(columns: list[Tensor]) -> Tensor:
    """The distinct rows of some columns, numbered in their order, without a number above m²."""
    ids = dense_ids(columns[0])
    for column in columns[1:]:
        ids = dense_ids(ids * len(ids) + dense_ids(column))
    return ids


def _at(values: Tensor, place: int, *, fill: float) -> Tensor:
    """For each position the value so many places on, ``(n, tokens)``."""
    moved = torch.full_like(values, fill)
    length = values.shape[1]
    if abs(place) >= length:
        return moved
    if place >= 0:
        moved[:, : length - place] = values[:, place:]
    else:
        moved[:, -place:] = values[:, :place]
    return moved


def _require(ids: Tensor, documents: Tensor | None, mask: Tensor | None) -> None:
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dim() not in (1, 2):
        raise InvalidInput(f"ngrams: ids must be integers (n, tokens) or (n,), got {_told(ids)}")
    for name, value in (("documents", documents), ("mask", mask)):
        if value is None:
            continue
        if not isinstance(value, Tensor) or value.shape != ids.shape:
            form = f"a tensor of the shape of ids, {tuple(ids.shape)}"
            raise InvalidInput(f"ngrams: {name} must be {form}, got {_told(value)}")


def _told(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return shown(value)
