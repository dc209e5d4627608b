"""Each claim on norms against the number of samples holds, fails or stays open where it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ibtrace import papers, plots
from ibtrace.papers import nagarajan
from ibtrace.papers.nagarajan import MARGINS, SIZES, exponents, measured
from ibtrace.predictions import predictions_table
from ibtrace.trace import Scalar, Trace
from ibtrace.training import config, configs
from ibtrace.training.loop import train
from ibtrace.types import Row

NAN = float("nan")
SEEDS, LOOKS, APART = 5, 10, 7
RATE = 0.8  # by which the 1 % margin grows from look to look, starting below 0


def run(
    *,
    distance: float = 0.3,
    bound: float = 0.1,
    error: float = -0.5,
    noise: float = 0.02,
    scale: float = 30.0,
    late: int = 0,
    none_wrong: bool = False,
    bend: float = 0.0,
    draw: int = 0,
) -> dict[str, Trace]:
    """Networks whose numbers are powers of m at any margin.

    Args:
        distance: Its exponent.
        bound: That of R‖X‖_F/(mγ) at a fixed γ.
        error: That of the test error.
        noise: Standard deviation of all logarithms, over networks.
        scale: The bound at m = 64 and γ = 1.
        late: How many seeds never have a margin above 0.
        none_wrong: Whether the networks of the largest m have no test error.
        bend: Of the logarithm of the distance over that of m, away from a straight line.
        draw: Of the noise.
    """
    configured = configs.variants(configs.read("nagarajan"))
    rng = np.random.default_rng(draw)
    traces = {}
    for m in SIZES:
        data = {"train_samples": m}
        meta = {"n": 4096, "config": configured[f"relu-{m}"], "data": data}
        trace = traces[f"relu-{m}"] = Trace.create(meta=meta)
        away = np.log(m / SIZES[0])
        rows, scalars = [], []
        for seed in range(SEEDS):
            logs = np.array([distance * away + bend * away**2, bound * away, error * away])
            d, b, e = np.exp(logs + rng.normal(0, noise, 3))
            for look in range(LOOKS):
                low = -1 + (RATE * look if seed >= late else 0)
                middle = low + 3
                values = {
                    "1 % margin": low,
                    "median margin": middle,
                    "distance from the initial weights": d * (1 + 0.1 * look),
                    "margin-normalised complexity": scale * b / middle,
                }
                epoch = look * APART
                rows += [row(seed, epoch, *pair) for pair in values.items()]
                right = 1.0 if none_wrong and m == SIZES[-1] else 1 - 0.2 * e
                scalars.append(Scalar(seed, epoch, "", "test_accuracy", right))
        trace.append(rows, scalars)
    return traces


def row(seed: int, epoch: int, quantity: str, value: float) -> Row:
    fields = (seed, epoch, None, "", quantity, "Norms", "")
    return Row(*fields, value, NAN, NAN, NAN, "", {}, 0.0, unit="1")


def outcome(name: str, traces: dict[str, Trace]) -> tuple[str, str]:
    (claim,) = (claim for claim in nagarajan.PAPER.claims if claim.name == name)
    result = claim(traces)
    return result.status, result.number


@pytest.mark.parametrize(("margin", "look"), [(1.0, 3), (4.0, 7)])
def test_a_network_is_read_at_its_first_look_at_the_margin(margin: float, look: int) -> None:
    table = measured(run(noise=0, late=1), margin)
    late = table["seed"] == 0
    assert table.loc[late, ["reached", "distance", "bound", "error"]].isna().all(axis=None)
    there = table[~late]
    assert (there["reached"] == look * APART).all()
    one = there[(there["m"] == SIZES[2]) & (there["seed"] == 1)].iloc[0]
    assert one["distance"] == pytest.approx(4**0.3 * (1 + 0.1 * look))
    assert one["bound"] == pytest.approx(30 * 4**0.1 / margin)  # not by the median margin
    assert one["error"] == pytest.approx(0.2 * 4**-0.5)


def test_exponents_are_of_each_seed_and_need_three_sizes() -> None:
    traces = run(noise=0, none_wrong=True)
    table = measured(traces, 1.0)
    for column, exponent in (("distance", 0.3), ("bound", 0.1), ("error", -0.5)):
        assert exponents(table, column).to_numpy() == pytest.approx([exponent] * SEEDS)
    two = measured({name: traces[name] for name in ("relu-64", "relu-128")}, 1.0)
    assert exponents(two, "distance").empty


@pytest.mark.parametrize(
    ("claim", "exponent", "status"),
    [
        ("distance", 0.3, "held"),
        ("distance", -0.3, "failed"),
        ("distance", 0.0, "inconclusive"),
        ("error", -0.5, "held"),
        ("error", 0.2, "failed"),
        ("bound", 0.1, "held"),
        ("bound", -0.1, "failed"),
        ("bound", 0.0, "inconclusive"),
    ],
)
@pytest.mark.parametrize("margin", MARGINS)
def test_exponents_decide(claim: str, exponent: float, status: str, margin: float) -> None:
    name = f"{'bound-grows' if claim == 'bound' else claim}-{margin:g}"
    noise = 0.05 if exponent == 0 else 0.02
    found, number = outcome(name, run(**{claim: exponent}, noise=noise))  # type: ignore[arg-type]  # numbers
    assert found == status, number
    assert float(number.split("^")[1].split()[0]) == pytest.approx(exponent, abs=0.04)


@pytest.mark.parametrize(
    ("bound", "status"), [(-0.1, "held"), (-0.5, "inconclusive"), (-0.8, "failed")]
)
def test_the_bound_lags_behind_the_error(bound: float, status: str) -> None:
    assert outcome("bound-lags-1", run(bound=bound, noise=0.1))[0] == status


@pytest.mark.parametrize(("scale", "status"), [(30.0, "held"), (3.5, "failed")])
def test_a_bound_below_one_would_say_something(scale: float, status: str) -> None:
    assert outcome("vacuous-4", run(scale=scale))[0] == status


@pytest.mark.parametrize(
    ("late", "status"), [(0, "held"), (1, "inconclusive"), (3, "failed"), (5, "failed")]
)
def test_networks_that_never_have_the_margin_are_counted(late: int, status: str) -> None:
    found, number = outcome("margin-1", run(late=late))
    assert found == status
    assert number.startswith(f"{6 * (SEEDS - late)} of 30 networks")


def test_where_no_network_has_the_margin_nothing_is_said() -> None:
    never = run(late=SEEDS)
    for claim in nagarajan.PAPER.claims:
        if not claim.name.startswith("margin"):
            assert claim(never).status == "inconclusive", claim.name
    assert predictions_table(nagarajan.PAPER.predictions, never).empty


def test_networks_without_a_test_error_are_named() -> None:
    found, number = outcome("error-1", run(none_wrong=True))
    assert found == "held"
    assert number.endswith(f"; {SEEDS} networks where it is 0 are left out of the exponent")


def test_a_size_that_was_not_run_leaves_it_open() -> None:
    traces = run()
    del traces["relu-512"]
    assert outcome("distance-1", traces) == ("not measured", "not run: relu-512")


@pytest.mark.parametrize(("bend", "inside"), [(0.0, 2), (0.05, 0), (-0.05, 0)])
def test_each_distance_is_foretold_from_the_smaller_ones(bend: float, inside: int) -> None:
    table = predictions_table(nagarajan.PAPER.predictions, run(bend=bend))
    assert table["trace"].tolist() == ["relu-512", "relu-1024", "relu-2048"]
    counts = [[inside, len(MARGINS)]] * 3
    assert table[["inside", "predictions"]].values.tolist() == counts
    assert (np.sign(table["bias"]) == -np.sign(bend)).all() or not bend


def test_the_line_is_through_the_smaller_ones_alone() -> None:
    law = nagarajan.DISTANCE_LAW.residuals(run(noise=0, bend=0.05))
    away = law["predicted"] - law["measured"]
    # of a parabola at 3 steps of ln 2, by the line of least squares through 0, 1 and 2
    of_512 = -10 / 3 * np.log(2) ** 2 * 0.05
    assert away[law["trace"] == "relu-512"].to_numpy() == pytest.approx([of_512] * 2)


def test_the_law_is_inside_as_often_as_its_interval_says() -> None:
    inside = []
    for draw in range(12):
        traces = run(noise=0.1, draw=draw)
        inside.append(nagarajan.DISTANCE_LAW.residuals(traces)["inside"].mean())
    assert np.mean(inside) == pytest.approx(0.95, abs=0.08)


def test_the_configuration_has_the_variants_of_the_module() -> None:
    assert configs.read("nagarajan")["variants"] == nagarajan.variants("relu")
    only = papers.find("nagarajan").changes({}, activations=["relu"])["variants"]
    assert only["relu-64"]["model.init_args.init"] == "he"


def test_a_short_run_travels_further_with_more_samples(tmp_path: Path) -> None:
    traces = {}
    for size in (64, 256):
        raw = configs.variants(configs.read("nagarajan"))[f"relu-{size}"]
        for key, value in (("epochs", 130), ("seeds", 2), ("snapshots", 30)):
            raw = configs.override(raw, key, value)
        raw = configs.override(raw, "estimators", [{"name": "exact", "snapshots": 1}])
        traces[f"relu-{size}"] = train(config.build(raw), tmp_path / str(size), raw=raw)
    table = measured(traces, 1.0)
    assert table["reached"].between(30, 130).all()
    distance, error = (
        table.pivot(index="seed", columns="m", values=column) for column in ("distance", "error")
    )
    assert (distance[256] > 1.2 * distance[64]).all()
    assert (error[256] < error[64]).all()
    assert table["bound"].between(20, 120).all()


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    drawn = nagarajan.figure(run(late=1))
    labels = [axes.get_ylabel() for axes in drawn.axes]
    assert labels[0] == "distance ‖w − w₀‖\n∝ $m^{0.30}$, $m^{0.30}$"
    decades = [np.ptp(np.log10(axes.get_ylim())) for axes in drawn.axes]
    assert decades == pytest.approx([decades[0]] * 3)  # slopes can be compared
    (legend,) = drawn.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert said[:2] == [f"relu, γ = {margin} (24 of 30 networks)" for margin in (1, 4)]
    assert plots.save(drawn, tmp_path / "sizes")[0].stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "thresholds", "status"),
    [
        ("distance-1", {"least": 0.2}, "held"),
        ("distance-1", {"least": 0.4}, "failed"),
        ("error-1", {"most": -0.4}, "held"),
        ("error-1", {"most": -0.6}, "failed"),
        ("bound-lags-1", {"least": 0.5}, "held"),
        ("bound-lags-1", {"least": 0.7}, "failed"),
        ("vacuous-1", {"least": 20.0}, "held"),
        ("vacuous-1", {"least": 50.0}, "failed"),
    ],
)
def test_thresholds_are_arguments(name: str, thresholds: dict[str, float], status: str) -> None:
    (claim,) = (claim for claim in nagarajan.PAPER.claims if claim.name == name)
    assert claim.at(**thresholds)(run()).status == status
