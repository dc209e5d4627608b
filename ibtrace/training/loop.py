"""The training loop of a configured experiment: traced, checkpointed, resumable to the bit."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ibtrace.capture import undisturbed
from ibtrace.capture.recipe import Part, Recipe
from ibtrace.datasets import Batches, split
from ibtrace.ensemble import (
    LOSSES,
    Ensemble,
    fuse,
    require_elementwise,
    restore_training,
    training_state,
)
from ibtrace.errors import RunError
from ibtrace.numerics.losses import NATS
from ibtrace.probe import Probe
from ibtrace.runtime.files import written_whole
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Networks, Tracer
from ibtrace.training.bar import Bar
from ibtrace.training.config import Experiment, Raw
from ibtrace.training.twins import TwinTraining

CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_SECONDS = 5.0
_EVALUATION_BATCH = 512


def train(
    experiment: Experiment,
    folder: str | Path,
    *,
    raw: Raw | None = None,
    resume: bool = False,
    label: str | None = None,
    place: int = 0,
) -> Trace:
    """Train the networks of an experiment and trace them into a folder.

    Chains of linear layers train together (see `ibtrace.ensemble`), other networks one after the
    other. A checkpoint goes beside the trace every few seconds, so that a killed run can be
    resumed and ends with the same trace, value for value.

    Args:
        experiment: What to do.
        folder: Where the trace goes.
        raw: The configuration that the experiment was built from, to be stored with the trace.
        resume: Go on from the checkpoint in the folder, if there is one.
        label: Draw a progress bar with this name; None draws none.
        place: The bar's line, for several side by side.

    Returns:
        The finished trace.

    Raises:
        RunError: If the folder holds a trace already and ``resume`` is not set.
        NonFinite: If a network diverges; names layer and epoch, and what was traced is kept.
    """
    folder = Path(folder)
    seeds = experiment.seed_list
    plain = experiment.forward is None
    together = plain and Ensemble(lambda seed: experiment.model(), seeds[:1]).fast
    groups = [seeds] if together else [[seed] for seed in seeds]
    looks = _looks(experiment, experiment.epochs)
    bar = Bar(experiment.epochs * len(groups), looks * len(groups), label, place)
    with bar, torch.random.fork_rng():
        for group in groups:
            kind = _Together if together else _Alone
            _train_group(kind(experiment, group), experiment, folder, raw, resume, bar)
            resume = True  # the next group goes into the same trace
    return Trace.load(folder)


def _train_group(
    training: _Training,
    experiment: Experiment,
    folder: Path,
    raw: Raw | None,
    resume: bool,
    bar: Bar,
) -> None:
    seeds, steps = training.seeds, len(training.batches)
    checkpoint = _load(folder / CHECKPOINT) if resume else None
    if checkpoint is not None and set(seeds) <= set(checkpoint["finished"]):
        bar.skip(experiment.epochs, _looks(experiment, experiment.epochs))
        return
    start = 0
    if checkpoint is not None and checkpoint["seeds"] == seeds:
        training.load_state_dict(checkpoint["training"])
        start = checkpoint["epoch"]
    finished = checkpoint["finished"] if checkpoint is not None else []
    meta = {
        "seeds": experiment.seed_list,
        "config": raw,
        "data": _described(training, experiment),
    }
    with Tracer(
        training.networks,
        training.probe,
        keep=Keep(folder, experiment.store_activations, resume, meta),
        seed=seeds[0],
        recipe=training.recipe() if experiment.lenses else None,
        **experiment.tracing(),
    ) as tracer:
        by_steps = tracer.clock == "step"
        if checkpoint is not None and start:
            tracer.load_state_dict(checkpoint["tracer"])
        if start == 0:
            tracer.log(0, step=0 if by_steps else None, **training.metrics())
        bar.skip(start, _looks(experiment, start))
        saved = time.monotonic()
        for epoch in range(start + 1, experiment.epochs + 1):
            for step in training.epoch():
                ended = step == steps
                if ended:
                    bar.did("epoch")
                if not (ended or by_steps):
                    continue
                last = ended and epoch == experiment.epochs
                total = (epoch - 1) * steps + step
                if last or tracer.due(total if by_steps else epoch):
                    done = epoch if ended else epoch - 1
                    tracer.snapshot(done, step=total, force=last, **training.metrics())
                    bar.did("look")
            if time.monotonic() - saved > _CHECKPOINT_SECONDS:
                _save(folder, training, tracer, epoch, finished)
                saved = time.monotonic()
    _save(folder, training, tracer, experiment.epochs, [*finished, *seeds])


def _looks(experiment: Experiment, epochs: int) -> int:
    """How many looks the first epochs have, without that at the initial network."""
    steps = -(-len(_split(experiment, experiment.seed_list[0])[0]) // experiment.batch_size)
    count = steps * epochs if experiment.by_steps else epochs
    return sum(map(experiment.schedule(), range(1, count + 1)))


def _save(
    folder: Path, training: _Training, tracer: Tracer, epoch: int, finished: Sequence[int]
) -> None:
    """Write the checkpoint so that a kill leaves either the old one or the new one."""
    content = {
        "seeds": training.seeds,
        "epoch": epoch,
        "finished": list(finished),
        "training": training.state_dict(),
        "tracer": tracer.state_dict(),
    }
    with written_whole(folder / CHECKPOINT) as part:
        torch.save(content, part)


def _load(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # a torn pickle can raise anything
        raise RunError(f"{path}: unreadable checkpoint; delete it to restart the run") from error
    return content


class _Training(ABC):
    """Some networks of an experiment in training: many at once, or one alone."""

    networks: nn.Module | Networks
    optimizer: Optimizer

    def __init__(self, experiment: Experiment, seeds: list[int]) -> None:
        data = experiment.data
        self.experiment, self.seeds = experiment, seeds
        self.x, self.y = data.x.to(experiment.device), data.y.to(experiment.device)
        self.truth = data.truth.to(experiment.device)
        parts = [_split(experiment, seed) for seed in seeds]
        self.batches = Batches(
            self.x,
            self.y,
            [train for train, _ in parts],
            seeds,
            experiment.batch_size,
            experiment.shuffle,
        )
        self.parts = {
            name: torch.stack([part[at] for part in parts]).to(self.x.device)
            for at, name in enumerate(("train", "test"))
        }
        self.loss = LOSSES[experiment.loss]
        self.probe = probe_of(experiment)

    @abstractmethod
    def epoch(self) -> Iterator[int]:
        """Train one epoch; yields the number of its steps that are done, after each of them."""

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
        experiment = self.experiment
        return Recipe(
            self._part("train"),
            self._part("test"),
            self.optimizer,
            experiment.batch_size,
            random=experiment.split.how == "shuffled",
        )

    def _part(self, name: str) -> Part:
        data, rows = self.experiment.data, self.parts[name]
        samples = Probe(self.x, self._labels(name), data.class_names or data.classes)
        return Part(samples, rows[0] if bool((rows == rows[0]).all()) else rows)

    def _labels(self, part: str) -> Tensor:
        """All labels as a part has them: corrupted ones are trained on, true ones judge."""
        return self.truth if part == "test" else self.y

    def metrics(self) -> dict[str, Any]:
        """Loss and accuracy of each seed on its training and test part, with their units."""
        numbers: dict[str, Any] = {}
        unit = "nats" if self.experiment.loss in NATS else "loss"
        for name, rows in self.parts.items():
            pieces = rows.split(_EVALUATION_BATCH, dim=1)
            outputs = torch.cat([self.outputs(self.x[piece]) for piece in pieces], dim=1)
            y = self._labels(name)[rows]
            numbers[f"{name}_loss"] = self.loss(outputs, y), unit
            if outputs.shape[-1] > 1:
                numbers[f"{name}_accuracy"] = (outputs.argmax(-1) == y).double().mean(-1), "1"
        return numbers


class _Together(_Training):
    """All seeds in one pass."""

    def __init__(self, experiment: Experiment, seeds: list[int]) -> None:
        super().__init__(experiment, seeds)
        self.networks: Ensemble = Ensemble(
            lambda seed: experiment.model().to(experiment.device), seeds
        )
        self.optimizer = fuse(experiment.optimizer(self.networks.parameters()))
        require_elementwise(self.optimizer)
        self.twins = self._twins() if experiment.wants("twins") else None

    def _twins(self) -> TwinTraining:
        experiment = self.experiment
        return TwinTraining(
            lambda: experiment.model().to(experiment.device),
            experiment.optimizer,
            self.seeds,
            train=self.parts["train"],
            test=self.parts["test"],
            batches=lambda rows, seeds: Batches(
                self.x, self.y, list(rows), seeds, experiment.batch_size, experiment.shuffle
            ),
        )

    def recipe(self) -> Recipe:
        recipe = super().recipe()
        return recipe if self.twins is None else replace(recipe, twins=self.twins.twins())

    def epoch(self) -> Iterator[int]:
        twins: Iterable[Any] = repeat(None) if self.twins is None else self.twins.batches
        for step, ((x, y), others) in enumerate(zip(self.batches, twins, strict=False), 1):
            with _flushed_denormals():  # in training alone: a look is to see what is there
                self.networks.backward(x, y, self.loss)
                self.optimizer.step()
                if self.twins is not None and others is not None:
                    self.twins.step(others[0], others[1], self.loss)
            yield step

    def outputs(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.networks(x)

    def state_dict(self) -> dict[str, Any]:
        own = training_state(self.networks, self.optimizer, self.batches)
        return own if self.twins is None else {**own, "twins": self.twins.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        restore_training(state, self.networks, self.optimizer, self.batches)
        if self.twins is not None:
            self.twins.load_state_dict(state["twins"])


class _Alone(_Training):
    """One seed: any module, with torch's global generator seeded by it."""

    def __init__(self, experiment: Experiment, seeds: list[int]) -> None:
        super().__init__(experiment, seeds)
        torch.manual_seed(seeds[0])
        self.networks: nn.Module = experiment.model().to(experiment.device)
        self.optimizer = experiment.optimizer(self.networks.parameters())
        self.forward = experiment.forward

    def epoch(self) -> Iterator[int]:
        self.networks.train()
        for step, (x, y) in enumerate(self.batches, 1):
            self.optimizer.zero_grad()
            self.loss(self.output(x[0]), y[0]).backward()
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
            "batches": self.batches.state_dict(),
            "generator": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.networks.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
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


