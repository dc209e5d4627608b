"""The most that a plug-in estimate can reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ibtrace.plane.pairs import X
from ibtrace.types import I_TY, I_XT, TraceLike


def ceilings(
    trace: TraceLike, frame: pd.DataFrame, *, normalised: bool = False
) -> dict[str, tuple[float, str]]:
    """The most that a plug-in estimate can reach, ``{quantity: (bits, label)}``, where known.

    Args:
        trace: The run.
        frame: The rows that are drawn: of fewer samples than the run's probe has, perhaps.
        normalised: Whether the rows are shares of H(X) and H(Y); then so are the ceilings.
    """
    meta = trace.meta
    known = {}
    if n := meta.get("n"):
        measured = frame["samples"].max() if "samples" in frame else np.nan
        bits = float(np.log2(measured if np.isfinite(measured) else n))  # tokens are more
        known[I_XT] = bits, f"log₂ N = {bits:.4g}"
        source, entropy = meta.get("pair", {}).get("x", X), float(meta.get("input_entropy", np.inf))
        if source != X and entropy < bits:
            known[I_XT] = entropy, f"H({source}) = {entropy:.3g}"
    bits = float(meta.get("label_entropy", np.nan))
    if np.isfinite(bits):  # of continuous targets there is none
        known[I_TY] = bits, f"H({meta.get('pair', {}).get('y', 'Y')}) = {bits:.3g}"
    if not normalised:
        return known
    entropies = {I_XT: float(meta.get("input_entropy", np.nan)), I_TY: bits}
    return {
        name: (bits / entropies[name], label)
        for name, (bits, label) in known.items()
        if entropies[name] > 0
    }


def layer_entropies(meta: Mapping[str, Any]) -> dict[str, float]:
    """H(X) in bits of the layers for which it is another than the probe's: of one token.

    Args:
        meta: `Trace.meta`.
    """
    captured = meta.get("captured", {})
    return {
        name: float(record["input_entropy"])
        for name, record in captured.items()
        if "input_entropy" in record
    }
