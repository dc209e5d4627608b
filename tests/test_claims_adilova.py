"""Each claim on Gaussian dropout holds, fails or stays open where its statement says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ibtrace import papers, plots
from ibtrace.models.noise import ContinuousDropout
from ibtrace.papers import adilova
from ibtrace.papers.adilova import ITSELF, LAYER, LENS, NC1, RANGE, WIDTH, network
from ibtrace.trace import Trace
from ibtrace.training import config, configs
from ibtrace.types import I_TY, I_XT, label
from tests.claim_traces import LOG, Curve, Floats, Key, falling, flat, traced, wandering


def run(
    itself: Curve, bins: Curve | None = None, spread: Curve | None = None, error: float = 0.01
) -> Trace:
    binned = bins or itself
    curves: dict[Key, Curve] = {
        (I_XT, ITSELF, LAYER): itself,
        (I_TY, ITSELF, LAYER): flat(0.9),
        (I_XT, WIDTH, LAYER): binned,
        (I_XT, RANGE, LAYER): binned,
        (NC1, LENS, LAYER): spread or (lambda seed: np.exp(binned(seed) - 8)),
    }
    return traced([LAYER, "output"], curves, error=error)


def outcome(name: str, trace: Trace) -> tuple[str, str]:
    (claim,) = (claim for claim in adilova.CLAIMS if claim.name == f"{name}-relu")
    result = claim({"relu": trace})
    return result.status, result.number


@pytest.mark.parametrize(
    ("height", "error", "status"),
    [(6.0, 0.01, "held"), (11.9, 0.01, "failed"), (11.0, 1.0, "inconclusive")],
)
def test_finite_is_below_the_ceiling_with_its_error(
    height: float, error: float, status: str
) -> None:
    assert outcome("finite", run(flat(height), error=error))[0] == status


@pytest.mark.parametrize(
    ("curve", "status"),
    [(falling(3), "held"), (flat(5), "failed"), (falling(0.3, spread=1.0), "inconclusive")],
)
def test_compression_is_the_call_on_the_information_itself(curve: Curve, status: str) -> None:
    assert outcome("compresses", run(curve, bins=flat(3)))[0] == status


@pytest.mark.parametrize("name", ["geometric-width", "geometric-range"])
@pytest.mark.parametrize(
    ("itself", "bins", "status"),
    [
        (flat(5), falling(3), "held"),
        (falling(1), falling(3), "held"),
        (falling(2.5), falling(3), "failed"),
        (falling(1.5, spread=1.4), falling(3), "inconclusive"),
        (flat(5), flat(5), "inconclusive"),  # nothing falls that could be geometric
    ],
)
def test_mostly_is_more_than_half_of_the_binned_fall(
    name: str, itself: Curve, bins: Curve, status: str
) -> None:
    assert outcome(name, run(itself, bins))[0] == status


def test_a_bound_of_a_claim_can_be_moved() -> None:
    traces = {"relu": run(falling(1), falling(3))}
    for mostly, status in ((0.5, "held"), (0.9, "failed")):
        assert adilova._mostly_geometric(traces, "relu", WIDTH, mostly).status == status


def test_bins_are_geometric_where_they_take_the_steps_of_the_classes() -> None:
    def walk(shift: int) -> Curve:
        def curve(seed: int) -> Floats:
            values: Floats = 10 - 0.4 * LOG + wandering(100 * shift + seed)
            return values

        return curve

    assert outcome("bins-cluster", run(flat(5), walk(1)))[0] == "held"
    assert outcome("bins-cluster", run(flat(5), walk(1), spread=walk(2)))[0] == "failed"


def test_dropout_is_after_one_layer_in_training_alone_and_is_that_of_the_estimator() -> None:
    torch.manual_seed(0)
    net = network("hidden1", widths=(12, 6, 4, 2))
    (noise,) = (each for each in net.modules() if isinstance(each, ContinuousDropout))
    channel = noise.channel
    assert label(type(channel)(channel.noise_std, 2, channel.noise, in_network=True)) == ITSELF
    x = torch.rand(5, 12)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_the_configuration_has_the_variants_of_the_module() -> None:
    raw = configs.read("adilova")
    assert raw["variants"] == {**adilova.variants("tanh"), **adilova.variants("relu")}
    assert papers.find("adilova").activations == ("tanh", "relu")
    estimators = config.build(next(iter(configs.variants(raw).values()))).instruments.estimators
    assert {label(each) for each in estimators or []} == {ITSELF, WIDTH, RANGE}


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    drawn = adilova.figure({"tanh": run(falling(3)), "relu": run(flat(5))})
    assert len(drawn.axes) == 8
    assert plots.save(drawn, tmp_path / "dropout")[0].stat().st_size > 10_000
