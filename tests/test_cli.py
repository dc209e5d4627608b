"""The command line: the work it does, and one clear line for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from matplotlib.figure import Figure

from ibtrace import plots
from ibtrace.cli import main
from ibtrace.reports import listing
from ibtrace.trace import Trace
from ibtrace.training import configs
from tests.test_train import raw

SMALL = [
    "--seeds=2",
    "--epochs=6",
    "--quiet",
    "--set=snapshots=4",
    "--set=probe={samples: 200}",
    "--set=estimators=[binning.idnns, {name: binning, range: snapshot}, exact]",
]


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small replication with tanh only: one variant, in this process."""
    out = tmp_path_factory.mktemp("runs") / "small"
    assert main(["replicate", "tishby", "--activation", "tanh", "--out", str(out), *SMALL]) == 0
    return out


def test_a_replication_leaves_trace_verdict_claims_and_figures(replicated: Path) -> None:
    frame = Trace.load(replicated / "tanh").frame()
    assert sorted(frame["seed"].unique()) == [0, 1]
    assert frame["epoch"].max() == 6
    report = (replicated / "report.txt").read_text()
    assert "hidden5" in report
    assert "14 claims" in report
    assert "not measured  diffusion-starts-it: needs --lenses gradient_noise" in report
    names = {path.name for path in replicated.iterdir()}
    assert {"config.yaml", "claims.csv", "drops.png", "drops.pdf"} <= names
    assert "information_plane-binning.idnns.pdf" in names
    stored = yaml.safe_load((replicated / "config.yaml").read_text())
    assert stored["epochs"] == 6


def test_a_claim_is_not_measured_where_its_estimator_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seeds=1", "--epochs=2", "--quiet", "--set=estimators=[ksg]"]
    small = ["--set=probe={samples: 60}", "--out", str(tmp_path / "run")]
    assert main(["replicate", "tishby", "--activation", "tanh", *options, *small]) == 0
    said = capsys.readouterr().out
    assert "tanh was not measured by Binning.idnns" in said
    assert "tanh was not measured by Exact" in said
    assert "14 claims: 0 held, 0 failed, 0 inconclusive, 14 not measured" in said


