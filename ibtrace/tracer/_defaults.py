"""The estimators of a tracer that was given none."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ibtrace.estimators import KDE, KSG, MOST_SAMPLES, Binning, Exact, Ross, Subsampled
from ibtrace.probe import Probe, ReadAnew
from ibtrace.probe.padding import is_mask
from ibtrace.types import Estimator

NOISE = (0.3, 1.0)
"""Noise variances at which wide layers are blurred, as multiples of the layer's largest value."""


def default_estimators(probe: Probe, per_token: bool = False) -> tuple[list[Estimator], str]:
    """The estimators that can say something on a probe, and why these.

    Neighbours in X are local only where X has few dimensions; beyond log2 N of them KSG's I(X;T)
    falls to 0 and 30 bins tell every sample from every other. There T is counted (`Exact`), halved
    (two bins a unit) and blurred at two scales (`KDE` with noise whose variance is .3 and 1 times
    the layer's largest value), and I(T;Y) comes from the neighbours within the classes (`Ross`),
    which X has no part in. Integers are names of things (tokens), whose
    distances mean nothing: neighbours in X are not looked for, however few its dimensions, and what
    is estimated does not change when they are renamed. Numbers are given as floats.

    Args:
        probe: The inputs and labels.
        per_token: Whether some layers' samples are tokens: more than the probe has.

    Returns:
        The estimators, and one line for the trace's meta entries.
    """
    few, anew = math.log2(probe.n), isinstance(probe.x, ReadAnew)
    dimensions = sum(value[0].numel() for value in probe.outlines.values())
    many_samples = probe.n > MOST_SAMPLES or per_token

    def within_time(estimator: Estimator) -> Estimator:
        return Subsampled(estimator) if many_samples else estimator

    limits = f"; slow ones on at most {MOST_SAMPLES} samples" if many_samples else ""
    named = any(_are_names(name, value) for name, value in probe.outlines.items())
    if dimensions <= few and not named and not anew:
        why = f"X has {dimensions} dimensions, at most log2 N = {few:.1f}"
        return [Binning(), within_time(KSG())], f"{why}: bins and neighbours{limits}"
    blurred = [KDE(noise_variance=s, noise="adaptive") for s in NOISE]
    of_labels: list[Estimator] = []
    if probe.labelled and probe.discrete:
        of_labels = [Ross()]
    elif probe.labelled and not named and not anew:
        of_labels = [KSG()]
    why = f"X has {dimensions} dimensions, more than log2 N = {few:.1f}"
    if dimensions <= few:
        why = "X holds integers, names without distances (give numbers as floats)"
    if anew:
        why = "X is read anew, so that of its values it is known which are equal"
    return [
        Exact(),
        Binning(bins=2),
        *map(within_time, [*blurred, *of_labels]),
    ], f"{why}: counts, halves, two noise scales and classes{limits}"


def _are_names(name: str, value: Tensor) -> bool:
    """Whether an input holds tokens: integers, and not a mask's 0 and 1."""
    return not value.is_floating_point() and value.dtype != torch.bool and not is_mask(name)
