"""A trace that an older ibtrace wrote is read to the last digit, and is not changed."""

from __future__ import annotations

import json
import math
import pickle
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ibtrace.errors import RunError
from ibtrace.plane import verdict
from ibtrace.trace import COLUMNS, READING_COLUMNS, Scalar, Trace
from ibtrace.trace.storage import SCHEMA_VERSION
from ibtrace.types import I_TY, I_XT, Row

# As ibtrace.trace.storage had them, word for word.
SCHEMAS = {
    1: """CREATE TABLE "rows" (
        seed INTEGER NOT NULL, epoch INTEGER NOT NULL, step INTEGER, layer TEXT NOT NULL,
        quantity TEXT NOT NULL, estimator TEXT NOT NULL, estimand TEXT NOT NULL,
        bits REAL, stderr REAL, lower REAL, upper REAL, flags TEXT NOT NULL, seconds REAL,
        diagnostics TEXT NOT NULL,
        PRIMARY KEY (seed, epoch, layer, quantity, estimator)
    ) WITHOUT ROWID;
    CREATE TABLE scalars (
        seed INTEGER NOT NULL, epoch INTEGER NOT NULL, layer TEXT NOT NULL DEFAULT '',
        name TEXT NOT NULL, value REAL,
        PRIMARY KEY (seed, epoch, layer, name)
    ) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    PRAGMA application_id = 1229083730;""",
    2: """CREATE TABLE "rows" (
        seed INTEGER NOT NULL, "at" INTEGER NOT NULL,
        epoch INTEGER NOT NULL, step INTEGER, layer TEXT NOT NULL,
        quantity TEXT NOT NULL, estimator TEXT NOT NULL, estimand TEXT NOT NULL,
        bits REAL, stderr REAL, lower REAL, upper REAL, flags TEXT NOT NULL, seconds REAL,
        diagnostics TEXT NOT NULL,
        PRIMARY KEY (seed, "at", layer, quantity, estimator)
    ) WITHOUT ROWID;
    CREATE TABLE scalars (
        seed INTEGER NOT NULL, "at" INTEGER NOT NULL,
        epoch INTEGER NOT NULL, step INTEGER, layer TEXT NOT NULL DEFAULT '',
        name TEXT NOT NULL, value REAL,
        PRIMARY KEY (seed, "at", layer, name)
    ) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    PRAGMA application_id = 1229083730;""",
    3: """CREATE TABLE "rows" (
        seed INTEGER NOT NULL, "at" INTEGER NOT NULL,
        epoch INTEGER NOT NULL, step INTEGER, layer TEXT NOT NULL,
        quantity TEXT NOT NULL, instrument TEXT NOT NULL, estimand TEXT NOT NULL,
        variable TEXT NOT NULL,
        value REAL, unit TEXT NOT NULL, stderr REAL, lower REAL, upper REAL,
        flags TEXT NOT NULL, seconds REAL, diagnostics TEXT NOT NULL,
        PRIMARY KEY (seed, "at", layer, quantity, instrument)
    ) WITHOUT ROWID;
    CREATE TABLE scalars (
        seed INTEGER NOT NULL, "at" INTEGER NOT NULL,
        epoch INTEGER NOT NULL, step INTEGER, layer TEXT NOT NULL DEFAULT '',
        name TEXT NOT NULL, value REAL, unit TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (seed, "at", layer, name)
    ) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    PRAGMA application_id = 1229083730;""",
}
CASES = [(1, "epoch"), (2, "epoch"), (2, "step"), (3, "epoch"), (3, "step")]
SCALAR_COLUMNS = ("seed", "epoch", "step", "layer", "name", "value", "unit")
MADE = "gap; T: again"  # only the first mark parts them
LAYERS = ["tanh2", "tanh10"]  # not in the order of the alphabet
ESTIMATORS = ["KSG", "Binning"]


