"""The joint law of a probe's inputs and classes as a record, and the curve of such a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ibtrace.bounds._curve import BottleneckCurve
from ibtrace.bounds._discrete import bottleneck
from ibtrace.bounds._law import Samples, as_array, entropy
from ibtrace.errors import InvalidInput

_MOST = 4096
"""Numbers that a record holds at most; beyond, a curve takes longer than a trace is read."""


def joint_record(x: Any, y: Any, *, known: bool) -> dict[str, Any] | None:
    """What a curve needs of a joint law, as JSON values; None if that is too much.

    Values of X of one p(y|x) are one to every T, and are taken together: of a Y that X decides
    one for each class is left, however many X there are.

    Args:
        x: Ids of X, integers ``(n,)``, each sample of one mass.
        y: Ids of Y, integers ``(n,)``.
        known: Whether the samples are the whole law, and no draw of it.
    """
    given = (as_array("joint_record", name, value) for name, value in (("x", x), ("y", y)))
    at_x, at_y = (np.unique(value, return_inverse=True)[1] for value in given)
    pairs, counts = np.unique(np.stack([at_x, at_y], 1), axis=0, return_counts=True)
    starts = np.flatnonzero(np.r_[True, np.diff(pairs[:, 0]) > 0])
    ends = np.r_[starts[1:], len(pairs)]
    one = ends - starts == 1  # the values of X that decide Y, of which there may be very many
    decided = np.bincount(pairs[starts[one], 1], counts[starts[one]]).astype(np.int64)
    merged: dict[tuple[tuple[int, int], ...], int]
    merged = {((label, 1),): times for label, times in enumerate(decided.tolist()) if times}
    for begin, end in zip(starts[~one].tolist(), ends[~one].tolist(), strict=True):
        here = slice(begin, end)
        times = math.gcd(*counts[here].tolist())
        law = tuple(zip(pairs[here, 1].tolist(), (counts[here] // times).tolist(), strict=True))
        merged[law] = merged.get(law, 0) + times
    values = int(at_y.max()) + 1
    if len(merged) * values > _MOST:
        return None
    table = np.zeros((len(merged), values), dtype=np.int64)
    for place, (law, times) in enumerate(merged.items()):
        for label, count in law:
            table[place, label] = count * times
    h_x = entropy(np.bincount(at_x) / len(at_x))
    samples = [len(at_x), int(at_x.max()) + 1, values, len(pairs)]
    return {"counts": table.tolist(), "h_x": h_x, "samples": samples, "known": bool(known)}


def curve_of(record: Mapping[str, Any]) -> BottleneckCurve:
    """The bottleneck curve of a law that was recorded; it says if that is an estimate.

    Args:
        record: From `joint_record`.

    Raises:
        InvalidInput: If it is none.
    """
    try:
        counts = np.asarray(record["counts"], dtype=np.float64)
        h_x, samples = float(record["h_x"]), Samples(*map(int, record["samples"]))
        known = bool(record["known"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"bound: the record of the joint law is torn ({error})") from error
    curve = bottleneck(counts / counts.sum())
    return replace(curve, h_x=h_x, samples=None if known else samples)
