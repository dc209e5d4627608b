"""Every estimator on the activations that a run kept, calibrated at the run's own size."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ibtrace import estimators as registered
from ibtrace.comparison import (
    Trial,
    calibration_laws,
    calibration_table,
    named_estimators,
    trials,
)
from ibtrace.errors import IbtraceError, InvalidInput
from ibtrace.measure import flatten, measure
from ibtrace.probe import Probe
from ibtrace.trace import Trace
from ibtrace.trace.pooling import pooled
from ibtrace.trace.stored import require_activations, spread, stored_look, thinned
from ibtrace.types import Estimator, LayerContext, needs_trace

SNAPSHOTS = 6
SEEDS = 1
_CALIBRATION_SEEDS = 2
_LARGEST_DIM = 1000  # a law's covariance is dense
_CUBIC = 1000  # samples above which an eigensolve for each estimate takes too long


@dataclass
class Comparison:
    """Every estimator on one run.

    Args:
        trace: The estimates, in memory, with the run's ceilings.
        calibration: What `ibtrace.comparison.compare` gives on laws of the run's size, and for
            which quantity and dimension of T each law stands.
        declined: Why an estimator gave no number, by estimator and layer.
        n: Samples used.
        of: Samples of the probe.
        whole: Whether everything was done.
    """

    trace: Trace
    n: int
    of: int
    calibration: pd.DataFrame = field(default_factory=lambda: calibration_table([], ()))
    declined: dict[tuple[str, str], str] = field(default_factory=dict)
    whole: bool = False


def compare_run(
    source: Trace,
    estimators: Sequence[str | Estimator] | None = None,
    *,
    n: int | None = None,
    seeds: int = SEEDS,
    snapshots: int = SNAPSHOTS,
    jobs: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Measure the activations that a run kept by every estimator, and calibrate these.

    At Ctrl-C what is done is kept.

    Args:
        source: The run, traced with ``Keep(…, activations=True)``.
        estimators: Registry names or instances; None takes all (matrix Rényi at alpha 2 on more
            than 1000 samples, which needs no eigensolve).
        n: Samples to take of the probe, at random; None takes all.
        seeds: How many of the run's networks.
        snapshots: How many of the epochs kept, the first and the last among them.
        jobs: Processes of the calibration; None takes as many as there are cores.
        progress: Draw progress bars.

    Raises:
        RunError: If the run kept no activations, or not the probe.
        InvalidInput: If ``n`` is larger than the probe or a number is not positive.
    """
    require_activations(source)
    if min(seeds, snapshots) < 1:
        raise InvalidInput(f"seeds and snapshots must be positive, got {seeds} and {snapshots}")
    whole = source.probe()
    probe, rows = thinned(whole, n)
    labelled = _labelled(estimators, probe.n)
    meta = {"n": probe.n, "input_entropy": probe.input_entropy, "layers": source.layers}
    meta["clock"] = source.clock
    if probe.discrete:
        meta["label_entropy"] = probe.label_entropy
    comparison = Comparison(Trace.create(meta=meta), probe.n, whole.n)
    looks = [
        (seed, epoch)
        for seed in source.seeds[:seeds]
        for epoch in spread(source.activation_epochs(seed), snapshots)
    ]
    try:
        _measure(comparison, source, probe, rows, labelled, looks, progress)
        _calibrate(comparison, source, probe, labelled, looks[-1], jobs, progress)
        comparison.whole = True
    except KeyboardInterrupt:
        pass
    return comparison


def _measure(
    comparison: Comparison,
    source: Trace,
    probe: Probe,
    rows: Tensor,
    labelled: Mapping[str, Estimator],
    looks: Sequence[tuple[int, int]],
    progress: bool,
) -> None:
    whole = probe.n == source.meta["n"]
    asked = any(map(needs_trace, labelled.values()))
    over_trace = {seed: pooled(source, seed) for seed in {s for s, _ in looks} if asked}
    total = len(labelled) * len(looks)
    with tqdm(total=total, desc="measure", disable=not progress, unit=" planes") as bar:
        for (seed, at), (label, estimator) in _by_estimator(looks, labelled):
            look = stored_look(source, [seed], at, over_trace.get(seed))
            for name, value in look.activations.items():
                told = look.contexts[name]
                try:
                    done = measure(
                        {name: _taken(value, rows, told, whole)},
                        {name: told},
                        probe,
                        [estimator],
                        seeds=[seed],
                        epoch=look.epoch,
                        step=look.step,
                    )
                except IbtraceError as error:
                    comparison.declined[label, name] = str(error)
                    continue
                comparison.trace.append(done)
            bar.update()


def _taken(value: Tensor, rows: Tensor, told: LayerContext, whole: bool) -> Tensor:
    """The samples compared."""
    if told.token_inputs is not None and not whole:
        raise InvalidInput("each token is a sample here; leave out --n")
    return value[:, rows] if told.token_inputs is None else value


def _by_estimator(
    looks: Sequence[tuple[int, int]], labelled: Mapping[str, Estimator]
) -> Iterator[tuple[tuple[int, int], tuple[str, Estimator]]]:
    """Estimator by estimator, so that an interruption leaves whole planes."""
    for named in labelled.items():
        for look in looks:
            yield look, named


def _classes(probe: Probe) -> int | None:
    """How many classes there are; one, of which nothing can be told, if there are no labels."""
    if not probe.labelled:
        return 1
    return len(probe.labels.unique()) if probe.discrete else None


def _calibrate(
    comparison: Comparison,
    source: Trace,
    probe: Probe,
    labelled: Mapping[str, Estimator],
    look: tuple[int, int],
    jobs: int | None,
    progress: bool,
) -> None:
    layers = source.activations(look[1], look[0]).values()
    columns = [flatten(value[None])[0][:, :_LARGEST_DIM] for value in layers]
    scales = {value.shape[1]: _scales(value) for value in columns}
    dims = sorted(scales)
    few = dict.fromkeys((dims[0], dims[len(dims) // 2], dims[-1]))
    laws = calibration_laws(
        probe.n,
        min(probe.features.shape[1], _LARGEST_DIM),
        few,
        classes=_classes(probe),
        y_dim=1 if probe.labels.dim() == 1 else max(1, probe.labels.shape[1]),
        x_scales=_scales(probe.features[:, :_LARGEST_DIM]),
        t_scales=scales,
        y_scales=() if probe.discrete or not probe.labelled else _scales(probe.labels),
    )
    done: list[Trial] = []
    total = len(labelled) * len(laws) * _CALIBRATION_SEEDS
    work = trials(
        [*labelled.values()],
        {law.name: law.problem for law in laws},
        n=probe.n,
        seeds=_CALIBRATION_SEEDS,
        jobs=jobs or os.cpu_count() or 1,
    )
    try:
        for trial in tqdm(
            work, total=total, desc="calibrate", disable=not progress, unit=" trials"
        ):
            done.append(trial)
    finally:
        comparison.calibration = calibration_table(done, laws)


def _scales(value: Tensor) -> tuple[float, ...]:
    """The standard deviation of each column; one that never varies as the least that does."""
    deviations = value.double().std(0)
    varying = deviations[deviations > 0]
    least = float(varying.min()) if len(varying) else 1.0
    return tuple(torch.where(deviations > 0, deviations, least).tolist())


def _labelled(estimators: Sequence[str | Estimator] | None, n: int) -> dict[str, Estimator]:
    if estimators is None and n > _CUBIC:
        fields = {"matrix_renyi": {"alpha": 2.0}}
        estimators = [registered.make(name, **fields.get(name, {})) for name in registered.names()]
    return named_estimators(estimators)
