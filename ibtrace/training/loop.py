"""The training loop of a configured experiment: traced, checkpointed, resumable to the bit."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ibtrace.ensemble import Ensemble
from ibtrace.errors import RunError
from ibtrace.runtime.files import written_whole
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Tracer
from ibtrace.training.bar import Bar
from ibtrace.training.experiment import Experiment
from ibtrace.training.parts import split_of
from ibtrace.training.trainers import Trainer, trainer_of
from ibtrace.types import CONTROL, CONTROLS_LEFT_OUT

CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_SECONDS = 5.0


def train(
    experiment: Experiment,
    folder: str | Path,
    *,
    seeds: Sequence[int] | None = None,
    raw: dict[str, Any] | None = None,
    left_out: Mapping[str, str] | None = None,
    resume: bool = False,
    label: str | None = None,
    place: int = 0,
) -> Trace:
    """Train the networks of an experiment and trace them into a folder.

    Chains of linear layers train together (see `ibtrace.ensemble`), other networks one after the
    other, unless they are asked to (`Training.together`). A checkpoint goes beside the trace every
    few seconds, so that a killed run can be resumed and ends with the same trace, value for value.

    Args:
        experiment: What to do.
        folder: Where the trace goes.
        seeds: Those of its seeds that are trained; None for all. What all of them share (the
            probe, the split where a part is measured) stays that of the whole experiment.
        raw: The configuration that the experiment was built from, to be stored with the trace.
        left_out: Controls that it cannot have, and why, to be stored likewise.
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
    seeds = experiment.training.seed_list if seeds is None else list(seeds)
    plain = experiment.look.forward is None and experiment.data.y.dim() == 1
    model, asked = experiment.training.model, experiment.training.together
    together = plain and (asked or Ensemble(lambda seed: model(), seeds[:1]).fast)
    groups = [seeds] if together else [[seed] for seed in seeds]
    epochs, looks = experiment.training.epochs, _looks(experiment, experiment.training.epochs)
    every = {kind: number * len(groups) for kind, number in looks.items()}
    bar = Bar(epochs * len(groups), every, label, place)
    with bar, torch.random.fork_rng():
        for group in groups:
            trainer = trainer_of(experiment, group, together=together)
            meta: dict[str, Any] = {"config": raw, "seeds": seeds}
            if left_out:
                meta[CONTROLS_LEFT_OUT] = dict(left_out)
            _train_group(trainer, experiment, folder, meta, resume, bar)
            resume = True  # the next group goes into the same trace
    return Trace.load(folder)


def _train_group(
    trainer: Trainer,
    experiment: Experiment,
    folder: Path,
    meta: dict[str, Any],
    resume: bool,
    bar: Bar,
) -> None:
    seeds, steps = trainer.seeds, len(trainer.batches)
    checkpoint = _load(folder / CHECKPOINT) if resume else None
    if checkpoint is not None and set(seeds) <= set(checkpoint["finished"]):
        bar.skip(experiment.training.epochs, _looks(experiment, experiment.training.epochs))
        return
    start = 0
    if checkpoint is not None and checkpoint["seeds"] == seeds:
        trainer.load_state_dict(checkpoint["training"])
        start = checkpoint["epoch"]
    finished = checkpoint["finished"] if checkpoint is not None else []
    meta = {
        **meta,
        "data": _described(trainer, experiment),
        **({} if experiment.control is None else {CONTROL: asdict(experiment.control)}),
    }
    with Tracer(
        trainer.networks,
        trainer.probe,
        keep=Keep(folder, experiment.store_activations, resume, meta),
        seed=seeds[0],
        recipe=trainer.recipe() if experiment.instruments.lenses else None,
        **experiment.tracing(),
    ) as tracer:
        by_steps = tracer.clock == "step"
        if checkpoint is not None and start:
            tracer.load_state_dict(checkpoint["tracer"])
        if start == 0:
            tracer.log(0, step=0 if by_steps else None, **trainer.metrics())
        bar.skip(start, _looks(experiment, start))
        saved = time.monotonic()
        for epoch in range(start + 1, experiment.training.epochs + 1):
            for step in trainer.epoch():
                ended = step == steps
                if ended:
                    bar.did()
                if not (ended or by_steps):
                    continue
                last = ended and epoch == experiment.training.epochs
                total = (epoch - 1) * steps + step
                if last or tracer.due(total if by_steps else epoch):
                    done = epoch if ended else epoch - 1
                    kind = experiment.instruments.due(total if by_steps else epoch)
                    bar.begins(kind)
                    tracer.snapshot(done, step=total, force=last, **trainer.metrics())
                    bar.did(kind)
            if time.monotonic() - saved > _CHECKPOINT_SECONDS:
                _save(folder, trainer, tracer, epoch, finished)
                saved = time.monotonic()
    _save(folder, trainer, tracer, experiment.training.epochs, [*finished, *seeds])


def _looks(experiment: Experiment, epochs: int) -> Counter[Hashable]:
    """How many looks of each kind the first epochs have, without that at the initial network."""
    training = experiment.training
    samples = len(split_of(experiment, training.seed_list[0])[0])
    steps = -(-samples // training.batch_size)
    count = steps * epochs if experiment.instruments.by_steps else epochs
    every = (experiment.instruments.due(at) for at in range(1, count + 1))
    return Counter(due for due in every if any(due))


def _save(
    folder: Path, trainer: Trainer, tracer: Tracer, epoch: int, finished: Sequence[int]
) -> None:
    """Write the checkpoint of a training; a kill leaves either the old one or the new one."""
    content = {
        "seeds": trainer.seeds,
        "epoch": epoch,
        "finished": list(finished),
        "training": trainer.state_dict(),
        "tracer": tracer.state_dict(),
    }
    write_checkpoint(folder, content)


def write_checkpoint(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the checkpoint of a run folder: all of it, or, if there is no room, none.

    Args:
        folder: The folder.
        content: What it holds.

    Raises:
        RunError: If it cannot be written.
    """
    packed = io.BytesIO()  # torch's own file fails by something else where a disk is full
    torch.save(dict(content), packed)
    with written_whole(folder / CHECKPOINT) as part:
        part.write_bytes(packed.getbuffer())


def _load(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # a torn pickle can raise anything
        raise RunError(f"{path}: unreadable checkpoint; delete it to restart the run") from error
    return content


def _described(trainer: Trainer, experiment: Experiment) -> dict[str, Any]:
    """The data of a run, for its report."""
    sizes = {f"{name}_samples": part.shape[1] for name, part in trainer.parts.items()}
    return {"name": experiment.data.name, **sizes, "measured_part": experiment.probe.part}
