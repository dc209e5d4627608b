"""The global random generators, left as they were found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserved_generators(*others: torch.Generator | None) -> Iterator[None]:
    """Restore torch's (CPU and CUDA), NumPy's and Python's global generators on leaving.

    Args:
        *others: Further generators to restore (a data loader's own); None is passed over.

    Yields:
        Nothing.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    states = [(generator, generator.get_state()) for generator in others if generator is not None]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for generator, state in states:
            generator.set_state(state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
