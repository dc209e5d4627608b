"""What the report tells of events, their order, and what changes together."""

from __future__ import annotations

import numpy as np

from ibtrace.alignment import module_of, outputs
from ibtrace.reports.alignment import alignment
from ibtrace.types import I_XT
from tests.test_alignment import Curve, hill, traced

FALLS: Curve = lambda epochs, seed: 3 - np.log1p(epochs)  # noqa: E731  # below 1 at epoch 7
LATE: Curve = lambda epochs, seed: 5 - np.log1p(epochs)  # noqa: E731  # below 1 at epoch 54


def test_the_peak_is_held_against_hidden_layers_and_their_modules() -> None:
    names = {"act1": "fc1", "act2": "fc2", "out": "fc3"}
    curves: dict[tuple[str, str], Curve] = {(I_XT, layer): hill(20) for layer in names}
    curves |= {("gradient SNR", module): FALLS for module in names.values()}
    curves[("gradient SNR", "fc3")] = LATE
    trace = traced(curves)
    assert outputs(trace) == ("out", "fc3")
    assert module_of(trace, "act2") == "fc2"
    told = " ".join(alignment(trace).split())
    assert "peak of I(X;T) of act2 before gradient SNR below 1 of fc2 in 0 of 5 seeds" in told
    assert "below 1 of fc3 in" not in told


def test_modules_that_are_no_chain_with_the_layers_belong_to_none() -> None:
    trace = traced({(I_XT, "act1"): hill(20), (I_XT, "out"): hill(20), ("norm", "fc1"): FALLS})
    assert module_of(trace, "act1") is None
    assert outputs(trace) == ("out",)


def test_information_alone_has_no_alignment_to_tell() -> None:
    assert alignment(traced({(I_XT, "a"): hill(20)})) == ""
