"""A trace keeps every number it was given, once, whole, and says in one line why it cannot."""

from __future__ import annotations

import copy
import dataclasses
import math
import multiprocessing
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtrace.errors import InvalidInput, RunError
from ibtrace.trace import COLUMNS, Scalar, Trace, storage
from ibtrace.types import I_TY, I_XT, Row

NAN = float("nan")
LAYERS = ["tanh2", "tanh10", "output"]


def row(**changes: Any) -> Row:
    base = Row(
        seed=0,
        epoch=0,
        step=None,
        layer="tanh2",
        quantity=I_XT,
        instrument="Binning",
        estimand="T in 30 bins",
        value=1.0,
        stderr=NAN,
        lower=NAN,
        upper=NAN,
        flags="",
        diagnostics={},
        seconds=0.5,
    )
    return dataclasses.replace(base, **changes)


def snapshot(seed: int, epoch: int) -> list[Row]:
    return [
        row(seed=seed, epoch=epoch, layer=layer, quantity=quantity, value=seed + epoch / 10)
        for layer in LAYERS
        for quantity in (I_XT, I_TY)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run #1?"  # characters that a careless URI would trip over
    trace = Trace.create(folder, meta={"n": 8})
    for epoch in (0, 1, 10):
        for seed in (1, 0):
            trace.append(snapshot(seed, epoch), [Scalar(seed, epoch, "", "train_loss", 1.0)])
    return folder


def test_frame_has_the_promised_columns_then_diagnostics_and_order() -> None:
    trace = Trace.create()
    trace.append([row(layer=layer, diagnostics={"b": 1.0, "a": 2.0}) for layer in LAYERS])
    trace.append([row(epoch=2, step=7, layer=layer, quantity=I_TY) for layer in LAYERS])
    frame = trace.frame()
    assert frame.columns.tolist() == [*COLUMNS, "a", "b"]
    assert frame["layer"].tolist() == LAYERS * 2
    assert frame["epoch"].tolist() == [0, 0, 0, 2, 2, 2]
    assert frame["step"].isna().tolist() == [True] * 3 + [False] * 3
    assert frame["a"].isna().tolist() == [False] * 3 + [True] * 3


def test_empty_trace_gives_an_empty_frame_of_the_same_types(run: Path) -> None:
    empty, full = Trace.create().frame(), Trace.load(run).frame()
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()
    assert Trace.create().scalars().dtypes.to_dict() == Trace.load(run).scalars().dtypes.to_dict()


@given(
    bits=st.floats(),
    other=st.floats(allow_nan=False),
    seed=st.integers(0, 2**62),
    layer=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
@settings(max_examples=50)
def test_numbers_come_back_bit_for_bit(bits: float, other: float, seed: int, layer: str) -> None:
    trace = Trace.create()
    trace.append(
        [row(value=bits, seed=seed, layer=layer, diagnostics={"figure": other})],
        [Scalar(seed, 0, layer, "snr", bits)],
    )
    frame, scalars = trace.frame(), trace.scalars()
    for value in (frame["bits"][0], scalars["value"][0]):
        assert value == bits or (math.isnan(bits) and math.isnan(value))
    assert frame["figure"][0] == other
    assert (frame["seed"][0], frame["layer"][0], trace.layers) == (seed, layer, [layer])


def test_numpy_and_torch_numbers_are_stored_as_numbers() -> None:
    trace = Trace.create(meta={"n": np.int64(8), "where": Path("a"), "h": torch.tensor(0.5)})
    trace.append(
        [row(seed=np.int64(3), epoch=np.int32(4), step=torch.tensor(5), value=np.float32(0.5))],
        # mypy: numbers of NumPy and torch are taken
        [Scalar(np.int64(3), 4, "", "loss", torch.tensor(0.25))],  # type: ignore[arg-type]
    )
    assert trace.frame()[["seed", "epoch", "step", "bits"]].values.tolist() == [[3, 4, 5, 0.5]]
    assert trace.scalars()["value"].tolist() == [0.25]
    assert (trace.meta["n"], trace.meta["where"], trace.meta["h"]) == (8, "a", 0.5)


def test_a_repeated_snapshot_overwrites_and_never_duplicates(run: Path) -> None:
    trace = Trace.load(run)
    before = trace.frame()
    trace.append([dataclasses.replace(r, value=99.0) for r in snapshot(0, 10)])
    after = trace.frame()
    assert len(after) == len(before)
    assert (after.query("seed == 0 and epoch == 10").bits == 99.0).all()
    rest = "not (seed == 0 and epoch == 10)"
    pd.testing.assert_frame_equal(after.query(rest), before.query(rest))


def test_truncate_then_repeat_gives_the_same_trace(run: Path) -> None:
    trace = Trace.load(run)
    rows, scalars = trace.frame(), trace.scalars()
    trace.truncate(after=1, seeds=[0])
    assert trace.frame().groupby("seed").epoch.max().to_dict() == {0: 1, 1: 10}
    trace.truncate(after=0)
    assert set(trace.frame().epoch) == set(trace.scalars().epoch) == {0}
    for epoch in (1, 10):
        for seed in (0, 1):
            trace.append(snapshot(seed, epoch), [Scalar(seed, epoch, "", "train_loss", 1.0)])
    pd.testing.assert_frame_equal(trace.frame(), rows)
    pd.testing.assert_frame_equal(trace.scalars(), scalars)


def test_a_failing_snapshot_leaves_nothing_behind() -> None:
    trace = Trace.create()
    with pytest.raises(InvalidInput, match=r"two rows of a snapshot have one key .*label them"):
        trace.append([row(), row()])
    with pytest.raises(InvalidInput, match=r"Binning: diagnostics \['bits'\] have a column's name"):
        trace.append([row(diagnostics={"bits": 1.0})])
    with pytest.raises(RunError, match="NOT NULL"):
        trace.append([row(), row(epoch=1, layer=None)])
    assert len(trace) == 0
    trace.append([row()])
    assert len(trace) == 1


def test_meta_records_where_the_numbers_come_from(run: Path) -> None:
    trace = Trace.load(run)
    assert {"created", "packages", "git_revision", "schema_version"} <= set(trace.meta)
    assert "torch" in trace.meta["packages"]
    trace.update_meta({"config": {"lr": 4e-4, "layers": [12, 10]}})
    assert (trace.meta["config"], trace.meta["n"]) == ({"lr": 4e-4, "layers": [12, 10]}, 8)
    assert (trace.layers, trace.seeds, trace.estimators) == (LAYERS, [0, 1], ["Binning"])
    with pytest.raises(InvalidInput, match=r"meta 'model' cannot be stored: object is no JSON"):
        trace.update_meta({"model": object()})


def test_layers_keep_the_declared_order_and_estimators_that_of_use() -> None:
    trace = Trace.create(meta={"layers": LAYERS})
    trace.append([row(layer="output", instrument="KSG"), row(layer="new", instrument="Binning")])
    trace.append([row(epoch=1, layer="tanh2", instrument="Binning")])
    assert trace.layers == [*LAYERS, "new"]
    assert trace.estimators == ["KSG", "Binning"]


def test_a_run_folder_is_one_file_and_reading_does_not_change_it(run: Path) -> None:
    assert [file.name for file in run.iterdir()] == ["trace.sqlite"]
    before = (run / "trace.sqlite").read_bytes()
    trace = Trace.load(run / "trace.sqlite")
    assert (len(trace.frame()), len(trace.scalars()), len(trace)) == (36, 6, 36)
    assert "36 rows" in repr(trace)
    assert (run / "trace.sqlite").read_bytes() == before
    assert [file.name for file in run.iterdir()] == ["trace.sqlite"]


def test_a_trace_in_memory_can_be_saved(tmp_path: Path) -> None:
    trace = Trace.create(meta={"n": 4})
    trace.append(snapshot(0, 0))
    saved = trace.save(tmp_path / "kept")
    pd.testing.assert_frame_equal(Trace.load(tmp_path / "kept").frame(), trace.frame())
    assert saved.meta == trace.meta
    with pytest.raises(RunError, match=r"kept: holds a run already; choose another"):
        trace.save(tmp_path / "kept")


def test_export_reports_its_rows_and_keeps_the_numbers(run: Path, tmp_path: Path) -> None:
    trace = Trace.load(run)
    frame = trace.frame()
    assert trace.to_parquet(tmp_path / "t.parquet") == trace.to_csv(tmp_path / "t.csv") == 36
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), frame)
    numbers = ["seed", "epoch", "bits"]
    from_csv = pd.read_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(from_csv[numbers], frame[numbers])
    assert from_csv.columns.tolist() == frame.columns.tolist()


