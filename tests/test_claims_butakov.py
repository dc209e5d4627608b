"""Each claim on the noisy convolutional network holds, fails or stays open where it says so."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ibtrace import papers, plots
from ibtrace.papers import butakov
from ibtrace.papers.butakov import BY, Phase, network, phases
from ibtrace.trace import Scalar, Trace
from ibtrace.training import configs
from ibtrace.types import I_TY, I_XT
from tests.claim_traces import EPOCHS, Curve, Floats, Key, U, falling, flat, traced

LAYERS = ("pool1", "hidden1", "output")


def wave(halves: int) -> Curve:
    """A curve that goes up and down so many times in all, by 2 bits."""
    return lambda seed: 4.0 - np.cos(halves * np.pi * U) + 0.001 * seed


def steepest_at(share: float) -> Curve:
    """A loss that falls fastest, in bits an epoch, between two looks at a share of the looks."""
    at = round(share * (len(EPOCHS) - 1))
    return lambda seed: np.where(np.arange(len(EPOCHS)) > at, 0.0, 3000.0) + 0 * U


def converged(seed: int) -> Floats:
    """A loss that falls early."""
    return np.asarray(np.exp(-9 * np.array(EPOCHS) / EPOCHS[-1]))


def run(layers: Mapping[str, Curve] | None = None, loss: Curve = converged) -> Trace:
    """A run whose layers stand still but for those that are given."""
    curves: dict[Key, Curve] = {}
    for layer in LAYERS:
        curves[I_XT, BY, layer] = (layers or {}).get(layer, flat(5.0))
        curves[I_TY, BY, layer] = flat(0.9)
    trace = traced(LAYERS, curves)
    values = [
        Scalar(seed, epoch, "", "train_loss", value)
        for seed in trace.seeds
        for epoch, value in zip(EPOCHS, loss(seed).tolist(), strict=True)
    ]
    trace.append([], values)
    return trace


def outcome(name: str, trace: Trace) -> tuple[str, str]:
    (claim,) = (claim for claim in butakov.CLAIMS if claim.name == f"{name}-relu")
    result = claim({"relu": trace})
    return result.status, result.number


@pytest.mark.parametrize("halves", [1, 2, 3, 7])
def test_a_wave_has_a_phase_for_each_half(halves: int) -> None:
    bits = -np.cos(halves * np.pi * np.linspace(0, 1, 1 + 20 * halves))
    assert phases(bits.tolist(), 0.5) == [Phase((-1) ** k, 20 * k) for k in range(halves)]
    assert phases(bits.tolist(), 2.1) == []


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30), st.integers(1, 20))
def test_phases_alternate_and_are_what_no_smaller_moves_undo(bits: list[int], least: int) -> None:
    found = phases(bits, least)
    assert all(one.sign == -other.sign for one, other in pairwise(found))
    for phase, end in zip(found, [*found, None][1:], strict=False):
        rest = [phase.sign * value for value in bits[phase.begins :]]
        extreme = phase.sign * bits[end.begins] if end is not None else max(rest)
        assert extreme - rest[0] >= least
    mirrored = phases([-value for value in bits], least)
    assert mirrored == [Phase(-phase.sign, phase.begins) for phase in found]
    assert bool(found) == (max(bits) - min(bits) >= least)


def test_fitting_repeats_where_a_layer_rises_again() -> None:
    assert outcome("repeats", run({"hidden1": wave(3)}))[0] == "held"
    status, number = outcome("repeats", run({"hidden1": wave(2)}))
    assert status == "failed"
    assert "hidden1 2.0" in number
    some = {"hidden1": lambda seed: wave(3)(seed) if seed < 4 else flat(5)(seed)}
    assert outcome("repeats", run(some))[0] == "inconclusive"


def test_numbers_of_phases_differ_between_layers_of_a_network() -> None:
    assert outcome("numbers-differ", run({"hidden1": wave(2)}))[0] == "held"
    assert outcome("numbers-differ", run())[0] == "failed"
    assert outcome("numbers-differ", run(dict.fromkeys(LAYERS, wave(2))))[0] == "failed"


def test_not_always_is_some_layers_and_not_all() -> None:
    assert outcome("not-always", run({"output": falling(2)}))[0] == "held"
    assert outcome("not-always", run())[0] == "failed"
    assert outcome("not-always", run(dict.fromkeys(LAYERS, falling(2))))[0] == "failed"


def test_first_falls_come_with_the_fastest_fall_of_the_loss() -> None:
    peak = {"output": falling(2, peak=0.4)}
    at = float(np.abs(U - 0.4).argmin()) / (len(U) - 1)
    assert outcome("with-loss", run(peak, steepest_at(at)))[0] == "held"
    assert outcome("with-loss", run(peak, steepest_at(at + 0.3)))[0] == "failed"
    assert outcome("with-loss", run(peak, steepest_at(at - 0.2)))[0] == "failed"
    status, number = outcome("with-loss", run({}, steepest_at(at)))
    assert (status, "no layer falls" in number) == ("inconclusive", True)


def test_bounds_of_claims_can_be_moved() -> None:
    claims = {claim.name: claim for claim in butakov.CLAIMS}
    traces = {"relu": run({"hidden1": wave(3)}, steepest_at(0.5))}
    for name in ("repeats-relu", "numbers-differ-relu"):
        assert claims[name](traces).status == "held"
        assert claims[name].at(least=3.0)(traces).status == "failed"
    assert claims["with-loss-relu"].at(looks=0)(traces).status == "failed"
    assert claims["with-loss-relu"].at(looks=len(EPOCHS))(traces).status == "held"


def test_a_look_sees_the_noise_that_the_next_layer_sees() -> None:
    torch.manual_seed(0)
    net = network(0.5, [2], [8]).eval()
    seen: dict[str, torch.Tensor] = {}
    for name in ("hidden1.clean", "hidden1"):
        net.get_submodule(name).register_forward_hook(
            lambda _m, _a, out, name=name: seen.update({name: out})
        )
    with torch.no_grad():
        net(torch.rand(2000, 1, 28, 28))
    noise = seen["hidden1"] - seen["hidden1.clean"]
    assert abs(float(noise.std()) - 0.5) < 0.02
    assert abs(float(noise.mean())) < 0.02


def test_the_configuration_has_the_variants_of_the_module() -> None:
    raw = configs.read("butakov")
    assert raw["variants"] == {**butakov.variants("relu"), **butakov.variants("tanh")}
    assert papers.find("butakov").activations == butakov.RUNS


def test_the_figure_has_a_column_for_each_run(tmp_path: Path) -> None:
    drawn = butakov.figure({"relu": run(), "tanh": run({"hidden1": wave(3)})})
    assert [axes.get_title(loc="left") for axes in drawn.axes[:2]] == ["relu", "tanh"]
    assert plots.save(drawn, tmp_path / "phases")[0].stat().st_size > 10_000
