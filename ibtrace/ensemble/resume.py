"""Everything that a training run needs to stop and go on as if nothing had happened."""

from __future__ import annotations

import copy
from typing import Any

from torch.optim import Optimizer

from ibtrace.datasets import Batches
from ibtrace.ensemble.stacked import Ensemble


def training_state(ensemble: Ensemble, optimizer: Optimizer, batches: Batches) -> dict[str, Any]:
    """A copy of the state of a training run, fit for `torch.save` (and ``weights_only`` loading).

    A run restored from it makes the same steps, bit for bit, on the same machine with the same
    number of threads. Learning-rate schedulers are the caller's to keep.

    Args:
        ensemble: The networks.
        optimizer: Their optimiser.
        batches: What they are trained on.
    """
    return {
        "ensemble": ensemble.state_dict(),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "batches": batches.state_dict(),
    }


def restore_training(
    state: dict[str, Any], ensemble: Ensemble, optimizer: Optimizer, batches: Batches
) -> None:
    """Put a training run into a state that `training_state` gave.

    Args:
        state: The state.
        ensemble: Networks of the same architecture and seeds.
        optimizer: An optimiser of the same kind on their parameters.
        batches: Batches of the same seeds and data.

    Raises:
        RunError: If the state belongs to other seeds or another architecture.
    """
    ensemble.load_state_dict(state["ensemble"])
    optimizer.load_state_dict(state["optimizer"])
    batches.load_state_dict(state["batches"])
