"""What a trace records of the variables that information is measured with."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor

from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.counting import first_alike, same_as
from ibtrace.numerics.entropy import entropy, sample_counts
from ibtrace.probe import Named, Probe
from ibtrace.types import I_TY, I_XT


def variables(probe: Probe) -> dict[str, Any]:
    """Meta entries on a probe's variables.

    ``named``: each variable with a name, its role, quantity, kind, entropy in bits (NaN of numbers)
    and its classes' names. ``decided``: for each I(T;Y) those I(X;T) whose X decides Y on the
    probe: I(X;T|Y) is then I(X;T) - I(T;Y).

    Args:
        probe: The probe; of labels of tokens its tokens count.
    """
    subject = _subject(probe)
    if subject is None:
        return {}
    named = [
        {
            "name": given.name,
            "role": given.role,
            "quantity": given.quantity,
            "kind": given.kind,
            "tokens": given.tokens > 0,
            "entropy": _entropy(of_sample),
            "class_names": given.names and list(given.names),
        }
        for given, of_sample in zip(probe.named, subject.named, strict=True)
    ]
    told: dict[str, Any] = {"named": named} if named else {}
    if decided := _decided(subject):
        told["decided"] = decided
    return told


def _subject(probe: Probe) -> Probe | None:
    """The samples, or the tokens if labels are theirs; None where these are not known."""
    lengths = {each.tokens for each in probe.named if each.tokens}
    if probe.label_kind == "tokens":
        lengths.add(probe.y.shape[1])
    if not lengths:
        return probe
    for stream in probe.streams:
        if lengths == {stream.length}:
            return probe.samples_of(stream.inputs)
    return None


def _decided(subject: Probe) -> dict[str, list[str]]:
    first = subject.first_target
    sources = {I_XT: subject.x_ids}
    targets: dict[str, Tensor] = {}
    if first is None and subject.labelled:
        targets[I_TY] = _ids(subject.labels)
    for each in subject.named:
        (sources if each.role == "source" else targets)[each.quantity] = _ids(each.labels)
    decided: dict[str, list[str]] = {quantity: [] for quantity in targets}
    for (of_y, y), (of_x, x) in product(targets.items(), sources.items()):
        if bool(same_as(y, first_alike(x))):
            decided[of_y].append(of_x)
    return decided


def _entropy(named: Named) -> float:
    if named.kind == "numbers":
        return float("nan")
    return float(entropy(sample_counts(_ids(named.labels))))


def _ids(labels: Tensor) -> Tensor:
    rows = labels if labels.dim() > 1 else labels[:, None]
    ids: Tensor = row_ids(rows.to("cpu", torch.float64 if rows.is_floating_point() else rows.dtype))
    return ids
