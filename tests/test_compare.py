"""A comparison says of every estimator on every law what it gave, or why it gave nothing."""

from __future__ import annotations

import math
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor, nn

from ibtrace import compare, plots
from ibtrace.cli import main
from ibtrace.comparison import (
    COLUMNS,
    Trial,
    calibration_laws,
    disagreement,
    label_law,
    layer_law,
    overall,
    suite,
    summary,
    table,
    trials,
)
from ibtrace.errors import ConfigError, InvalidInput, UnknownName
from ibtrace.estimators import KSG, make, names
from ibtrace.probe import Probe
from ibtrace.problems import BivariateNormal, Independent, Table
from ibtrace.reports import comparing, comparing_run
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Tracer
from ibtrace.training.comparing_run import compare_run
from ibtrace.types import CONTINUOUS, I_TY, I_XT, Estimate, Tags

DOCS = Path(__file__).parent.parent / "docs" / "estimators.md"


def documented() -> str:
    """The table of docs/estimators.md, from the tags."""
    lines = [
        "| name | estimand | asks | bound | bias | cost | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names():
        tags = make(name).tags
        cells = (
            *(f"`{name}`", tags.estimand, tags.question),
            *(tags.bound, tags.bias, tags.cost, tags.reference),
        )
        lines.append("| " + " | ".join(cells).replace(" |  |", " | |") + " |")
    return "\n".join(lines)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    # mypy: pandas has wider keys
    found: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    return found


@dataclass(frozen=True)
class Off:
    """Not registered: always ``bits``, or raises."""

    bits: float = 1.0
    raises: bool = False
    preset: str = "mine"

    tags: ClassVar[Tags] = Tags("I(X;Y)", "nobody", "density", x=CONTINUOUS)
    estimand: ClassVar[str] = "T"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        if self.raises:
            raise ZeroDivisionError("by zero")
        wrong = torch.tensor(seed == 1)
        return Estimate(bits=torch.tensor(self.bits + seed), flags={"suspect": wrong})


def test_a_row_is_what_the_estimator_says_of_the_sample() -> None:
    law = BivariateNormal(0.9)
    found = compare(["ksg"], [law], n=[80, 120], seeds=[3, 5])
    assert list(found.columns) == list(COLUMNS)
    assert found[["n", "seed"]].to_numpy().tolist() == [[80, 3], [80, 5], [120, 3], [120, 5]]
    for row in records(found):
        direct = KSG()(*law.sample(row["n"], seed=row["seed"]), seed=row["seed"])
        assert row["bits"] == float(direct.bits)
        assert row["error"] == pytest.approx(row["bits"] - law.bits, abs=1e-15)
        assert row["truth"] == law.bits
    assert (found["status"] == "ok").all()
    assert (found["seconds"] > 0).all()


def test_a_users_own_estimator_and_law_take_part() -> None:
    found = compare([Off(), "exact"], {"mine": Independent()}, n=30, seeds=2)
    assert found["estimator"].tolist() == ["Off.mine", "Off.mine", "Exact", "Exact"]
    assert found["problem"].unique().tolist() == ["mine"]
    assert found["flags"].tolist()[:2] == ["", "suspect"]


def test_what_does_not_apply_or_fails_is_said() -> None:
    laws = [BivariateNormal(0.5), Table(title="3x3")]
    found = compare(["ross", Off(raises=True)], laws, n=40, seeds=1)
    by = {(row["estimator"], row["problem"]): row for row in records(found)}
    said = {key: (row["status"], row["reason"]) for key, row in by.items()}
    status, reason = said["Ross", "1v1-normal-0.5"]
    assert status == "not applicable"
    assert reason.startswith("Ross: x and y are both")
    assert said["Off.mine", "1v1-normal-0.5"] == ("failed", "ZeroDivisionError: by zero")
    declined = ("not applicable", "Off.mine does not take discrete x")
    assert said["Off.mine", "table-3x3"] == declined
    assert found["bits"].isna().all()
    each = summary(found)
    assert (each["seeds"] == 0).all()
    for column in ("status", "reason"):
        assert each[column].tolist() == found[column].tolist()
    whole = records(overall(found))[1]
    assert [whole[name] for name in ("laws", "declined", "failed")] == [0, 1, 1]
    assert math.isnan(whole["rmse"])


def test_what_is_no_estimate_of_the_information_is_marked() -> None:
    found = compare(["binning", "ksg"], [BivariateNormal(0.5), Table(title="3x3")], n=60, seeds=1)
    measures = found.set_index(["estimator", "problem"])["measures"]
    assert "B" in measures["Binning(bins=30)", "1v1-normal-0.5"]
    assert measures["Binning(bins=30)", "table-3x3"] == "I(X;Y)"
    assert set(measures["KSG"]) == {"I(X;Y)"}
    whole = overall(found).set_index("estimator")
    assert whole.loc["Binning(bins=30)", "measures"] != "I(X;Y)"
    of_information = found.set_index(["estimator", "problem"])["of_information"]
    assert not of_information["Binning(bins=30)", "1v1-normal-0.5"]
    assert of_information["Binning(bins=30)", "table-3x3"]
    assert whole["of_information"].to_dict() == {"Binning(bins=30)": False, "KSG": True}


@pytest.mark.slow
def test_two_processes_give_the_same_rows() -> None:
    alone, two = (
        table(trials([Off(), "ksg"], ["1v1-normal-0.75"], n=60, seeds=2, jobs=jobs))
        for jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(alone.drop(columns="seconds"), two.drop(columns="seconds"))


def test_an_interruption_keeps_what_is_done() -> None:
    kept: list[Trial] = []

    def stop(done: int, total: int) -> None:
        assert total == 6
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(["exact"], [Independent()], n=20, seeds=6, on_row=kept.append, progress=stop)
    assert table(kept)["seed"].tolist() == [0, 1, 2, 3]
    assert len(summary(table(kept))) == 1


def test_a_summary_is_bias_spread_and_rmse() -> None:
    law = BivariateNormal(0.9)
    found = compare([Off()], [law], n=10, seeds=3)
    (row,) = records(summary(found))
    errors = np.array([1.0, 2.0, 3.0]) - law.bits
    assert row["bias"] == pytest.approx(errors.mean())
    assert row["spread"] == pytest.approx(1.0)
    assert row["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert row["flags"] == "suspect 1/3"
    (whole,) = records(overall(found))
    assert (whole["laws"], whole["worst"], whole["worst_bias"]) == (1, law.name, row["bias"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_estimate_is_left_out_of_a_summary(bad: float) -> None:
    found = compare([Off(bits=bad), Off(preset="other")], [Independent()], n=10, seeds=2)
    row = summary(found).set_index("estimator").loc["Off.mine"]
    assert row["seeds"] == 2
    assert not np.isfinite([row["mean"], row["bias"], row["rmse"]]).any()
    with pytest.raises(InvalidInput, match="lacks the columns"):
        summary(found.drop(columns="error"))


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"estimators": ["ksgg"]}, UnknownName, "'ksgg'"),
        ({"problems": ["norml"]}, UnknownName, "'norml'"),
        ({"estimators": []}, InvalidInput, "no estimators"),
        ({"estimators": ["ksg", KSG()]}, InvalidInput, "two estimators are called KSG"),
        ({"problems": []}, InvalidInput, "no problems"),
        ({"n": [10, 10]}, InvalidInput, "n must be different"),
        ({"n": 0}, InvalidInput, "n must be different, positive"),
        ({"seeds": 0}, InvalidInput, "seeds must be"),
        ({"jobs": 0}, ConfigError, "jobs must be at least 1"),
    ],
)
def test_a_mistake_is_found_before_any_work(
    arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        list(trials(**arguments))  # type: ignore[arg-type]  # refused


def test_the_default_laws_hold_easy_and_hard_ones_of_every_kind() -> None:
    laws = suite()
    assert {law.kinds for law in laws.values()} == {
        ("continuous", "continuous"),
        ("continuous", "discrete"),
        ("discrete", "discrete"),
    }
    bits = [law.bits for law in laws.values()]
    assert min(bits) == 0
    # mypy: a Variational
    assert max(bits) > math.log2(make("variational").batch)  # type: ignore[attr-defined]
    assert max(max(law.dims) for law in laws.values()) >= 25


@pytest.mark.parametrize("bits", [0.1, 2.0, 9.0])
@pytest.mark.parametrize("dims", [(1, 1), (12, 3), (2, 20)])
def test_a_layer_law_has_the_information_asked_for(dims: tuple[int, int], bits: float) -> None:
    law = layer_law(*dims, bits)
    assert law.dims == dims
    assert law.bits == pytest.approx(bits, abs=1e-9)


@pytest.mark.parametrize(("d", "classes", "bits"), [(1, 2, 0.5), (4, 2, 0.99), (3, 10, 2.5)])
def test_a_label_law_has_the_information_asked_for(d: int, classes: int, bits: float) -> None:
    law = label_law(d, classes, bits)
    x, y = law.sample(20_000, seed=0)
    assert x.shape == (20_000, d)
    assert int(y.max()) == classes - 1
    assert law.bits == pytest.approx(bits, abs=1e-8)
    found = law.log_ratio(x, y)
    assert float(found.mean()) == pytest.approx(bits, abs=5 * float(found.std()) / 20_000**0.5)


def test_calibration_laws_have_the_size_of_the_data() -> None:
    laws = calibration_laws(256, 12, [10, 3, 10], classes=4)
    assert len(laws) == 8
    for law in laws:
        of_x = law.quantity == I_XT
        t = law.problem.dims[1 if of_x else 0]
        assert law.dimension == t
        assert law.name == f"{law.quantity}, d = {t}, {law.problem.bits:.3g} bits"
        assert law.problem.kinds[1] == ("continuous" if of_x else "discrete")
    continuous = calibration_laws(256, 12, [3], y_dim=2)
    assert [law.problem.dims for law in continuous] == [(12, 3), (12, 3), (3, 2), (3, 2)]
    assert {law.quantity for law in calibration_laws(256, 12, [3], classes=1)} == {I_XT}
    with pytest.raises(InvalidInput, match="n must be at least 2"):
        calibration_laws(1, 2, [3])
    with pytest.raises(InvalidInput, match="bits must lie between 0 and 1"):
        label_law(2, 2, 1.0)
    with pytest.raises(InvalidInput, match="must be positive"):
        layer_law(0, 1, 1.0)


def rows_of(curves: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"seed": 0, "epoch": e, "layer": "a", "quantity": I_XT, "estimator": name, "bits": b}
            for name, values in curves.items()
            for e, b in enumerate(values)
        ]
    )