def rows(version: int, clock: str) -> list[dict[str, Any]]:
    """What the run measured; every number has all its digits."""
    written = []
    for seed in (0, 3):
        for epoch in (0, 1, 10):
            for layer in LAYERS:
                for quantity in (I_XT, I_TY):
                    for estimator in ESTIMATORS:
                        value = math.pi ** (seed + 1) / (epoch + 3) / len(layer)
                        row: dict[str, Any] = {
                            **{"seed": seed, "epoch": epoch, "layer": layer, "quantity": quantity},
                            "step": 7 * epoch if clock == "step" or seed else None,
                            **{"estimator": estimator, "estimand": f"T by {estimator}; T: {MADE}"},
                            **{"bits": value, "stderr": value / 7, "lower": None, "upper": None},
                            **{"flags": "slow,wide" if epoch else "", "seconds": 0.1 + 0.2},
                        }
                        written.append(row)
    return written


def scalars(version: int, clock: str) -> list[dict[str, Any]]:
    kept = [(0, 10, "", "train_loss", 1 / 3), (3, 10, "", "train_loss", None)]
    kept += [(0, 10, "tanh10", "exact_bits", math.e)]
    return [
        {
            **dict(zip(("seed", "epoch", "layer", "name", "value"), one, strict=True)),
            **({} if version == 1 else {"step": 70}),
        }
        for one in kept
    ]


def old(folder: Path, version: int, clock: str) -> Path:
    """A run as an older ibtrace left it."""
    folder.mkdir()
    meta: dict[str, Any] = {"schema_version": version, "layers": LAYERS, "estimators": ESTIMATORS}
    meta |= {"n": 8, "packages": {"torch": "2.1"}, "variables": {"KSG": "itself"}}
    meta |= {} if version == 1 else {"clock": clock}
    connection = sqlite3.connect(folder / "trace.sqlite")
    connection.executescript(SCHEMAS[version])
    for table, entries in (("rows", rows(version, clock)), ("scalars", scalars(version, clock))):
        for entry in entries:
            more = {} if table == "scalars" else {"diagnostics": json.dumps({"samples": 8.0})}
            more |= {} if version == 1 else {"at": entry[clock]}
            named = _as_third(entry) if table == "rows" and version == 3 else entry
            _insert(connection, table, {**named, **more})
    for key, value in meta.items():
        _insert(connection, "meta", {"key": key, "value": json.dumps(value)})
    connection.commit()
    connection.close()
    return folder


