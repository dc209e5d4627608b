"""Controls are what they say, traced as their subject is, and told apart from it in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from ibtrace import cli
from ibtrace.datasets import Dataset, shuffled, tishby
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.plane import controlled
from ibtrace.plane.drops import Array
from ibtrace.reports import reporting
from ibtrace.reports.controls import groups
from ibtrace.reports.paging import write_page
from ibtrace.trace import Scalar, Trace
from ibtrace.training import config, configs, loop, runner
from ibtrace.training.parts import probe_of
from ibtrace.training.planning import Planned, named, planned
from ibtrace.types import CONTROLS, I_TY, I_XT, Row, control_of

NAN = float("nan")
KEY = ["seed", "epoch", "layer", "quantity", "estimator"]


def raw(**changes: Any) -> configs.Raw:
    """The 12-bit task, small, with all controls."""
    (base,) = list(configs.variants(configs.read("tishby")).values())[:1]
    small = {
        **base,
        "epochs": 6,
        "seeds": 3,
        "snapshots": 5,
        "probe": {"samples": 256},
        "estimators": ["binning.idnns"],
        "controls": list(CONTROLS),
    }
    return {**small, **changes}


class Own(nn.Module):
    """A user's own network, which nobody can tell to be linear; it normalises and drops."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Tanh())
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(self.body(x)))
        return out


class Square(nn.Module):
    """A user's own network that takes an activation and adds a nonlinearity of its own."""

    def __init__(self, activation: str = "tanh") -> None:
        super().__init__()
        self.first = nn.Linear(12, 4)
        self.hidden = nn.Tanh() if activation == "tanh" else nn.Identity()
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(self.first(x))
        out: Tensor = self.last(hidden * hidden)
        return out


OWN = {"model": {"class_path": "tests.test_controls.Own"}, "loss": "cross_entropy"}
SQUARE = {"model": {"class_path": "tests.test_controls.Square"}, "loss": "cross_entropy"}


