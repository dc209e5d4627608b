"""Each claim on noisy networks holds, fails or stays open where its statement says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ibtrace import papers, plots
from ibtrace.models.noise import GaussianNoise
from ibtrace.papers import goldfeld
from ibtrace.papers.goldfeld import BINS, ITSELF, LENS, NC1, centres, network, variants
from ibtrace.trace import Trace
from ibtrace.training import config, configs
from ibtrace.types import I_XT, label
from tests.claim_traces import LOG, Curve, Floats, Key, falling, flat, traced, wandering

HERE = centres("noisy-5")


def run(
    itself: Curve, bins: Curve | None = None, spread: Curve | None = None, error: float = 0.01
) -> Trace:
    curves: dict[Key, Curve] = {
        (I_XT, ITSELF, HERE): itself,
        (I_XT, BINS, HERE): bins or itself,
        (NC1, LENS, HERE): spread or (lambda seed: np.exp(itself(seed) - 8)),
    }
    return traced([HERE, "output"], curves, error=error)


def outcome(name: str, trace: Trace) -> tuple[str, str]:
    (claim,) = (claim for claim in goldfeld.CLAIMS if claim.name == f"{name}-noisy-5")
    result = claim({"noisy-5": trace})
    return result.status, result.number


def walk(shift: int) -> Curve:
    """A fall whose steps are a seed's own, shared by nothing else."""

    def curve(seed: int) -> Floats:
        values: Floats = 10 - 0.4 * LOG + wandering(100 * shift + seed)
        return values

    return curve


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


def test_a_fall_is_driven_by_clustering_where_both_take_the_same_steps() -> None:
    own = walk(1)
    assert outcome("clustering", run(own))[0] == "held"
    status, number = outcome("clustering", run(own, spread=walk(2)))
    assert status == "failed"
    assert "from the peak on" in number
    assert outcome("clustering", run(flat(5.0), spread=lambda seed: 0 * LOG))[0] == "inconclusive"


def test_bins_are_compared_with_clustering_and_with_the_information() -> None:
    own, other = walk(1), walk(2)
    follows = run(own, spread=lambda seed: np.exp(own(seed) - 8))
    apart = run(own, bins=other, spread=lambda seed: np.exp(own(seed) - 8))
    for name in ("bins-cluster", "bins-follow"):
        assert outcome(name, follows)[0] == "held"
        assert outcome(name, apart)[0] == "failed"


def test_a_bound_of_a_claim_can_be_moved() -> None:
    traces: Mapping[str, Trace] = {"noisy-5": run(flat(6.0))}
    for below, status in ((0.95, "held"), (0.4, "failed")):
        assert goldfeld._finite(traces, "noisy-5", below).status == status


def test_noise_is_in_one_layer_in_training_alone_and_is_that_of_the_estimator() -> None:
    torch.manual_seed(0)
    net = network("hidden2", widths=(12, 6, 4, 3, 2))
    noisy = [each for each in net.modules() if isinstance(each, GaussianNoise)]
    assert len(noisy) == 1
    assert label(noisy[0].channel) == label(
        type(noisy[0].channel)(noise_std=goldfeld.STD, in_network=True)
    )
    x = torch.rand(5, 12)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    assert isinstance(net.get_submodule("hidden2.clean"), nn.Tanh)


def test_the_configuration_has_the_variants_of_the_module() -> None:
    raw = configs.read("goldfeld")
    assert raw["variants"] == variants("tanh")
    assert papers.find("goldfeld").activations == ("tanh",)
    estimators = config.build(next(iter(configs.variants(raw).values()))).instruments.estimators
    assert {label(each) for each in estimators or []} >= {ITSELF, BINS}


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    drawn = goldfeld.figure({"noisy-5": run(falling(3))})
    assert len(drawn.axes) == 3
    assert plots.save(drawn, tmp_path / "clustering")[0].stat().st_size > 10_000