def test_seaborn_takes_the_frame_as_it_is(run: Path) -> None:
    frame = Trace.load(run).frame()
    grid = sns.relplot(frame, x="epoch", y="bits", hue="layer", col="quantity", kind="line")
    assert grid.legend is not None
    assert [text.get_text() for text in grid.legend.get_texts()] == LAYERS
    plt.close(grid.figure)


# --- what is wrong with a run ---------------------------------------------------------------


def test_a_folder_with_a_run_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds a run already; choose another folder, or resume"):
        Trace.create(run)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file: cannot be made a run folder"):
        Trace.create(tmp_path / "file")


def test_a_missing_run_names_the_runs_that_are_there(run: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere: no trace.sqlite there$"):
        Trace.load(run / "nowhere")
    with pytest.raises(RunError, match=r"no trace.sqlite there; the runs in it are run #1\?$"):
        Trace.load(run.parent)


def test_a_run_deleted_meanwhile_is_one_error(run: Path) -> None:
    trace = Trace.load(run)
    (run / "trace.sqlite").unlink()
    for use in (trace.frame, lambda: trace.append(snapshot(0, 0)), lambda: trace.meta):
        with pytest.raises(RunError, match="unable to open"):
            use()
    assert not (run / "trace.sqlite").exists()


@pytest.mark.parametrize("content", [b"", b"\x89PNG not a database" * 99, b"SQLite format 3\0"])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trace.sqlite").write_bytes(content)
    with pytest.raises(RunError, match="not a trace that ibtrace wrote"):
        Trace.load(tmp_path)


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "trace.sqlite")
    connection.execute('CREATE TABLE "rows" (seed)')
    connection.close()
    with pytest.raises(RunError, match="not a trace that ibtrace wrote"):
        Trace.load(tmp_path)