def trained(raw: configs.Raw, folder: Path) -> dict[str, Trace]:
    """Every run of a configuration, in this process."""
    return {
        name: loop.train(
            config.build(run.raw), folder / (name or "subject"), raw=run.raw, left_out=run.left_out
        )
        for name, run in planned(raw).items()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    return trained(raw(), tmp_path_factory.mktemp("small"))


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs side by side one after the other: a process takes seconds to begin."""

    def in_turn(
        runs: Mapping[str, Planned], jobs: Mapping[str, Path], resume: bool, progress: bool
    ) -> None:
        for name, run in runs.items():
            runner._train(run, jobs[name], resume=resume, label=None)

    monkeypatch.setattr(runner, "_side_by_side", in_turn)


# --- what controls are ---------------------------------------------------------------------------


def test_shuffled_labels_are_permuted_and_their_truth_remembered() -> None:
    data = tishby()
    control = shuffled(data, seed=1)
    assert control.y.bincount().tolist() == data.y.bincount().tolist()
    assert torch.equal(control.truth, data.y)
    agreeing = float((control.y == data.y).double().mean())
    assert abs(agreeing - 0.5) < 0.05  # 2118 of 4096 labels are 1
    assert torch.equal(shuffled(data, seed=1).y, control.y)
    assert not torch.equal(shuffled(data, seed=2).y, control.y)
    alike = Dataset("alike", torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), 2)
    with pytest.raises(InvalidInput, match="the labels of alike are as they were"):
        shuffled(alike)


@pytest.mark.parametrize("part", ["all", "train", "test"])
def test_labels_are_those_it_is_trained_on_but_true_of_held_out_samples(part: str) -> None:
    plan = planned(raw(probe={"part": part}, controls=["shuffled_labels"]))
    subject, control = (config.build(run.raw) for run in plan.values())
    here, there = probe_of(subject), probe_of(control)
    assert isinstance(here.x, Tensor)
    assert isinstance(there.x, Tensor)
    assert torch.equal(here.x, there.x)
    assert torch.equal(here.y, there.y) == (part == "test")
    assert not torch.equal(subject.data.y, control.data.y)


def test_a_linear_control_is_the_network_of_the_same_widths_and_first_weights() -> None:
    plan = planned(raw(controls=["linear"]))
    networks = []
    for run in plan.values():
        torch.manual_seed(0)
        networks.append(config.build(run.raw).training.model())
    subject, control = networks
    for name, weights in subject.state_dict().items():
        assert torch.equal(weights, control.state_dict()[name])
    x = torch.randn(3, 12)
    hidden = nn.Sequential(*list(control.children())[:-1])
    torch.testing.assert_close(
        hidden(x[0] + x[1] - x[2]), hidden(x[0]) + hidden(x[1]) - hidden(x[2])
    )


def test_a_control_that_says_linear_and_is_not_is_refused() -> None:
    record = {"kind": "linear", "of": ""}
    wrong = {key: value for key, value in raw(control=record).items() if key != "controls"}
    with pytest.raises(ConfigError, match="layer hidden1 is no affine function of x"):
        config.build(wrong)


def test_a_frozen_network_never_trains_and_looks_at_the_same_epochs(
    small: dict[str, Trace], tmp_path: Path
) -> None:
    for traces in (small, trained(raw(controls=["frozen"], seeds=1, **OWN), tmp_path)):
        subject, frozen = traces[""].frame(), traces["frozen"].frame()
        assert sorted(frozen["epoch"].unique()) == sorted(subject["epoch"].unique())
        curves = frozen.groupby(["seed", "layer", "quantity", "estimator"])["bits"]
        assert (curves.nunique() == 1).all()
        losses = traces["frozen"].scalars().query("name == 'train_loss'")
        assert (losses.groupby("seed")["value"].nunique() == 1).all()


def test_controls_begin_as_their_subject_and_are_traced_alike(small: dict[str, Trace]) -> None:
    assert list(small) == ["", *CONTROLS]
    subject = small[""].frame().sort_values(KEY, ignore_index=True)
    for name, trace in small.items():
        control = trace.frame().sort_values(KEY, ignore_index=True)
        assert control[KEY].equals(subject[KEY])
        record = control_of(trace.meta)
        assert (None if record is None else record.kind) == (name or None)
        first = [
            rows.query("epoch == 0 and quantity == 'I(X;T)'")["bits"] for rows in (subject, control)
        ]
        if name in ("shuffled_labels", "frozen"):
            assert first[0].equals(first[1])
        last = [rows.query("epoch == 6")["bits"] for rows in (subject, control)]
        assert last[0].equals(last[1]) == (name == "")


# --- what there cannot be ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (OWN, "Own takes no argument 'activation', which could be 'linear'"),
        (SQUARE, "layer last is no affine function of x"),
        ({"model.init_args.activation": "linear"}, "the network is linear itself"),
    ],
    ids=["no activation", "another nonlinearity", "linear"],
)
def test_a_control_that_cannot_be_made_is_told_and_the_others_run(
    changes: configs.Raw, why: str
) -> None:
    configured = raw()
    for key, value in changes.items():
        configured = configs.override(configured, key, value)
    plan = planned(configured)
    assert list(plan) == ["", "shuffled_labels", "frozen"]
    assert why in plan[""].left_out["linear"]


def test_names_of_controls_are_not_taken_from_variants() -> None:
    variants = {"a": {}, "a-linear": {"model.init_args.activation": "relu"}}
    with pytest.raises(ConfigError, match="controls: a-linear is a variant itself"):
        planned(raw(variants=variants))
    assert named(raw(variants={"a": {}}, controls=["frozen"])) == ["a", "a-frozen"]
    with pytest.raises(ConfigError, match="controls must be a list of shuffled_labels, linear"):
        planned(raw(controls=["untrained"]))


# --- what is said of them ------------------------------------------------------------------------

EPOCHS, SEEDS = 40, 5


def falling(by: float, spread: float = 0.1) -> Array:
    """Curves of five seeds that fall from a peak by some bits, more or less."""
    at = np.arange(EPOCHS)
    off = np.linspace(-spread, spread, SEEDS)
    shape = np.clip((at - 10) / 20, 0, 1)
    curves: Array = 8 - (by + off)[:, None] * shape
    return curves + np.random.default_rng(int(by * 100)).normal(0, 0.005, curves.shape)


def trace_of(curves: Array, kind: str = "", **meta: Any) -> Trace:
    control = {"control": {"kind": kind, "of": ""}} if kind else {}
    trace = Trace.create(
        meta={"n": 4096, "input_entropy": 12.0, "layers": ["t"], **control, **meta}
    )
    trace.append(
        [
            Row(seed, epoch, None, "t", I_XT, "Bins", "T", float(bits), NAN, NAN, NAN, "", {}, 0.0)
            for seed, curve in enumerate(curves)
            for epoch, bits in enumerate(curve)
        ],
        [
            Scalar(0, epoch, "", "train_loss", loss)
            for epoch, loss in ((0, 1.0), (19, 0.1), (EPOCHS - 1, 0.09))
        ],
    )
    return trace


@pytest.mark.parametrize(
    ("subject", "control", "outcome"),
    [
        (falling(3), falling(2.95), "as much"),
        (falling(3), falling(1), "less"),
        (falling(1), falling(3), "more"),
        (falling(3), falling(0), "does not fall"),
        (falling(3), falling(0.3, spread=0.9), "open"),
        (falling(0), falling(3), "control alone"),
        (falling(0), falling(0.01), "neither falls"),
    ],
)
def test_falls_are_compared_by_their_intervals(
    subject: Array, control: Array, outcome: str
) -> None:
    held = controlled(trace_of(subject), {"linear": trace_of(control, "linear")})
    (finding,) = held
    assert finding.outcome == outcome
    (row,) = held.table().to_dict("records")
    assert row["outcome"] == outcome
    assert row["control"] == "linear network"
    assert row["fall"] - row["control_fall"] == pytest.approx(row["more"])
    assert row["more_lower"] < row["more"] < row["more_upper"]
    told = str(held)
    assert told.splitlines()[1].startswith("Linear network: ")
    assert ("t by Bins: " in told) == (outcome != "neither falls")


def test_a_control_that_is_the_subject_is_refused() -> None:
    subject = trace_of(falling(3))
    held = controlled(subject, {"tanh-linear": trace_of(falling(3), "linear")})
    assert held.findings == ()
    assert "tanh-linear is no control: it is the subject over again" in " ".join(str(held).split())
    assert "does not say of what" in str(controlled(subject, {"x": trace_of(falling(2))}))


def test_a_number_that_is_missing_in_both_hides_no_copy() -> None:
    curves = falling(3)
    curves[0, 7] = NAN
    held = controlled(trace_of(curves), {"again": trace_of(curves.copy(), "linear")})
    assert held.findings == ()


@pytest.mark.parametrize("by", [0.0, 3.0])
@pytest.mark.parametrize("end", [30, 40])
def test_a_control_that_ends_elsewhere_is_no_evidence(by: float, end: int) -> None:
    """Of 40 looks the subject or the control has 30: whatever either does, nothing is said."""
    control = trace_of(falling(by)[:, :end], "linear")
    subject = trace_of(falling(2.9)[:, : 70 - end])
    held = controlled(subject, {"run-linear": control})
    assert [each.outcome for each in held] == ["ends apart"]
    told = " ".join(str(held).split())
    ends = f"run-linear ends at epoch {end - 1}, its subject at epoch {69 - end} (1 of 1 findings)"
    assert f"{ends}: what it does by then is no evidence, and its verdict is left open" in told
    assert "the control ends elsewhere, which leaves it open in 1" in told
    assert f"(only to {end - 1}: open)" in told
    still = controlled(trace_of(falling(0.01)[:, : 70 - end]), {"run-linear": control})
    told = " ".join(str(still).split())
    assert "the subject falls in no finding; the control ends elsewhere in 1" in told


def test_a_control_that_counts_otherwise_is_left_out() -> None:
    control = Trace.create(meta={**trace_of(falling(1), "linear").meta, "clock": "step"})
    held = controlled(trace_of(falling(3)), {"c": control})
    assert held.findings == ()
    assert str(held) == "c is left out: it counts steps, its subject epochs."


@pytest.mark.parametrize("curves", [falling(0)[:2], np.stack([*falling(2)[:2], *-falling(2)[:3]])])
def test_a_control_of_which_nothing_can_be_said_is_open(curves: Array) -> None:
    (finding,) = controlled(trace_of(falling(3)), {"c": trace_of(curves, "linear")})
    assert finding.control.call == "inconclusive"
    assert finding.outcome == "open"


def test_what_the_labels_of_a_control_are_is_said() -> None:
    subject, curves = trace_of(falling(3)), falling(1)
    for part, words in (
        ("all", "those the network was trained on"),
        ("test", "the true labels of held-out samples"),
    ):
        control = trace_of(curves, "shuffled_labels", data={"measured_part": part})
        told = " ".join(str(controlled(subject, {"c": control})).split())
        assert words in told


def test_a_control_that_could_not_be_made_is_said() -> None:
    subject = trace_of(falling(3), controls_left_out={"linear": "it pools"})
    assert str(controlled(subject, {})) == "No control linear: it pools."
    (group,) = groups({"": subject}, "run")
    assert group.name == "run"


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_with_controls(
    one_process: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = raw()
    del small["controls"]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(small))
    run = tmp_path / "run"
    arguments = ["run", str(tmp_path / "own.yaml"), "--out", str(run), "--quiet"]
    assert cli.main([*arguments, "--controls"]) == 0
    printed = capsys.readouterr().out
    assert "Controls of this run" in printed
    assert list(runner.load(run)) == ["", *CONTROLS]
    assert (run / "controls-run-curves-binning.idnns.png").exists()
    assert (run / "controls-run-drops-binning.idnns.png").exists()
    assert not list(run.glob("curves-*linear*"))
    before = {name: trace.frame() for name, trace in runner.load(run).items()}
    assert cli.main(["run", str(run), "--resume", "--quiet"]) == 0
    for name, trace in runner.load(run).items():
        assert trace.frame().equals(before[name])
    page = write_page([run], maps=False).read_text()
    assert '<section id="controls">' in page
    assert "(a control: linear network)" in page


def test_variants_have_controls_of_their_own_and_claims_see_none(
    one_process: None, tmp_path: Path
) -> None:
    variants = {"a": {}, "b": {"model.init_args.activation": "relu"}}
    small = raw(variants=variants, controls=["frozen"])
    traces = runner.run(small, tmp_path / "run", progress=False)
    assert list(traces) == ["a", "a-frozen", "b", "b-frozen"]
    assert [group.name for group in groups(traces, "run")] == ["a", "b"]
    assert [*groups(traces, "run")[1].controls] == ["b-frozen"]
    told = reporting.verdicts(traces)
    assert told.count("Controls of ") == 2
    assert "a-frozen\n" not in told
    assert "a-frozen\n" in reporting.verdicts(traces, details=True)
    alone = {name: traces[name] for name in variants}
    assert "frozen" not in reporting.differences(traces, alone)
    for trace in traces.values():
        assert {I_XT, I_TY} <= set(trace.frame()["quantity"])


@pytest.mark.parametrize("command", ["multiverse", "compare"])
def test_what_is_asked_of_stored_activations_is_asked_of_subjects_unless_told(
    command: str, one_process: None, tmp_path: Path
) -> None:
    run, grid = tmp_path / "run", tmp_path / "grid.yaml"
    runner.run(raw(controls=["frozen"], store_activations=True), run, progress=False)
    grid.write_text(yaml.safe_dump({"families": [{"name": "bins", "estimator": "binning.idnns"}]}))
    arguments = {
        "multiverse": ["multiverse", str(run), "--grid", str(grid), "--looks", "2", "--jobs", "1"],
        "compare": ["compare", "--run", str(run), "--estimators", "binning.idnns"],
    }[command]
    table = {"multiverse": "multiverse.csv", "compare": "planes.csv"}[command]
    assert cli.main([*arguments, "--quiet"]) == 0
    assert (run / command / table).exists()
    assert not (run / command / "frozen").exists()
    assert cli.main([*arguments, "--quiet", "--controls"]) == 0
    assert (run / command / "frozen" / table).exists()
