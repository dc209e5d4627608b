"""How the tokens of sequences stand beside one that may be padding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.types import numeric

_SEEN = 1000


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of tokens, some of many.

    Args:
        tokens: Ids or numbers ``(n, t)``, or rows of numbers ``(n, t, d)``.
    """

    tokens: Tensor

    @cached_property
    def ids(self) -> Tensor:
        """Which tokens are equal, ``(n, t)``."""
        n, t = self.tokens.shape[:2]
        ids: Tensor = row_ids(self.tokens.reshape(n * t, -1))
        return ids.reshape(n, t)

    @classmethod
    def of(cls, tokens: Tensor) -> Sequences:
        """A thousand sequences at most, drawn with one seed.

        Every k-th one would miss what is periodic in the rows: questions and answers by turns.
        """
        if len(tokens) > _SEEN:
            order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
            tokens = tokens[order[:_SEEN].sort().values.to(tokens.device)]
        return cls(numeric(tokens))


@dataclass(frozen=True, eq=False)
class Others:
    """How the tokens stand that are not padding, if one is.

    Args:
        sequences: The sequences.
        where: Where the token stands that may be padding, bool ``(n, t)``.
        runs: Its runs at the ends.
        value: That token.
    """

    sequences: Sequences
    where: Tensor
    runs: Tensor
    value: float

    @property
    def tokens(self) -> Tensor:
        """``(n, t)`` or ``(n, t, d)``."""
        return self.sequences.tokens

    @cached_property
    def _counts(self) -> Tensor:
        counts = torch.bincount(self.sequences.ids[~self.where])
        return counts[counts > 0].double()

    @property
    def various(self) -> bool:
        """Whether there are several of them."""
        return len(self._counts) > 1

    @cached_property
    def lasting(self) -> bool:
        """Whether they repeat themselves, much more often than in a random order.

        In sorted sequences any repetition tells: equal tokens can only stand side by side.
        """
        pairs = ~(self.where[:, :-1] | self.where[:, 1:])
        ids = self.sequences.ids
        repeats = int(((ids[:, :-1] == ids[:, 1:]) & pairs).sum())
        chance = float((self._counts.square().sum() / self._counts.sum().square()) * pairs.sum())
        if self.ordered:
            return repeats > max(2, 0.05 * int(pairs.sum()))
        return repeats > 1.5 * chance + 3 * math.sqrt(chance + 1)

    @cached_property
    def ordered(self) -> bool:
        """Whether sequences only rise, or only fall, this token included.

        What rises and then falls to this token is not in order: sorted days, padded with 0.
        """
        a, b = self.tokens[:, :-1], self.tokens[:, 1:]
        pairs = ~(self.where[:, :-1] & self.where[:, 1:])
        rises, falls = (_all(b >= a), _all(b <= a))
        moves = pairs & ~(rises & falls)
        beside = moves & (self.where[:, :-1] ^ self.where[:, 1:])
        return any(
            all(int((way & each).sum()) >= 0.95 * int(each.sum()) for each in (moves, beside))
            for way in (rises, falls)
        )

    @cached_property
    def near(self) -> bool:
        """Whether the numbers beside it are nearer to it than others: a series that comes to it."""
        if not self.tokens.is_floating_point():
            return False
        away = (self.tokens.double() - self.value).abs().reshape(*self.where.shape, -1).amax(2)
        left, right = torch.zeros_like(self.where), torch.zeros_like(self.where)
        left[:, 1:], right[:, :-1] = self.runs[:, :-1], self.runs[:, 1:]
        beside = away[(left | right) & ~self.where]
        if not len(beside):
            return False
        share = float((beside < away[~self.where].median()).double().mean())
        return share >= 0.65 and share > 0.5 + 1 / math.sqrt(len(beside))

    @cached_property
    def apart(self) -> bool:
        """Whether columns have values of their own, as those of a table have.

        Most of the variance of ranks is between columns: Kruskal–Wallis' η² is more than a half.
        """
        if self.tokens.dim() > 2:
            return False
        real = ~self.where
        ranks = torch.zeros(self.where.shape, dtype=torch.float64, device=self.where.device)
        ranks[real] = self.tokens[real].unique(return_inverse=True)[1].double()
        total = real.sum(0).double()
        mean = ranks.sum(0) / total.clamp(min=1)
        within = torch.where(real, (ranks - mean).square(), 0).sum(0)
        columns = (total > 2) & (within > 0)  # one that is constant (a first token) tells nothing
        if int(columns.sum()) < 2:
            return False
        total, mean, within = total[columns], mean[columns], within[columns]
        between = (total * (mean - (total * mean).sum() / total.sum()).square()).sum()
        return bool(between > within.sum())

    @cached_property
    def sparse(self) -> bool:
        """Whether real rows too have this number often, as images have black and events nothing.

        One-hot rows do not count.
        """
        if self.tokens.dim() < 3:
            return False
        same = (self.tokens == self.value)[~self.where].reshape(int((~self.where).sum()), -1)
        one_hot = bool(((~same).sum(1) == 1).all()) and same.shape[1] > 1
        return not one_hot and float(same.double().mean()) > 0.05


def _all(where: Tensor) -> Tensor:
    """Whether it is so of all numbers of a row, bool ``(n, t)``."""
    return where if where.dim() == 2 else where.all(-1)
