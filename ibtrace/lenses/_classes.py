"""The labels that lenses compare with, and the classes that networks decide for."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput, Unsupported
from ibtrace.types import View


def labels_or_none(view: View) -> Tensor | None:
    """The labels that each network sees, ``(s, n, ...)``; None where there are none of samples."""
    try:
        return view.labels
    except InvalidInput:
        return None


def scores(view: View) -> Tensor:
    """What decisions are made by: the logits, or the outputs where no logits are seen."""
    try:
        return view.logits
    except Unsupported:
        return view.outputs


def decisions_or_none(view: View) -> Tensor | None:
    """The class that each network gives to each sample or label, of the shape of the labels.

    None where the labels are not classes of the networks: every lens of right and wrong answers
    asks here, so that all mean the same by a prediction.
    """
    labels = labels_or_none(view)
    if labels is None or labels.is_floating_point():
        return None
    try:
        decisions = view.decisions
    except (ConfigError, Unsupported):  # one output, and no two classes or no loss
        return None
    outputs = view.outputs
    classes = max(2, outputs.shape[-1]) if outputs.dim() > labels.dim() else 2
    known = 0 <= int(labels.min()) and int(labels.max()) < classes
    return decisions if known and decisions.shape == labels.shape else None


def classes_or_none(view: View) -> Tensor | None:
    """The class of each sample, ids ``(s, n)``, where the networks give one; else None."""
    labels = labels_or_none(view)
    known = labels is not None and labels.dim() == 2 and decisions_or_none(view) is not None
    return labels.long() if labels is not None and known else None


def require_decisions(view: View, who: str) -> None:
    """Raise where networks give no class to each sample.

    Raises:
        Unsupported: If they do not.
    """
    if decisions_or_none(view) is None:
        raise Unsupported(
            f"{who} takes networks that give a class to each sample: one logit for each class, or "
            "one output for two classes and a loss that is known"
        )


def error_rate(view: View) -> Tensor:
    """The share of samples that are not given their class, ``(s,)``.

    NaN of a network with a logit that is: it decides nothing.
    """
    wrong = (view.decisions != view.labels).double().flatten(1).mean(1)
    return torch.where(scores(view).isnan().flatten(1).any(1), torch.nan, wrong)