def test_a_finished_run_can_be_drawn_judged_and_resumed(
    replicated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", str(replicated), "--out", str(tmp_path / "figures")]) == 0
    drawn = capsys.readouterr().out.splitlines()
    assert all(Path(line).stat().st_size > 10_000 for line in drawn)
    assert main(["verdict", str(replicated), "--estimator", "Exact"]) == 0
    said = capsys.readouterr().out
    assert "Exact" in said
    assert "Binning" not in said
    assert stored_rows_after(replicated, "--quiet") == 0


def stored_rows_after(replicated: Path, *options: str) -> int:
    """Resume a finished replication; its trace stays as it is, byte for byte."""
    trace = replicated / "tanh" / "trace.sqlite"
    before = trace.read_bytes()
    threads = torch.get_num_threads()
    resume = ["replicate", "tishby", "--resume", "--out", str(replicated), *options]
    torch.set_num_threads(2)
    try:
        status = main(resume)
        assert torch.get_num_threads() == 2  # the caller's
    finally:
        torch.set_num_threads(threads)
    assert trace.read_bytes() == before
    return status


def test_a_run_resumes_with_the_options_it_was_started_with(
    replicated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stored_rows_after(replicated, "--activation", "tanh", *SMALL) == 0
    capsys.readouterr()
    differing = ["--activation=relu", "--epochs=7", "--set=split.fraction=0.5", "--quiet"]
    assert stored_rows_after(replicated, *differing) == 2
    said = capsys.readouterr().err
    for part in ("epochs was 6, not 7", "split.fraction was 0.8, not 0.5", "variants.tanh."):
        assert part in said
    assert said.count("\n") == 1


def test_a_run_is_resumed_by_its_configuration_or_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("small.yaml").write_text(yaml.safe_dump(raw(epochs=2)))
    assert main(["run", "small.yaml", "--quiet", "--seeds=1"]) == 0
    assert main(["run", "small.yaml", "--quiet", "--seeds=1", "--resume"]) == 0
    assert main(["run", "runs/small", "--quiet", "--resume"]) == 0
    assert main(["run", "small.yaml", "--quiet", "--resume"]) == 2
    assert "seeds was 1, not 2" in capsys.readouterr().err


def test_a_configuration_counts_steps_and_excludes_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {
        "snapshots": None,
        "every": "Steps([1, 6])",
        "exclude": ["hidden1", "hidden2"],
        "estimators": ["binning", {"name": "exact", "every": "Steps(5)"}],
    }
    path, run = tmp_path / "steps.yaml", str(tmp_path / "run")
    path.write_text(yaml.safe_dump(raw(epochs=2, seeds=1, batch_size=1000, **changes)))
    assert main(["run", str(path), "--out", run, "--quiet"]) == 0
    trace = Trace.load(run)
    assert (trace.clock, trace.layers) == ("step", ["hidden3", "hidden4", "hidden5", "softmax"])
    looks = trace.frame()[["estimator", "step", "epoch"]].drop_duplicates()
    looks = looks.groupby("estimator").agg(list)
    assert looks.step.tolist() == [[0, 1, 6, 8], [0, 5, 8]]  # the last of 2 · 4 steps as well
    assert looks.epoch.tolist() == [[0, 0, 1, 2], [0, 1, 2]]
    capsys.readouterr()
    never = str(tmp_path / "never")
    assert main(["run", str(path), "--out", never, "--quiet", "--set=exclude=[hiden1]"]) == 2
    assert "exclude: nothing is meant by 'hiden1'; there are: fc1" in capsys.readouterr().err
    assert not Path(never).exists()


def test_figures_elsewhere_are_titled_by_the_run(
    replicated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    drawn = plots.information_planes

    def planes(traces: Mapping[str, Trace], *rest: Any, **options: Any) -> Figure:
        titles.extend(traces)
        return drawn(traces, *rest, **options)

    monkeypatch.setattr(plots, "information_planes", planes)
    plain = str(replicated / "tanh")
    assert main(["plot", plain, "--estimator=Exact", "--out", str(tmp_path / "elsewhere")]) == 0
    assert titles == ["tanh"]


def test_a_users_own_model_runs_by_class_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(raw(model="alone", epochs=2)))
    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert "body.2" in capsys.readouterr().out


def test_a_model_in_the_users_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_own_nets.py").write_text(
        "from torch import nn\n\n"
        "def linear() -> nn.Module:\n"
        "    return nn.Sequential(nn.Linear(12, 2), nn.Tanh())\n"
    )
    path = tmp_path / "mine.yaml"
    mine = {**raw(epochs=2), "model": "my_own_nets.linear", "loss": "cross_entropy"}
    path.write_text(yaml.safe_dump(mine))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["run", "mine.yaml", "--quiet"]) == 0
    assert (tmp_path / "runs" / "mine" / "report.txt").exists()
    assert "Binning.idnns" in capsys.readouterr().out


def test_an_estimator_without_a_plane_does_not_cost_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "tishby", "--epochs=2", "--seeds=1", "--quiet", f"--out={tmp_path / 'run'}"]
    few = ["--set=estimators=[ross, exact]", "--set=variants={a: {loss: nll}}"]
    assert main([*run, *few, "--set=probe.samples=300"]) == 0
    said = capsys.readouterr().out
    assert "information_plane-exact.png" in said
    assert "curves-ross.png" in said
    assert "information_plane-ross" not in said


