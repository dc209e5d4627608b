"""Each claim on the number of training samples holds, fails or stays open where it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibtrace import papers, plots
from ibtrace.papers import tishby_sizes
from ibtrace.papers.tishby_sizes import BINS, PERCENTS
from ibtrace.trace import Trace
from ibtrace.training import configs
from ibtrace.types import I_TY, I_XT
from tests.claim_traces import Curve, falling, flat, traced

LAYERS = ("hidden1", "hidden2", "output")


def run(percent: int, about_x: Curve, about_y: Curve) -> Trace:
    curves = {
        (quantity, BINS, layer): curve if layer == "hidden2" else flat(4)
        for layer in LAYERS
        for quantity, curve in ((I_XT, about_x), (I_TY, about_y))
    }
    return traced(LAYERS, curves, config={"split": {"fraction": percent / 100}})


def outcome(name: str, x: tuple[Curve, ...], y: tuple[Curve, ...]) -> tuple[str, str]:
    (claim,) = (claim for claim in tishby_sizes.CLAIMS if claim.name == name)
    traces = {
        f"tanh-{percent}": run(percent, *pair)
        for percent, pair in zip(PERCENTS, zip(x, y, strict=True), strict=True)
    }
    result = claim(traces)
    return result.status, result.number


STILL = (flat(0.5),) * 3


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ((flat(0.3), flat(0.6), flat(0.9)), "held"),
        ((flat(0.3), flat(0.6), flat(0.5)), "failed"),
        ((flat(0.9), flat(0.6), flat(0.3)), "failed"),
        ((flat(0.3), flat(0.6), falling(0.4, 1.05, spread=0.8)), "inconclusive"),
    ],
)
def test_the_label_is_known_better_from_each_size_to_the_next(
    ends: tuple[Curve, ...], status: str
) -> None:
    found, number = outcome("more-label", (flat(5),) * 3, ends)
    assert found == status
    assert "at 45 %" in number


@pytest.mark.parametrize(
    ("falls", "status"),
    [
        ((falling(1), falling(2), falling(3)), "held"),
        ((falling(1), falling(3), falling(2)), "failed"),
        ((falling(1), falling(2), falling(2.3, spread=2.0)), "inconclusive"),
    ],
)
def test_compression_grows_from_each_size_to_the_next(
    falls: tuple[Curve, ...], status: str
) -> None:
    assert outcome("more-compression", falls, STILL)[0] == status


@pytest.mark.parametrize(
    ("curve", "status"),
    [
        (falling(0.5, 0.9, spread=0.05), "held"),
        (flat(0.5), "failed"),
        (falling(0.15, 0.9, spread=0.2), "inconclusive"),
    ],
)
def test_the_label_is_lost_where_it_falls_after_a_peak(curve: Curve, status: str) -> None:
    assert outcome("label-lost", (flat(5),) * 3, (curve, flat(0.5), flat(0.5)))[0] == status


def test_a_bound_of_a_claim_can_be_moved() -> None:
    traces = {"tanh-5": run(5, flat(5), falling(0.5, 0.9, spread=0.05))}
    for least, status in ((0.1, "held"), (0.8, "failed")):
        assert tishby_sizes._label_lost(traces, "tanh-5", least).status == status


def test_the_configuration_has_the_variants_of_the_module() -> None:
    assert configs.read("tishby-sizes")["variants"] == tishby_sizes.variants("tanh")
    assert papers.find("tishby-sizes").full == {"seeds": 50}


def test_the_figure_names_the_sizes(tmp_path: Path) -> None:
    traces = {f"tanh-{percent}": run(percent, falling(2), flat(0.5)) for percent in PERCENTS}
    drawn = tishby_sizes.figure(traces)
    titles = [axes.get_title(loc="left") for axes in drawn.axes[:3]]
    assert titles == [f"{percent} % of the data" for percent in PERCENTS]
    assert plots.save(drawn, tmp_path / "sizes")[0].stat().st_size > 10_000
