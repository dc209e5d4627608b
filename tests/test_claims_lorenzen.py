"""Each claim on quantized networks holds, fails or stays open where its statement says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from ibtrace import papers, plots
from ibtrace.papers import lorenzen
from ibtrace.papers.lorenzen import COARSE, EXACT, FINE, Network
from ibtrace.trace import Trace
from ibtrace.training import configs
from ibtrace.types import I_TY, I_XT
from tests.claim_traces import Curve, Key, falling, flat, traced

LAYERS = ("hidden1", "hidden2", "hidden3", "softmax")


def run(
    exact: Mapping[str, Curve] | None = None,
    coarse: Mapping[str, Curve] | None = None,
    about_y: Mapping[str, Curve] | None = None,
) -> Trace:
    """A run whose layers stand still but for those that are given."""
    curves: dict[Key, Curve] = {}
    for at, layer in enumerate(LAYERS):
        still = flat(8.0 - at)
        itself = (exact or {}).get(layer, still)
        curves[I_XT, EXACT, layer] = itself
        curves[I_XT, FINE, layer] = itself
        curves[I_XT, COARSE, layer] = (coarse or {}).get(layer, itself)
        curves[I_TY, EXACT, layer] = (about_y or {}).get(layer, falling(-0.3, 0.6, spread=0.01))
    return traced(LAYERS, curves)


def outcome(name: str, trace: Trace, other: Trace | None = None) -> tuple[str, str]:
    (claim,) = (claim for claim in lorenzen.CLAIMS if claim.name == name)
    traces = dict.fromkeys(lorenzen.VARIANTS, trace)
    result = claim({**traces, **({"relu-8": other} if other is not None else {})})
    return result.status, result.number


def test_fitting_is_of_every_layer_that_has_not_all_of_the_label() -> None:
    assert outcome("fitting-tanh-8", run())[0] == "held"
    full, number = outcome("fitting-tanh-8", run(about_y={"hidden1": flat(0.995)}))
    assert full == "held"
    assert "hidden1 had it all from the start" in number
    lost = {"hidden2": falling(2.0, 0.9)}
    assert outcome("fitting-tanh-8", run(about_y=lost))[0] == "failed"
    still = {"hidden2": flat(0.5)}
    assert outcome("fitting-tanh-8", run(about_y=still))[0] == "inconclusive"


@pytest.mark.parametrize(
    ("curve", "status"),
    [(falling(3), "held"), (flat(5), "failed"), (falling(0.3, spread=1.0), "inconclusive")],
)
def test_the_output_compresses_by_its_call(curve: Curve, status: str) -> None:
    found, number = outcome("output-relu-4", run({"softmax": curve}))
    assert found == status
    assert number.startswith("softmax ")
    assert "6 of 6 seeds kept" in number


def test_some_layers_are_some_and_not_all() -> None:
    assert outcome("some-layers", run({"hidden3": falling(3)}))[0] == "held"
    assert outcome("some-layers", run())[0] == "failed"
    every = {layer: falling(3) for layer in LAYERS}
    assert outcome("some-layers", run(every))[0] == "failed"
    unsure = {layer: falling(0.3, spread=1.0) for layer in LAYERS}
    assert outcome("some-layers", run(unsure))[0] == "inconclusive"


def test_layers_that_bind_labels_hold_little_else() -> None:
    binding = {layer: falling(at, 8 - at) for at, layer in enumerate(LAYERS)}
    assert outcome("binds-labels", run(binding))[0] == "held"
    first = {layer: falling(3 - at, 8 - 0.1 * at) for at, layer in enumerate(LAYERS)}
    poor = {layer: flat(0.9 - 0.2 * at) for at, layer in enumerate(LAYERS)}
    against = {**poor, "hidden1": flat(0.1)}
    assert outcome("binds-labels", run(first, about_y=against))[0] == "failed"
    status, number = outcome("binds-labels", run())
    assert (status, "nothing to order" in number) == ("inconclusive", True)


def test_activations_differ_by_intervals_that_are_apart() -> None:
    falls = run({"hidden3": falling(3)})
    assert outcome("activation", falls, run())[0] == "held"
    assert outcome("activation", run(), falls)[0] == "held"
    assert outcome("activation", falls, falls)[0] == "failed"
    unsure = run({"hidden3": falling(3, spread=3.0)})
    assert outcome("activation", falls, unsure)[0] == "inconclusive"


@pytest.mark.parametrize(
    ("more", "spread", "status"),
    [(2.0, 0.1, "held"), (0.0, 0.1, "failed"), (1.0, 2.0, "inconclusive")],
)
def test_bins_overstate_by_more_than_a_tenth_of_a_bit(
    more: float, spread: float, status: str
) -> None:
    coarse = {layer: falling(1 + more, spread=spread) for layer in LAYERS}
    found, number = outcome("bins-overstate", run({n: falling(1) for n in LAYERS}, coarse))
    assert found == status
    assert "hidden1 " in number


def test_a_bound_of_a_claim_can_be_moved() -> None:
    coarse = {layer: falling(1.5) for layer in LAYERS}
    traces = {"tanh-8": run({n: falling(1) for n in LAYERS}, coarse)}
    for least, status in ((0.1, "held"), (1.0, "failed")):
        assert lorenzen._overstated(traces, "tanh-8", least).status == status


def test_bins_decide_where_calls_are_opposite() -> None:
    assert outcome("bins-decide", run(coarse={"hidden2": falling(3)}))[0] == "held"
    assert outcome("bins-decide", run())[0] == "failed"
    unsure = {"hidden2": falling(0.3, spread=1.0)}
    assert outcome("bins-decide", run(coarse=unsure))[0] == "inconclusive"


@pytest.mark.parametrize("bits", [4, 8])
def test_a_network_is_trained_on_logits_and_shows_values_of_its_bits(bits: int) -> None:
    torch.manual_seed(0)
    network = Network(bits, (12, 5, 2)).eval()
    x = torch.rand(500, 12)
    seen: dict[str, torch.Tensor] = {}
    network.get_submodule("softmax").register_forward_hook(lambda _m, _a, out: seen.update(out=out))
    network.get_submodule("hidden1").register_forward_hook(
        lambda _m, _a, out: seen.update(hidden=out)
    )
    logits = network(x)
    assert len(logits.unique()) > 2**bits
    assert all(len(values.unique()) <= 2**bits for values in seen.values())
    torch.testing.assert_close(seen["out"], logits.softmax(-1), atol=0.51 / (2**bits - 1), rtol=0)
    nn.functional.cross_entropy(logits, torch.randint(2, (500,))).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_the_configuration_has_the_variants_of_the_module() -> None:
    raw = configs.read("lorenzen")
    assert raw["variants"] == {**lorenzen.variants("tanh"), **lorenzen.variants("relu")}
    assert [*raw["variants"]] == [*lorenzen.VARIANTS]
    assert papers.find("lorenzen").activations == ("tanh", "relu")


def test_the_figure_says_how_many_seeds_were_kept(tmp_path: Path) -> None:
    drawn = lorenzen.figure({"tanh-8": run({"hidden3": falling(3)}), "relu-8": run()})
    assert [axes.get_title(loc="left") for axes in drawn.axes[:2]] == [
        "tanh-8 bits, 6 of 6 seeds",
        "relu-8 bits, 6 of 6 seeds",
    ]
    assert plots.save(drawn, tmp_path / "exact")[0].stat().st_size > 10_000
