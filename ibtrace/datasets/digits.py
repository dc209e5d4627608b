"""The 8×8 digits that come with scikit-learn: real data without a download."""

from __future__ import annotations

import torch

from ibtrace.datasets.types import Dataset


def digits(*, flatten: bool = True) -> Dataset:
    """1797 handwritten digits of 8×8 pixels (Alpaydin & Kaynak 1998, as in scikit-learn).

    Args:
        flatten: x as ``(1797, 64)``; else as images ``(1797, 1, 8, 8)``.

    Returns:
        x float32 in [0, 1]; y ``(1797,)``; 10 classes.

    Example:
        >>> digits()
        Dataset('digits', x (1797, 64), classes=10)
    """
    from sklearn.datasets import load_digits  # here, as scikit-learn takes a second to import

    pixels, labels = load_digits(return_X_y=True)
    x = torch.as_tensor(pixels).float() / 16
    x = x if flatten else x.view(-1, 1, 8, 8)
    return Dataset("digits", x, torch.as_tensor(labels).long(), classes=10)