def test_a_newer_schema_is_refused(run: Path) -> None:
    Trace.load(run).update_meta({"schema_version": 999})
    with pytest.raises(RunError, match=r"newer ibtrace \(schema 999, this .* to 4\); upgrade"):
        Trace.load(run)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused_wherever_it_was_cut(run: Path, share: float) -> None:
    trace = Trace.load(run)
    for epoch in range(20, 60):
        trace.append(snapshot(0, epoch))
    content = (run / "trace.sqlite").read_bytes()
    (run / "trace.sqlite").write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunError, match=r"truncated or corrupted|its beginning is damaged"):
        Trace.load(run)


@pytest.mark.parametrize("lost", [1, 20, 200])
def test_a_file_without_its_last_bytes_is_refused(run: Path, lost: int) -> None:
    content = (run / "trace.sqlite").read_bytes()
    (run / "trace.sqlite").write_bytes(content[:-lost])
    with pytest.raises(RunError, match=r"trace.sqlite: truncated or corrupted"):
        Trace.load(run)


@pytest.mark.parametrize("version", [0, -1, None, "abc", [1]])
def test_a_schema_that_never_was_is_refused(run: Path, version: object) -> None:
    Trace.load(run).update_meta({"schema_version": version})
    with pytest.raises(RunError, match=r"trace.sqlite: truncated or corrupted"):
        Trace.load(run)


