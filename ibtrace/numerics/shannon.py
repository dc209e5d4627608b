"""Shannon invariants: how redundant and how vulnerable the information of several parts is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ibtrace.numerics.bins import dense_ids, joint_ids
from ibtrace.numerics.entropy import information, pair_counts, sample_counts


class Invariants(NamedTuple):
    """Informations in bits, ``(...)``.

    Args:
        whole: I(T;Y), T all parts together.
        single: Σᵢ I(Tᵢ;Y).
        without: Σᵢ I(Tᵢ;Y|T₋ᵢ) = Σᵢ (I(T;Y) - I(T₋ᵢ;Y)).
        counts: `sample_counts` of T, ``(..., n)``.
    """

    whole: Tensor
    single: Tensor
    without: Tensor
    counts: Tensor


def invariants(parts: Sequence[Tensor], y: Tensor) -> Invariants:
    """The informations behind the Shannon invariants of discrete parts T₁ … T_d about Y.

    T₋ᵢ is the pair of all parts before i and all after it, so that the cost is 4 d sorts.

    Args:
        parts: Ids below n, ``(..., n)`` each.
        y: Ids below n, ``(..., n)``.
    """
    before = [torch.zeros_like(y)]  # the ids of the parts before i
    for part in parts:
        before.append(joint_ids(before[-1], part))
    of_y = sample_counts(y)

    def about_y(ids: Tensor) -> Tensor:
        return information(sample_counts(ids), of_y, pair_counts(ids, y))

    whole = about_y(before[-1])
    single, without = torch.zeros_like(whole), torch.zeros_like(whole)
    after = torch.zeros_like(y)
    for at in reversed(range(len(parts))):
        single = single + about_y(parts[at])
        without = without + (whole - about_y(joint_ids(before[at], after)))
        after = joint_ids(after, parts[at])
    return Invariants(whole, single, without, sample_counts(dense_ids(before[-1])))
