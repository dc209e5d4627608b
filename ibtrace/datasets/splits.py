"""Training and test part of a data set."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput, UnknownName

Order = Literal["shuffled", "stratified", "contiguous"]


def stream(seed: int, purpose: str) -> torch.Generator:
    """A generator of its own for each purpose, so that one seed's draws do not repeat another's.

    Args:
        seed: The seed of the network.
        purpose: What is drawn: ``"split"``, ``"batches"``.
    """
    digest = hashlib.sha256(f"{purpose}/{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def split(
    y: Tensor | int, fraction: float = 0.8, how: Order = "shuffled", seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Indices of a training and a test part.

    Args:
        y: The labels, int64 ``(n,)``; the number of samples is enough unless ``stratified``.
        fraction: Share of the training part, strictly between 0 and 1; its size is rounded.
        how: ``shuffled``; ``stratified`` (shuffled, each class with the same share, to within one
            sample); or ``contiguous``: the first rows train and the last rows test, in order.
            That is the legacy of the IDNNs code: on the 12-bit task 43.7 % of the training and
            83.6 % of the test labels are 1.
        seed: Seeds the shuffling; ``contiguous`` has none.

    Returns:
        ``(train, test)``, int64 indices; shuffled parts are in random order.

    Raises:
        InvalidInput: If a part would be empty, or ``stratified`` has no labels to go by.
        UnknownName: If ``how`` is none of the three.

    Example:
        >>> train, test = split(10, fraction=0.7, how="contiguous")
        >>> train.tolist(), test.tolist()
        ([0, 1, 2, 3, 4, 5, 6], [7, 8, 9])
    """
    n = y if isinstance(y, int) else len(y)
    if how not in get_args(Order):
        raise UnknownName(f"no split {how!r}; choose one of: {', '.join(get_args(Order))}")
    size = round(fraction * n) if 0 < fraction < 1 else 0
    if not 0 < size < n:
        raise InvalidInput(
            f"split: fraction {fraction} of {n} samples leaves a part empty; "
            "choose one strictly between 0 and 1 that leaves samples on both sides"
        )
    if how == "contiguous":
        order = torch.arange(n)
    elif how == "shuffled":
        order = torch.randperm(n, generator=stream(seed, "split"))
    elif isinstance(y, int):
        raise InvalidInput("split: 'stratified' goes by the labels; give y instead of its length")
    else:
        order = _stratified_order(y, size, stream(seed, "split"))
    return order[:size], order[size:]


def _stratified_order(y: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random order whose first ``size`` samples hold every class in its share."""
    classes, counts = y.cpu().unique(return_counts=True)
    quota = counts * size
    taken = quota // len(y)
    # largest remainders: each class is rounded so that the sizes add up
    ahead = (quota % len(y)).argsort(descending=True, stable=True)[: size - int(taken.sum())]
    taken[ahead] += 1
    train, test = [], []
    for label, count in zip(classes, taken.tolist(), strict=True):
        members = (y.cpu() == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        train.append(members[:count])
        test.append(members[count:])
    parts = (torch.cat(train), torch.cat(test))
    return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in parts])