def test_a_corrupted_file_is_refused(run: Path) -> None:
    content = bytearray((run / "trace.sqlite").read_bytes())
    content[4096:6000] = b"\xff" * 1904
    (run / "trace.sqlite").write_bytes(content)
    with pytest.raises(RunError, match=r"trace.sqlite: truncated or corrupted"):
        Trace.load(run)


@pytest.mark.parametrize(
    "damage",
    ["packed = substr(packed, 1, length(packed) - 9)", "packed = 'text'", "count = count + 1"],
)
@pytest.mark.parametrize("table", ["rows", "scalars"])
def test_a_look_that_is_not_whole_is_refused(run: Path, table: str, damage: str) -> None:
    connection = sqlite3.connect(run / "trace.sqlite")
    connection.execute(f'UPDATE "{table}" SET {damage} WHERE seed = 1')
    connection.commit()
    connection.close()
    with pytest.raises(RunError, match=r"trace.sqlite: truncated or corrupted"):
        Trace.load(run).readings()


def test_a_text_that_is_gone_is_refused(run: Path) -> None:
    connection = sqlite3.connect(run / "trace.sqlite")
    connection.execute("DELETE FROM texts WHERE text = ?", (LAYERS[0],))
    connection.commit()
    connection.close()
    with pytest.raises(RunError, match=r"trace.sqlite: truncated or corrupted"):
        Trace.load(run).frame()


def test_what_was_read_is_read_again_when_another_has_written(run: Path) -> None:
    trace, other = Trace.load(run), Trace.load(run)
    before = trace.frame()
    other.append(snapshot(0, 77), [Scalar(0, 77, "", "train_loss", 0.5)])
    assert set(trace.frame()["epoch"]) == {*before["epoch"], 77}
    assert 77 in set(trace.scalars()["epoch"])
    other.update_meta({"layers": LAYERS[::-1]})
    assert trace.frame()["layer"].unique().tolist() == LAYERS[::-1]
    other.truncate(1)
    assert len(trace.frame()) == len(trace) == len(other.frame()) < len(before)


def test_a_trace_made_anew_in_a_folder_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    trace = Trace.create(tmp_path)
    trace.append(snapshot(0, 0))
    held = trace.frame()
    (tmp_path / "trace.sqlite").unlink()
    Trace.create(tmp_path).append(snapshot(3, 0))
    assert trace.frame()["seed"].tolist() == [3] * len(held)


def test_a_table_is_the_callers_own(run: Path) -> None:
    trace = Trace.load(run)
    tables = (trace.frame, trace.readings, trace.scalars)
    for read in tables:
        before = read()
        mine = read()
        mine.loc[:, "seed"] = -1
        mine["new"] = 0
        pd.testing.assert_frame_equal(read(), before)


# --- other processes ------------------------------------------------------------------------

_APPENDER = """
import sys
sys.path.insert(0, sys.argv[3])
from test_trace import snapshot
from ibtrace.trace import Trace
trace, seed = Trace.load(sys.argv[1]), int(sys.argv[2])
for epoch in range(100, 100_000):
    trace.append(snapshot(seed, epoch))
    print(epoch, flush=True)
"""


@pytest.mark.slow  # a fresh interpreter imports torch
def test_a_process_killed_while_appending_leaves_whole_snapshots(run: Path) -> None:
    command = [sys.executable, "-c", _APPENDER, str(run), "7", str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        written = [int(process.stdout.readline()) for _ in range(8)]
        process.send_signal(signal.SIGKILL)
    trace = Trace.load(run)
    sizes = trace.frame().query("seed == 7").groupby("epoch").size()
    assert set(written) <= set(sizes.index)
    assert (sizes == 6).all()
    trace.append(snapshot(7, 0))
    assert 0 in set(trace.frame().query("seed == 7").epoch)


def _append_seed(run: Path, seed: int) -> None:
    trace = Trace.load(run)
    for epoch in range(15):
        trace.append(snapshot(seed, epoch))


def test_processes_append_different_seeds_to_one_run(tmp_path: Path) -> None:
    Trace.create(tmp_path / "run")
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_append_seed, args=(tmp_path / "run", s)) for s in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    counts = Trace.load(tmp_path / "run").frame().groupby("seed").size()
    assert counts.to_dict() == {0: 90, 1: 90, 2: 90}


