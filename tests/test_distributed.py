"""Two processes training one model are traced like one, and train as if they were not."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from ibtrace.probe import Probe
from ibtrace.trace import Trace
from ibtrace.tracer import Tracer
from tests import zoo
from tests.arguments import grouped
from tests.decoders import tokens
from tests.ranks import PARTS, N, streams

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


def run_two(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both ranks of a scenario found; one that hangs or fails fails the test."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.ranks", name]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(folder)], env=environment, cwd=ROOT, stderr=subprocess.PIPE
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=120)[1].decode() for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], "\n".join(said)
    first, second = (torch.load(folder / f"rank{r}.pt", weights_only=False) for r in (0, 1))
    return first, second


def alone(case: zoo.Case, folder: Path, **arguments: Any) -> pd.DataFrame:
    """The rows of one process on the weights that were saved at each snapshot."""
    model, probe = case.model(), Probe(*case.data(N))
    tracer = Tracer.from_checkpoints(model, str(folder / "*.pt"), probe, **grouped(**arguments))
    return tracer.trace.frame()


def assert_same_rows(found: pd.DataFrame, expected: pd.DataFrame, within: float = 0.0) -> None:
    assert set(found.epoch) == {0, 1, 2, 3}
    without = partial(pd.DataFrame.drop, columns="seconds")
    pd.testing.assert_frame_equal(without(found), without(expected), rtol=within, atol=within)


def unlike(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    seen = ("rows", "verdict")
    return [name for name in one if name not in seen and one[name] != other[name]]


def test_ddp_is_traced_on_rank_0(tmp_path: Path) -> None:
    first, second = run_two("data_parallel", tmp_path)
    for way in ("outer", "inner"):
        assert_same_rows(first[way]["rows"], alone(zoo.ZOO["resnet"], tmp_path / way))
        assert_same_rows(Trace.load(tmp_path / f"run-{way}").frame(), first[way]["rows"])
        assert second[way]["rows"].empty
        assert "no call: 1 seed" in first[way]["verdict"]
        assert second[way]["verdict"] == "Rank 1 measures nothing; the verdict is on rank 0."
        for found in (first, second):
            assert unlike(found[way], found["untraced"]) == []


def test_fsdp2_is_forwarded_on_every_rank_and_written_on_rank_0(tmp_path: Path) -> None:
    first, second = run_two("fully_sharded", tmp_path)
    for way in ("blocks", "one", "validated"):
        assert_same_rows(first[way]["rows"], alone(zoo.ZOO["resnet"], tmp_path / way))
        assert second[way]["rows"].empty
        for found in (first, second):
            assert unlike(found[way], found[f"{way} untraced"]) == []


@pytest.fixture(scope="module")
def in_parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    folder = tmp_path_factory.mktemp("parts")
    return folder, *run_two("parts_of_a_probe", folder)


@pytest.mark.parametrize("name", PARTS)
def test_a_probe_in_parts_is_measured_as_a_whole(
    name: str, in_parts: tuple[Path, Any, Any]
) -> None:
    folder, first, second = in_parts
    way = PARTS[name]
    expected = alone(zoo.ZOO[way.model], folder / name, **way.arguments)
    # A recurrent layer rounds otherwise in a forward of another number of samples.
    within = 1e-6 if "lstm" in name else 0.0
    assert_same_rows(first[name]["rows"], expected, within)
    assert second[name]["rows"].empty


def test_statistics_add_up_over_ranks_as_over_batches(tmp_path: Path) -> None:
    first, second = run_two("added_up", tmp_path)
    expected = streams(lambda model: model, tokens(), max_bytes=None).trace.frame()
    for name in ("means held", "means"):  # one constant, whichever rank it was rounded on
        rows = first.pop(name)
        assert (rows["bits"] == 0).all(), name
        assert rows["flags"].str.contains("constant").all(), name
    for name, frame in first.items():
        assert len(frame) == len(expected) == 2 * 3 * 2, name
        for column in ("bits", "stderr", "null_bits"):
            pd.testing.assert_series_equal(
                frame[column], expected[column], check_exact=False, rtol=0, atol=1e-10
            )
        assert frame.samples.tolist() == expected.samples.tolist()
        assert second[name].empty
