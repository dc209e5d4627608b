"""One of each kind is added from outside the package, in one file: docs/extending, as printed.

The page on an estimator is run in `test_compare`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ibtrace import papers
from ibtrace.cli import main
from ibtrace.errors import UnknownName
from ibtrace.plots import readings
from ibtrace.reports.quantities import quantities
from ibtrace.trace import Trace
from tests.test_docs import ROOT, names, run_page

PAGES = [
    ROOT / "docs" / "extending" / name
    for name in ("lens.md", "plot.md", "paper.md", "sink.md", "law.md")
]
FILES = ("my_lenses", "my_plots", "my_paper", "my_sinks", "my_laws")


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """What readers who typed the pages in have at their ends, each of which began with nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("user"))
        patch.setattr(sys, "path", [str(folder), *sys.path])
        ends = [run_page(page, names()) for page in PAGES]
        yield {**{k: v for end in reversed(ends) for k, v in end.items()}, "folder": folder}
    for name in FILES:
        sys.modules.pop(name, None)


def test_a_lens_goes_from_a_users_file_to_axis_table_and_text(scope: Mapping[str, Any]) -> None:
    trace = scope["tracer"].trace
    assert trace.lenses == ["Saturation", "Reach(gain=2.0)"]
    units = scope["table"].groupby("quantity")["unit"].unique()
    assert units["largest activation"].tolist() == ["V"]
    assert units["gradient norm"].tolist() == ["nats"]
    assert scope["figure"].axes[0].get_ylabel() == "gradient norm (nats)"
    assert readings(trace, "largest activation").axes[0].get_ylabel() == "largest activation (V)"
    assert "gradient norm in nats by Reach(gain=2.0), epoch 0 → 3" in quantities(trace)
    assert "lenses_failed" not in trace.meta


def test_a_plot(scope: Mapping[str, Any]) -> None:
    assert (scope["folder"] / "last_bits.png").stat().st_size > 5_000
    assert (scope["folder"] / "last_bits.pdf").exists()


def test_a_data_set_and_a_paper(scope: Mapping[str, Any]) -> None:
    run = scope["folder"] / "runs" / "parity"
    trace = Trace.load(run)
    assert (trace.meta["n"], trace.meta["population"]) == (16, True)
    assert trace.lenses == ["Saturation"]
    said = (run / "report.txt").read_text()
    assert "measured: 4 bits at least" in said
    assert "2 claims: 1 held, 0 failed, 1 inconclusive" in said


def test_a_sink(scope: Mapping[str, Any]) -> None:
    *told, end = (scope["folder"] / "looks.txt").read_text().splitlines()
    rows = scope["traced"].trace.frame()
    assert [line.split()[0] for line in told] == [str(epoch) for epoch in rows["epoch"]]
    assert all(line.endswith(" bits") for line in told)
    assert end == "done"


def test_a_law(scope: Mapping[str, Any]) -> None:
    frame, coins = scope["frame"], scope["Coins"](0.9)
    assert set(frame["status"]) == {"ok"}
    assert frame["truth"].tolist() == pytest.approx([coins.bits] * len(frame))
    exact = frame[frame["estimator"] == "Exact"]
    assert abs(exact["error"].mean()) < 0.05
    x, y = coins.sample(20_000, seed=0)
    assert float(coins.log_ratio(x, y).mean()) == pytest.approx(coins.bits, abs=0.02)
    assert torch.equal(x.unique(), torch.arange(2))


def test_a_paper_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("tishbi", "nowhere.PAPER", "math.pi"):
        with pytest.raises(UnknownName, match=f"no replication is called '{name}'; there are: ti"):
            papers.find(name)
        assert main(["replicate", name]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "your own as my_file.PAPER" in said
