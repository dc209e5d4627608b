"""The 8×8 digits that come with scikit-learn: real data without a download."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from ibtrace.datasets.types import Dataset


def digits() -> Dataset:
    """1797 handwritten digits of 8×8 pixels (Alpaydin & Kaynak 1998, as in scikit-learn).

    Returns:
        x float32 in [0, 1], ``(1797, 64)``; y ``(1797,)``; 10 classes.

    Example:
        >>> digits()
        Dataset('digits', x (1797, 64), classes=10)
    """
    x, y = load_digits(return_X_y=True)
    return Dataset("digits", torch.as_tensor(x).float() / 16, torch.as_tensor(y).long(), classes=10)
