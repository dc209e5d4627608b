"""What a large trace costs to write, read, judge and report, at half, once and twice the size.

    python benchmarks/reading.py

50 seeds, 275 looks, 6 layers, 3 estimators: what ``ibtrace replicate tishby --full`` leaves of one
activation. CPU seconds, of a trace that was just loaded; the report has no resolution maps.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.timing import keep
from ibtrace import Trace
from ibtrace.reports.paging import write_page
from ibtrace.runtime.schedule import log_spaced
from ibtrace.types import Row
from tests.report_traces import traced


def main() -> None:
    keep("reading", {f"{seeds} seeds": measured(seeds) for seeds in (25, 50, 100)})


def measured(seeds: int) -> dict[str, Any]:
    """CPU seconds of each thing that is done with a trace of so many seeds."""
    looks = [at for at in range(8_001) if log_spaced(8_000, 400)(at)]
    layers = [f"hidden{at}" for at in range(1, 7)]
    estimators = ["Binning", "Exact", "KDE"]
    made = traced(seeds=seeds, epochs=looks, layers=layers, estimators=estimators, lens="")
    snapshots = [rows_of(rows) for _, rows in made.frame().groupby("epoch")]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        writing = cpu(lambda: write(run, snapshots, made.meta))
        return {
            "numbers": len(made),
            "file (MB)": round((run / "trace.sqlite").stat().st_size / 1e6, 1),
            "write": writing,
            "frame": cpu(Trace.load(run).frame),
            "verdict": cpu(Trace.load(run).verdict),
            "report": cpu(lambda: write_page([run], run / "report.html")),
        }


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The rows of a table as they were appended."""
    named = frame.rename(columns={"estimator": "instrument", "bits": "value"})
    columns = [name for name in Row.__dataclass_fields__ if name in named]
    return [
        Row(**{**record, "step": None, "diagnostics": {}})
        for record in named[columns].to_dict("records")
    ]


def write(run: Path, snapshots: list[list[Row]], meta: dict[str, Any]) -> None:
    """Append them one by one to a trace on disk."""
    trace = Trace.create(run, {"n": meta["n"], "label_entropy": meta["label_entropy"]})
    for rows in snapshots:
        trace.append(rows)


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    begin = time.process_time()
    work()
    return round(time.process_time() - begin, 2)


if __name__ == "__main__":
    main()
