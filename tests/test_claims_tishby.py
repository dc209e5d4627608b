"""Each claim on the 12-bit task holds, fails or stays open where its statement says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ibtrace.papers.tishby import CLAIMS, EXACT, PAPERS_BINS, RANGED_BINS
from ibtrace.plane import Rule
from ibtrace.plane.drops import Array
from ibtrace.trace import Scalar, Trace
from ibtrace.types import I_TY, I_XT, Row

NAN = float("nan")
LAYERS = ("hidden1", "hidden2", "hidden3", "hidden4", "hidden5", "output")
EPOCHS, SEEDS = 60, 5
U = np.linspace(0, 1, EPOCHS)

Curves = Mapping[str, Array]


def peaked(at: float, height: float = 4.0) -> Array:
    """A curve that rises to a peak at a share of the epochs, and falls by 3 bits."""
    curve: Array = height + 2 * np.minimum(1, U / at) - 3 * np.clip((U - at) / (1 - at), 0, 1)
    return curve


def trace_of(
    curves: Curves, *, quantity: str = I_XT, estimator: str = PAPERS_BINS, noise: float = 0.01
) -> Trace:
    meta = {"n": 4096, "input_entropy": 12.0, "layers": list(LAYERS)}
    trace = Trace.create(meta=meta)
    rng = np.random.default_rng(0)
    trace.append(
        [
            Row(
                *(seed, epoch, None, layer, quantity, estimator, "T"),
                *(float(bits + rng.normal(0, noise)), NAN, NAN, NAN, "", {}, 0.0),
            )
            for layer, curve in curves.items()
            for seed in range(SEEDS)
            for epoch, bits in enumerate(curve)
        ],
        [
            Scalar(0, epoch, "", "train_loss", loss)
            for epoch, loss in ((0, 1.0), (29, 0.1), (59, 0.09))
        ],
    )
    return trace


def outcome(name: str, trace: Trace) -> tuple[str, str]:
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    result = claim(dict.fromkeys(("tanh", "relu"), trace))
    return result.status, result.number


def layered(last: Array, others: Array | None = None) -> Curves:
    """The layers one below the other, ``last`` the last hidden one."""
    others = np.full(EPOCHS, 8.0) if others is None else others
    above = {layer: others - 0.1 * i for i, layer in enumerate(LAYERS[:4])}
    return {**above, "hidden5": last, "output": np.full(EPOCHS, 1.0)}


@pytest.mark.parametrize(
    ("peak", "status"), [(0.1, "held"), (0.4, "held"), (0.6, "failed"), (0.9, "failed")]
)
def test_most_epochs_is_more_than_half(peak: float, status: str) -> None:
    found, number = outcome("most-epochs", trace_of(layered(peaked(peak))))
    assert found == status
    assert float(number.split()[0]) == pytest.approx(1 - peak, abs=0.03)


def test_most_epochs_stays_open_where_nothing_compresses() -> None:
    status, number = outcome("most-epochs", trace_of(layered(np.full(EPOCHS, 5.0))))
    assert status == "inconclusive"
    assert number.startswith("hidden5 does not compress")


@pytest.mark.parametrize(
    ("least", "status"), [(12.0, "held"), (11.995, "held"), (11.98, "failed"), (8.0, "failed")]
)
@pytest.mark.parametrize("layer", LAYERS[:4])
def test_constant_information_is_constant_to_a_hundredth_of_a_bit(
    least: float, status: str, layer: str
) -> None:
    curves = {name: np.full(EPOCHS, 12.0) for name in LAYERS[:4]}
    curves[layer][7] = least  # in one look of one layer
    curves["hidden5"] = np.full(EPOCHS, 2.0)  # of which nothing is claimed
    found, number = outcome("constant-information", trace_of(curves, estimator=EXACT, noise=0))
    assert found == status
    assert f"{layer} {least:.3f}" in number


@pytest.mark.parametrize(
    ("gain", "status"), [(0.5, "held"), (0.0, "inconclusive"), (-0.5, "failed")]
)
def test_fitting_is_a_rise_of_the_last_hidden_layer(gain: float, status: str) -> None:
    curves = layered(0.5 + gain * U, 0.9 - 0.5 * U)
    assert outcome("fitting", trace_of(curves, quantity=I_TY))[0] == status


@pytest.mark.parametrize(
    ("last", "others", "status"),
    [
        (peaked(0.3), peaked(0.3), "held"),
        (peaked(0.3), np.full(EPOCHS, 8.0), "failed"),
        (np.full(EPOCHS, 5.0), peaked(0.3), "failed"),
        (peaked(0.3), np.full(EPOCHS, 12.0), "failed"),  # at the ceiling it does not compress
    ],
)
def test_every_layer_means_every_hidden_layer(last: Array, others: Array, status: str) -> None:
    found, number = outcome("compression-all", trace_of(layered(last, others)))
    assert found == status
    assert ("5 of 5 compress" in number) == (status == "held")


@pytest.mark.parametrize(
    ("curve", "last", "none"),
    [
        (peaked(0.3), "held", "failed"),
        (np.full(EPOCHS, 5.0), "failed", "held"),
        (np.full(EPOCHS, 12.0), "inconclusive", "inconclusive"),
    ],
)
def test_claims_on_the_last_layer_follow_its_verdict(curve: Array, last: str, none: str) -> None:
    assert outcome("compression-last", trace_of(layered(curve)))[0] == last
    relu = trace_of(layered(curve), estimator=RANGED_BINS)
    assert outcome("no-relu-compression", relu)[0] == none


@pytest.mark.parametrize("swapped", [False, True])
def test_the_order_of_layers_is_that_of_the_network_at_every_epoch(swapped: bool) -> None:
    curves = {layer: np.full(EPOCHS, 10.0 - i) for i, layer in enumerate(LAYERS)}
    if swapped:
        curves["output"][30] = 6.5  # above hidden5, once
    status, number = outcome("order-of-layers", trace_of(curves, noise=0))
    pairs = SEEDS * EPOCHS * 5
    assert status == ("failed" if swapped else "held")
    assert number.endswith(f"of {pairs} neighbouring pairs do not increase")
    assert number.startswith("99.7 %" if swapped else "100.0 %")


@pytest.mark.parametrize(
    ("name", "thresholds", "status"),
    [
        ("fitting", {"least": 0.4}, "held"),
        ("fitting", {"least": 0.6}, "failed"),
        ("compression-last", {"rule": Rule(least_drop=2.5)}, "held"),
        ("compression-last", {"rule": Rule(least_drop=3.5)}, "failed"),
        ("compression-all", {"rule": Rule(least_drop=2.5)}, "held"),
        ("compression-all", {"rule": Rule(least_drop=3.5)}, "failed"),
        ("most-epochs", {"share": 0.65}, "held"),
        ("most-epochs", {"share": 0.75}, "failed"),
        ("order-of-layers", {"share": 0.2}, "held"),
        ("constant-information", {"off": 0.3}, "held"),
        ("constant-information", {"off": 0.1}, "failed"),
        ("no-relu-compression", {"rule": Rule(least_drop=3.5)}, "held"),
        ("no-relu-compression", {"rule": Rule(least_drop=2.5)}, "failed"),
    ],
)
def test_thresholds_are_arguments(name: str, thresholds: dict[str, Any], status: str) -> None:
    of = {
        "fitting": trace_of(layered(0.5 + 0.5 * U), quantity=I_TY),
        "constant-information": trace_of(
            dict.fromkeys(LAYERS, np.full(EPOCHS, 11.8)), estimator=EXACT, noise=0
        ),
        "no-relu-compression": trace_of(layered(peaked(0.3)), estimator=RANGED_BINS),
    }
    trace = of.get(name) or trace_of(layered(peaked(0.3), peaked(0.3)))
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    moved = claim.at(**thresholds)
    assert moved(dict.fromkeys(("tanh", "relu"), trace)).status == status