def test_disagreement_is_distance_and_rank_correlation() -> None:
    frame = rows_of(
        {"up": [1, 2, 3, 9], "also up": [0, 1, 2, 3], "down": [4, 3, 2, 1], "flat": [1] * 4}
    )
    found = {(row["first"], row["second"]): row for row in records(disagreement(frame))}
    assert found["up", "also up"]["difference"] == pytest.approx(9 / 4)
    assert found["up", "also up"]["correlation"] == pytest.approx(1)
    assert found["up", "down"]["difference"] == pytest.approx(13 / 4)
    assert found["up", "down"]["correlation"] == pytest.approx(-1)
    assert math.isnan(found["up", "flat"]["correlation"])
    assert found["up", "flat"]["curves"] == 0
    two = records(disagreement(rows_of({"up": [1, 2], "down": [2, 1]})))[0]
    assert math.isnan(two["correlation"])  # of two points every rank correlation is 1 or -1
    assert (two["points"], two["curves"]) == (2, 0)
    three = records(disagreement(rows_of({"up": [1, 2, 3], "down": [3, 2, 1]})))[0]
    assert (three["correlation"], three["curves"]) == (pytest.approx(-1), 1)
    assert len(found) == 6
    with pytest.raises(UnknownName, match="it has"):
        disagreement(frame, I_TY)
    with pytest.raises(InvalidInput, match="twice"):
        disagreement(pd.concat([frame, frame]))


