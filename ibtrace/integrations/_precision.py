"""The model's own precision under accelerate's mixed precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def full_precision(model: nn.Module) -> Iterator[nn.Module]:
    """Take off the autocast that accelerate puts around ``forward`` under ``bf16`` or ``fp16``.

    Disabling autocast around the call does not help: the wrapper enables it inside.
    """
    wrapped, original = (model.__dict__.get(name) for name in ("forward", "_original_forward"))
    if wrapped is None or original is None:
        yield model
        return
    model.__dict__["forward"] = original
    try:
        yield model
    finally:
        model.__dict__["forward"] = wrapped
