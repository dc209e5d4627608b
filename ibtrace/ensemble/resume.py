"""Everything that a training run needs to stop and go on as if nothing had happened."""

from __future__ import annotations

import copy
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ibtrace.datasets import Batches
from ibtrace.ensemble.stacked import Ensemble
from ibtrace.errors import RunError


def training_state(
    ensemble: Ensemble,
    optimizer: Optimizer,
    batches: Batches,
    schedule: LRScheduler | None = None,
) -> dict[str, Any]:
    """A copy of the state of a training run, fit for `torch.save` (and ``weights_only`` loading).

    A run restored from it makes the same steps, bit for bit, on the same machine with the same
    number of threads.

    Args:
        ensemble: The networks.
        optimizer: Their optimiser.
        batches: What they are trained on.
        schedule: Of their learning rate, where there is one.
    """
    return {
        "ensemble": ensemble.state_dict(),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "batches": batches.state_dict(),
        "schedule": None if schedule is None else copy.deepcopy(schedule.state_dict()),
    }


def restore_training(
    state: dict[str, Any],
    ensemble: Ensemble,
    optimizer: Optimizer,
    batches: Batches,
    schedule: LRScheduler | None = None,
) -> None:
    """Put a training run into a state that `training_state` gave.

    Args:
        state: The state.
        ensemble: Networks of the same architecture and seeds.
        optimizer: An optimiser of the same kind on their parameters.
        batches: Batches of the same seeds and data.
        schedule: A schedule of the same kind of the optimiser's rate, where there was one.

    Raises:
        RunError: If the state belongs to other seeds or another architecture, or has a schedule
            and none is given, or the other way round.
    """
    if (schedule is None) != (state["schedule"] is None):
        had, given = ("none", "one") if schedule is not None else ("one", "none")
        raise RunError(f"the state has {had} of a schedule of the learning rate, {given} was given")
    ensemble.load_state_dict(state["ensemble"])
    optimizer.load_state_dict(state["optimizer"])
    batches.load_state_dict(state["batches"])
    if schedule is not None:
        schedule.load_state_dict(state["schedule"])
