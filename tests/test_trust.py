"""Points that no information can have are found; chance is told from knowledge, with p above 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import PathCollection
from torch import Tensor, nn

from ibtrace import Probe, Rule, plots
from ibtrace.cli import main
from ibtrace.errors import InvalidInput, RunError, UnknownName
from ibtrace.estimators import KSG, Binning, Exact
from ibtrace.plane import CHECKS, normalised, trust
from ibtrace.reports.trusting import trusts
from ibtrace.trace import Trace
from ibtrace.trace.examining import _chance, examine
from ibtrace.tracer import Keep, Tracer
from ibtrace.types import I_TY, I_XT, Estimate, Row, label

NAN = float("nan")
LAYERS = ("first", "second", "third")
BY = "Binning"
Numbers = Mapping[tuple[str, str], float]


def traced(bits: Numbers, *, stderr: float = 0.01, null: float = 0.0, **meta: Any) -> Trace:
    """Two networks at two looks with the same numbers, by layer and quantity."""
    trace = Trace.create(
        meta={
            "n": 1024,
            "input_entropy": 10.0,
            "label_entropy": 1.0,
            "layers": list(LAYERS),
            "questions": {BY: "resolution"},
            **meta,
        }
    )
    rows = [
        Row(
            *(seed, epoch, None, layer, quantity, BY, "T in bins"),
            *(value, stderr, NAN, NAN, "", {"null_bits": null}, 0.0),
        )
        for seed in (0, 1)
        for epoch in (0, 5)
        for (layer, quantity), value in bits.items()
    ]
    trace.append(rows)
    return trace


def sound(**changed: float) -> dict[tuple[str, str], float]:
    """Numbers that pass every check; ``third_x=…`` changes one."""
    bits = {
        ("first", I_XT): 8.0, ("second", I_XT): 7.0, ("third", I_XT): 5.0,
        ("first", I_TY): 0.9, ("second", I_TY): 0.8, ("third", I_TY): 0.7,
    }  # fmt: skip
    for name, value in changed.items():
        layer, which = name.rsplit("_", 1)
        bits[layer, {"x": I_XT, "y": I_TY}[which]] = value
    return bits


def failed(trace: Trace, **arguments: Any) -> dict[str, set[str]]:
    """Layers that fail, by check."""
    counts = trust(trace, **arguments).counts()
    found = {name: set(counts[counts[name] > 0]["layer"]) for name in CHECKS}
    return {name: layers for name, layers in found.items() if layers}


def test_sound_numbers_pass() -> None:
    assert failed(traced(sound())) == {}
    assert str(trust(traced(sound()))) == "None of 12 points fails a check."


@pytest.mark.parametrize(
    ("changed", "check", "layer"),
    [
        ({"first_x": 9.6}, "at_ceiling", "first"),
        ({"third_x": -0.2, "third_y": -0.3}, "below_zero", "third"),
        ({"third_x": 0.5, "third_y": 0.7}, "labels_above_inputs", "third"),
        ({"first_y": 1.2}, "labels_above_entropy", "first"),
        ({"third_x": 7.5}, "inputs_rise", "third"),
        ({"second_y": 0.99}, "labels_rise", "second"),
    ],
)
def test_each_impossible_point_fails_its_check(
    changed: dict[str, float], check: str, layer: str
) -> None:
    found = failed(traced(sound(**changed)))
    assert found == {check: {layer}}
    text = str(trust(traced(sound(**changed))))
    assert f"4 of 12 points fail a check\n  {CHECKS[check]}: {layer} 4 of 4" in text  # type: ignore[index]  # a str


def test_a_difference_within_the_errors_fails_nothing() -> None:
    rises = sound(third_x=7.05)
    assert failed(traced(rises, stderr=0.01)) == {"inputs_rise": {"third"}}
    assert failed(traced(rises, stderr=0.03)) == {}  # 2 √2 0.03 = 0.085
    assert failed(traced(rises, stderr=NAN)) == {"inputs_rise": {"third"}}  # networks agree
    alone = traced(rises, stderr=NAN)
    alone.truncate(-1, seeds=[1])
    assert failed(alone) == {}  # 0.1 bit, of a single network


def test_a_ceiling_is_of_samples_and_the_truth_of_a_population() -> None:
    high = sound(first_x=9.9)
    assert failed(traced(high)) == {"at_ceiling": {"first"}}
    assert failed(traced(high, population=True)) == {}


def test_what_random_labels_give_is_no_knowledge() -> None:
    assert set(failed(traced(sound(), null=0.75))["labels_by_chance"]) == {"third"}
    assert failed(traced(sound(), null=0.05)) == {}


def test_the_chain_is_the_callers() -> None:
    rises = traced(sound(second_x=8.5))
    assert failed(rises) == {"inputs_rise": {"second"}}
    assert failed(rises, chain=()) == {}
    assert failed(rises, chain=["first", "third"]) == {}
    assert failed(rises, chain=["third", "first"])["inputs_rise"] == {"first"}
    with pytest.raises(UnknownName, match="no layer 'fourth' in the trace; it has first, second"):
        trust(rises, chain=["fourth"])


def test_a_trace_is_checked_once_for_each_question_and_anew_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = traced(sound(first_y=1.2))
    checked: list[object] = []
    module = import_module("ibtrace.plane.trust")  # whose name in the package is the function's
    points = module._points

    def counting(frame: pd.DataFrame) -> pd.DataFrame:
        checked.append(frame)
        table: pd.DataFrame = points(frame)
        return table

    monkeypatch.setattr(module, "_points", counting)
    trace.report(tmp_path / "page.html")
    plots.information_plane(trace)
    assert len(checked) == 2  # with a chain of layers, and without
    first = trust(trace)
    first.points["fails"] = False  # the caller's own
    assert trust(trace).points["fails"].sum() == 4
    assert trust(trace, rule=Rule(errors=50)).points["fails"].sum() == 0
    trace.truncate(0)
    assert trust(trace).points["fails"].sum() == 2
    trace.update_meta({"label_entropy": 2.0})
    assert trust(trace).points["fails"].sum() == 0


def test_information_is_normalised_by_its_own_entropy() -> None:
    points = trust(traced(sound(), input_entropy=10.0, label_entropy=0.5)).points
    last = points[points["layer"] == "third"].iloc[0]
    assert (last["of_input"], last["of_label"]) == (pytest.approx(0.5), pytest.approx(1.4))
    assert (last["below_ceiling_x"], last["below_ceiling_y"]) == (5.0, pytest.approx(-0.2))


def test_a_verdict_counts_points_that_fail() -> None:
    said = " ".join(str(traced(sound(first_y=1.2, third_x=7.5)).verdict()).split())
    assert "4 of 12 points fail a check: I(T;Y) is above H(Y), and so above I(X;Y) (4)." in said
    assert "fail a check" not in str(traced(sound()).verdict())


def test_points_that_fail_are_hollow_and_grey_and_the_legend_says_so() -> None:
    plain, doubtful = (
        plots.information_plane(traced(bits)) for bits in (sound(), sound(first_y=1.2))
    )
    named = [
        [text.get_text() for text in figure.legends[0].get_texts()] for figure in (plain, doubtful)
    ]
    assert named == [list(LAYERS), [*LAYERS, "fails a check"]]
    hollow = [
        tuple(map(tuple, np.asarray(points.get_offsets()).tolist()))
        for points in doubtful.axes[0].collections
        if isinstance(points, PathCollection)
        and np.asarray(points.get_facecolor()).tolist() == [[1, 1, 1, 1]]
    ]
    assert {place for places in hollow for place in places} == {(8.0, 1.2)}


def test_curves_have_hollow_marks_where_points_fail() -> None:
    figure = plots.curves(traced(sound(first_y=1.2)))
    hollow = [
        np.asarray(line.get_ydata()).tolist()
        for line in figure.axes[0].lines
        if line.get_markerfacecolor() == "white"
    ]
    assert hollow == [[8.0, 8.0]]


def test_shares_of_entropy_are_drawn_on_request() -> None:
    trace = traced(sound(), label_entropy=0.5)
    frame = normalised(trace)
    assert frame.loc[frame["quantity"] == I_XT, "bits"].max() == pytest.approx(0.8)
    assert frame.loc[frame["quantity"] == I_TY, "bits"].max() == pytest.approx(1.8)
    axes = plots.information_plane(trace, normalised=True).axes[0]
    assert axes.get_xlabel().startswith("I(X;T) / H(X)\n")
    assert axes.get_ylabel() == "I(T;Y) / H(Y)"
    with pytest.raises(InvalidInput, match="an entropy to divide by is not known"):
        plots.information_plane(traced(sound(), label_entropy=NAN), normalised=True)


# --- activations that were kept -----------------------------------------------------------------


def kept(folder: Path, *, knows: bool = True, n: int = 256, seeds: int = 1) -> Trace:
    """A layer of two units that knows the label, or not, and outputs that predict it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.arange(n, dtype=torch.float32)[:, None]
    y = torch.randint(2, (n,), generator=generator)
    probe = Probe(x, y)
    signal = y if knows else torch.randint(2, (n,), generator=generator)
    meta = {
        "n": n, "input_entropy": probe.input_entropy, "label_entropy": probe.label_entropy,
        "layers": ["hidden", "output"], "probe_digest": probe.digest,
        "captured": {"hidden": {"activation_range": [-1.0, 1.0]}, "output": {}},
    }  # fmt: skip
    trace = Trace.create(meta=meta).save(folder)
    trace.save_probe(probe)
    rows = []
    for seed in range(seeds):
        for epoch in (0, 1, 3, 7, 20):
            noise = torch.rand(n, generator=generator) * 0.5 / (1 + epoch)
            hidden = torch.stack([2.0 * signal - 1, torch.zeros(n)], 1)
            hidden[:, 0] -= noise * (2.0 * signal - 1)
            outputs = torch.stack([1.0 - y, 1.0 * y], 1)
            trace.save_activations(epoch, {"hidden": hidden, "output": outputs}, seed)
            rows.append(
                Row(
                    *(seed, epoch, None, "hidden", I_XT, BY, "T in bins"),
                    *(3.0 - epoch / 10, 0.0, NAN, NAN, "", {}, 0.0),
                )
            )
    trace.append(rows)
    return trace


