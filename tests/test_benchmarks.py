"""Benchmarks run, on small inputs: what they time gives the same numbers as its peers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "kernels.py"


def test_kernels_are_measured_beside_their_peers(tmp_path: Path) -> None:
    out = tmp_path / "kernels.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["environment"]["packages"].keys() >= {"numba", "torch", "npeet-plus"}
    for name, row in found["results"].items():
        peer = "npeet" if name.startswith("KSG") else "ibsgd"
        assert row["ms"].keys() == {peer, *row[f"times faster than {peer}"]}