# --- figures --------------------------------------------------------------------------------


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [one.get_text() for one in figure.findobj(Text) if isinstance(one, Text)]


def test_the_error_map_shows_every_cell_and_what_does_not_apply() -> None:
    laws = [BivariateNormal(0.5), Table(title="3x3")]
    found = compare(
        [Off(), Off(raises=True, preset="broken"), "binning"], laws, n=[20, 30], seeds=2
    )
    said = texts(plots.error_map(found))
    bias = records(summary(found))[0]["bias"]
    assert f"{bias:+.2f}" in said
    assert said.count("×") == 2
    assert {"Off.mine", "Binning(bins=30)*", "N = 20, 2 seeds", "does not apply"} <= set(said)
    assert "1v1-normal-0.5  (0.208 bits)" in said
    assert f"{math.sqrt(bias**2 + 0.25):.2f}" in texts(plots.error_map(found, "rmse"))
    with pytest.raises(InvalidInput, match="no estimator gave a number"):
        plots.error_map(compare([Off(raises=True)], laws, n=20, seeds=1))


def test_an_estimate_is_drawn_at_its_truth_whatever_it_is() -> None:
    law = BivariateNormal(0.9)
    found = compare([Off(), Off(bits=math.inf, preset="far")], [law], n=[20, 40], seeds=2)
    figure = plots.estimate_against_truth(found)
    said = texts(figure)
    assert {"Off.mine", "Off.far", "inf", "N = 20", "N = 40", "log₂ N", "flagged"} <= set(said)
    points = [
        # mypy: arrays here
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))  # type: ignore[index, arg-type]
        for line in figure.axes[0].lines
        if line.get_marker() in ("o", "s")
    ]
    assert points == [(law.bits, 1.5)] * 2