def test_knowledge_is_told_from_chance_and_p_is_never_0(tmp_path: Path) -> None:
    wise = examine(kept(tmp_path / "a"), [Exact()], looks=2, permutations=49, layers=["hidden"])
    blind = examine(kept(tmp_path / "b", knows=False), [Binning(bins=2, range=(-1, 1))], looks=2,
                    permutations=49, layers=["hidden"])  # fmt: skip
    few = examine(kept(tmp_path / "c"), [Binning(bins=2, range=(-1, 1))], looks=2, permutations=49)
    assert (wise.null["p"] == 1).all()  # all rows are distinct: Exact knows no label
    assert (blind.null["p"] > 0.05).all()
    of_hidden = few.null[few.null["layer"] == "hidden"]
    assert of_hidden["p"].tolist() == pytest.approx([1 / 50] * 2)
    assert (of_hidden["bits"] > of_hidden["null_95"]).all()
    assert (of_hidden["null_mean"] < 0.02).all()


def test_an_estimate_that_is_no_number_has_no_p_value() -> None:
    class Nothing:
        def __call__(self, t: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
            return Estimate(torch.full(t.shape[:-2], math.nan))

    found = _chance(Nothing(), torch.rand(16, 2), torch.arange(16) % 2, 19)  # type: ignore[arg-type]
    assert math.isnan(found["p"])


def test_what_is_predicted_is_asked_of_the_output_alone(tmp_path: Path) -> None:
    cells = examine(kept(tmp_path / "a"), [Exact()], looks=2, permutations=19).cells
    assert cells["prediction_bits"].notna().any()
    dense = examine(kept(tmp_path / "c"), ["ksg"], looks=2, permutations=19).cells
    assert dense["prediction_bits"].isna().all()  # T taken for continuous is not what is seen of T
    x, y = torch.rand(64, 3), torch.arange(64) % 2
    hidden = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    keep = Keep(tmp_path / "b", activations=True)
    with Tracer(hidden, data=(x, y), look=["1"], estimators=["binning"], keep=keep) as tracer:
        tracer.snapshot(1)
    none = examine(tracer.trace, [Exact()], looks=2, permutations=19).cells
    assert none["prediction_bits"].isna().all()


def test_p_values_of_labels_that_know_nothing_are_uniform(tmp_path: Path) -> None:
    """P(p ≤ a) ≤ a, and not far below it, over labels drawn anew."""
    generator = torch.Generator().manual_seed(1)
    t = torch.rand(64, 1, generator=generator)
    binned = Binning(bins=4, range=(0, 1))
    p = [
        _chance(binned, t, torch.randint(2, (64,), generator=generator), 19)["p"]
        for _ in range(300)
    ]
    assert np.mean(np.array(p) <= 0.25) == pytest.approx(0.25, abs=0.08)
    assert min(p) == 1 / 20


def test_what_is_set_by_the_samples_shows_in_half_of_them(tmp_path: Path) -> None:
    sizes = examine(kept(tmp_path), [Exact()], looks=1).sizes
    hidden = sizes[sizes["layer"] == "hidden"].set_index("part")
    assert hidden["samples"].to_dict() == {
        "all": 256, "half": 128, "other half": 128, "quarter": 64,
    }  # fmt: skip
    assert hidden[I_XT].to_dict() == pytest.approx(
        {"all": 8, "half": 7, "other half": 7, "quarter": 6}
    )


def test_what_bins_throw_away_of_the_prediction(tmp_path: Path) -> None:
    trace = kept(tmp_path)
    fine, coarse = Binning(bins=2, range=(-1, 1)), Binning(bins=2, range=(-5, 50))
    found = examine(trace, [fine, coarse], looks=1, layers=["hidden"])
    assert "e-1" not in str(found)  # 0 is no 5e-16
    cells = found.cells
    left = cells.set_index("estimator")["prediction_bits"]
    share = float(trace.probe().labels.double().mean())
    whole = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    assert left.tolist() == pytest.approx([0, whole], abs=1e-9)
    assert cells["occupied"].tolist() == [2, 1]


def test_units_and_classes(tmp_path: Path) -> None:
    found = examine(kept(tmp_path), ["binning"], looks=1, layers=["hidden"])
    units = found.units.set_index("epoch")
    assert units.loc[20, "dead"] == 0.5
    assert units.loc[20, "saturated"] == pytest.approx(0.5 * 0.42, abs=0.1)
    trace = kept(tmp_path / "again")
    t, y = trace.activations(20)["hidden"].double(), trace.probe().labels
    means = torch.stack([t[y == 0].mean(0), t[y == 1].mean(0)])
    within = (t - means[y]).square().sum(1).mean()
    between = (means[y] - t.mean(0)).square().sum(1).mean()
    row = found.geometry.set_index("epoch").loc[20]
    assert row["within"] == pytest.approx(float(within))
    assert row["ratio"] == pytest.approx(float(within / between))


def test_the_geometry_is_held_against_the_traces_own_curve(tmp_path: Path) -> None:
    found = examine(kept(tmp_path, seeds=2), [], looks=1, layers=["hidden"]).coincidence
    assert found["layer"].tolist() == ["hidden"]
    assert found["correlation"].between(-1, 1).all()


def test_what_cannot_be_examined_is_refused(tmp_path: Path) -> None:
    trace = kept(tmp_path)
    with pytest.raises(InvalidInput, match="no activations of 'nowhere' are kept"):
        trace.examine(layers=["nowhere"])
    with pytest.raises(RunError, match="keeps no activations"):
        traced(sound()).examine()


@dataclass(frozen=True)
class Mine(Exact):
    """An estimator that ibtrace does not know."""


def measured(folder: Path, estimators: Sequence[Any]) -> Trace:
    """A tanh network on 64 samples, measured at two looks, activations kept."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=generator)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    keep = Keep(folder, activations=True)
    with Tracer(
        model, (x, (x[:, 0] > 0).long()), estimators=estimators, look=["1"], keep=keep
    ) as tracer:
        tracer.snapshot(1)
    return tracer.trace


def test_what_measured_the_run_is_examined_and_gives_its_numbers(tmp_path: Path) -> None:
    used = [Binning.idnns(), Binning(bins=7, range="trace"), KSG(k=4)]
    trace = measured(tmp_path, used)
    sizes = examine(Trace.load(tmp_path), permutations=19).sizes
    assert list(sizes["estimator"].unique()) == trace.estimators
    assert {*trace.estimators} == {label(each) for each in used}
    whole = sizes[sizes["part"] == "all"].set_index(["epoch", "estimator"])
    frame = trace.frame().set_index(["epoch", "estimator"])
    for quantity in (I_XT, I_TY):
        own = frame[frame["quantity"] == quantity]["bits"]
        assert whole[quantity].to_dict() == pytest.approx(own.to_dict())


def test_what_cannot_be_made_again_is_said_and_what_is_not_in_the_trace_is_made(
    tmp_path: Path,
) -> None:
    trace = measured(tmp_path, [Mine(), Binning(bins=7)])
    found = examine(trace, looks=1, permutations=19)
    assert list(found.summary()["estimator"]) == ["Binning(bins=7)"]
    assert "Mine is not examined: Mine is no registered estimator: Binning," in str(found)
    other = examine(trace, ["exact", "Binning(bins=7)"], looks=1, permutations=19)
    assert list(other.summary()["estimator"]) == ["Exact", "Binning(bins=7)"]
    silent = str(examine(kept(tmp_path / "old"), looks=1))
    assert silent == "Binning is not examined: the trace does not say how it was configured."


def test_what_would_take_too_long_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    trace = measured(tmp_path, [Exact(), Binning(bins=7)])
    trace.append(
        Row(
            *(0, epoch, None, "1", quantity, "Exact", "T"),
            *(3.0, NAN, NAN, NAN, "", {}, 90.0),
        )
        for epoch in (0, 1)
        for quantity in (I_XT, I_TY)
    )
    found = examine(trace, looks=1, permutations=19, most_seconds=600)
    assert list(found.summary()["estimator"]) == ["Binning(bins=7)"]
    assert found.left_out["Exact"].startswith("it would take 40 minutes, as its numbers")  # 90 · 27
    assert trusts({"": trace}, "Exact", progress=False).count("Exact is not examined") == 0


def test_one_look_is_the_last(tmp_path: Path) -> None:
    found = examine(kept(tmp_path), ["exact"], looks=1, permutations=19)
    assert set(found.null["epoch"]) == {20}


def test_the_command_and_the_report_tell_of_the_estimators_that_are_the_runs_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(tmp_path / "run", [Binning(bins=7), Exact()])
    run = str(tmp_path / "run")
    assert main(["verdict", run, "--trust", "--quiet"]) == 0
    checks, examined = capsys.readouterr().out.split("\n\n")
    assert "points fail a check" in checks
    tables = [line for line in examined.splitlines() if not line.startswith(" ")]
    assert tables == [
        "At look 1, means over networks; bits, p and ratios:",
        "Binning(bins=7)",
        "Exact",
    ]
    assert "within/between" in examined
    assert main(["verdict", run, "--trust", "--quiet", "--estimator", "Exact"]) == 0
    assert "Binning" not in capsys.readouterr().out
    page = tmp_path / "page.html"
    for options, expected in ((["--trust"], 1), ([], 0)):
        told = ["report", run, "--no-maps", "--quiet", "-o", str(page), *options]
        assert main(told) == 0
        assert page.read_text().count("Estimates examined") == expected
