"""Each claim of Saxe et al. (2018) holds, fails or stays open where its statement says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ibtrace import papers, plots
from ibtrace.errors import ConfigError
from ibtrace.papers import saxe
from ibtrace.papers.saxe import FEW, MNIST_WIDTH, RANGE, WIDTH
from ibtrace.plane import Rule
from ibtrace.trace import Scalar, Trace
from ibtrace.training import config, configs
from ibtrace.types import I_TY, I_XT, label
from tests.claim_traces import EPOCHS, Curve, Floats, Key, U, falling, flat, noise, traced

LAYERS = ("hidden4", "hidden5", "softmax")
LINEAR = ("fc4", "fc5", "softmax")


def trace_of(curve: Curve, by: str = WIDTH, layers: tuple[str, ...] = LAYERS) -> Trace:
    """A last hidden layer with a curve of I(X;T), between two of which nothing is claimed."""
    others = {layer: falling(5.0) for layer in (layers[0], layers[2])}
    return traced(layers, {(I_XT, by, name): f for name, f in {**others, layers[1]: curve}.items()})


def rising(to: float, start: float = 0.01, draw: int = 0) -> Curve:
    """A rise over the looks, with a little noise of its own."""

    def curve(seed: int) -> Floats:
        values: Floats = start + (to - start) * U + 0.003 * noise(100 * draw + seed)
        return values

    return curve


def few(
    *, train: float = 0.99, test: float = 0.6, start: float = 0.01, fall: float = 3.0,
    gap: float = 0.07,
) -> dict[str, Trace]:  # fmt: skip
    """Networks with little to train on, seen on training and on test samples."""
    traces = {}
    for name, end in zip(FEW, (train, test), strict=True):
        curves: dict[Key, Curve] = {
            (I_TY, WIDTH, "softmax"): rising(end, *((start, 1) if name == FEW[1] else (0.01,))),
            (I_TY, WIDTH, "hidden5"): rising(0.9),
            (I_XT, WIDTH, "hidden5"): falling(fall),
        }
        traces[name] = traced(LAYERS, curves)
        scalars = [
            Scalar(seed, epoch, "", f"{part}_accuracy", 0.9 + off + 0.001 * seed)
            for seed in range(6)
            for epoch in (0, EPOCHS[-1])
            for part, off in (("train", gap if epoch else 0.0), ("test", 0.0))
        ]
        traces[name].append([], scalars)
    return traces


def outcome(name: str, traces: dict[str, Trace], **thresholds: Any) -> tuple[str, str]:
    (claim,) = (claim for claim in saxe.PAPER.claims if claim.name == name)
    result = claim.at(**thresholds)(traces)
    return result.status, result.number


OF_A_LAYER = {
    "tanh": ("tanh", WIDTH, LAYERS),
    "full-batch-tanh": ("tanh-full", WIDTH, LAYERS),
    "mnist-tanh": ("mnist-tanh", MNIST_WIDTH, LAYERS),
    "relu": ("relu", WIDTH, LAYERS),
    "relu-range": ("relu", RANGE, LAYERS),
    "linear": ("linear", WIDTH, LINEAR),
    "linear-range": ("linear", RANGE, LINEAR),
    "full-batch-relu": ("relu-full", WIDTH, LAYERS),
    "mnist-relu": ("mnist-relu", MNIST_WIDTH, LAYERS),
}
FALL = {"tanh", "full-batch-tanh", "mnist-tanh"}


@pytest.mark.parametrize("name", OF_A_LAYER)
@pytest.mark.parametrize(
    ("curve", "falls"), [(falling(3.0), True), (flat(6.0), False), (flat(12.0), None)]
)
def test_claims_on_the_last_hidden_layer_follow_its_verdict(
    name: str, curve: Curve, falls: bool | None
) -> None:
    run, by, layers = OF_A_LAYER[name]
    status, number = outcome(name, {run: trace_of(curve, by, layers)})
    held = falls == (name in FALL)
    assert status == ("inconclusive" if falls is None else "held" if held else "failed")
    assert number.startswith(layers[1])


@pytest.mark.parametrize("name", OF_A_LAYER)
def test_what_counts_as_a_fall_is_an_argument(name: str) -> None:
    run, by, layers = OF_A_LAYER[name]
    traces = {run: trace_of(falling(3.0), by, layers)}
    for least, falls in ((2.5, True), (3.5, False)):
        status = outcome(name, traces, rule=Rule(least_drop=least))[0]
        assert status == ("held" if falls == (name in FALL) else "failed")


def test_claims_are_not_measured_where_their_run_or_their_bins_are_missing() -> None:
    traces = {"tanh": trace_of(falling(3.0), RANGE)}
    assert outcome("tanh", traces) == ("not measured", f"tanh was not measured by {WIDTH}")
    assert outcome("full-batch-tanh", traces) == ("not measured", "not run: tanh-full")
    assert outcome("overfitting-parts", traces)[0] == "not measured"


@pytest.mark.parametrize(
    ("test", "start", "status"),
    [
        (0.6, 0.01, "held"),
        (0.99, 0.01, "failed"),  # one curve
        (0.94, 0.01, "inconclusive"),  # a twentieth of a bit, the least
        (0.6, -0.38, "failed"),  # as far apart before any training
    ],
)
def test_parting_is_a_gap_that_opens_in_training(test: float, start: float, status: str) -> None:
    assert outcome("overfitting-parts", few(test=test, start=start))[0] == status


def test_how_far_apart_is_an_argument() -> None:
    for least, status in ((0.3, "held"), (0.39, "inconclusive"), (0.5, "failed")):
        assert outcome("overfitting-parts", few(), least=least)[0] == status


@pytest.mark.parametrize(
    ("fall", "gap", "status"),
    [(3.0, 0.07, "held"), (0.0, 0.07, "failed"), (3.0, 0.0, "inconclusive")],
)
def test_of_networks_that_overfit_compression_is_asked(
    fall: float, gap: float, status: str
) -> None:
    found, number = outcome("overfitting-compresses", few(fall=fall, gap=gap))
    assert found == status
    assert number.startswith(f"accuracy {gap:.3f} [")
    assert ("these do not overfit by 0.02" in number) == (gap == 0)
    assert outcome("overfitting-compresses", few(), overfit=0.08)[0] == "inconclusive"
    assert outcome("overfitting-compresses", few(), rule=Rule(least_drop=3.5))[0] == "failed"


def test_the_configuration_has_the_variants_of_the_module() -> None:
    raw = configs.read("saxe")
    asked: dict[str, Any] = {}
    for activation in saxe.PAPER.activations:
        asked |= saxe.variants(activation)
    for name, keys in asked.items():
        assert raw["variants"][name] == keys, name
    assert raw["variants"].keys() == asked.keys()
    assert {run for claim in saxe.CLAIMS for run in claim.needs} == asked.keys()
    with pytest.raises(ConfigError, match="tanh and relu and linear networks alone"):
        papers.find("saxe").changes({}, activations=["elu"])
    runs = configs.variants(raw)  # MNIST is not everywhere
    built = {name: config.build(runs[name]) for name in runs.keys() - {*saxe.MNIST_RUNS}}
    assert built["tanh"].training.batch_size == 256
    assert built["tanh-full"].training.batch_size > 0.8 * 4096
    first, second = (built[name] for name in FEW)
    assert first.training.split == second.training.split
    assert (first.probe.part, second.probe.part) == ("train", "test")


def test_every_run_has_the_papers_size_and_what_its_claims_are_read_from() -> None:
    paper = papers.find("saxe")
    raw = configs.override(
        configs.read("saxe"), "variants", paper.changes({}, full=True)["variants"]
    )
    runs = configs.variants(raw)
    assert {run["epochs"] for run in runs.values()} == {10000}
    assert runs["mnist-tanh"]["batch_size"] == 128
    built = {name: config.build(runs[name]) for name in runs.keys() - {*saxe.MNIST_RUNS}}
    for claim in paper.claims:
        for run in built.keys() & {*claim.needs}:
            labels = {label(each) for each in built[run].instruments.estimators or ()}
            assert {*claim.by} <= labels, run
    only = paper.changes({}, full=True, activations=["relu"])["variants"]
    assert only.keys() == saxe.variants("relu").keys()
    assert only["relu-full"]["seeds"] == 50


def test_the_figures_are_drawn(tmp_path: Path) -> None:
    def both(curve: Curve, by: tuple[str, str], layers: tuple[str, ...] = LAYERS) -> Trace:
        every = [(q, each, layer) for q in (I_XT, I_TY) for each in by for layer in layers]
        return traced(layers, dict.fromkeys(every, curve))

    traces = {
        "tanh": both(falling(3.0), (WIDTH, RANGE)),
        "linear": both(flat(8.0), (WIDTH, RANGE), LINEAR),
        "mnist-tanh": both(falling(1.0), (MNIST_WIDTH, RANGE)),
        **few(),
    }
    for name, draw in saxe.PAPER.figures.items():
        assert plots.save(draw(traces), tmp_path / name)[0].stat().st_size > 10_000
    titles = [axes.get_title(loc="left") for axes in saxe.dynamics(traces).axes]
    assert titles[:2] == ["tanh", "linear"]
    assert np.isfinite(saxe.overfitting(traces).axes[0].get_ylim()).all()
