"""Each claim on the edge of stability holds, fails or stays open where its statement says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ibtrace import papers
from ibtrace.papers import cohen
from ibtrace.papers.cohen import at_edge, looks
from ibtrace.predictions import predictions_table
from ibtrace.trace import Scalar, Trace
from ibtrace.training import config, configs
from ibtrace.training.loop import train
from ibtrace.types import Row

NAN = float("nan")
SEEDS, LOOKS, APART = 4, 60, 10
RNG = np.random.default_rng(0)


def run(
    name: str = "gd",
    *,
    start: float = 0.2,
    reach: Sequence[int] | int = 10,
    hover: Sequence[float] | float = 1.0,
    spread: float = 0.05,
    raw: float = 1.0,
    fit_at: int = 50,
    loss: Any = None,
) -> Trace:
    """Networks that sharpen to their threshold, stay there until they fit, and leave it.

    Args:
        name: Of the variant, whose configuration the trace has.
        start: Sharpness over threshold at the first look.
        reach: The look at which it arrives; one of LOOKS or more never does.
        hover: Where it then stays in the mean; one number for all, or one for each.
        spread: Of single looks.
        raw: The largest eigenvalue over 2/η where the sharpness is at its threshold.
        fit_at: The look from which the samples are fitted.
        loss: At each look.
    """
    configured = configs.variants(configs.read("cohen"))[f"tanh-{name}"]
    rate = configured["optimizer"]["init_args"]["lr"]
    data = {"train_samples": 3277}
    trace = Trace.create(meta={"n": 4096, "config": configured, "data": data})
    at = np.arange(LOOKS)
    losses = np.exp(-at / 20) + 0.1 * (at % 2) * np.exp(-at / 20) if loss is None else loss
    rows, scalars = [], []
    stays = np.broadcast_to(hover, SEEDS)
    for seed, arrives in enumerate(np.broadcast_to(reach, SEEDS)):
        over = start + (0.9 - start) * np.minimum(at / arrives, 1)
        noise = RNG.normal(0, spread, LOOKS)
        there = (at >= arrives) & (at < fit_at)
        over[there] = stays[seed] + (noise - noise[there].mean() if there.any() else noise)[there]
        if arrives < LOOKS:
            over[arrives] = max(1.01, over[arrives])
        for look in at:
            epoch = int(look) * APART
            sharpness = float(over[look])
            rows.append(row(seed, epoch, "sharpness over threshold", sharpness, {"threshold": 4.0}))
            if look % 2 == 0:
                value = sharpness * raw * 2 / rate
                rows.append(row(seed, epoch, "largest Hessian eigenvalue", value, {}))
            fitted = 1.0 if look >= fit_at else 0.8
            scalars.append(Scalar(seed, epoch, "", "train_accuracy", fitted))
            scalars.append(Scalar(seed, epoch, "", "train_loss", float(losses[look])))
    trace.append(rows, scalars)
    return trace


def row(seed: int, epoch: int, quantity: str, value: float, said: dict[str, float]) -> Row:
    fields = (seed, epoch, None, "", quantity, "Edge", "")
    return Row(*fields, value, NAN, NAN, NAN, "", said, 0.0, unit="1")


def outcome(name: str, trace: Trace) -> tuple[str, str]:
    (claim,) = (claim for claim in cohen.PAPER.claims if claim.name == name)
    result = claim({claim.needs[0]: trace})
    return result.status, result.number


def test_a_stay_at_the_edge_is_from_the_first_look_there_until_the_fit() -> None:
    stays = at_edge(run(reach=[10, 20, 30, 99], fit_at=45))
    assert stays["reached"].tolist()[:3] == [100, 200, 300]
    assert stays["left"].tolist()[:3] == [440] * 3
    assert stays["looks"].tolist()[:3] == [35, 25, 15]
    assert stays.iloc[3][["reached", "mean", "margin"]].isna().all()
    assert stays["margin"].isna().tolist() == [False, False, True, True]  # 15 looks are too few
    assert stays["start"].to_numpy() == pytest.approx(0.2)


def test_the_margin_is_of_blocks_so_that_slow_swings_count() -> None:
    quick = np.sin(np.arange(160) * 2.0)
    slow = np.sin(np.arange(160) * 2 * np.pi / 50)
    assert cohen._margin(slow) > 4 * cohen._margin(quick)
    draws = [RNG.normal(size=80) for _ in range(400)]
    covered = np.mean([abs(draw.mean()) <= cohen._margin(draw) for draw in draws])
    assert covered == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(("hover", "inside"), [(1.0, SEEDS), (1.3, 0), (0.7, 0)])
def test_the_prediction_is_the_threshold_itself(hover: float, inside: int) -> None:
    traces = {"tanh-gd": run(hover=hover), "tanh-tishby": run("tishby", reach=99, start=0.1)}
    table = predictions_table(cohen.PAPER.predictions, traces)
    assert table["trace"].tolist() == ["tanh-gd"]  # who never meets it is predicted nothing
    assert table[["inside", "predictions"]].values.tolist() == [[inside, SEEDS]]
    assert table["bias"].item() == pytest.approx(1 - hover, abs=0.05)


@pytest.mark.parametrize(
    ("reach", "start", "status"),
    [
        (10, 0.2, "held"),
        (99, 0.2, "failed"),
        ([10, 10, 10, 99], 0.2, "inconclusive"),
        (10, 1.2, "failed"),
    ],
)
def test_sharpening_is_of_every_network(reach: Any, start: float, status: str) -> None:
    assert outcome("sharpens-adam", run("adam", reach=reach, start=start))[0] == status


@pytest.mark.parametrize(
    ("hover", "spread", "status"),
    [(1.1, 0.05, "held"), (0.9, 0.05, "held"), (1.6, 0.05, "failed"), (0.6, 0.05, "failed")],
)
def test_hovering_is_within_a_factor(hover: float, spread: float, status: str) -> None:
    found, number = outcome("hovers-momentum", run("momentum", hover=hover, spread=spread))
    assert found == status
    assert float(number.split()[1]) == pytest.approx(hover, abs=0.02)


def test_an_interval_across_the_factor_leaves_it_open() -> None:
    found, number = outcome("hovers-adam", run("adam", hover=[0.75, 0.75, 1.05, 0.75]))
    assert found == "inconclusive", number


def test_what_never_meets_the_line_does_not_hover_there() -> None:
    never = run(reach=99)
    for name in ("hovers-gd", "loss-gd"):
        assert outcome(name, never) == ("inconclusive", "no network reached the threshold")


@pytest.mark.parametrize(
    ("loss", "status"),
    [
        (None, "held"),
        (np.linspace(1, 0, LOOKS), "failed"),  # never rises
        (np.linspace(1, 2, LOOKS), "failed"),  # never falls
    ],
)
def test_the_loss_rises_and_falls(loss: Any, status: str) -> None:
    assert outcome("loss-gd", run(loss=loss))[0] == status


@pytest.mark.parametrize(("raw", "status"), [(1.9, "held"), (0.5, "failed")])
def test_lines_are_the_optimisers_own(raw: float, status: str) -> None:
    for name in ("momentum", "adam"):
        assert outcome(f"own-{name}", run(name, raw=raw))[0] == status


def test_the_recipe_of_tishby_stays_below_both_lines() -> None:
    below = run("tishby", reach=99, start=0.1, raw=0.5)
    assert outcome("below-tishby", below)[0] == "held"
    assert outcome("below-tishby", run("tishby", reach=99, start=0.1, raw=4.0))[0] == "failed"
    assert outcome("below-tishby", run("tishby"))[0] == "failed"


def test_the_configuration_has_the_variants_of_the_module() -> None:
    assert configs.read("cohen")["variants"] == cohen.variants("tanh")
    only = papers.find("cohen").changes({}, activations=["tanh"])["variants"]
    assert only["tanh-adam"]["model.init_args.init"] == "idnns"
    assert yaml.safe_load(yaml.safe_dump(only)) == only


def test_a_short_run_meets_the_edge_of_adam(tmp_path: Path) -> None:
    raw = configs.variants(configs.read("cohen"))["tanh-adam"]
    changes = {
        "epochs": 180,
        "seeds": 2,
        "every": 20,
        "lenses": [{"name": "edge", "every": 20}, {"name": "curvature", "exact": 0, "every": 60}],
        "estimators": [{"name": "exact", "snapshots": 1}],
    }
    for key, value in changes.items():
        raw = configs.override(raw, key, value)
    trace = train(config.build(raw), tmp_path / "adam", raw=raw)
    table = looks(trace)
    assert table["threshold"].unique() == pytest.approx([38 / 5e-3])
    assert table.loc[table["epoch"] == 0, "over"].isna().all()  # before a step there is no P
    late = table[table["epoch"] >= 140]["over"]
    assert 0.5 < late.mean() < 1.3
    assert table["raw"].notna().groupby(table["epoch"]).all().tolist()[:4] == [
        True,
        False,
        False,
        True,
    ]
    assert (table.groupby("seed")["over"].max() > 4 * table.groupby("seed")["raw"].max() / 2).any()


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    from ibtrace import plots

    drawn = cohen.figure({"tanh-gd": run(), "tanh-tishby": run("tishby", reach=99)})
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    assert titles[:2] == ["a  SGD, η = 0.5", "b  Adam, η = 0.0004, batch 512"]
    assert plots.save(drawn, tmp_path / "edge")[0].stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "thresholds", "status"),
    [
        ("sharpens-gd", {"below": 0.15}, "failed"),  # the start is at 0.2
        ("sharpens-gd", {"below": 0.25}, "held"),
        ("hovers-gd", {"around": 1.25}, "held"),
        ("hovers-gd", {"around": 1.15}, "failed"),  # the mean is at 1.2
        ("loss-gd", {}, "held"),
        ("loss-gd", {"rising": 0.9}, "failed"),
        ("loss-gd", {"falling": 0.01}, "failed"),
        ("own-momentum", {"least": 1.0}, "held"),
        ("own-momentum", {"least": 2.0}, "failed"),
        ("below-tishby", {"most": 2.0}, "held"),
        ("below-tishby", {"most": 1.0}, "failed"),
    ],
)
def test_thresholds_are_arguments(name: str, thresholds: dict[str, float], status: str) -> None:
    (claim,) = (claim for claim in cohen.PAPER.claims if claim.name == name)
    trace = run(name.rpartition("-")[2], hover=1.2, raw=1.2)
    assert claim.at(**thresholds)({claim.needs[0]: trace}).status == status
