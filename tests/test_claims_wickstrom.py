"""Each claim on training and held-out images holds, fails or stays open where it says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from ibtrace import papers, plots
from ibtrace.papers import wickstrom
from ibtrace.papers.wickstrom import ALIGNED, SILVERMAN, falls, fitting_begins, network, stopped
from ibtrace.trace import Scalar, Trace
from ibtrace.training import configs
from ibtrace.types import I_TY, I_XT
from tests.claim_traces import EPOCHS, Curve, Floats, Key, U, falling, flat, traced

LAYERS = ("pool1", "hidden1", "softmax")
STILL = {"pool1": flat(6.0), "hidden1": flat(5.0), "softmax": flat(4.0)}
RISES: Curve = falling(-1.0, 1.0, spread=0.01)
Losses = Callable[[int], Floats]


def lowest(share: float) -> Losses:
    """A test loss that is lowest at a share of the (logarithmic) training."""
    return lambda seed: np.abs(U - share) + 0.001 * seed


def run(
    about_x: Mapping[str, Curve] | None = None,
    about_y: Mapping[str, Curve] | None = None,
    loss: Losses = lowest(0.4),  # noqa: B008
) -> Trace:
    """A run whose layers keep what they have but for those that are given."""
    curves: dict[Key, Curve] = {}
    for by in (SILVERMAN, ALIGNED):
        for layer in LAYERS:
            curves[I_XT, by, layer] = (about_x or {}).get(layer, STILL[layer])
            curves[I_TY, by, layer] = (about_y or {}).get(layer, RISES)
    trace = traced(LAYERS, curves)
    trace.append(
        [],
        [
            Scalar(seed, epoch, "", "test_loss", value)
            for seed in trace.seeds
            for epoch, value in zip(EPOCHS, loss(seed).tolist(), strict=True)
        ],
    )
    return trace


def outcome(name: str, training: Trace, held_out: Trace | None = None) -> tuple[str, str]:
    (claim,) = (claim for claim in wickstrom.CLAIMS if claim.name == f"{name}-silverman")
    result = claim({"training": training, "held-out": held_out or training})
    return result.status, result.number


def test_phases_are_a_rise_about_y_and_a_fall_about_x() -> None:
    assert outcome("phases", run({"softmax": falling(2)}))[0] == "held"
    assert outcome("phases", run())[0] == "failed"
    assert outcome("phases", run({"softmax": falling(2)}, {"softmax": flat(2)}))[0] == "failed"
    back = {"softmax": lambda seed: 2.0 + np.abs(U - 0.5) + 0.001 * seed}
    assert outcome("phases", run({"softmax": falling(2, peak=0.6)}, back))[0] == "held"
    unsure = {"softmax": falling(0.5, spread=1.0)}
    assert outcome("phases", run(unsure))[0] == "inconclusive"


def test_what_is_lost_before_fitting_begins_is_no_fall() -> None:
    dip = {"softmax": lambda seed: 4.0 - np.clip(5 * U, 0, 1) + 0.001 * seed}
    fits = {"softmax": lambda seed: 2.0 + np.abs(U - 0.3) + 0.001 * seed}
    trace = run(dip, fits)
    since = fitting_begins(trace, SILVERMAN, "softmax")
    assert since == [int(np.abs(U - 0.3).argmin())] * len(trace.seeds)
    np.testing.assert_allclose(falls(trace, SILVERMAN, "softmax", since), 0, atol=1e-12)
    whole = falls(trace, SILVERMAN, "softmax", [0] * len(trace.seeds))
    np.testing.assert_allclose(whole, 1, atol=1e-12)
    assert outcome("phases", trace)[0] == "failed"


@pytest.mark.parametrize(
    ("training", "held_out", "status"),
    [
        (falling(2), falling(1), "held"),
        (falling(1), falling(2), "failed"),
        (falling(1, spread=0.5), falling(1, spread=-0.5), "inconclusive"),
    ],
)
def test_more_on_training_is_of_the_same_networks(
    training: Curve, held_out: Curve, status: str
) -> None:
    found, number = outcome(
        "more-on-training", run({"softmax": training}), run({"softmax": held_out})
    )
    assert found == status
    assert "(layers that fall: softmax " in number
    assert outcome("more-on-training", run())[0] == "inconclusive"


def test_early_stopping_is_before_the_fall() -> None:
    late = {"softmax": falling(2, peak=0.6)}
    assert outcome("early-stopping", run(late, loss=lowest(0.5)))[0] == "held"
    status, number = outcome("early-stopping", run(late, loss=lowest(0.9)))
    assert status == "failed"
    assert "softmax 1.5" in number
    assert "of 2.0" in number
    assert outcome("early-stopping", run())[0] == "inconclusive"


def test_the_look_to_stop_at_has_the_lowest_test_loss() -> None:
    assert stopped(run(loss=lowest(0.7))) == [int(np.abs(U - 0.7).argmin())] * 6


def test_data_processing_is_from_each_layer_to_the_next() -> None:
    assert outcome("data-processing", run())[0] == "held"
    status, number = outcome("data-processing", run({"hidden1": flat(6.5)}))
    assert status == "failed"
    assert "pool1 to hidden1 -0.50" in number
    assert outcome("data-processing", run({"softmax": flat(5.5)}))[0] == "failed"
    unsure = {"hidden1": lambda seed: 6.0 + 0.2 * (seed - 2.5) + 0 * U}
    assert outcome("data-processing", run(unsure))[0] == "inconclusive"


def test_bounds_of_claims_can_be_moved() -> None:
    claims = {claim.name: claim for claim in wickstrom.CLAIMS}
    traces = {"training": run({"softmax": falling(2)}), "held-out": run({"softmax": falling(1)})}
    assert claims["phases-aligned"].at(least=3.0)(traces).status == "failed"
    assert claims["more-on-training-aligned"].at(more=1.0)(traces).status == "failed"
    assert claims["early-stopping-aligned"].at(least=3.0)(traces).status == "inconclusive"
    up = {"training": run({"hidden1": flat(6.5)})}
    assert claims["data-processing-aligned"].at(below=1.0)(up).status == "held"


def test_a_network_ends_in_probabilities() -> None:
    torch.manual_seed(0)
    out = network([2, 4], [8])(torch.rand(5, 1, 28, 28))
    torch.testing.assert_close(out.sum(-1), torch.ones(5))
    assert (out >= 0).all()


def test_the_configuration_trains_the_same_networks_twice() -> None:
    raw = configs.read("wickstrom")
    assert raw["variants"] == wickstrom.variants("relu")
    differing = {key for keys in raw["variants"].values() for key in keys} - {"probe.part"}
    assert all(len({keys[key] for keys in raw["variants"].values()}) == 1 for key in differing)
    assert papers.find("wickstrom").activations == ("relu",)


def test_the_figure_has_a_column_for_each_part(tmp_path: Path) -> None:
    drawn = wickstrom.figure({"training": run(), "held-out": run()})
    assert [axes.get_title(loc="left") for axes in drawn.axes[:2]] == ["training", "held-out"]
    assert plots.save(drawn, tmp_path / "parts")[0].stat().st_size > 10_000
