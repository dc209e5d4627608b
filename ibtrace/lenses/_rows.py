"""T of a layer as rows of numbers, some of them, and the classes that go with them."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.numerics.bins import dense_ids
from ibtrace.types import View


def rows_of(t: Tensor) -> Tensor:
    """T ``(s, n, ...)`` as rows ``(s, n, d)``."""
    return t.flatten(2) if t.dim() > 2 else t[..., None]


def drawn(n: int, most: int, seed: int) -> Tensor:
    """Which of n samples are taken: all, or ``most`` at random, in order."""
    if n <= most:
        return torch.arange(n)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator)[:most].sort().values


def some_rows(t: Tensor, most: int, seed: int) -> Tensor:
    """T ``(s, n, ...)`` as rows of at most so many samples, float64 ``(s, m, d)``."""
    rows = rows_of(t)
    return rows[:, drawn(rows.shape[1], most, seed).to(rows.device)].to(torch.float64)


def layers_of_samples(view: View) -> dict[str, Tensor]:
    """T of the layers that have one row a sample (one a token has no label), ``(s, n, d)``."""
    return {name: rows_of(t) for name, t in view.activations.items() if t.shape[1] == view.samples}


def classes_of(view: View, who: str) -> Tensor:
    """The class of each sample as each network sees it, ids from 0, ``(s, n)``.

    Raises:
        Unsupported: If the labels are no classes.
    """
    labels = view.labels
    if labels.dim() != 2 or labels.is_floating_point():
        raise Unsupported(
            f"{who} takes one class a sample, and the labels are {labels.dtype} "
            f"{tuple(labels.shape[1:])}; give the probe class ids"
        )
    return dense_ids(labels)
