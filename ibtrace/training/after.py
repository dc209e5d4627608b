"""Checkpoints of a training that is over, traced as its configuration would have traced it live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ibtrace.capture import resolve
from ibtrace.checkpoints import find, load_into
from ibtrace.errors import ConfigError, RunError, UnknownName
from ibtrace.runtime.files import FILE_NAME
from ibtrace.trace import Trace
from ibtrace.tracer import At, Keep, Tracer
from ibtrace.training import config, configs, folders
from ibtrace.training.parts import probe_of
from ibtrace.types import Row


def trace_checkpoints(
    raw: configs.Raw,
    paths: str | Path | Iterable[str | Path],
    folder: str | Path,
    *,
    variant: str | None = None,
    seed: int = 0,
    epochs: Sequence[int] | Callable[[Path], int] | None = None,
    progress: bool = False,
) -> dict[str, Trace]:
    """Trace the checkpoints of one network into a run folder: the rows of a live run.

    The model, the probe, the layers and the estimators are the configuration's; every checkpoint
    is measured by every estimator, whatever ``snapshots`` the configuration has. Several seeds
    (and variants) of one configuration may be traced into one folder, one after the other.

    Args:
        raw: The configuration.
        paths: The checkpoints: a pattern, a path, or several (see `ibtrace.checkpoints.find`).
        folder: Where the run goes, in a folder of its own for the variant if there are variants.
        variant: Which variant of the configuration was trained; None if it has only one.
        seed: The seed that the network was trained with, a label of its rows.
        epochs: Epochs of training done at each checkpoint, where neither file nor name says so.
        progress: Draw a progress bar.

    Returns:
        ``{variant: trace}`` of the variant traced; ``""`` for a configuration without variants.

    Raises:
        ConfigError: If the configuration is wrong, has several variants and none is chosen, or the
            epochs of the checkpoints are not clear; nothing has been written then.
        UnknownName: If there is no such variant or layer; likewise.
        InvalidInput: If a checkpoint cannot be read or does not fit the model; likewise, if it is
            the first one.
        RunError: If the folder holds something else, or this seed already.
    """
    folder = Path(folder)
    name, configured = _variant(raw, variant)
    experiment = config.build(configured)
    states = find(paths, epochs)
    with torch.random.fork_rng():
        model = experiment.training.network()
    resolve(model, experiment.look.layers)
    load_into(model, states[0])
    _claim(folder, raw, name, seed)
    arguments = {key: value for key, value in experiment.tracing().items() if key != "every"}
    for role in ("estimators", "lenses"):
        if arguments[role] is not None:
            arguments[role] = [e.instrument if isinstance(e, At) else e for e in arguments[role]]
    with tqdm(total=len(states), disable=not progress, unit=" checkpoints") as bar:
        tracer = Tracer.from_checkpoints(
            model,
            [checkpoint.path for checkpoint in states],
            probe_of(experiment),
            epochs=[checkpoint.epoch for checkpoint in states],
            keep=Keep(
                folder / name,
                experiment.store_activations,
                meta={"config": configured},
                sinks=_Progress(bar),
            ),
            seed=seed,
            **arguments,
        )
    return {name: tracer.trace}


def numbers(text: str) -> list[int]:
    """``"0,1,10"`` as whole numbers.

    Raises:
        ConfigError: If one of them is none.

    Example:
        >>> numbers("0,1,10")
        [0, 1, 10]
    """
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdecimal():
            raise ConfigError(f"--epochs takes whole numbers such as 0,1,10, got {part!r}")
    return [int(part) for part in parts]


class _Progress:
    """A sink that moves a bar."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self.bar = bar

    def write(self, trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]) -> None:
        """A checkpoint is done."""
        self.bar.update()

    def close(self, trace: Trace, failed: bool) -> None:
        """All are done; the bar closes itself."""


def _variant(raw: configs.Raw, variant: str | None) -> tuple[str, configs.Raw]:
    """The name and configuration of the one run that the checkpoints are of."""
    runs = configs.variants(raw)
    known = ", ".join(filter(None, runs))
    if variant is not None and variant not in runs:
        there = f"there are: {known}" if known else "the configuration has no variants"
        raise UnknownName(f"no variant {variant!r}; {there}")
    if variant is None and len(runs) > 1:
        raise ConfigError(
            f"checkpoints are of one network, the configuration has variants: {known}; "
            "choose one with --variant"
        )
    name = next(iter(runs)) if variant is None else variant
    return name, runs[name]


def _claim(folder: Path, raw: configs.Raw, name: str, seed: int) -> None:
    """Make the run folder, or check that this network may be added to it."""
    if not (folder / folders.CONFIG).is_file():
        folders.prepare(folder, raw, resume=False)
        return
    folders.require_same(folder, raw)
    trace = folder / name / FILE_NAME
    if trace.exists() and seed in Trace.load(trace).seeds:
        raise RunError(f"{folder}: already holds seed {seed}; choose another with --seed or --out")
