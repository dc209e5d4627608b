"""Each claim on random labels holds, fails or stays open where its statement says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ibtrace import papers
from ibtrace.papers import zhang
from ibtrace.papers.zhang import BINS, FRACTIONS, measured
from ibtrace.trace import Scalar, Trace
from ibtrace.training import configs
from ibtrace.types import I_TY, I_XT, Row

NAN = float("nan")
SEEDS, EPOCHS = 6, 40


def run(
    percent: int,
    *,
    activation: str = "tanh",
    fit_at: Sequence[float] | float = 20,
    gap: float = 0.2,
    bits: float = 8.0,
    peak: float = 9.0,
    bound: float = 0.7,
    complexity: float = 100.0,
    travel: float = 0.3,
) -> Trace:
    """A run whose networks fit at an epoch, and whose I(X;T) falls from a peak to an end."""
    model = {"init_args": {"activation": activation}}
    configured = {"model": model, "data": {"init_args": {"fraction": percent / 100}}}
    layers = ["hidden3", "hidden4", "output"]
    meta = {"n": 1024, "input_entropy": 10.0, "layers": layers, "config": configured}
    trace = Trace.create(meta=meta)
    at = np.arange(EPOCHS)
    curve = np.where(at < 10, 5 + (peak - 5) * at / 10, peak + (bits - peak) * (at - 10) / 29)
    fits = np.broadcast_to(fit_at, SEEDS)
    rows, scalars = [], []
    for seed, fit in enumerate(fits):
        off = 0.01 * (seed - (SEEDS - 1) / 2)  # networks differ, and their mean does not
        for epoch in range(EPOCHS):
            for quantity, value in ((I_XT, curve[epoch]), (I_TY, 0.98)):
                rows.append(
                    Row(
                        *(seed, epoch, None, "hidden4", quantity, BINS, "T"),
                        *(float(min(value + off, 10)), NAN, NAN, NAN, "", {}, 0.0),
                    )
                )
            train = 1.0 if epoch >= fit else 0.9
            test = train - gap - abs(off)
            scalars += [
                Scalar(seed, epoch, "", "train_accuracy", train),
                Scalar(seed, epoch, "", "test_accuracy", test),
                Scalar(seed, epoch, "", "train_loss", 1 - train + 0.01),
                Scalar(seed, epoch, "", zhang.BOUND, bound + off / 10),
                Scalar(seed, epoch, "", zhang.COMPLEXITY, complexity * (1 + off)),
                Scalar(seed, epoch, "", zhang.TRAVEL, travel + off),
            ]
    trace.append(rows, scalars)
    return trace


def runs(**of_percent: dict[str, Any]) -> dict[str, Trace]:
    """The runs of tanh; ``p50={…}`` changes one."""
    usual: dict[int, dict[str, Any]] = {
        percent: {
            "fit_at": 10 + percent / 10,
            "gap": 0.05 + percent / 250,
            "bits": 6 + percent / 30,
        }
        for percent in FRACTIONS
    }
    return {
        f"tanh-{p}": run(p, **{**own, **of_percent.get(f"p{p}", {})}) for p, own in usual.items()
    }


def outcome(name: str, traces: dict[str, Trace]) -> tuple[str, str]:
    (claim,) = (claim for claim in zhang.PAPER.claims if claim.name == f"{name}-tanh")
    result = claim(traces)
    return result.status, result.number


def test_what_is_measured_is_that_of_the_last_look() -> None:
    table = measured({"tanh-50": run(50, fit_at=[5, 5, 7, 99, 5, 5], gap=0.3, bits=7)})
    assert table["fraction"].tolist() == [0.5] * SEEDS
    assert table["epochs"].tolist()[:3] == [5, 5, 7]
    assert table["epochs"].isna().tolist() == [False] * 3 + [True] + [False] * 2
    assert table["fitted"].tolist() == [True] * 3 + [False] + [True] * 2
    assert table["gap"].to_numpy() == pytest.approx(0.3, abs=0.1)
    assert table["share"].to_numpy() == pytest.approx(table["bits"].to_numpy() / 10)
    assert table["bits"].to_numpy() == pytest.approx(7, abs=0.1)


@pytest.mark.parametrize(
    ("unfitted", "status"), [(0, "held"), (1, "inconclusive"), (3, "failed"), (6, "failed")]
)
def test_memorisation_is_of_every_network(unfitted: int, status: str) -> None:
    fit_at = [99.0] * unfitted + [20.0] * (SEEDS - unfitted)
    found, number = outcome("memorisation", runs(p100={"fit_at": fit_at}))
    assert found == status
    assert number.startswith(f"{SEEDS - unfitted} of 6 networks")


@pytest.mark.parametrize(
    ("true", "random", "status"),
    [(5, 15, "held"), (15, 5, "failed"), (2, 30, "failed"), (10, [5, 20] * 3, "inconclusive")],
)
def test_time_to_fit_is_a_factor(true: float, random: Any, status: str) -> None:
    traces = runs(p0={"fit_at": true}, p100={"fit_at": random})
    assert outcome("time-to-fit", traces)[0] == status


@pytest.mark.parametrize(("gap", "status"), [(0.25, "held"), (0.0, "failed")])
def test_the_gap_grows_at_every_step(gap: float, status: str) -> None:
    assert outcome("gap", runs(p50={"gap": gap}))[0] == status


@pytest.mark.parametrize(
    ("name", "true", "random", "status"),
    [
        ("bound-vacuous", {"bound": 0.7}, {}, "held"),
        ("bound-vacuous", {"bound": 0.3}, {}, "failed"),
        ("bound-vacuous", {"bound": 0.5}, {}, "inconclusive"),
        ("capacity-blind", {"complexity": 90}, {"complexity": 120}, "held"),
        ("capacity-blind", {"complexity": 90}, {"complexity": 500}, "failed"),
        ("capacity-blind", {"complexity": 500}, {"complexity": 90}, "failed"),
        ("less-stable", {"travel": 0.2}, {"travel": 0.6}, "held"),
        ("less-stable", {"travel": 0.6}, {"travel": 0.2}, "failed"),
    ],
)
def test_what_capacity_and_stability_see(
    name: str, true: dict[str, Any], random: dict[str, Any], status: str
) -> None:
    assert outcome(name, runs(p0=true, p100=random))[0] == status


def test_what_random_labels_keep_is_told_of_networks_that_fitted_alone() -> None:
    assert outcome("random-keeps-more", runs())[0] == "held"
    assert outcome("random-keeps-more", runs(p100={"bits": 3}))[0] == "failed"
    fit_at = [99.0, 20, 20, 20, 20, 20]
    _, number = outcome("random-keeps-more", runs(p100={"fit_at": fit_at, "bits": 9.99}))
    assert "5 seeds that fitted both" in number
    assert "at the ceiling, so the difference is at least that" in number


def test_without_a_network_that_fitted_there_is_no_comparison() -> None:
    for name in ("time-to-fit", "random-keeps-more"):
        assert outcome(name, runs(p0={"fit_at": 99})) == ("inconclusive", "no network fitted both")


def test_verdicts_are_gated_on_the_fit_and_on_the_ceiling() -> None:
    assert outcome("compression-true", runs())[0] == "held"
    open_, number = outcome("compression-true", runs(p0={"fit_at": [99.0, 1, 1, 1, 1, 1]}))
    assert (open_, number[:10]) == ("inconclusive", "no verdict")
    assert "1 of 6 networks have not fitted" in number
    ceiling, number = outcome("compression-random", runs(p100={"bits": 9.98, "peak": 9.98}))
    assert ceiling == "inconclusive"
    assert "nearly every sample has a bin of its own" in number
    assert "I(T;Y) was 0.98 bits before training" in number
    fallen = outcome("compression-random", runs(p100={"bits": 6.0}))
    assert fallen[0] == "failed"


def test_the_configuration_has_the_variants_of_the_module() -> None:
    raw = configs.read("zhang")
    asked = {**zhang.variants("tanh"), **zhang.variants("relu")}
    assert raw["variants"] == asked
    only = papers.find("zhang").changes({}, activations=["relu"])["variants"]
    assert [*only] == [f"relu-{percent}" for percent in FRACTIONS]
    assert only["relu-25"]["model.init_args.activation"] == "relu"
    assert yaml.safe_load(yaml.safe_dump(only)) == only


def test_the_figure_is_drawn_with_networks_that_did_not_fit(tmp_path: Path) -> None:
    from ibtrace import plots

    drawn = zhang.figure(runs(p100={"fit_at": [99.0, 20, 20, 20, 20, 20]}))
    labels = [text.get_text() for legend in drawn.legends for text in legend.get_texts()]
    assert "networks that did not fit" in labels
    assert plots.save(drawn, tmp_path / "fractions")[0].stat().st_size > 10_000
    labels = [t.get_text() for legend in zhang.figure(runs()).legends for t in legend.get_texts()]
    assert "networks that did not fit" not in labels


@pytest.mark.parametrize(
    ("name", "changes", "thresholds", "status"),
    [
        ("memorisation", {"fit_at": 99}, {}, "failed"),
        ("memorisation", {"fit_at": 99}, {"fitted": 0.85}, "held"),
        ("time-to-fit", {"fit_at": 20}, {}, "held"),
        ("time-to-fit", {"fit_at": 20}, {"most": 1.5}, "failed"),
        ("gap", {}, {"least": 0.2}, "failed"),
        ("random-keeps-more", {}, {"least": 0.5}, "failed"),
        ("compression-random", {"bits": 6.0}, {"near": 0.5}, "inconclusive"),
    ],
)
def test_thresholds_are_arguments(
    name: str, changes: dict[str, Any], thresholds: dict[str, Any], status: str
) -> None:
    (claim,) = (claim for claim in zhang.PAPER.claims if claim.name == f"{name}-tanh")
    assert claim.at(**thresholds)(runs(p100=changes)).status == status


def test_a_run_is_of_the_activation_that_its_configuration_says() -> None:
    named = runs()
    usual = outcome("gap", named)
    others = {f"tanh-{p}": run(p, activation="relu", gap=0.3) for p in (10, 20)}
    assert outcome("gap", {**named, **others})[0] == usual[0] == "held"
