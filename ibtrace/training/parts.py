"""Which samples of an experiment's data are trained on, tested on, measured on."""

from __future__ import annotations

import warnings

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
    rows, y, wanted = None, data.y, measured.samples
    if measured.part != "all":
        train, test = split_of(experiment, experiment.training.seed_list[0])
        rows = (train if measured.part == "train" else test).sort().values
        y = (data.truth if measured.part == "test" else y)[rows]
    if wanted is not None and wanted > len(y):
        part = "" if measured.part == "all" else f" of its {measured.part} part"
        message = f"probe: {data.name} has {len(y)} samples{part}, not {wanted}: all are measured"
        warnings.warn(message, stacklevel=2)
    probe = Probe.of_dataset(data, rows, y)
    few = wanted is not None and wanted < probe.n
    return (probe.some(wanted or 0) if few else probe).to(device)
