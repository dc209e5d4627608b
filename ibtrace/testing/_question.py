"""What an estimator asks of I(X;T): seen on samples that are all different, but hardly so."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput, Unsupported
from ibtrace.types import Estimate, Estimator, Question

_SAMPLES = 64
_MERGED = 1.0  # bits that a resolution loses at least where samples differ by a millionth


def check_question(estimator: Estimator) -> None:
    """The tags say what is asked, and two narrow crowds of distinct samples bear it out."""
    question = estimator.tags.question
    who = f"{estimator!r}: tags.question is {question!r}"
    assert question in get_args(Question), f"{who}, none of {', '.join(get_args(Question))}"
    if estimator.tags.of_information and "continuous" in estimator.tags.y:
        assert question == "density", f"{who}, but tags.of_information holds it to a density"
    estimate = _of_crowds(estimator)
    bits = math.nan if estimate is None else float(estimate.bits)
    whole = math.log2(_SAMPLES)
    got = f"it gives {bits:.3f} bits of two narrow crowds of {_SAMPLES} samples"
    if question == "density":
        # of two continuous variables nothing here forbids a density
        continuous = "discrete" not in estimator.tags.x
        flagged = estimate is None or any(bool(flag) for flag in estimate.flags.values())
        assert continuous or flagged, f"{who}, but {got}, which have no density, without a flag"
    elif question == "resolution":
        assert bits <= whole - _MERGED, f"{who}, but {got}: it tells them all apart"
    elif estimator.tags.variable == "itself":
        assert bits >= whole - 1e-9, f"{who}, but {got}, fewer than log2 N = {whole:.3f}"


def _of_crowds(estimator: Estimator) -> Estimate | None:
    """I(x; t) of distinct x, t near -1 or near 1 and all distinct; None if it is declined."""
    ids = torch.arange(_SAMPLES)
    draws = torch.rand(_SAMPLES, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    crowds = torch.where(ids % 2 == 0, -1.0, 1.0)[:, None].double() + 1e-6 * draws
    x: Tensor = ids if "discrete" in estimator.tags.x else ids[:, None].double()
    t = crowds if "continuous" in estimator.tags.y else ids
    try:
        return estimator(x, t)
    except (InvalidInput, Unsupported):
        return None
