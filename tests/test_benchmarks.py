"""Benchmarks run, on small inputs: what they time gives the same numbers as its peers."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ibtrace import estimators

ROOT = Path(__file__).parent.parent
BESIDE = {
    "binning": {"ibsgd"},
    "binning, 300 layers in a call": {"ibsgd"},
    "binning as IDNNs": {"IDNNs"},
    "exact": {"unique rows"},
    "kde": {"ibsgd"},
    "ksg, max-norm": {"NPEET", "scikit-learn"},  # and others where they are installed
    "ross": {"scikit-learn"},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("benchmarks")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (out / "benchmarks.png").stat().st_size > 10_000
    assert "| `binning` |" in done.stdout
    loaded: dict[str, Any] = json.loads((out / "benchmarks.json").read_text())
    return loaded


def test_estimators_are_timed_beside_peers_that_give_their_numbers(found: dict[str, Any]) -> None:
    cases = {name.partition(":")[0]: row for name, row in found["beside peers"].items()}
    assert cases.keys() == BESIDE.keys()
    for name, peers in BESIDE.items():
        timed = cases[name]["ms"]
        assert {"ibtrace", *peers} <= timed.keys()
        assert cases[name]["times faster than"].keys() == timed.keys() - {"ibtrace"}
        assert all(ms > 0 for ms in timed.values())


def test_every_estimator_grows(found: dict[str, Any]) -> None:
    assert found["growth"].keys() == set(estimators.names())
    for row in found["growth"].values():
        assert len(row["N"]) == 2
        assert all(math.isfinite(power) for power in row["exponents"].values())


def test_the_machine_and_the_packages_are_told(found: dict[str, Any]) -> None:
    assert all(rate > 0 for rate in found["machine"].values())
    assert found["environment"]["packages"].keys() >= {"numba", "torch", "npeet-plus"}
    assert found["replication"]["exponents"].keys() == {"seeds", "layers"}
    assert all(gib > 0.05 for gib in found["memory"].values())


def test_what_looks_add_to_a_training_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    overhead: Any = importlib.import_module("overhead")
    monkeypatch.setattr(overhead, "SAMPLES", 300)
    for row in overhead.shares().values():
        assert all(row[name]["snapshot (CPU s)"] >= 0 for name in overhead.ESTIMATORS)
        assert row["snapshots in 100 epochs"] > 10
