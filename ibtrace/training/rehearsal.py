"""A look at an experiment's networks before any work."""

from __future__ import annotations

import torch

from ibtrace.tracer import Tracer
from ibtrace.training.experiment import Experiment
from ibtrace.training.parts import probe_of


def rehearsed(experiment: Experiment) -> list[str]:
    """Find what only a look can tell is wrong, before any work and any file; the layers it sees.

    Args:
        experiment: Of which one network is looked at, as initialised.
    """
    # no lens: one that fails stops nothing, and some have to know the training
    first = {**experiment.tracing(), "estimators": "exact", "lenses": ()}
    with torch.random.fork_rng():
        network = experiment.training.network()
        return Tracer(network, probe_of(experiment), **first).trace.layers
