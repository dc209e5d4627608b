"""At which scales a layer compresses, and whether these decide the classes: numbers as words."""

from __future__ import annotations

import numpy as np

from ibtrace.plane.layer_resolution import DECIDED, RANDOM, LayerResolution, Mask

_READ = {"bins": "bins of width", "noise": "noise of deviation"}


def answer(layer: LayerResolution, clock: str = "epoch") -> str:
    """What a layer's resolution map says, in two or three sentences.

    Args:
        layer: The layer at every resolution.
        clock: What the looks are counted by.
    """
    parts = [f"{layer.layer}: {_fall(layer, clock)}", _classes(layer), _finest(layer)]
    return " ".join(filter(None, parts))


def _fall(layer: LayerResolution, clock: str) -> str:
    """At which scales it falls."""
    seeds, least = layer.about_x.shape[1], layer.rule.least_seeds
    if seeds < least:
        number = f"{seeds} seed{'s' * (seeds != 1)}"
        return f"no fall can be sure of {number}; at least {least} are needed."
    if not layer.falls.any():
        return _no_fall(layer)
    at = int(np.where(layer.falls, layer.held_out[0], -np.inf).argmax())
    most = f"most at {layer.scales[at]:.2g}, by {_fall_at(layer, at)} after {clock}"
    rest = ~layer.falls
    open_ = rest & ~layer.excluded
    beyond = "; elsewhere a fall is excluded" if not open_.any() else ""
    if open_.any() and (rest & layer.excluded).any():
        beyond = f"; a fall is open at {_places(layer, open_)} and excluded elsewhere"
    elif open_.any():
        beyond = "; elsewhere a fall is neither sure nor excluded"
    beyond = beyond if rest.any() else ""
    peak = f"{layer.peaks[at]:,}"
    read = f"{_READ[layer.reader]} {_places(layer, layer.falls)}"
    return f"I(X;T) falls, seen in {read} ({most} {peak}){beyond}."


def _no_fall(layer: LayerResolution) -> str:
    """Where none is sure: how large the largest is."""
    at = int(layer.held_out[0].argmax())
    ends = _range(layer.scales[0], layer.scales[-1])
    largest = f"the largest is {_fall_at(layer, at)} at {layer.scales[at]:.2g}"
    least = f"above {layer.rule.least_drop:g} bit"
    if layer.excluded.all():
        return f"a fall {least} is excluded in {_READ[layer.reader]} {ends}; {largest}."
    return f"no fall {least} is sure in {_READ[layer.reader]} {ends}; {largest}."


def _classes(layer: LayerResolution) -> str:
    """Whether the scales at which it falls are those that decide the classes."""
    if np.isnan(layer.label_entropy) or np.isnan(layer.about_y).all():
        return ""
    share = f"I(T;Y) at least {DECIDED:.0%} of H(Y)".replace("%", " %")
    caveat = _chance(layer)
    if not layer.decided.any():
        return f"At no scale are the classes told apart at the end ({share}).{caveat}"
    told = _places(layer, layer.decided)
    text = f"At the end the classes are told apart ({share}) in {_READ[layer.reader]} {told}"
    if not layer.falls.any():
        return f"{text}.{caveat}"
    both = int((layer.falls & layer.decided).sum())
    number = int(layer.falls.sum())
    if both == number:
        return f"{text}: at every scale at which the layer compresses.{caveat}"
    lost = layer.label_entropy - layer.mean_y[layer.falls & ~layer.decided, -1]
    where = f"{both} of the {number} scales" if both else f"none of the {number} scales"
    lack = f"at the others I(T;Y) is up to {lost.max():.2f} bits short of H(Y)"
    return f"{text}: at {where} at which the layer compresses; {lack}.{caveat}"


def _chance(layer: LayerResolution) -> str:
    """Where I(T;Y) is no more than chance would give."""
    random = layer.null > RANDOM
    if not random.any():
        return ""
    at = f"At {_places(layer, random)} I(T;Y) says little: random labels would give"
    return f" {at} up to {layer.null.max():.2f} bits."


def _finest(layer: LayerResolution) -> str:
    """What is left of the fall at the finest scale, and the ceiling there."""
    lowest, highest = layer.mean_x[0].min(), layer.mean_x[0].max()
    still = highest - lowest < 0.005
    bits = f"{highest:.2f} throughout" if still else f"{lowest:.2f} to {highest:.2f} over training"
    full = f"of H(X) = {layer.input_entropy:.2f} bits"
    return f"At {layer.scales[0]:.2g}, the finest, I(X;T) is {bits}, {full}."


def _fall_at(layer: LayerResolution, at: int) -> str:
    mean, lower, upper = (round(float(end), 2) + 0.0 for end in layer.held_out[:, at])
    return f"{mean:.2f} bits [{lower:.2f}, {upper:.2f}]"


def _range(low: float, high: float) -> str:
    return f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"


def _places(layer: LayerResolution, mask: Mask) -> str:
    """Runs of neighbouring scales."""
    return " and ".join(_range(*run) for run in layer.runs(mask))
