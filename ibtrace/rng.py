"""The global random generators, left as they were found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class Draws:
    """Whether anything random was drawn since this was made.

    Args:
        device: Of the forward that may draw: its global generator is watched, and the CPU's.
        *others: Further generators to watch (a module's own).

    Example:
        >>> draws = Draws(torch.device("cpu"))
        >>> before = draws.happened()
        >>> _ = torch.rand(3)
        >>> before, draws.happened()
        (False, True)
    """

    def __init__(self, device: torch.device, *others: torch.Generator) -> None:
        self._device, self._others = device, others
        self._before = self._states()

    def happened(self) -> bool:
        """Whether a generator has moved."""
        pairs = zip(self._before, self._states(), strict=True)
        return any(not torch.equal(before, now) for before, now in pairs)

    def _states(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state(), *(one.get_state() for one in self._others)]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states


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
