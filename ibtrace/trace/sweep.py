"""The trace of a sweep: the networks of every point of a grid, in one file.

Networks of one point are seeds of one run; networks of two points never are. So the file keeps the
points apart: a `Sweep` maps each point's name to a `Trace` of its networks alone, which is judged
and drawn like that of any run, and its tables are those of all points, with the values of the grid
as columns. Whatever takes runs by name (`ibtrace.plots.information_planes`, `ibtrace.page.write`)
takes a sweep.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from ibtrace.errors import RunError, UnknownName
from ibtrace.page import write
from ibtrace.plane import GridVerdict, Rule, verdict
from ibtrace.plane.grid import joined
from ibtrace.runtime.arguments import require_path
from ibtrace.runtime.files import FILE_NAME, written_whole
from ibtrace.trace._trace import Trace
from ibtrace.trace.exporting import Exported
from ibtrace.trace.packing import LAYOUTS
from ibtrace.trace.storage import (
    JOB_FOLDERS,
    OF_SWEEP,
    SCHEMA_VERSION,
    SWEEP_SCHEMA,
    Database,
    make_tables,
    read_meta,
    to_json,
    write_meta,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_COLUMNS = 6
_SAME = ("probe_digest", "clock", "architecture", "population", "n")
"""What all jobs of a point agree in."""
_LISTS = ("layers", "modules", "estimators", "lenses", "quantities")
_TABLES = ("captured", "variables", "epochs", "configurations", "questions")


class Sweep(Exported, Mapping[str, Trace]):
    """The traces of a sweep by point; read one with `Sweep.load`.

    A point at which nothing was traced has no trace, and stands in `points` all the same.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with Database(path).connection() as connection:
            meta = read_meta(connection)
            held = {point for (point,) in connection.execute("SELECT DISTINCT point FROM networks")}
        self.grid: dict[str, list[Any]] = meta["grid"]
        """The values of every key."""
        self.points: dict[str, dict[str, Any]] = {
            point["name"]: point["values"] for point in meta[OF_SWEEP]
        }
        """The values of the grid at every point."""
        self.failed: dict[str, str] = meta["failed"]
        """Jobs that failed, and by what; what they had traced until then is in their traces."""
        self.unfinished: list[str] = meta["unfinished"]
        """Jobs that are still to be done; nothing of them is here."""
        self._traces = {
            name: Trace(path, number) for number, name in enumerate(self.points) if number in held
        }

    @classmethod
    def load(cls, run: str | os.PathLike[str]) -> Sweep:
        """The sweep of a folder (or of its ``trace.sqlite``).

        Raises:
            RunError: If there is none, or the file is foreign, truncated, corrupted or newer.
        """
        require_path("Sweep.load: run", run)
        path = Path(run)
        path = path / FILE_NAME if path.is_dir() else path
        if not is_sweep(path):
            raise RunError(f"{run}: no trace of a sweep there; ibtrace sweep merges its jobs")
        return cls(path)

    def __getitem__(self, name: str) -> Trace:
        """The trace of a point.

        Raises:
            UnknownName: If there is no such point, or nothing was traced at it.
        """
        if name not in self._traces:
            known = "; ".join(self._traces)
            raise UnknownName(f"{self.path}: no trace of a point {name!r}; there are: {known}")
        return self._traces[name]

    def __contains__(self, name: object) -> bool:
        return name in self._traces

    def __iter__(self) -> Iterator[str]:
        return iter(self._traces)

    def __len__(self) -> int:
        return len(self._traces)

    def __repr__(self) -> str:
        return f"Sweep({self.path}, {len(self.points)} points of {', '.join(self.grid)})"

    def frame(self) -> pd.DataFrame:
        """`Trace.frame` of every point, after a column for each key of the grid."""
        return self._joined(Trace.frame)

    def readings(self, *, diagnostics: bool = False) -> pd.DataFrame:
        """`Trace.readings` of every point, after a column for each key of the grid.

        Args:
            diagnostics: Whether a column for each diagnostic follows, by name.
        """
        return self._joined(lambda trace: trace.readings(diagnostics=diagnostics))

    def scalars(self) -> pd.DataFrame:
        """`Trace.scalars` of every point, after a column for each key of the grid."""
        return self._joined(Trace.scalars)

    def verdict(
        self, rule: Rule | None = None, *, estimators: Sequence[str] | None = None
    ) -> GridVerdict:
        """The verdict on every point, each by its own networks; ``print`` it for a table.

        Args:
            rule: What counts as compression.
            estimators: Only by the estimators of these labels; None for all.
        """
        judged = {name: verdict(trace, rule, estimators=estimators) for name, trace in self.items()}
        return GridVerdict(judged, self._values)

    @property
    def columns(self) -> int | None:
        """How many points stand side by side in a figure, so that each row has all values of a key.

        None where that leaves no room, or where points have no trace.
        """
        several = [len(values) for values in self.grid.values() if len(values) > 1]
        whole = len(self) == len(self.points) and len(several) > 1
        return several[-1] if whole and several[-1] <= _MOST_COLUMNS else None

    def plot(self, estimator: str | None = None) -> Figure:
        """The information planes of all points on shared axes: a row has all values of one key.

        See `ibtrace.plots.information_planes`; `ibtrace.plots.falls` draws what `verdict` gives.
        """
        from ibtrace import plots  # here, because it loads matplotlib

        return plots.information_planes(self, estimator, columns=self.columns)

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write all points side by side as one HTML file, and return its path.

        Args:
            path: The file, which is replaced; None is ``report.html`` in the sweep's folder.

        Raises:
            InvalidInput: If a trace is empty, or the name is no page's.
            RunError: If the file cannot be written.
        """
        return write(self, self.path.parent / "report.html" if path is None else path)

    def _joined(self, table: Callable[[Trace], pd.DataFrame]) -> pd.DataFrame:
        """A table of every point, the grid's values before it."""
        return joined({name: table(trace) for name, trace in self.items()}, self._values)

    @property
    def _values(self) -> dict[str, dict[str, Any]]:
        """The values of the grid at every point that has a trace, as they stand in a table."""
        return {name: _columns(self.points[name]) for name in self}


