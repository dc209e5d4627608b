"""The random generators, global ones and others: one list to save, seed and watch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

KINDS = (
    torch.Generator,
    np.random.Generator,
    np.random.BitGenerator,
    np.random.RandomState,
    random.Random,
)
"""The types of generators that can be put back and seeded."""


class Generators:
    """The global generators of torch (CPU and CUDA), NumPy and Python, and others.

    Args:
        *others: Generators of `KINDS` (a module's own, a data loader's); None is passed over, as
            is what has no state (`random.SystemRandom`).
    """

    def __init__(self, *others: Any) -> None:
        cuda = torch.cuda.default_generators if torch.cuda.is_initialized() else ()
        own = [o for o in others if o is not None and not isinstance(o, random.SystemRandom)]
        self._all: list[Any] = [torch.default_generator, *cuda, np.random, random, *own]

    def states(self) -> list[Any]:
        """The state of each."""
        return [_state(generator) for generator in self._all]

    def restore(self, states: list[Any]) -> None:
        """Give each the state that it had."""
        for generator, state in zip(self._all, states, strict=True):
            _set_state(generator, state)

    def seed(self, seed: int) -> None:
        """Seed each with the same number."""
        for generator in self._all:
            _seed(generator, seed)


class Draws:
    """Whether anything random was drawn since this was made.

    Args:
        generators: Those to watch; None: the global ones.

    Example:
        >>> draws = Draws()
        >>> before = draws.happened()
        >>> _ = torch.rand(3)
        >>> before, draws.happened()
        (False, True)
    """

    def __init__(self, generators: Generators | None = None) -> None:
        self._generators = generators or Generators()
        self._before = self._generators.states()

    def happened(self) -> bool:
        """Whether a generator has moved."""
        return not _same(self._before, self._generators.states())


@contextmanager
def preserved_generators(*others: Any) -> Iterator[Generators]:
    """Restore torch's (CPU and CUDA), NumPy's and Python's global generators on leaving.

    Args:
        *others: Further generators to restore (a data loader's own); None is passed over.

    Yields:
        All that are restored.
    """
    generators = Generators(*others)
    states = generators.states()
    try:
        yield generators
    finally:
        generators.restore(states)


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.BitGenerator):
        return generator.state
    if generator is np.random or isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    if generator is random or isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.BitGenerator):
        generator.state = state
    elif generator is random or isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, (np.random.Generator, np.random.BitGenerator)):
        bits: Any = getattr(generator, "bit_generator", generator)
        bits.state = type(bits)(seed).state
    elif isinstance(generator, np.random.RandomState):
        kind = getattr(np.random, generator.get_state(legacy=False)["bit_generator"])
        generator.set_state(kind(seed).state)
    elif isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    else:
        generator.seed(seed)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return all(map(_same, one, other))
    return bool(one == other)
