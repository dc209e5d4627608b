"""A multiverse finds the choice that a verdict turns on, and judges as one analysis would."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from ibtrace.cli import main
from ibtrace.errors import ConfigError, InvalidInput, LeftOut, RunError, UnknownName
from ibtrace.estimators import information, make
from ibtrace.plane import LayerMultiverse, Multiverse, Rule, held_out_drops, interval, windowed
from ibtrace.plane.multiverse import Outcome
from ibtrace.plots import specification_curve
from ibtrace.trace import Choices, Trace, analysing
from ibtrace.trace.pooling import pooled
from ibtrace.trace.stored import thinned
from ibtrace.types import LayerContext, bound_to
from tests.stored_traces import NARROW, WIDE, coded, codes, kept_trace, off

WIDTHS: dict[str, Any] = {"estimator": "binning", "width": [0.5, 1.0]}
FALLING = {0: WIDE, 1: WIDE, 5: NARROW, 20: NARROW}
FLAT = dict.fromkeys(FALLING, WIDE)


def turns_on(layer: LayerMultiverse, outcome: Outcome = "fall") -> str:
    """The one choice on which everything turns."""
    most = layer.turns_on(outcome)
    assert most is not None
    assert most[1] == pytest.approx(1)
    return most[0]


def shrinking(seeds: int = 4) -> dict[int, list[dict[str, Tensor]]]:
    """One layer whose scale falls to an eighth: the bins' range decides what is seen."""
    t = torch.arange(64.0)[:, None] / 63
    scales = {0: 1.0, 1: 1.0, 5: 0.125, 20: 0.125}
    looks = {e: [{"hidden": scale * t} for _ in range(seeds)] for e, scale in scales.items()}
    looks[1] = [{"hidden": off(t, seed)} for seed in range(seeds)]
    return looks


def test_where_the_range_alone_matters_it_has_the_whole_share(tmp_path: Path) -> None:
    bins = {"estimator": "binning", "bins": [16, 32], "range": ["snapshot", "trace"]}
    found = kept_trace(tmp_path, shrinking()).multiverse(
        {"families": [{**bins, "name": "bins"}], "least_drop": [0.1, 0.5]}
    )
    layer = found.of("hidden")
    assert len(found) == len(layer) == 8
    levels = layer.levels("range")
    assert np.allclose(levels["snapshot"]["held_out"], 0)
    assert np.allclose(levels["trace"]["held_out"], 3, atol=0.11)
    shares = layer.shares()
    assert shares["range"] > 0.99
    assert shares["bins"] + shares["least_drop"] < 0.01
    assert layer.turns_on() == ("range", shares["range"])
    assert turns_on(layer, "call") == "range"
    said = " ".join(str(found).split())
    assert (
        "hidden: Seen at a resolution: compresses under 50 % of 8 analyses, does not under 50 %;"
        in said
    )
    assert "Of the falls' spread the range explains >99 %." in said
    assert "The call turns most on the range: 100 % with trace, 0 % with snapshot." in said


def test_analyses_of_one_seed_have_no_fall_and_spoil_no_share(tmp_path: Path) -> None:
    bins = {"estimator": "binning", "bins": [16, 32], "range": ["snapshot", "trace"]}
    found = kept_trace(tmp_path, shrinking()).multiverse({"families": [bins], "seeds": ["all", 1]})
    layer = found.of("hidden")
    assert layer.levels("seeds")["first 1"]["held_out"].isna().all()
    assert layer.shares()["range"] > 0.99


def test_where_nothing_moves_nothing_compresses_under_any(tmp_path: Path) -> None:
    found = kept_trace(tmp_path, coded(FLAT)).multiverse({"families": [WIDTHS]})
    layer = found.of("hidden")
    assert layer.share_of("does not compress") == 1
    assert layer.turns_on() is None
    assert layer.turns_on("call") is None
    assert "compresses under 0 % of 2 analyses, does not under 100 %; falls from" in str(found)


def test_three_seeds_in_ten_turn_on_the_seeds(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING, 10, falling=3))
    layer = trace.multiverse({"families": [WIDTHS], "seeds": ["all", 3]}).of("hidden")
    calls = {level: {*rows["call"]} for level, rows in layer.levels("seeds").items()}
    assert calls == {"all": {"inconclusive"}, "first 3": {"compresses"}}
    assert turns_on(layer, "call") == "seeds"
    falls = {level: rows["held_out"].tolist() for level, rows in layer.levels("seeds").items()}
    assert falls == {"all": pytest.approx([0.3, 0.3]), "first 3": pytest.approx([1, 1])}


