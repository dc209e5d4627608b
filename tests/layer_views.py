"""A view with one layer ``t`` whose T is given, for lenses of layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.recipe import Recipe
from ibtrace.capture.view import NetworkView
from ibtrace.probe import Probe


def layer_view(t: Tensor, labels: Tensor | None = None, **recipe: Any) -> NetworkView:
    """A view of ``s`` networks with T ``(s, n, ...)`` of one layer, and these labels.

    Args:
        t: T.
        labels: One a sample; by default 0, 1, 0, 1, …
        **recipe: See `ibtrace.Recipe`.
    """
    template = nn.Module()
    template.weight = nn.Parameter(torch.zeros(1))
    n = t.shape[1]
    x = torch.arange(n).double()[:, None]
    probe = Probe(x, torch.arange(n) % 2 if labels is None else labels)
    return NetworkView(
        Stacked(template, {"weight": torch.zeros(len(t), 1)}, {}, range(len(t))),
        probe,
        Setting("cross_entropy", recipe=Recipe(**recipe)),
        activations={"t": t},
        activation_ranges={"t": None},
    )