def is_sweep(path: Path) -> bool:
    """Whether a file is the trace of a sweep.

    Args:
        path: Of the file, or of its folder.

    Raises:
        RunError: If it is foreign, truncated, corrupted or newer.
    """
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        return False
    database = Database(path)
    database.check()
    with database.connection() as connection:
        return OF_SWEEP in read_meta(connection)


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a point as they stand in a table: lists and mappings as text."""
    return {
        key: yaml.safe_dump(value, default_flow_style=True).strip()
        if isinstance(value, list | dict)
        else value
        for key, value in values.items()
    }


@dataclass(frozen=True)
class Merged:
    """What of a point is merged.

    Args:
        values: Of the grid.
        seeds: All that the point has, those of jobs that are not done too.
        jobs: The folders of the jobs that are done or failed, from that of the sweep.
    """

    values: Mapping[str, Any]
    seeds: Sequence[int]
    jobs: Sequence[str]


def merge(
    folder: Path,
    points: Mapping[str, Merged],
    grid: Mapping[str, Sequence[Any]],
    *,
    failed: Mapping[str, str],
    unfinished: Sequence[str],
) -> Sweep:
    """Write the trace of a sweep anew from those of its jobs, and read it.

    The file is whole at every moment: it takes the place of the one before when it is complete.

    Args:
        folder: Of the sweep.
        points: By name.
        grid: The values of every key.
        failed: Jobs that failed, and by what.
        unfinished: Jobs that are still to be done.

    Raises:
        RunError: If a trace cannot be read, or jobs of one point do not fit together.
    """
    listed = [{"name": name, "values": dict(each.values)} for name, each in points.items()]
    meta = {
        **{"schema_version": SCHEMA_VERSION, "grid": dict(grid), OF_SWEEP: listed},
        **{"failed": dict(failed), "unfinished": list(unfinished)},
    }
    path = folder / FILE_NAME
    with (
        written_whole(path) as part,
        Database(part, name=path).transaction("rwc") as connection,
    ):
        make_tables(connection)
        for statement in SWEEP_SCHEMA:
            connection.execute(statement)
        write_meta(connection, meta)
        for number, point in enumerate(points.values()):
            _add_point(connection, number, point, folder)
    return Sweep(path)


def _add_point(connection: sqlite3.Connection, number: int, point: Merged, folder: Path) -> None:
    """Add the traces of a point's jobs, and what is recorded of them."""
    joined: dict[str, Any] = {}
    for job in point.jobs:
        trace = Trace.load(folder / job)
        joined = _with_meta(joined, trace.meta, job)
        with trace._database.connection() as source:
            _add_looks(connection, source, number)
    record = {**joined, "seeds": list(point.seeds), JOB_FOLDERS: list(point.jobs)}
    connection.executemany(
        "INSERT INTO of_points VALUES (?, ?, ?)",
        [(number, key, to_json(key, value)) for key, value in record.items()],
    )


def _with_meta(held: dict[str, Any], meta: Mapping[str, Any], job: str) -> dict[str, Any]:
    """What is recorded of a point, with a further job.

    Raises:
        RunError: If the job was measured on another probe, or another model.
    """
    if not held:
        return dict(meta)
    for key in _SAME:
        if held.get(key) != meta.get(key):
            raise RunError(
                f"{job}: another {key.replace('_', ' ')} than in other jobs of its point, whose "
                "networks would be judged together; the data or the model are drawn anew by each "
                "job: fix their seed"
            )
    for key in _LISTS:
        if key in held or key in meta:
            held[key] = list(dict.fromkeys([*held.get(key, ()), *meta.get(key, ())]))
    for key in _TABLES:
        if key in held or key in meta:
            held[key] = {**meta.get(key, {}), **held.get(key, {})}
    return held


def _add_looks(target: sqlite3.Connection, source: sqlite3.Connection, point: int) -> None:
    """Add what a job's networks gave, their texts under the ids that they have here."""
    texts = dict(source.execute("SELECT id, text FROM texts"))
    target.executemany(
        "INSERT OR IGNORE INTO texts (text) VALUES (?)", [(t,) for t in texts.values()]
    )
    known = {text: id for id, text in target.execute("SELECT id, text FROM texts")}
    ids = np.zeros(max(texts, default=0) + 1, dtype=np.uint32)
    for old, text in texts.items():
        ids[old] = known[text]
    numbers: dict[int, int] = {}
    for table, layout in LAYOUTS.items():
        for seed, at, count, packed in source.execute(
            f'SELECT seed, "at", count, packed FROM "{table}"'
        ):
            if seed not in numbers:
                new = target.execute(
                    "INSERT INTO networks (point, seed) VALUES (?, ?)", (point, seed)
                )
                numbers[seed] = int(new.lastrowid or 0)
            content = layout.renumbered((count, packed), ids)
            record = (numbers[seed], at, count, content)
            target.execute(f'INSERT INTO "{table}" VALUES (?, ?, ?, ?)', record)
