"""Networks of an experiment in training: many at once, or one alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ibtrace.capture import undisturbed
from ibtrace.capture.recipe import Part, Recipe
from ibtrace.datasets import Batches
from ibtrace.ensemble import (
    LOSSES,
    Ensemble,
    fuse,
    require_elementwise,
    restore_training,
    training_state,
)
from ibtrace.numerics.losses import NATS, require_probabilities
from ibtrace.probe import Probe
from ibtrace.tracer import Networks
from ibtrace.training.experiment import Experiment
from ibtrace.training.parts import probe_of, split_of
from ibtrace.training.twins import TwinTraining

_EVALUATION_BATCH = 512
_SEQUENCES = 256  # of labelled tokens, by which a loss is told


def trainer_of(experiment: Experiment, seeds: list[int], *, together: bool) -> Trainer:
    """The networks of these seeds, ready to be trained.

    Args:
        experiment: What is trained.
        seeds: Of which networks.
        together: All in one pass, as `ibtrace.ensemble` can; else there is one seed.
    """
    return _Together(experiment, seeds) if together else _Alone(experiment, seeds)


class Trainer(ABC):
    """Some networks of an experiment in training: many at once, or one alone."""

    networks: nn.Module | Networks
    optimizer: Optimizer
    schedule: LRScheduler

    def __init__(self, experiment: Experiment, seeds: list[int]) -> None:
        data, training = experiment.data, experiment.training
        self.experiment, self.training, self.seeds = experiment, training, seeds
        self.x, self.y = (
            data.x.to(training.device),
            data.y.to(training.device),
        )
        self.truth = data.truth.to(training.device)
        self.of_tokens = data.of_tokens(data.y)
        parts = [split_of(experiment, seed) for seed in seeds]
        self.batches = Batches(
            self.x,
            self.y,
            [train for train, _ in parts],
            seeds,
            training.batch_size,
            training.shuffle,
        )
        self.parts = {
            name: torch.stack([part[at] for part in parts]).to(self.x.device)
            for at, name in enumerate(("train", "test"))
        }
        self.loss = LOSSES[training.loss]
        self.probe = probe_of(experiment)

    def epoch(self) -> Iterator[int]:
        """Train one epoch; yields the number of its steps that are done, after each of them.

        A frozen control stands still for as many steps.
        """
        if not self.experiment.trains:
            yield from range(1, len(self.batches) + 1)
            return
        yield from self._steps()
        self.schedule.step()

    @abstractmethod
    def _steps(self) -> Iterator[int]:
        """The steps of an epoch at one learning rate, numbered from 1."""

    @abstractmethod
    def outputs(self, x: Tensor) -> Tensor:
        """The networks' outputs in eval mode, ``(seeds, n, classes)`` for ``(seeds, n, ...)``."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training depends on."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""

    def recipe(self) -> Recipe:
        """How the networks are trained, for lenses."""
        return Recipe(
            self._part("train"),
            self._part("test"),
            self.optimizer,
            self.training.batch_size,
            random=self.training.split.how == "shuffled",
        )

    def _part(self, name: str) -> Part:
        data, rows = self.experiment.data, self.parts[name]
        samples = Probe(self.x, self._labels(name), data.class_names or data.classes)
        return Part(samples, rows[0] if bool((rows == rows[0]).all()) else rows)

    def _labels(self, part: str) -> Tensor:
        """All labels as a part has them: corrupted ones are trained on, true ones judge."""
        return self.truth if part == "test" else self.y

    def metrics(self) -> dict[str, Any]:
        """Loss and accuracy of each seed on its training and test part, with their units.

        Of labelled tokens those of 256 sequences of each part, evenly spread over it.
        """
        numbers: dict[str, Any] = {}
        unit = "nats" if self.training.loss in NATS else "loss"
        for name, every in self.parts.items():
            rows = every[:, :: -(-every.shape[1] // _SEQUENCES)] if self.of_tokens else every
            pieces = rows.split(_EVALUATION_BATCH, dim=1)
            outputs = torch.cat([self.outputs(self.x[piece]) for piece in pieces], dim=1)
            y = self._labels(name)[rows]
            if self.of_tokens:
                outputs, y = outputs.flatten(1, 2), y.flatten(1)
            if self.training.loss == "nll":
                require_probabilities(outputs)
            numbers[f"{name}_loss"] = self.loss(outputs, y), unit
            if outputs.shape[-1] > 1:
                numbers[f"{name}_accuracy"] = (outputs.argmax(-1) == y).double().mean(-1), "1"
        return numbers


class _Together(Trainer):
    """All seeds in one pass."""

    def __init__(self, experiment: Experiment, seeds: list[int]) -> None:
        super().__init__(experiment, seeds)
        self.networks: Ensemble = Ensemble(lambda seed: self.training.network(), seeds)
        self.optimizer = fuse(self.training.optimizer(self.networks.parameters()))
        require_elementwise(self.optimizer)
        self.schedule = self.training.schedule(self.optimizer)
        self.twins = self._twins() if experiment.instruments.wants("twins") else None

    def _twins(self) -> TwinTraining:
        return TwinTraining(
            self.training.network,
            self.training.optimizer,
            self.training.schedule,
            self.seeds,
            train=self.parts["train"],
            test=self.parts["test"],
            batches=lambda rows, seeds: Batches(
                self.x,
                self.y,
                list(rows),
                seeds,
                self.training.batch_size,
                self.training.shuffle,
            ),
        )

    def recipe(self) -> Recipe:
        recipe = super().recipe()
        return recipe if self.twins is None else replace(recipe, twins=self.twins.twins())

    def _steps(self) -> Iterator[int]:
        twins: Iterable[Any] = repeat(None) if self.twins is None else self.twins.batches
        for step, ((x, y), others) in enumerate(zip(self.batches, twins, strict=False), 1):
            with _flushed_denormals():  # in training alone: a look is to see what is there
                self.networks.backward(x, y, self.loss)
                self.optimizer.step()
                if self.twins is not None and others is not None:
                    self.twins.step(others[0], others[1], self.loss)
            yield step
        if self.twins is not None:
            self.twins.schedule.step()

    def outputs(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.networks(x)

    def state_dict(self) -> dict[str, Any]:
        own = training_state(self.networks, self.optimizer, self.batches, self.schedule)
        return own if self.twins is None else {**own, "twins": self.twins.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        restore_training(state, self.networks, self.optimizer, self.batches, self.schedule)
        if self.twins is not None:
            self.twins.load_state_dict(state["twins"])


class _Alone(Trainer):
    """One seed: any module, with torch's global generator seeded by it."""

    def __init__(self, experiment: Experiment, seeds: list[int]) -> None:
        super().__init__(experiment, seeds)
        torch.manual_seed(seeds[0])
        self.networks: nn.Module = self.training.network()
        self.optimizer = self.training.optimizer(self.networks.parameters())
        self.schedule = self.training.schedule(self.optimizer)
        self.forward = experiment.look.forward

    def _steps(self) -> Iterator[int]:
        self.networks.train()
        for step, (x, y) in enumerate(self.batches, 1):
            self.optimizer.zero_grad()
            outputs, labels = self.output(x[0]), y[0]
            if self.of_tokens:
                outputs, labels = outputs.flatten(0, 1), labels.flatten()
            self.loss(outputs, labels).backward()
            self.optimizer.step()
            yield step

    def outputs(self, x: Tensor) -> Tensor:
        with undisturbed(self.networks):
            return self.output(x[0])[None]

    def output(self, x: Tensor) -> Tensor:
        """The network's output as the experiment calls it, ``(n, classes)``."""
        call = self.forward or nn.Module.__call__
        output: Tensor = call(self.networks, x)
        return output

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "batches": self.batches.state_dict(),
            "generator": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.networks.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.batches.load_state_dict(state["batches"])
        torch.set_rng_state(state["generator"])


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 for 0: Adam's moments of dead units lie there, at twice the time."""
    before = (torch.tensor([1e-40]) * torch.ones(1)).item() == 0.0  # torch does not tell
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