# --- a run ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))
    data = Probe(x, (x[:, 0] > 0).long())
    with Tracer(
        model, data, estimators=["exact"], every=1, keep=Keep(run=folder, activations=True)
    ) as tracer:
        for epoch in range(1, 5):
            with torch.no_grad():
                model[0].weight.mul_(1.5)  # type: ignore[operator]  # a Sequential's first layer
            tracer.snapshot(epoch)
    return folder


@pytest.mark.slow
def test_a_run_is_measured_by_others_as_the_tracer_would(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    out = run / "compare"
    asked = ["--estimators", "exact,ksg,ross,sklearn", "--snapshots", "3", "--quiet"]
    assert main(["compare", "--run", str(run), *asked]) == 0
    said = capsys.readouterr().out
    assert "64 samples, 3 snapshots" in said
    assert "not measured: SklearnMI" in said
    assert all(len(line) <= 110 for line in said.splitlines())
    planes = pd.read_csv(out / "planes.csv")
    assert sorted(planes["epoch"].unique()) == [0, 2, 4]
    stored = Trace.load(run).frame()
    both = planes.merge(stored, on=["seed", "epoch", "layer", "quantity", "estimator"])
    assert len(both) == 3 * 2 * 2
    np.testing.assert_array_equal(both["bits_x"], both["bits_y"])
    calibration = pd.read_csv(out / "calibration.csv")
    assert set(calibration["n"]) == {64}
    assert {"I(X;T), d = 2, 1.5 bits", "I(T;Y), d = 2, 0.25 bits"} <= set(calibration["problem"])
    assert len(pd.read_csv(out / "disagreement.csv")) == 3
    for name in ("planes", "disagreement"):
        assert (out / f"{name}.png").stat().st_size > 10_000
        assert (out / f"{name}.pdf").exists()


def test_fewer_samples_and_what_needs_the_whole_trace(run: Path) -> None:
    source = Trace.load(run)
    over = make("binning", range="trace")
    found = compare_run(source, [over], n=40, snapshots=2, jobs=1, progress=False)
    assert found.whole
    assert (found.n, found.of) == (40, 64)
    assert found.trace.meta["n"] == 40
    assert len(found.trace) == 2 * 2 * 2
    assert "40 of 64 samples" in comparing_run.text(found)


def test_a_run_is_calibrated_at_the_scales_of_its_own_columns(tmp_path: Path) -> None:
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    labels = (x[:, 0] > 0).long()
    scales = torch.tensor([1.0, 1e4])
    linear = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.diag(scales))
    data = Probe(x, labels)
    with Tracer(
        linear, data, estimators=["exact"], keep=Keep(run=tmp_path / "r", activations=True)
    ) as tracer:
        tracer.snapshot(1)
    source, asked = Trace.load(tmp_path / "r"), [KSG(), KSG(scale="column")]
    found = compare_run(source, asked, jobs=1, snapshots=1, progress=False)
    laws = found.calibration[found.calibration["quantity"] == I_TY]
    error = laws.groupby("estimator")["error"].mean()
    # Classes lie along the first column, which the second hides unless each has its own scale.
    assert error["KSG"] < -0.1
    assert abs(error["KSG(scale='column')"]) < 0.05