def test_a_fall_after_half_of_the_training_turns_on_the_training(tmp_path: Path) -> None:
    plan = {0: WIDE, 2: WIDE, 9: WIDE, 10: WIDE, 11: NARROW, 20: NARROW}
    trace = kept_trace(tmp_path, coded(plan))
    layer = trace.multiverse({"families": [WIDTHS], "training": [1, "1/2"]}).of("hidden")
    calls = {level: {*rows["call"]} for level, rows in layer.levels("training").items()}
    assert calls == {"whole": {"compresses"}, "first 1/2": {"does not compress"}}
    assert turns_on(layer) == "training"


def test_the_least_drop_changes_the_call_and_not_the_fall(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING))
    grid = {"families": [WIDTHS], "least_drop": [0.1, 2]}
    layer = trace.multiverse(grid, rule=Rule(least_drop=7)).of("hidden")
    assert layer.turns_on() is None
    assert turns_on(layer, "call") == "least_drop"
    calls = {level: {*rows["call"]} for level, rows in layer.levels("least_drop").items()}
    assert calls == {"0.1 bit": {"compresses"}, "2 bit": {"does not compress"}}


def test_analyses_of_too_few_seeds_are_in_no_share(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING, 3), losses=[0.1, 0.2, 0.3])
    layer = trace.multiverse({"families": [WIDTHS], "seeds": ["all", "best half"]}).of("hidden")
    assert {*layer.levels("seeds")["best half"]["cause"]} == {"few seeds"}
    assert len(layer) == 4
    assert len(layer.judged) == 2
    assert layer.share_of("compresses") == 1
    assert layer.turns_on("call") is None
    assert "under 100 % of 2 analyses" in layer.sentence()
    assert "2 more have too few seeds or looks for a call." in layer.sentence()
    assert "turns most" not in layer.sentence()
    specification_curve(trace.multiverse({"families": [WIDTHS], "seeds": "best half"}))


@pytest.mark.parametrize("at", [5, 20])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_network_that_is_not_finite_at_a_look_costs_no_other(
    at: int, jobs: int, tmp_path: Path
) -> None:
    looks = coded(FALLING)
    looks[at][1]["hidden"][3] = float("nan")
    table = kept_trace(tmp_path, looks).multiverse({"families": [WIDTHS]}, jobs=jobs).table
    assert {*table["call"]} == {"compresses"}
    assert table["held_out"].to_numpy() == pytest.approx(1)


def test_a_network_that_stopped_early_is_left_out_and_named(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING))
    for at in (5, 20):
        next(tmp_path.glob(f"activations/seed3-epoch{at:06d}*")).unlink()
    with pytest.warns(LeftOut, match="as their activations end before 20: seed 3; name seeds"):
        found = trace.multiverse({"families": [WIDTHS]})
    assert found.seeds == (0, 1, 2, 4)
    assert {*found.table["call"]} == {"compresses"}
    assert trace.multiverse({"families": [WIDTHS]}, seeds=[0, 1, 3]).looks == 2


@pytest.mark.parametrize("width", [[1.0, 1.0], []])
def test_one_analysis_is_not_asked_for_twice(width: list[float]) -> None:
    with pytest.raises(ConfigError, match="width: different values, got"):
        Choices.read({"families": [{"estimator": "binning", "width": width}]})
    with pytest.raises(ConfigError, match="a grid is a mapping or a YAML file, got 5"):
        Choices.read(5)  # type: ignore[arg-type]
    near = [0.1000001, 0.1000002]
    (family,) = Choices.read({"families": [{"estimator": "binning", "width": near}]}).families
    assert len({told["width"] for _, told in family.estimators}) == 2


def test_the_best_half_is_of_the_lowest_losses(tmp_path: Path) -> None:
    """Seeds 0 and 1 fall, and have the lowest losses at the end."""
    trace = kept_trace(tmp_path, coded(FALLING, 4, falling=2), losses=[0.2, 0.1, 0.8, 0.9])
    grid = {"families": [WIDTHS], "seeds": ["best half", "leave one out"]}
    layer = trace.multiverse(grid, rule=Rule(least_seeds=2)).of("hidden")
    levels = layer.levels("seeds")
    assert [*levels] == ["best half", *(f"without {seed}" for seed in range(4))]
    assert levels["best half"]["held_out"].tolist() == pytest.approx([1, 1])
    falls = [levels[f"without {seed}"]["held_out"].iloc[0] for seed in range(4)]
    assert falls == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    bare = kept_trace(tmp_path / "bare", coded(FALLING, 4))
    with pytest.raises(InvalidInput, match="needs a train_loss, and seed 0 has none; take seeds"):
        bare.multiverse({"families": [WIDTHS], "seeds": "best half"})
    with pytest.raises(InvalidInput, match="the first 5 seeds of 4; lower seeds"):
        bare.multiverse({"families": [WIDTHS], "seeds": 5})


