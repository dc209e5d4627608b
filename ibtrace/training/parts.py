"""Which samples of an experiment's data are trained on, tested on, measured on."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from ibtrace.datasets import split
from ibtrace.probe import Probe
from ibtrace.training.experiment import Experiment


def split_of(experiment: Experiment, seed: int) -> tuple[Tensor, Tensor]:
    """Training and test part of a network's data.

    One for all seeds where information is measured on a part: a held-out sample is then held out
    from every network.
    """
    training = experiment.training
    if experiment.probe.part != "all":
        seed = training.seed_list[0]
    return split(experiment.data.y, training.split.fraction, training.split.how, seed=seed)


def probe_of(experiment: Experiment) -> Probe:
    """The samples on which information is measured."""
    data, measured, device = experiment.data, experiment.probe, experiment.training.device
    x, y, wanted = data.x, data.y, measured.samples
    classes: Any = data.class_names or data.classes
    rows = None
    if measured.part != "all":
        train, test = split_of(experiment, experiment.training.seed_list[0])
        rows = (train if measured.part == "train" else test).sort().values
        x, y = x[rows], (data.truth if measured.part == "test" else y)[rows]
    if wanted is not None and wanted > len(y):
        part = "" if measured.part == "all" else f" of its {measured.part} part"
        message = f"probe: {data.name} has {len(y)} samples{part}, not {wanted}: all are measured"
        warnings.warn(message, stacklevel=2)
    few = wanted is not None and wanted < len(y)
    population = data.population and len(y) == len(data)
    labels = data.measured(y, rows)
    if isinstance(labels, dict):
        classes = {next(iter(labels)): classes}
    if few:
        return Probe.draw(x, labels, wanted or 0, classes=classes).to(device)
    sources = {n: value if rows is None else value[rows] for n, value in data.sources.items()}
    more: dict[str, Any] = {"padding": None} if data.of_tokens(data.y) else {}
    more |= {"sources": sources} if sources else {}
    return Probe(x, labels, classes, population=population, **more).to(device)