def test_a_run_that_stays_locked_is_one_error(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_LOCK_TIMEOUT", 0.05)
    trace = Trace.load(run)
    with storage.Database(trace.path).transaction():
        assert len(trace) == 36
        with pytest.raises(RunError, match="another process has held it for 0 s; try again later"):
            trace.append(snapshot(0, 20))
    trace.append(snapshot(0, 20))


def test_of_two_that_make_one_run_the_second_fails(tmp_path: Path) -> None:
    path = tmp_path / "trace.sqlite"

    def slower() -> None:
        with storage.made(path) as part:
            part.write_bytes(b"the slower one")
            Trace.create(tmp_path).append(snapshot(0, 0))

    with pytest.raises(RunError, match="another process has just made it; load it instead"):
        slower()
    assert len(Trace.load(tmp_path)) == 6
    assert [file.name for file in tmp_path.iterdir()] == ["trace.sqlite"]


def pickled(trace: Trace) -> Trace:
    again: Trace = pickle.loads(pickle.dumps(trace))
    return again


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_trace_in_memory_is_copied_whole(copied: Callable[[Trace], Trace]) -> None:
    trace = Trace.create(meta={"n": 7})
    trace.append(snapshot(0, 1))
    again = copied(trace)
    pd.testing.assert_frame_equal(again.frame(), trace.frame())
    assert again.meta == trace.meta
    again.append(snapshot(0, 2))
    assert (len(again), len(trace)) == (12, 6)
    assert again.path is None


def test_a_trace_in_a_folder_can_be_pickled(run: Path) -> None:
    trace = Trace.load(run)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(trace)).frame(), trace.frame())


# --- activations ----------------------------------------------------------------------------


def test_activations_come_back_bit_for_bit_in_order(run: Path) -> None:
    trace = Trace.load(run)
    whole = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    kept = {
        "z": whole.T,  # not contiguous
        "a": whole[:, :2],  # shares memory with the first
        "m": whole.double().requires_grad_(),
        "h": whole.bfloat16(),
    }
    trace.save_activations(3, kept)
    found = trace.activations(3)
    assert list(found) == ["z", "a", "m", "h"]
    for layer, value in kept.items():
        assert found[layer].dtype == value.dtype
        assert torch.equal(found[layer], value)
    assert not list(run.glob("activations/*.part"))


def test_activations_of_several_seeds_are_told_apart(run: Path) -> None:
    trace = Trace.load(run)
    assert trace.activation_epochs() == []
    for seed, epoch in ((0, 0), (0, 10), (5, 10)):
        trace.save_activations(epoch, {"a": torch.full((2, 1), float(seed))}, seed)
    assert (trace.activation_epochs(), trace.activation_epochs(5)) == ([0, 10], [10])
    assert trace.activations(10, seed=5)["a"].tolist() == [[5.0], [5.0]]
    with pytest.raises(RunError, match=r"at epoch 10: no seed None; name one of 0, 5"):
        trace.activations(10)
    with pytest.raises(RunError, match=r"kept at epoch 3; epochs kept: 0, 10"):
        trace.activations(3)
    trace.truncate(0, seeds=[0])
    assert (trace.activation_epochs(0), trace.activation_epochs(5)) == ([0], [10])


def test_bad_activations_are_one_error(run: Path) -> None:
    trace = Trace.load(run)
    file = trace.save_activations(1, {"a": torch.ones(3, 1)})
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(RunError, match=r"safetensors: unreadable activations .*delete the file"):
        trace.activations(1)
    with pytest.raises(RunError, match="in memory keeps no activations; give"):
        Trace.create().save_activations(0, {})
    assert Trace.create().activation_epochs() == []
