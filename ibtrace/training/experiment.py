"""An experiment as data: what is trained, on what, how it is looked at, what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, ReduceLROnPlateau

from ibtrace.capture import Look
from ibtrace.datasets import Dataset
from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import MOST, different_seeds, is_alone, shown, whole
from ibtrace.runtime.schedule import Schedule, Steps, schedule
from ibtrace.tracer import At
from ibtrace.training.configs import SEEDS
from ibtrace.types import Control, Estimator, Lens, Need


@dataclass(frozen=True)
class Split:
    """How the data are divided: for each seed anew, or as for the first where a part is measured.

    Args:
        fraction: Share of the samples to train on.
        how: ``shuffled``, ``stratified``, or IDNNs' ``contiguous`` (legacy: the first rows).
    """

    fraction: float = 0.8
    how: Literal["shuffled", "stratified", "contiguous"] = "shuffled"

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ConfigError(f"split: fraction must lie between 0 and 1, got {self.fraction}")


@dataclass(frozen=True)
class Measured:
    """On which samples information is measured.

    Args:
        part: All samples, or those of the training or test part, which all seeds then share.
        samples: How many of them at most, drawn once; None for all.
    """

    part: Literal["all", "train", "test"] = "all"
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.samples is not None:
            whole("probe: samples", self.samples, least=2)


@dataclass(frozen=True)
class Training:
    """What is trained, and how.

    Args:
        model: Makes a network, a class or a function; called once for each seed with torch seeded.
        optimizer: Makes an optimiser from parameters.
        scheduler: Makes a schedule of the learning rate from an optimiser, and takes a step after
            each epoch; None leaves the rate as it is.
        epochs: Epochs of training.
        seeds: How many (0, 1, …), or which.
        loss: ``cross_entropy`` (of logits), ``nll`` (of probabilities) or ``mse``.
        batch_size: Samples per step.
        shuffle: Draw the batches anew each epoch; else always in the order of the data.
        split: Training and test part.
        device: Where to train and measure.
        together: Train all seeds in one pass where the networks are no chain of linear layers too
            (`ibtrace.ensemble`, under vmap): faster, where they are small. Chains always are.
    """

    model: Callable[[], nn.Module]
    optimizer: Callable[[Iterable[Any]], Optimizer]
    epochs: int
    scheduler: Callable[[Optimizer], LRScheduler] | None = None
    seeds: int | list[int] = SEEDS
    loss: Literal["cross_entropy", "nll", "mse"] = "cross_entropy"
    batch_size: int = 256
    shuffle: bool = True
    split: Split = field(default_factory=Split)
    device: str = "cpu"
    together: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            whole(name, getattr(self, name), least=1)
        if is_alone(self.seeds):
            whole("seeds: how many", self.seeds, least=1, most=MOST)
        different_seeds("seeds", self.seed_list)
        try:
            torch.device(self.device)
        except (RuntimeError, TypeError) as error:
            got = shown(self.device)
            raise ConfigError(
                f"device must be one of torch's, such as cuda:0, got {got}"
            ) from error

    @property
    def seed_list(self) -> list[int]:
        """The seeds, spelt out."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    def network(self) -> nn.Module:
        """A new network, where it is trained."""
        return self.model().to(self.device)

    def schedule(self, optimizer: Optimizer) -> LRScheduler:
        """The schedule of an optimiser's learning rate, to take a step after each epoch.

        Raises:
            ConfigError: If it wants a number at each step, which differs between seeds.
        """
        if self.scheduler is None:
            return ConstantLR(optimizer, factor=1.0)
        schedule = self.scheduler(optimizer)
        if isinstance(schedule, ReduceLROnPlateau):
            raise ConfigError(
                "scheduler: ReduceLROnPlateau goes by each network's loss, and seeds that train "
                "together share one rate; take one of epochs, such as CosineAnnealingLR"
            )
        return schedule


@dataclass(frozen=True)
class Instruments:
    """What is measured, and when.

    Args:
        estimators: Each with a schedule of its own where it has one; None leaves the choice to
            the tracer.
        lenses: Likewise; none of them has to be.
        every: When the networks are looked at.
    """

    estimators: list[Estimator | At] | None
    lenses: list[Lens | At]
    every: Schedule

    @property
    def by_steps(self) -> bool:
        """Whether the looks are counted in optimiser steps, not in epochs."""
        return isinstance(self.every, Steps)

    def due(self, at: int) -> tuple[bool, ...]:
        """What is due at an epoch (where it counts, step): the look, and each of its own schedule.

        All looks of which the same is due take about as long.
        """
        own = [each for each in (*(self.estimators or ()), *self.lenses) if isinstance(each, At)]
        return self.every(at), *(schedule(each.every)(at) for each in own)

    def wants(self, need: Need) -> bool:
        """Whether one of the lenses needs something; see `ibtrace.types.LensTags`."""
        lenses = [lens.instrument if isinstance(lens, At) else lens for lens in self.lenses]
        return any(isinstance(lens, Lens) and need in lens.tags.needs for lens in lenses)


@dataclass(frozen=True)
class Experiment:
    """Everything that one run needs.

    Args:
        data: The data set, or a function that gives one, or ``(x, y)`` (see `Probe.of`).
        training: What is trained on it, and how.
        probe: On which samples information is measured.
        look: How the networks are looked at.
        instruments: What is measured, and when.
        store_activations: Keep the activations of each snapshot.
        control: What it is a control of, and how (see `ibtrace.training.controls`); None for any
            other.
    """

    data: Dataset
    training: Training
    probe: Measured
    look: Look
    instruments: Instruments
    store_activations: bool = False
    control: Control | None = None

    @property
    def trains(self) -> bool:
        """Whether its networks take steps, which a frozen control does not."""
        return self.control is None or self.control.kind != "frozen"

    def tracing(self) -> dict[str, Any]:
        """The arguments of a `Tracer` that the configuration settles."""
        return {
            "look": self.look,
            "estimators": self.instruments.estimators,
            "lenses": self.instruments.lenses,
            "every": self.instruments.every,
            "loss": self.training.loss,
        }
