"""What a group of permutations of the columns does to the rows of a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ibtrace.numerics.bins import row_ids


def orbits(x: Tensor, permutations: Iterable[Sequence[int]]) -> Tensor | None:
    """Which rows become each other: ids ``0..k-1`` of the orbits, ``(n,)``.

    Args:
        x: Rows ``(n, d)``.
        permutations: Of the d columns; the group is the one that they generate.

    Returns:
        None if the rows are no union of orbits, each row once: if one is missing or repeats.

    Example:
        >>> bits = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> orbits(bits, [(1, 0)]).tolist()
        [0, 1, 1, 2]
        >>> orbits(bits[:2], [(1, 0)]) is None
        True
    """
    images = []
    for permutation in permutations:
        own, moved = row_ids(torch.cat([x, x[:, list(permutation)]])).long().split(len(x))
        order = own.argsort()
        if not torch.equal(own[order], torch.arange(len(x), device=x.device)):
            return None  # a row that repeats, or an image that is no row and took a number
        if not torch.equal(moved.sort().values, own[order]):
            return None
        images.append(order[moved])
    ids = torch.arange(len(x), device=x.device)
    while True:
        before = ids
        for image in images:
            ids = torch.minimum(ids, ids[image])
        if torch.equal(ids, before):
            numbered: Tensor = torch.unique(ids, return_inverse=True)[1]
            return numbered