def _split(experiment: Experiment, seed: int) -> tuple[Tensor, Tensor]:
    """Training and test part of a network's data.

    One for all seeds where information is measured on a part: a held-out sample is then held out
    from every network.
    """
    shared = experiment.probe.part != "all"
    how, fraction = experiment.split.how, experiment.split.fraction
    seed = experiment.seed_list[0] if shared else seed
    return split(experiment.data.y, fraction, how, seed=seed)


def probe_of(experiment: Experiment) -> Probe:
    """The samples on which information is measured."""
    data, measured = experiment.data, experiment.probe
    x, y, wanted = data.x, data.y, measured.samples
    classes = data.class_names or data.classes
    if measured.part != "all":
        train, test = _split(experiment, experiment.seed_list[0])
        rows = (train if measured.part == "train" else test).sort().values
        x, y = x[rows], (data.truth if measured.part == "test" else y)[rows]
    if wanted is not None and wanted > len(y):
        part = "" if measured.part == "all" else f" of its {measured.part} part"
        message = f"probe: {data.name} has {len(y)} samples{part}, not {wanted}: all are measured"
        warnings.warn(message, stacklevel=2)
    elif wanted is not None and wanted < len(y):
        return Probe.draw(x, y, wanted, classes=classes).to(experiment.device)
    population = data.population and len(y) == len(data)
    return Probe(x, y, classes, population=population).to(experiment.device)


def _described(training: _Training, experiment: Experiment) -> dict[str, Any]:
    """The data of a run, for its report."""
    sizes = {f"{name}_samples": part.shape[1] for name, part in training.parts.items()}
    return {"name": experiment.data.name, **sizes, "measured_part": experiment.probe.part}
