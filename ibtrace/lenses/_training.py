"""On which samples a lens of the training reads."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.types import View

ON_PROBE = "on_probe"
"""The flag of a reading that is meant of the training samples, and was taken on the probe."""


def training_view(view: View) -> tuple[View, dict[str, Tensor]]:
    """The networks on the samples that they are trained on; else on the probe, with a flag.

    Args:
        view: What the lens was given.
    """
    training = view.training
    seen = view if training is None else training
    flags = {ON_PROBE: torch.full((len(view.seeds),), training is None)}
    return seen, flags
