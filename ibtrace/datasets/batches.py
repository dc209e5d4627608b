"""Batches of several seeds at once, each with a training part and an order of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ibtrace.datasets.splits import stream
from ibtrace.errors import InvalidInput, RunError


class Batches:
    """Batches for the networks of several seeds, stacked along a first dimension.

    What a seed is given depends on that seed and on its training part alone, so a network sees
    the same batches whether it trains with others or by itself. The last batch of an epoch holds
    what is left over.

    Args:
        x: Inputs of the whole data set, ``(n, ...)``.
        y: Its labels, ``(n, ...)``.
        train: Indices to train on: one tensor ``(m,)`` for all seeds, or one for each seed, all
            equally long.
        seeds: The seed of each network.
        batch_size: Samples per step.
        shuffle: Draw the order anew each epoch; else always the order of ``train``.

    Raises:
        InvalidInput: If the training parts are not one for each seed, not equally long or empty,
            point outside the data, or the batch size is below 1.

    Example:
        >>> x, y = torch.zeros(10, 3), torch.arange(10)
        >>> batches = Batches(x, y, torch.arange(10), seeds=[0, 1], batch_size=4)
        >>> [tuple(inputs.shape) for inputs, labels in batches]
        [(2, 4, 3), (2, 4, 3), (2, 2, 3)]
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        train: Tensor | Sequence[Tensor],
        seeds: Sequence[int],
        batch_size: int,
        shuffle: bool = True,
    ) -> None:
        if len(x) != len(y):
            raise InvalidInput(f"Batches: {len(x)} inputs and {len(y)} labels; they must pair up")
        if batch_size < 1:
            raise InvalidInput(f"Batches: batch_size must be at least 1, got {batch_size}")
        self.seeds = tuple(seeds)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self._train = _stack(train, len(self.seeds), len(x)).to(x.device)
        # one part in one order for all seeds: its batches are views, and nothing is gathered
        first = self._train[0]
        self._shared = not shuffle and bool((self._train == first).all())
        self._x, self._y = (x[first], y[first]) if self._shared else (x, y)
        if self._shared and x.dim() == 2:
            # an ensemble works in (unit, sample) order: with samples adjacent nothing is shuffled
            self._x = self._x.T.contiguous().T
        self._generators = [stream(seed, "batches") for seed in self.seeds]
        self._epoch_start = self._generator_states()
        self._position = 0

    @property
    def samples(self) -> int:
        """Size of a seed's training part."""
        return self._train.shape[1]

    def __len__(self) -> int:
        """Steps per epoch."""
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch, or the rest of one that was left (or restored) midway.

        Yields:
            Inputs ``(seeds, batch, ...)`` and labels ``(seeds, batch, ...)``.
        """
        if self._position in (0, len(self)):
            self._epoch_start, self._position = self._generator_states(), 0
        else:  # midway: the order of the epoch has to be drawn once more
            self._set_generators(self._epoch_start)
        order = None if self._shared else self._order()
        while self._position < len(self):
            start = self._position * self.batch_size
            stop = min(start + self.batch_size, self.samples)
            self._position += 1
            yield self._batch(order, start, stop)
        self._position = 0

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on from here; a batch counts as done once it was handed out."""
        between = self._position in (0, len(self))
        return {
            "seeds": list(self.seeds),
            "generators": self._generator_states() if between else list(self._epoch_start),
            "position": 0 if between else self._position,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave.

        Args:
            state: The state; of batches of the same seeds, data and size.

        Raises:
            RunError: If the state belongs to other seeds.
        """
        if tuple(state["seeds"]) != self.seeds:
            raise RunError(f"Batches of seeds {self.seeds} cannot resume {tuple(state['seeds'])}")
        self._set_generators(state["generators"])
        self._epoch_start = self._generator_states()
        self._position = state["position"]

    def _generator_states(self) -> list[Tensor]:
        return [generator.get_state() for generator in self._generators]

    def _set_generators(self, states: Sequence[Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    def _order(self) -> Tensor:
        if not self.shuffle:
            return self._train
        drawn = [torch.randperm(self.samples, generator=g) for g in self._generators]
        return self._train.gather(1, torch.stack(drawn).to(self._train.device))

    def _batch(self, order: Tensor | None, start: int, stop: int) -> tuple[Tensor, Tensor]:
        if order is None:
            x, y = self._x[start:stop], self._y[start:stop]
            return x.expand(len(self.seeds), *x.shape), y.expand(len(self.seeds), *y.shape)
        shape = (len(self.seeds), stop - start)
        rows = order[:, start:stop].reshape(-1)
        x, y = self._x.index_select(0, rows), self._y.index_select(0, rows)
        return x.view(*shape, *x.shape[1:]), y.view(*shape, *y.shape[1:])


def _stack(train: Tensor | Sequence[Tensor], seeds: int, n: int) -> Tensor:
    """The training parts as ``(seeds, m)``."""
    parts = [train] * seeds if isinstance(train, Tensor) else list(train)
    sizes = {len(part) for part in parts}
    if len(parts) != seeds or len(sizes) != 1 or sizes == {0}:
        raise InvalidInput(
            f"Batches: {seeds} seeds need as many training parts of one size, "
            f"got {len(parts)} of sizes {sorted(sizes)}"
        )
    stacked = torch.stack(parts)
    low, high = int(stacked.min()), int(stacked.max())
    if low < 0 or high >= n:
        raise InvalidInput(f"Batches: indices must lie in 0..{n - 1}, got {low}..{high}")
    return stacked
