"""Twins: each network once more, trained with one sample replaced and all else the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ibtrace.capture.recipe import Twins
from ibtrace.datasets import Batches
from ibtrace.datasets.splits import stream
from ibtrace.ensemble import Ensemble, Loss, fuse, restore_training, training_state

Build = Callable[[], nn.Module]


class TwinTraining:
    """The twins of several networks, and one copy of the first that nothing was replaced for.

    The copy's distance from its original is the floor below which a twin's says nothing: networks
    in two batched products are not bit-equal.

    Args:
        build: Makes a network, with torch's global generator seeded.
        optimizer: Makes an optimiser from parameters.
        schedule: Makes a schedule of the learning rate from an optimiser.
        seeds: The seeds of the originals.
        train: Their training samples, ``(s, m)``.
        test: Samples that they are not trained on, ``(s, m')``.
        batches: Makes batches of training samples and seeds.
    """

    def __init__(
        self,
        build: Build,
        optimizer: Callable[[Any], Optimizer],
        schedule: Callable[[Optimizer], LRScheduler],
        seeds: Sequence[int],
        *,
        train: Tensor,
        test: Tensor,
        batches: Callable[[Tensor, Sequence[int]], Batches],
    ) -> None:
        places = [*range(len(seeds)), 0]
        own = [seeds[place] for place in places]

        def seeded(number: int) -> nn.Module:
            torch.manual_seed(own[number])
            return build()

        self.networks = Ensemble(seeded, range(len(own)))
        self.optimizer = fuse(optimizer(self.networks.parameters()))
        self.schedule = schedule(self.optimizer)
        rows, replaced = train[places].clone(), []
        for place, seed in enumerate(seeds):
            draw = stream(seed, "twins")
            out = int(torch.randint(train.shape[1], (), generator=draw))
            into = int(torch.randint(test.shape[1], (), generator=draw))
            replaced.append([int(train[place, out]), int(test[place, into])])
            rows[place, out] = test[place, into]
        self.batches = batches(rows, own)
        self.replaced = torch.tensor(replaced)

    def step(self, x: Tensor, y: Tensor, loss: Loss) -> None:
        """One step of training on a batch ``(s + 1, batch, ...)``."""
        self.networks.backward(x, y, loss)
        self.optimizer.step()

    def twins(self) -> Twins:
        """What a `Recipe` tells of them."""
        return Twins(self.networks, self.replaced, control=True)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training depends on."""
        return training_state(self.networks, self.optimizer, self.batches, self.schedule)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""
        restore_training(state, self.networks, self.optimizer, self.batches, self.schedule)