def test_a_trace_that_counts_steps_is_judged_by_its_steps(tmp_path: Path) -> None:
    looks, grid = coded(FALLING, 4), {"families": [WIDTHS], "training": [1, "1/4"]}
    losses = [0.2, 0.1, 0.8, 0.9]
    grid |= {"seeds": ["all", "best half"]}
    by_epoch, by_step = (
        kept_trace(tmp_path / clock, looks, losses=losses, clock=clock)
        for clock in ("epoch", "step")
    )
    rule = Rule(least_seeds=2)
    table = by_step.multiverse(grid, rule=rule).table
    pd.testing.assert_frame_equal(table, by_epoch.multiverse(grid, rule=rule).table)
    maps = [trace.resolution([0.25, 0.5, 1.0]) for trace in (by_epoch, by_step)]
    assert maps[1].frame().columns.tolist()[3] == "step"
    assert np.array_equal(maps[0].of("hidden").about_x, maps[1].of("hidden").about_x)
    assert "after step" in " ".join(str(maps[1]).split())


# --- each analysis is the one that would be made alone --------------------------------------


def noisy(seeds: int = 4) -> dict[int, list[dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    looks = coded(FALLING, seeds)
    for each in looks.values():
        for layers in each:
            t = layers["hidden"] + 0.1 * torch.randn(64, 1, generator=generator)
            layers["hidden"] = torch.cat([t, t.flip(0)], 1)
            layers["last"] = t.tanh()
    return looks


def alone(
    trace: Trace, name: str, fields: Mapping[str, Any], layer: str, samples: int, end: int
) -> tuple[float, float, float]:
    """The held-out fall by plain loops over looks and seeds."""
    probe, rows = thinned(trace.probe(), samples)
    curves = []
    for seed in trace.seeds:
        values = pooled(trace, seed)[layer]
        estimator = bound_to(make(name, **fields), LayerContext(layer, trace_values=values))
        epochs = [epoch for epoch in trace.activation_epochs(seed) if epoch <= end]
        each = [trace.activations(epoch, seed)[layer][rows] for epoch in epochs]
        curves.append([float(information(estimator, t, probe)[0].bits) for t in each])
    return interval(held_out_drops(windowed(np.array(curves), 0.1)), held_out=True)


FAMILIES: Sequence[tuple[str, dict[str, Any]]] = (
    ("binning", {"bins": 8, "range": "snapshot"}),
    ("binning", {"bins": 8, "range": "trace"}),
    ("binning", {"width": 0.3}),
    ("adaptive_binning", {"bins": 6, "range": "trace"}),
    ("kde", {"noise_variance": 0.1}),
    ("matrix_renyi", {"alpha": 2.0}),
    ("ksg", {"k": 2}),
)


def test_every_analysis_is_the_one_made_alone(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, noisy())
    families = [
        {"name": f"{at}", "estimator": name, **fields} for at, (name, fields) in enumerate(FAMILIES)
    ]
    grid = {"families": families, "samples": [1, "1/2"], "training": [1, "1/4"]}
    found = trace.multiverse(grid)
    assert len(found) == 4 * len(FAMILIES)
    for row in found.table.to_dict("records"):
        name, fields = FAMILIES[int(row["family"])]
        samples = {"N": 64, "N/2": 32}[row["samples"]]
        end = {"whole": 20, "first 1/4": 5}[row["training"]]
        fall = alone(trace, name, fields, str(row["layer"]), samples, end)
        measured = [row[f"held_out{what}"] for what in ("", "_lower", "_upper")]
        assert measured == pytest.approx(fall, abs=1e-9)


def test_some_of_the_samples_are_a_sample(tmp_path: Path) -> None:
    """Where all of X is seen, I at log₂ N is the truth; of half of it, a ceiling."""
    trace = kept_trace(tmp_path, coded(FLAT))
    grid = {"families": [{"estimator": "binning", "width": 2.0**-8}], "samples": [1, "1/2"]}
    layer = trace.multiverse(grid).of("hidden")
    causes = dict(zip(layer.rows["samples"], layer.rows["cause"], strict=True))
    assert causes == {"N": "no fall", "N/2": "saturated"}


def test_work_sent_to_other_processes_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = kept_trace(tmp_path, noisy(3))
    grid = {"families": [WIDTHS, {"estimator": "adaptive_binning", "range": "trace"}]}
    here = trace.multiverse(grid).table

    def sent(function: Any, tasks: Any, jobs: int) -> Iterator[Any]:
        assert jobs == 2
        for task in pickle.loads(pickle.dumps(tasks)):
            yield pickle.loads(pickle.dumps(function))(*task)

    monkeypatch.setattr("ibtrace.trace.analysing.results", sent)
    pd.testing.assert_frame_equal(trace.multiverse(grid, jobs=2).table, here)


def test_layers_and_looks_are_chosen_and_what_is_declined_is_said(tmp_path: Path) -> None:
    looks = noisy()
    for each in looks.values():
        for layers in each:
            layers["tokens"] = torch.arange(64)[:, None] // 2
    trace = kept_trace(tmp_path, looks)
    grid: dict[str, Any] = {"families": [WIDTHS, {"estimator": "kde"}], "looks": 3}
    found = trace.multiverse(grid)
    assert found.layers == ("hidden", "last", "tokens")
    assert found.looks == 3
    silent = found.of("tokens").rows.query("family == 'kde'")
    assert [*silent["cause"]] == ["no I(X;T)"]
    assert np.isnan(silent["held_out"]).all()
    assert "kde" not in {*found.of("tokens").judged["family"]}
    one = trace.multiverse(grid, layers=["last"], seeds=[0, 2, 3])
    assert (one.layers, one.seeds) == (("last",), (0, 2, 3))
    with pytest.raises(UnknownName, match="no layer 'hidden' in the multiverse; it has last"):
        one.of("hidden")
    with pytest.raises(InvalidInput, match="no activations of 'x' are kept; they are of hidden"):
        trace.multiverse(grid, layers=["x"])
    with pytest.raises(RunError, match="keeps no activations: train with store_activations"):
        Trace.create().multiverse(grid)


def test_what_asks_different_things_is_not_counted_together(tmp_path: Path) -> None:
    families = [WIDTHS, {"estimator": "ksg", "k": [3, 5]}, {"estimator": "exact"}]
    found = kept_trace(tmp_path, noisy()).multiverse({"families": families})
    summary = found.summary()
    of_hidden = summary[summary["layer"] == "hidden"].set_index("question")["analyses"].to_dict()
    assert of_hidden == {"information": 1, "resolution": 2, "density": 2}
    said = " ".join(str(found).split())
    assert "hidden: The information itself: compresses under 0 % of 1 analysis, does not" in said
    assert "Taken for continuous: compresses under" in said


def apart() -> Multiverse:
    """Bins whose falls hang on the range alone, beside neighbours whose falls hang on k alone.

    Between the two questions lie 100 bits, which is no choice's doing.
    """
    analyses: list[dict[str, str | float]] = [
        {"family": "bins", "range": range_, "question": "resolution", "held_out": fall}
        for range_, fall in (("own", 0.0), ("all", 2.0))
    ]
    analyses += [
        {"family": "near", "k": k, "question": "density", "held_out": 100 + fall}
        for k, fall in (("3", 0.0), ("10", 1.0), ("30", 2.0))
    ]
    rows = [{**one, "samples": samples} for one in analyses for samples in ("N", "N/2")]
    choices = ("family", "range", "k", "samples")
    table = pd.DataFrame(rows).assign(layer="hidden", cause="falls", estimator="")
    table[["range", "k"]] = table[["range", "k"]].fillna("")
    table["analysis"] = range(len(table))
    high = table["question"] == "density"
    table["call"] = np.where(high | (table["range"] == "all"), "compresses", "does not compress")
    for end in ("lower", "upper"):
        table[f"held_out_{end}"] = table["held_out"]
    return Multiverse(table, ("hidden",), choices)


def test_shares_are_of_analyses_that_ask_one_thing() -> None:
    layer = apart().of("hidden")
    asked = layer.asked
    assert {question: turns_on(each) for question, each in asked.items()} == {
        "resolution": "range",
        "density": "k",
    }
    assert turns_on(asked["resolution"], "call") == "range"
    assert asked["density"].turns_on("call") is None
    for mixed in (layer.shares, layer.turns_on):
        with pytest.raises(InvalidInput, match=r"these ask 2: resolution, density; take asked\["):
            mixed()
    summary = apart().summary().set_index("question")
    assert summary["falls_turn_on"].to_dict() == {"resolution": "range", "density": "k"}
    assert summary["call_turns_on"].to_dict() == {"resolution": "range", "density": ""}
    said = layer.sentence()
    first, second = said.split(" Taken for continuous: ")
    assert "the range explains 100 %. The call turns most on the range: 100 % with all" in first
    assert second.endswith("the number of neighbours explains 100 %.")
    shares = apart().shares().set_index(["question", "choice"])["share"].to_dict()
    of_samples = [shares[question, "samples"] for question in ("resolution", "density")]
    assert of_samples == pytest.approx([0, 0])


def test_the_figure_keeps_questions_apart() -> None:
    found = apart()
    figure = specification_curve(found)
    curve, matrix, *heats = [axes for axes in figure.axes if axes.axison and axes.has_data()][:4]
    drawn: Any = [line.get_xydata() for line in curve.lines if line.get_marker() == "o"]
    points = sorted(tuple(xy) for each in drawn for xy in each.tolist())
    assert [fall for _, fall in points] == [0, 0, 2, 2, 100, 100, 101, 101, 102, 102]
    assert points[4][0] - points[3][0] > 1  # a gap between questions
    texts = {text.get_text() for text in matrix.texts}
    assert {"Range, 100 %", "k, 100 %", "Probe, 0 | 0 %"} <= texts
    assert {"seen at a resolution (4)", "taken for continuous (6)"} <= texts
    levels = [label.get_text() for label in matrix.get_yticklabels()]
    of_n = levels.index("N")
    shares: list[Any] = [np.asarray(heat.collections[0].get_array()) for heat in heats]
    assert [each.reshape(len(levels), 1)[of_n, 0] for each in shares] == [0.5, 1]


@pytest.mark.parametrize(
    ("grid", "analyses", "what"),
    [
        (
            {"families": [WIDTHS, {"name": "again", "estimator": "binning", "width": 0.5}]},
            2,
            r"1 of the grid \(family again is as binning\)",
        ),
        (
            {
                "families": [
                    {"estimator": "binning", "bins": 30, "range": [[-1, 1]]},
                    {"estimator": "binning.idnns"},
                ]
            },
            1,
            r"1 of the grid \(family binning.idnns is as binning, bins none is as 30, range none",
        ),
        (
            {"families": [WIDTHS], "seeds": ["all", 5], "training": [1, "99/100"]},
            4,
            r"4 of the grid \(seeds first 5 is as all\)",
        ),
    ],
)
def test_an_analysis_is_counted_once(
    grid: dict[str, Any], analyses: int, what: str, tmp_path: Path
) -> None:
    found = kept_trace(tmp_path, coded(FALLING)).multiverse(grid)
    assert len(found) == analyses
    (note,) = found.notes
    assert re.search(f"Not counted, as others over again: {what}", note)
    assert note in " ".join(str(found).split())


def test_an_estimator_that_declines_is_named(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING, 3))
    families = [WIDTHS, {"estimator": "ksg", "k": 63, "samples": "1/4"}]
    found = trace.multiverse({"families": families})
    assert {*found.table["family"]} == {"binning"}
    assert "No number in hidden by KSG(k=63): KSG(k=63) needs" in " ".join(str(found).split())
    with pytest.raises(InvalidInput, match="no estimate could be made: KSG"):
        trace.multiverse({"families": families[1:]})


def test_what_declines_a_layer_at_one_look_has_no_curve_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimates = analysing._estimates

    def some(look: Any, at: int, layer: str, estimation: Any, plan: Any) -> Any:
        if at == 5 and layer == "last" and "16" in estimation.name:
            raise InvalidInput("not there")
        return estimates(look, at, layer, estimation, plan)

    monkeypatch.setattr(analysing, "_estimates", some)
    bins = {"estimator": "binning", "bins": [16, 32]}
    found = kept_trace(tmp_path, noisy()).multiverse({"families": [bins]})
    assert np.isfinite(found.of("hidden").rows["held_out"]).all()
    assert [*found.of("last").rows["bins"]] == ["32"]
    assert "No number in last by Binning(bins=16)" in " ".join(str(found).split())


def test_tables_of_layers_and_choices(tmp_path: Path) -> None:
    found = kept_trace(tmp_path, noisy()).multiverse({"families": [WIDTHS], "samples": [1, "1/2"]})
    table = found.table
    first = ["analysis", "layer", "family", "width", "samples", "training", "seeds", "least_drop"]
    assert table.columns.tolist()[:8] == first
    assert table["analysis"].tolist() == [0, 1, 2, 3] * 2
    assert table.groupby("analysis")[[*found.choices]].nunique().to_numpy().max() == 1
    assert found.summary()["analyses"].tolist() == [4, 4]
    shares = found.shares()
    sums = shares.groupby(["layer", "question"])["share"].sum()
    assert np.allclose(sums, 1)
    assert {*shares["choice"]} == {"width", "samples", "together"}


# --- the figure and the command -------------------------------------------------------------


def test_the_figure_shows_every_analysis_and_its_choices(tmp_path: Path) -> None:
    families = [{**WIDTHS, "name": "bins"}, {"estimator": "kde", "noise_variance": [0.1, 0.01]}]
    found = kept_trace(tmp_path, noisy()).multiverse({"families": families})
    drawn: Any = specification_curve(found, "hidden").axes
    curve, matrix, heat = drawn[0], drawn[2], drawn[3]
    rows = found.of("hidden").rows.sort_values("held_out", kind="stable", ignore_index=True)
    points = sorted(tuple(xy) for line in curve.lines for xy in line.get_xydata()[:, :2].tolist())
    dots = [(float(at), fall) for at, fall in enumerate(rows["held_out"])]
    assert [p for p in points if p in dots] == dots
    levels = [label.get_text() for label in matrix.get_yticklabels()]
    assert levels == ["bins", "kde", "0.5", "1", "0.1", "0.01"]
    for height, collection in enumerate(matrix.collections):
        places = collection.get_offsets()[:, 0].astype(int).tolist()
        choice = ["family", "family", "width", "width", "noise_variance", "noise_variance"][height]
        assert rows.loc[places, choice].eq(levels[height]).all()
        assert len(places) == rows[choice].eq(levels[height]).sum()
    shares = np.asarray(heat.collections[0].get_array()).reshape(len(levels), 2)
    for column, name in enumerate(found.layers):
        own = found.of(name).rows
        expected = own[own["family"] == "kde"]["call"].eq("compresses").mean()
        assert shares[1, column] == expected
    with pytest.raises(UnknownName, match="no layer 'x' in the multiverse"):
        specification_curve(found, "x")


def test_the_figure_takes_the_layer_that_differs_most(tmp_path: Path) -> None:
    looks = shrinking()
    for each in looks.values():
        for layers in each:
            layers["flat"] = codes(WIDE)
    bins = {"estimator": "binning", "bins": 16, "range": ["snapshot", "trace"]}
    found = kept_trace(tmp_path, looks).multiverse({"families": [bins]})
    assert specification_curve(found).axes[0].get_title("left") == "hidden, 2 analyses"


def test_the_command_leaves_tables_figures_and_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    kept_trace(run, coded(FALLING))
    grid = tmp_path / "grid.yaml"
    grid.write_text("families: [{estimator: binning, width: [0.25, 1.0]}]\n")
    arguments = ["multiverse", str(run), "--grid", str(grid), "--jobs", "1", "--quiet"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert all(len(line) <= 110 for line in said.splitlines() if not line.startswith("  /"))
    assert "2 analyses of 1 layer, 5 seeds, 4 snapshots" in said
    assert "hidden: Seen at a resolution: compresses under 50 % of 2 analyses" in said
    assert "hidden: I(X;T) falls, seen in bins of width" in said
    folder = run / "multiverse"
    assert {path.name for path in folder.iterdir()} == {
        *("multiverse.csv", "choices.csv", "resolution.csv", "resolution.png", "resolution.pdf"),
        *("specification-hidden.png", "specification-hidden.pdf"),
    }
    assert len(pd.read_csv(folder / "multiverse.csv")) == 2
    assert main([*arguments, "--layers", "x"]) == 2
    assert "no activations of 'x' are kept" in capsys.readouterr().err


def test_shares_of_training_and_samples_are_read_as_fractions() -> None:
    family = Choices.read({"families": [WIDTHS], "samples": [0.5]}).families[0]
    assert family.samples == (Fraction(1, 2),)