def test_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A smoke test: the names are there, on lines of a readable width."""
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for name in ("tishby", "binning", "ksg", "estimators", "problems", "Kraskov"):
        assert name in said
    assert all(len(line) <= 110 for line in said.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replicate", "tishbi"], "no replication is called 'tishbi'; there are: tishby"),
        (["run", "nothing.yaml"], "no configuration nothing.yaml"),
        (["replicate", "tishby", "--set", "epoch=3"], "epoch"),
        (["replicate", "tishby", "--set", "layers=[fc9]", *SMALL], "'fc9'; the layers are: fc1"),
        (
            ["replicate", "zhang", "--set", "optimizer.init_args.lr=0.1"],
            "optimizer.init_args.lr was set, but variant tanh-0 sets optimizer.init_args.lr itself",
        ),
        (["run", "zhang", "--set", "model={}"], "variant tanh-0 sets model.init_args.activation"),
        (
            ["replicate", "cohen", "--set", "optimizer.init_args.lr=0.1"],
            "variant tanh-gd sets optimizer itself",
        ),
        (["replicate", "tishby", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["replicate", "tishby", "--activation", "tahn"], "no activation 'tahn'"),
        (["replicate", "cohen", "--activation", "relu"], "its claims are of tanh networks alone"),
        (["replicate", "nagarajan", "--activation", "tanh"], "of relu networks alone"),
        (["replicate", "zhang", "--activation", "gelu"], "of tanh and relu networks alone"),
        (["replicate", "saxe-linear", "--activation", "tanh"], "leave --activation tanh out"),
        (
            ["replicate", "tishby", "--set", "estimators=[bining]"],
            "no estimator is called 'bining'",
        ),
        (["replicate", "tishby", "--resume", "--seeds", "3"], "runs/tishby: no config.yaml"),
        (["replicate", "tishby", "--resume", "--out", "nowhere"], "nowhere: no config.yaml"),
        (["verdict", "nowhere"], "nowhere"),
        (["verdict", "a", "--trust", "--against", "b"], "--trust does not go with --against"),
        (["plot", "a", "--animate", "--normalised"], "--normalised does not go with --animate"),
        (["plot", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [[], ["replicat"], ["run"], ["plot", "a", "--wrong"]])
def test_bad_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--help" in error


def test_a_folder_that_exists_and_an_unreadable_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace.sqlite").write_text("no database")
    assert main(["replicate", "tishby", "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["verdict", str(tmp_path)]) == 2
    assert "not a trace" in capsys.readouterr().err
    assert main(["verdict", str(tmp_path), "--estimator", "x"]) == 2


def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ibtrace.training.runner.train", interrupted)
    out = str(tmp_path / "run")
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(raw()))
    assert main(["run", str(path), "--out", out, "--quiet"]) == 130
    assert f"ibtrace run {out} --resume" in capsys.readouterr().err
    assert configs.read(Path(out) / "config.yaml") == raw()


_SAID = """
import sys
from ibtrace.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
heavy = {"torch", "pandas", "scipy", "sklearn", "matplotlib"} & {*sys.modules}
print("heavy:", status, *sorted(heavy))
"""


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("--version", 0),
        ("replicate --help", 0),
        ("list", 0),
        ("frobnicate", 2),
        ("replicate tishbi", 2),
        ("replicate tishby --resume --out nowhere", 2),
        ("replicate tishby --set epochs", 2),
        ("replicate tishby --out full", 2),
        ("run nowhere.yaml", 2),
        ("run broken.yaml", 2),
        ("run tishby --out full", 2),
        ("sweep tishby --grid seeds=0..2 epochs=1,2 --dry-run", 0),
        ("sweep tishby --grid epoch=1", 2),
        ("sweep tishby --grid epochs", 2),
        ("sweep full --grid epochs=1", 2),
        ("sweep tishby --out full", 2),
        ("trace nowhere.yaml --checkpoints a.pt", 2),
        ("multiverse nowhere", 2),
        ("compare --run nowhere", 2),
        ("plot nowhere", 2),
        ("report full nowhere", 2),
        ("verdict nowhere", 2),
    ],
)
def test_what_needs_no_network_is_said_before_torch_is_there(
    command: str, status: int, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "broken.yaml").write_text("epochs: [1")
    code = [sys.executable, "-c", _SAID, *command.split()]
    paths = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        code, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **paths}, check=True
    )
    assert done.stdout.splitlines()[-1] == f"heavy: {status}"
    assert bool(done.stderr) == bool(status)


def test_what_is_listed_is_what_there_is() -> None:
    held = json.loads(Path(listing.__file__).with_name("listing.json").read_text())
    assert held == listing.collected(), "python -m ibtrace.reports.listing collects it anew"
