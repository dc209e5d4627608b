"""What fills sequences where they end: padding, by the places where one token stands.

Padding stands in runs at an end of sequences. So do other things: the greatest of sorted numbers,
the zeros before a series begins to rise, black rows of images, counts that are 0 in the last
columns of a table. What tells them apart is how the other tokens stand, and how much more often a
run goes on than columns that know nothing of each other would have it (`Ends.sure`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ibtrace.numerics.types import numeric
from ibtrace.probe.beside import Others, Sequences

Side = Literal["end", "begin", "begin and end"]

_SURPRISE = math.log(1000)
_FEWEST = 2
_SHARE = 0.01
_ODD = 0.1
_REPEATS = 0.25
_TRIED = 4


@dataclass(frozen=True, eq=False)
class Ends:
    """One token at the ends of sequences, and whether it is padding there.

    Args:
        sequences: The sequences.
        where: Where it stands, bool ``(n, t)``: see `padded_places`.
        value: The token; all numbers of a row.
        side: At which ends it is looked for.
    """

    sequences: Sequences
    where: Tensor
    value: float
    side: Side

    def of_all(self, tokens: Tensor) -> Ends:
        """The same of all sequences, if these are some of them."""
        return replace(self, sequences=Sequences(tokens), where=padded_places(tokens, self.value))

    @cached_property
    def empty(self) -> Tensor:
        """Which sequences are nothing else, bool ``(n,)``."""
        return self.where.all(1)

    @cached_property
    def _by_end(self) -> tuple[Tensor, ...]:
        """Its runs at each end looked at; none in empty sequences."""
        some = self.where & ~self.empty[:, None]
        last, first = some.flip(1).cumprod(1).flip(1).bool(), some.cumprod(1).bool()
        return {"end": (last,), "begin": (first,), "begin and end": (first, last)}[self.side]

    @cached_property
    def runs(self) -> Tensor:
        """Its runs at the ends looked at, bool ``(n, t)``; none in empty sequences."""
        return torch.stack(self._by_end).any(0)

    @cached_property
    def filled(self) -> Tensor:
        """Which sequences it fills at an end, bool ``(n,)``."""
        return self.runs.any(1)

    @cached_property
    def elsewhere(self) -> Tensor:
        """Which sequences, but for empty ones, hold it at another place too, bool ``(n,)``."""
        return (self.where & ~self.runs).any(1) & ~self.empty

    @cached_property
    def long(self) -> int:
        """In how many sequences it fills more than one place, of each end looked at."""
        return min(int((runs.sum(1) > 1).sum()) for runs in self._by_end)

    @cached_property
    def alone(self) -> bool:
        """Whether it stands there alone, but for odd sequences (one in ten at most)."""
        odd = int(self.elsewhere.sum()) + int(self.empty.sum())
        return odd <= _ODD * int(self.filled.sum())

    @cached_property
    def lengths(self) -> tuple[int, int]:
        """How many lengths sequences have, and those that it fills have."""
        kinds = torch.stack([self.runs.cumprod(1).sum(1), self.runs.sum(1)], 1)
        counts = [len(kinds[rows].unique(dim=0)) for rows in (~self.empty, self.filled)]
        return counts[0], counts[1]

    @cached_property
    def varied(self) -> bool:
        """Whether it fills sequences by several lengths; an id other than 0 needs one more."""
        of_all, of_filled = self.lengths
        return of_filled > 1 and (self.value == 0 or of_all > 2)

    @cached_property
    def several(self) -> bool:
        """Whether enough sequences hold it twice; of other ids than 0 at least one in a hundred."""
        share = 0 if self.value == 0 else _SHARE * len(self.where)
        return self.long >= max(_FEWEST, share)

    @cached_property
    def surprise(self) -> float:
        """How improbable it is, in nats, that columns by chance go on so often.

        Chernoff's bound, summed over neighbouring columns j, j + 1: c KL(q ‖ p), where the token
        stands c times in j, a share q of these goes on in j + 1, where its share is p < q.
        """
        where = self.where[~self.empty].double()
        if len(where) < 2:
            return 0.0
        count, p = where[:, :-1].sum(0), where[:, 1:].mean(0)
        on = (where[:, :-1] * where[:, 1:]).sum(0)
        q = on / count.clamp(min=1)
        kl = torch.special.xlogy(q, q / p.clamp(min=1e-300))
        kl += torch.special.xlogy(1 - q, (1 - q) / (1 - p).clamp(min=1e-300))
        return float((count * kl)[q > p].sum())

    @cached_property
    def repeated(self) -> bool:
        """Whether it mostly goes on at other places too, as what lasts or is common does."""
        rows = ~self.empty[:, None]
        inside = (self.where & ~self.runs & rows)[:, :-1]
        goes_on = int((inside & self.where[:, 1:]).sum())
        return goes_on > _REPEATS * int(inside.sum())

    @cached_property
    def others(self) -> Others:
        """The other tokens."""
        where = self.where | self.empty[:, None]
        return Others(self.sequences, where, self.runs, self.value)

    @cached_property
    def sure(self) -> bool:
        """Whether it is padding: nothing else explains where it stands."""
        if not (self.alone and self.several and self.varied and self.surprise >= _SURPRISE):
            return False
        others = self.others
        natural = others.lasting or others.ordered or others.near or others.apart or others.sparse
        return others.various and not natural

    @cached_property
    def doubtful(self) -> bool:
        """Whether it may be padding: it fills ends, but something else may explain that."""
        if self.sure or not (self._common or self._at_both or self._of_one_token):
            return False
        return self.others.various and not (self.others.lasting and self.others.ordered)

    @property
    def _common(self) -> bool:
        """Whether it fills one end of sequences, alone or far more often than other places."""
        if self.side == "begin and end" or not self.several:
            return False
        most = 2 * self.long > len(self.where) or 2 * int(self.elsewhere.sum()) <= self.long
        return self.alone or (most and not self.repeated and self.surprise >= _SURPRISE)

    @property
    def _at_both(self) -> bool:
        """Whether it fills both ends alone, by chance or by the same number in all sequences."""
        if self.side != "begin and end" or not (self.alone and self.several):
            return False
        known = self.surprise >= _SURPRISE or self.lengths[0] == 1
        return known and not self.others.sparse

    @property
    def _of_one_token(self) -> bool:
        """Whether it is 0, and the last token of some sequences and no other: one is missing."""
        if self.value != 0 or not self.alone or self.side == "begin and end":
            return False
        return _FEWEST <= int(self.filled.sum()) < len(self.where) and not self.others.apart


def padded_places(tokens: Tensor, value: float) -> Tensor:
    """Where padding stands if it is this token, bool ``(n, t)``.

    Wherever the token stands (all numbers of a row), but for one that opens every sequence where
    it fills others' ends: a decoder's first token, which is real.

    Args:
        tokens: ``(n, t)`` or ``(n, t, d)``.
        value: The token.
    """
    tokens = numeric(tokens)
    if float(value).is_integer() and abs(value) < 2**63:
        value = int(value)  # ids are compared as whole numbers
    where = (tokens == value).reshape(*tokens.shape[:2], -1).all(-1)
    if where.shape[1] > 2 and len(where):
        whole = where.all(1)
        opens = bool(where[:, 0].all()) and not bool((where[:, 1] & ~whole).any())
        if opens and bool((where[:, -1] & ~whole).any()):
            where[:, 0] = False
    return where


def best(tokens: Tensor) -> Ends | None:
    """The token that is, or may be, padding of these sequences; None if none may be.

    Args:
        tokens: Ids or numbers ``(n, t)``, or rows of numbers ``(n, t, d)``.
    """
    if tokens.dtype == torch.bool or tokens.shape[1] < 2 or len(tokens) < 2 or not tokens.numel():
        return None
    sequences = Sequences.of(tokens)
    seen = [_at_best(sequences, value) for value in _candidates(sequences.tokens)]
    may_be = [ends for ends in seen if ends.sure or ends.doubtful]
    return max(may_be, key=lambda ends: (ends.sure, int(ends.filled.sum())), default=None)


def of_value(tokens: Tensor, value: float) -> Ends:
    """This token at that end of sequences where it is padding most surely.

    Args:
        tokens: See `best`; judged by a part of them, evenly spread, if there are many.
        value: The token.
    """
    return _at_best(Sequences.of(tokens), value)


def _at_best(sequences: Sequences, value: float) -> Ends:
    where = padded_places(sequences.tokens, value)
    sides: tuple[Side, ...] = ("end", "begin", "begin and end")
    seen = [Ends(sequences, where, value, side) for side in sides]
    return max(seen, key=lambda ends: (ends.sure, ends.doubtful))


def _candidates(tokens: Tensor) -> list[float]:
    """The values that most often fill two places at an end, and 0."""
    filled = []
    for ends in (tokens[:, :2], tokens[:, -2:]):
        flat = ends.flatten(1)
        filled.append(flat[(flat == flat[:, :1]).all(1), 0])
    values, rows = torch.cat(filled).unique(return_counts=True)
    often = values[rows.argsort(descending=True, stable=True)[:_TRIED]]
    return [0.0, *(float(value) for value in often if value != 0)]
