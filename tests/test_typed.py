"""What a user writes passes strict type checkers, and what is wrong in it does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RIGHT = """
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import ibtrace
from ibtrace import At, Keep, Look, Probe, Steps, Trace, Tracer
from ibtrace.estimators import KSG, Binning
from ibtrace.plane import Verdict
from ibtrace.testing import check_estimator
from ibtrace.types import Estimate, Tags

x, y = torch.randn(64, 5), torch.arange(64) % 2
model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
probe: Probe = Probe(x, {"digit": y}, sources={"half": y // 2})
look = Look(["1"], reduce="tokens", max_bytes=2**30)
with Tracer(
    model,
    data=probe,
    estimators=["exact", Binning(width=0.5), At(KSG(k=3), every=5)],
    lenses=["saturation"],
    every=Steps(10),
    look=look,
    keep=Keep("runs/mine"),
) as tracer:
    for epoch in range(1, 4):
        tracer.snapshot(epoch)
verdict: Verdict = tracer.verdict()
trace: Trace = Trace.load("runs/mine")
frame: pd.DataFrame = trace.frame()
figure: Figure = trace.plot(x="half", y="digit")
again: Tracer = Tracer.from_checkpoints(model, "checkpoints/*.pt", data=(x, y))
curve = ibtrace.bottleneck(x=y, y=y)
most: float = curve.at(0.5)
ids: Tensor = ibtrace.ngrams(torch.arange(12).view(3, 4), 2)


class Mine:
    tags = Tags(
        estimand="I(X;Y)",
        x=frozenset({"continuous"}),
        y=frozenset({"discrete"}),
        reference="Nobody 1999",
        question="density",
    )

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        return Estimate(torch.zeros(()))


bits: Tensor = KSG(k=3)(x, y).bits
"""
WRONG = {
    "Binning(width='wide')": "Binning",
    "Tracer(model, data=probe, look='deep', wrong=1)": "Tracer",
    "Trace.load(3)": "load",
    "tracer.snapshot('last')": "snapshot",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of mypy on a user's file, at the end of which all is wrong."""
    pytest.importorskip("mypy")
    file = tmp_path_factory.mktemp("user") / "mine.py"
    file.write_text(RIGHT + "\n".join(WRONG) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(file)]
    # as the project is checked, so that what is known of it already is not found out again
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()


def test_what_a_user_writes_is_typed(said: list[str]) -> None:
    last = RIGHT.count("\n")
    errors = [line for line in said if "error:" in line]
    assert errors
    assert [line for line in errors if int(line.split(":")[1]) <= last] == []


def test_what_is_wrong_is_found(said: list[str]) -> None:
    first = RIGHT.count("\n") + 1
    for at, name in enumerate(WRONG.values()):
        lines = [line for line in said if line.split(":")[1:2] == [str(first + at)]]
        assert any(name in line for line in lines if "error:" in line), (name, lines)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What pyright says of the same file in its strict mode, by line."""
    pyright = shutil.which("pyright") or shutil.which("pyright", path=Path(sys.executable).parent)
    # pip's package is a wrapper that fetches pyright itself when it is first run
    if pyright is None or subprocess.run([pyright, "--version"], capture_output=True).returncode:
        pytest.skip("no pyright here: pip install pyright, and run it once with a network")
    folder = tmp_path_factory.mktemp("user")
    (folder / "mine.py").write_text(RIGHT + "\n".join(WRONG) + "\n")
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [pyright, "--pythonpath", sys.executable, "--outputjson", "mine.py"]
    quiet = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=quiet
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    # what is imported to be found is not used
    found = [each for each in found if each.get("rule") != "reportUnusedImport"]
    return {each["range"]["start"]["line"]: each["message"] for each in found}


def test_pyright_finds_nothing_in_what_a_user_writes(seen: dict[int, str]) -> None:
    last = RIGHT.count("\n")
    assert {line: text for line, text in seen.items() if line < last} == {}


def test_pyright_finds_what_is_wrong(seen: dict[int, str]) -> None:
    first = RIGHT.count("\n")
    assert sorted(seen) == list(range(first, first + len(WRONG)))