def test_an_interrupted_run_comparison_keeps_what_is_done(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ibtrace.training.comparing_run.calibration_laws", stop)
    asked = ["--estimators", "exact,ksg", "--out", str(tmp_path), "--quiet"]
    assert main(["compare", "--run", str(run), *asked]) == 130
    captured = capsys.readouterr()
    assert "interrupted" in captured.err
    assert "KSG" in captured.out
    assert (tmp_path / "planes.png").exists()
    assert not (tmp_path / "calibration.csv").exists()


# --- the command ----------------------------------------------------------------------------


def test_the_command_prints_a_table_and_leaves_tables_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    asked = ["--problems", "1v1-normal-0.75,table-3x3", "--n", "50,60", "--seeds", "2"]
    out = tmp_path / "out"
    estimators = ["--estimators", "ksg,binning.idnns,exact"]
    assert main(["compare", *estimators, *asked, "--out", str(out), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert all(len(line) <= 110 for line in said.splitlines())
    assert said.index("KSG") < said.index("Exact*")
    for phrase in ("Binning.idnns*", "RMSE", "Flags raised", "all_distinct", "another quantity"):
        assert phrase in said
    frame = pd.read_csv(out / "comparison.csv")
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 3 * 2 * 2 * 2
    assert len(pd.read_csv(out / "summary.csv")) == 3 * 2 * 2
    for name in ("errors", "estimate_against_truth"):
        assert (out / f"{name}.png").stat().st_size > 10_000
        assert (out / f"{name}.pdf").exists()


def test_an_interrupted_comparison_keeps_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def some(*arguments: Any, **others: Any) -> Any:
        for index, trial in enumerate(trials(*arguments, **{**others, "jobs": 1})):
            if index == 3:
                raise KeyboardInterrupt
            yield trial

    monkeypatch.setattr(comparing, "trials", some)
    asked = ["--estimators", "exact", "--problems", "table-3x3", "--n", "30", "--seeds", "9"]
    assert main(["compare", *asked, "--out", str(tmp_path), "--quiet"]) == 130
    captured = capsys.readouterr()
    assert "Exact" in captured.out
    assert "interrupted" in captured.err
    assert len(pd.read_csv(tmp_path / "comparison.csv")) == 3


def test_suites_and_names_with_commas() -> None:
    linear = "linear-1,-0.5,0.25_0.5,1,0-1.0"
    names = [law.name for law in comparing.chosen_problems([linear, "table-3x3, student"]) or []]
    assert names[:2] == [linear, "table-3x3"]
    assert len(names) == 3
    assert len(comparing.chosen_problems(["small,default"]) or []) > len(suite())
    assert comparing.chosen_problems([]) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--estimators", "ksgg"], "no estimator is called 'ksgg'"),
        (["--estimators", ""], "no estimators"),
        (["--problems", "norml"], "no problem 'norml'"),
        (["--n", "0"], "whole numbers"),
        (["--n", "many"], "whole numbers"),
        (["--seeds", "0"], "seeds"),
        (["--snapshots", "3"], "goes with --run"),
        (["--controls"], "goes with --run"),
        (["--run", "nowhere"], "nowhere"),
        (["--run", "nowhere", "--problems", "small"], "does not go with --run"),
        (["--run", "nowhere", "--n", "5,6"], "takes one number with --run"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_run_without_activations_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Trace.create(tmp_path / "bare")
    assert main(["compare", "--run", str(tmp_path / "bare")]) == 2
    assert "store_activations" in capsys.readouterr().err


# --- the page -------------------------------------------------------------------------------


def test_the_page_has_the_table_of_the_tags() -> None:
    assert documented() in DOCS.read_text()


def test_the_page_shows_figures_that_are_there_and_commands_that_parse() -> None:
    from ibtrace.cli import _parser

    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", DOCS.read_text()):
        assert 10_000 < (DOCS.parent / target).stat().st_size < 300_000
    shown = re.findall(r"^ibtrace (.*)$", DOCS.read_text(), re.MULTILINE)
    assert len(shown) > 2
    for command in shown:
        options = _parser().parse_args(command.partition("#")[0].split())
        assert options.call is not None
        comparing.chosen_problems(options.problems)


@pytest.mark.slow
def test_the_code_of_the_page_runs_as_printed() -> None:
    text = DOCS.read_text() + (DOCS.parent / "extending" / "estimator.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    module = types.ModuleType("page")
    scope = vars(module)
    sys.modules["page"] = module  # where pickle looks for the estimator's class
    try:
        for block in blocks:
            exec(compile(block, str(DOCS), "exec"), scope)
    finally:
        del sys.modules["page"]
    assert (scope["frame"]["status"] == "ok").all()
    assert scope["frame"]["error"].abs().max() < 0.3
    assert set(scope["tracer"].trace.frame()["quantity"]) == {I_XT, "I(T;Y)"}


def test_calibration_laws_take_the_scales_of_the_data_and_keep_their_information() -> None:
    x_scales, t_scales, y_scales = (1e3, 1.0, 1e-3), (5.0, 1e4), (7.0,)
    for classes in (None, 3):
        plain = calibration_laws(64, 3, [2], classes=classes)
        laws = calibration_laws(
            64,
            3,
            [2],
            classes=classes,
            x_scales=x_scales,
            t_scales={2: t_scales},
            y_scales=() if classes else y_scales,
        )
        assert [law.name for law in plain] == [law.name for law in laws]
        for unscaled, scaled in zip(plain, laws, strict=True):
            law, base_law = scaled.problem, unscaled.problem
            of_x = scaled.quantity == I_XT
            factors = (x_scales, t_scales) if of_x else (t_scales, y_scales)
            sample, before = law.sample(4000, seed=0), base_law.sample(4000, seed=0)
            for value, base, factor in zip(sample, before, factors, strict=True):
                wanted = base * torch.tensor(factor) if base.is_floating_point() else base
                torch.testing.assert_close(value, wanted.to(value.dtype), rtol=1e-6, atol=0)
            assert law.bits == base_law.bits
            assert float(law.log_ratio(*sample).mean()) == pytest.approx(law.bits, abs=0.2)
    with pytest.raises(ConfigError, match="X needs a factor above 0 for each of its 3 columns"):
        calibration_laws(64, 3, [2], x_scales=(1.0, 0.0, 1.0))
