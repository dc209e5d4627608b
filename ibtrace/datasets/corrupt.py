"""Random labels: replaced by draws that know nothing of the inputs, or permuted."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ibtrace.datasets.types import Dataset
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.runtime.arguments import whole


def corrupt(y: Tensor, fraction: float, seed: int = 0, *, classes: int | None = None) -> Tensor:
    """Labels of which each is replaced, with a probability, by a class drawn at random.

    The class is drawn uniformly from all, its own included, as in Zhang et al. 2017: at
    ``fraction`` 1 the labels are independent of everything, and 1/C of them as they were. Of one
    seed, what is replaced at a small fraction is replaced, by the same classes, at a larger one.

    Args:
        y: Class ids, ``(n,)``.
        fraction: The probability, 0 to 1.
        seed: Seeds both draws; the global generators are left alone.
        classes: How many classes there are; by default as many as y has.

    Raises:
        ConfigError: If the fraction does not lie between 0 and 1.
        InvalidInput: If y are no class ids.

    Example:
        >>> corrupt(torch.tensor([0, 1, 2, 0]), 0.0).tolist()
        [0, 1, 2, 0]
    """
    if isinstance(fraction, bool) or not 0 <= fraction <= 1:
        raise ConfigError(f"corrupt: fraction must lie between 0 and 1, got {fraction}")
    if y.dim() != 1 or y.is_floating_point() or len(y) == 0:
        raise InvalidInput(f"corrupt takes class ids (n,), got {y.dtype} {tuple(y.shape)}")
    count = int(y.max()) + 1 if classes is None else whole("corrupt: classes", classes, least=1)
    generator = torch.Generator().manual_seed(seed)
    flipped = torch.rand(len(y), generator=generator, dtype=torch.float64) < fraction
    drawn = torch.randint(count, (len(y),), generator=generator, dtype=y.dtype)
    return torch.where(flipped.to(y.device), drawn.to(y.device), y)


def corrupted(data: Dataset, fraction: float, seed: int = 0) -> Dataset:
    """A data set with some of its labels replaced; see `corrupt`.

    It is trained on and measured with the new labels, and remembers the true ones (``clean``), by
    which test samples are judged.

    Args:
        data: The data set.
        fraction: The probability that a label is replaced, 0 to 1.
        seed: Seeds the draws.

    Example:
        >>> from ibtrace.datasets import tishby
        >>> data = corrupted(tishby(), 1.0)
        >>> agreeing = (data.y == data.clean).float().mean()
        >>> 0.45 < agreeing < 0.55
        tensor(True)
    """
    y = corrupt(data.y, fraction, seed, classes=data.classes)
    name = f"{data.name}(corrupted={fraction:g}, seed={seed})"
    clean = data.y if data.clean is None else data.clean
    return replace(data, name=name, y=y, clean=clean)


def shuffled(data: Dataset, seed: int = 0) -> Dataset:
    """A data set whose labels are permuted among the samples: of the same counts, about nothing.

    It remembers the true labels (``clean``), by which test samples are judged. Unlike `corrupted`
    with ``fraction`` 1 it leaves H(Y) as it is.

    Args:
        data: The data set.
        seed: Seeds the permutation; the global generators are left alone.

    Raises:
        InvalidInput: If that changes nothing, as where all labels are alike.

    Example:
        >>> from ibtrace.datasets import tishby
        >>> data = shuffled(tishby())
        >>> int(data.y.sum()), bool((data.y == data.clean).all())
        (2118, False)
    """
    generator = torch.Generator().manual_seed(seed)
    y = data.y[torch.randperm(len(data), generator=generator).to(data.y.device)]
    if bool((y == data.y).all()):
        raise InvalidInput(f"shuffled: the labels of {data.name} are as they were")
    return replace(data, name=f"{data.name}(shuffled, seed={seed})", y=y, clean=data.truth)