def _as_third(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the third schema names it, which knows units and tells how T was made apart."""
    named = {**entry, "instrument": entry["estimator"], "value": entry["bits"], "unit": "bits"}
    named |= {"estimand": f"T by {entry['estimator']}", "variable": MADE}
    return {name: value for name, value in named.items() if name not in ("estimator", "bits")}


def _insert(connection: sqlite3.Connection, table: str, entry: Mapping[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in entry)
    marks = ", ".join("?" * len(entry))
    connection.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', (*entry.values(),))


@pytest.fixture(params=CASES, ids=lambda case: f"schema {case[0]}, {case[1]}s")
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int, str]:
    version, clock = request.param
    return old(tmp_path / "old #1?", version, clock), version, clock


Case = tuple[Path, int, str]


def _table(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Entries in an order of their own, NaN for what is missing."""
    return sorted(
        tuple("nan" if value is None or value != value else value for value in entry.values())
        for entry in entries
    )


def test_every_number_is_there_to_the_last_digit(case: Case) -> None:
    folder, version, clock = case
    frame = Trace.load(folder).frame()
    assert frame.columns.tolist() == [*COLUMNS, "samples"]
    wanted = [
        {**entry, "estimand": f"T by {entry['estimator']}", "variable": MADE}
        for entry in rows(version, clock)
    ]
    held = frame.astype(object).where(frame.notna(), None).to_dict("records")
    found = [{name: entry[name] for name in wanted[0]} for entry in held]
    assert _table(found) == _table(wanted)
    assert set(frame["samples"]) == {8.0}


def test_the_order_is_the_networks_and_the_users(case: Case) -> None:
    frame = Trace.load(case[0]).frame()
    assert frame["layer"].unique().tolist() == LAYERS
    assert frame["estimator"].unique().tolist() == ESTIMATORS
    assert frame["epoch"].tolist() == [*([0] * 8), *([1] * 8), *([10] * 8)] * 2


def test_scalars_are_read_and_have_no_unit(case: Case) -> None:
    folder, version, _ = case
    frame = Trace.load(folder).scalars()
    assert frame.columns.tolist() == [*SCALAR_COLUMNS]
    found = frame.set_index(["seed", "name"])["value"]
    assert found[0, "train_loss"] == 1 / 3
    assert np.isnan(found[3, "train_loss"])
    assert found[0, "exact_bits"] == math.e
    assert frame["step"].isna().all() == (version == 1)
    assert set(frame["unit"]) == {""}


def test_readings_are_in_bits(case: Case) -> None:
    trace = Trace.load(case[0])
    readings = trace.readings()
    assert readings.columns.tolist() == [*READING_COLUMNS]
    measured = readings[readings["instrument"] != ""]
    assert set(measured["unit"]) == {"bits"}
    assert measured["value"].tolist() == trace.frame()["bits"].tolist()
    assert trace.lenses == []


def test_the_record_says_what_it_was_read_from(case: Case) -> None:
    folder, version, clock = case
    trace = Trace.load(folder)
    assert (trace.clock, trace.layers, trace.estimators) == (clock, LAYERS, ESTIMATORS)
    assert (trace.meta["n"], trace.meta["packages"]) == (8, {"torch": "2.1"})
    assert trace.meta["read_from_schema"] == version
    assert len(trace) == len(rows(version, clock))


def test_it_is_judged_as_ever(case: Case) -> None:
    assert str(verdict(Trace.load(case[0])))


def test_nothing_is_written_to_it(case: Case) -> None:
    folder, version, _ = case
    before = (folder / "trace.sqlite").read_bytes()
    trace = Trace.load(folder)
    nan = math.nan
    step = 140
    row = Row(9, 20, step, "tanh2", I_XT, "KSG", "T", 1.0, nan, nan, nan, "", {}, 0.1)
    writes: tuple[Callable[[], None], ...] = (
        lambda: trace.append([row]),
        lambda: trace.append([], [Scalar(9, 20, "", "loss", 1.0, step)]),
        lambda: trace.update_meta({"n": 9}),
        lambda: trace.truncate(0),
    )
    said = rf"written by an older ibtrace \(schema {version}\) and only read .*\.save\(folder\)"
    for write in writes:
        with pytest.raises(RunError, match=said) as caught:
            write()
        assert "\n" not in str(caught.value)
    assert (folder / "trace.sqlite").read_bytes() == before
    assert [file.name for file in folder.iterdir()] == ["trace.sqlite"]


def test_a_copy_is_todays_and_takes_more(case: Case, tmp_path: Path) -> None:
    trace = Trace.load(case[0])
    trace.save(tmp_path / "copy")
    copy = Trace.load(tmp_path / "copy")
    pd.testing.assert_frame_equal(copy.frame(), trace.frame())
    pd.testing.assert_frame_equal(copy.scalars(), trace.scalars())
    assert copy.meta["schema_version"] == SCHEMA_VERSION
    nan = math.nan
    row = Row(0, 20, 140, "tanh2", "height", "Height", "", 1.0, nan, nan, nan, "", {}, 0.1, "V")
    copy.append([row])
    assert Trace.load(tmp_path / "copy").readings().query("unit == 'V'")["value"].tolist() == [1.0]
    assert copy.lenses == ["Height"]


def test_it_can_be_pickled_before_and_after_it_is_read(case: Case) -> None:
    trace = Trace.load(case[0])
    untouched = pickle.dumps(trace)
    frame = trace.frame()
    for stored in (untouched, pickle.dumps(trace)):
        again = pickle.loads(stored)
        pd.testing.assert_frame_equal(again.frame(), frame)
        with pytest.raises(RunError, match="written by an older ibtrace"):
            again.truncate(0)


def test_a_write_protected_one_is_read(case: Case) -> None:
    folder, version, clock = case
    (folder / "trace.sqlite").chmod(0o444)
    folder.chmod(0o555)
    try:
        assert len(Trace.load(folder).frame()) == len(rows(version, clock))
    finally:
        folder.chmod(0o755)


def test_what_stands_for_t_is_told_of_each_layer(case: Case) -> None:
    folder, _, _ = case
    trace = Trace.load(folder)
    assert trace.meta["variables"] == {"KSG": dict.fromkeys(LAYERS, "itself")}
    assert {layer.layer for layer in trace.verdict()} == set(LAYERS)
