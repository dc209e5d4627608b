"""Trace: the append-only table of rows, with everything needed to say where they came from."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import secrets
import sqlite3
import subprocess
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

from ibtrace.alignment import EVENTS, Event, Events, Named, Order, coincidence, events, order
from ibtrace.bounds import BottleneckCurve, curve_of
from ibtrace.errors import InvalidInput, RunError
from ibtrace.page import write
from ibtrace.plane import Multiverse, Resolution, Rule, Trust, Verdict, pair, trust, verdict
from ibtrace.probe import Probe, as_x
from ibtrace.runtime.arguments import require_mapping, require_path
from ibtrace.trace.analysing import analyse
from ibtrace.trace.choices import Choices
from ibtrace.trace.examination import Examination
from ibtrace.trace.examining import examine
from ibtrace.trace.exporting import Exported
from ibtrace.trace.packing import Columns, Entry
from ibtrace.trace.resolving import resolve
from ibtrace.trace.storage import (
    ACTIVATIONS,
    FILE_NAME,
    JOB_FOLDERS,
    OF_SWEEP,
    PROBE,
    SCHEMA_VERSION,
    ActivationFiles,
    Database,
    claim_seeds,
    lost_seeds,
    put,
    read_meta,
    read_tensors,
    state_of,
    write_meta,
    write_tensors,
)
from ibtrace.types import I_XT, RESERVED, Estimator, Row, TraceLike, information_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    *("seed", "epoch", "step", "layer", "quantity", "estimator", "estimand"),
    *("bits", "stderr", "lower", "upper", "flags", "seconds", "variable"),
)
READING_COLUMNS = (
    *("seed", "epoch", "step", "layer", "quantity", "instrument"),
    *("value", "unit", "stderr", "lower", "upper", "flags", "seconds"),
)
_Read = TypeVar("_Read")
_SCALARS = ("seed", "epoch", "step", "layer", "name", "value", "unit")
_PACKAGES = ("ibtrace", "torch", "numpy", "scipy", "scikit-learn", "npeet-plus", "pandas")


class Scalar(NamedTuple):
    """A number that the training loop tells, beside what is measured: a loss, an accuracy.

    Attributes:
        seed: The seed of the network.
        epoch: Epochs of training done.
        layer: The layer it belongs to; empty for the network as a whole.
        name: What it is, ``"train_loss"``.
        value: The number; NaN is kept.
        step: Optimiser steps done, if the loop said so.
        unit: Its unit (``"nats"``, ``"1"``); empty if nobody said.
    """

    seed: int
    epoch: int
    layer: str
    name: str
    value: float
    step: int | None = None
    unit: str = ""


class Trace(Exported):
    """The rows of one run, in the SQLite file of a run folder or in memory.

    Make one with `Trace.create`, read one with `Trace.load`. There is nothing to close, and
    several processes may append different seeds to one run.

    A trace has one clock: it counts epochs or, where its meta entry ``clock`` is ``step``,
    optimiser steps, and has one look at each count. Every row carries both, as far as known.

    >>> from ibtrace.types import I_XT
    >>> nan = float("nan")
    >>> row = Row(0, 5, None, "tanh1", I_XT, "Exact", "float32 T", 3.0, nan, nan, nan, "", {}, 0.1)
    >>> trace = Trace.create(meta={"n": 8})
    >>> trace.append([row], scalars=[Scalar(0, 5, "", "train_loss", 0.7)])
    >>> trace.frame()[["seed", "epoch", "layer", "quantity", "bits"]]
       seed  epoch  layer quantity  bits
    0     0      5  tanh1   I(X;T)   3.0
    """

    def __init__(self, path: Path | None, point: int | None = None) -> None:
        self.path = path
        self._database = Database(path, point)
        self._clock: str | None = None
        self._token: str | None = None  # of a writer that has claimed seeds
        self._read: dict[Hashable, tuple[int, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_read": {}}

    @classmethod
    def create(
        cls, run_dir: str | os.PathLike[str] | None = None, meta: Mapping[str, Any] | None = None
    ) -> Trace:
        """A new, empty trace.

        Args:
            run_dir: The run folder, which must not hold a trace yet; None keeps it in memory.
            meta: What to record of the run, as JSON values: ``config``, ``probe_digest``, ``n``,
                ``population`` (whether the probe is all of X),
                ``label_entropy`` and ``input_entropy`` in bits, ``layers`` in order, ``seeds``.
                Package versions, git revision and date are added.

        Raises:
            InvalidInput: If a meta value cannot be written as JSON.
            RunError: If the folder holds a trace already, or cannot be written.
        """
        if run_dir is not None:
            require_path("Trace.create: run_dir", run_dir)
        require_mapping("Trace.create: meta", {} if meta is None else meta)
        trace = cls(None if run_dir is None else Path(run_dir) / FILE_NAME)
        empty = {"schema_version": SCHEMA_VERSION, "layers": [], "estimators": [], "lenses": []}
        trace._database.create({**_provenance(), **empty, **(meta or {})})
        return trace

    @classmethod
    def load(cls, run: str | os.PathLike[str]) -> Trace:
        """The trace of a run folder (or of its ``trace.sqlite``), to read or to append to.

        Raises:
            RunError: If there is none, it is a sweep's, or the file is foreign, truncated,
                corrupted or newer.
        """
        require_path("Trace.load: run", run)
        path = Path(run)
        if path.is_dir():
            path = path / FILE_NAME
        if not path.is_file():
            inside = sorted(p.parent.name for p in path.parent.glob(f"*/{FILE_NAME}"))
            hint = f"; the runs in it are {', '.join(inside)}" if inside else ""
            raise RunError(f"{run}: no {FILE_NAME} there{hint}")
        trace = cls(path)
        trace._database.check()
        if OF_SWEEP in (meta := trace.meta):
            raise RunError(
                f"{run}: a sweep of {len(meta[OF_SWEEP])} points, whose networks are no seeds of "
                "one run; ibtrace.Sweep.load(folder) has a trace of each, and one table of all"
            )
        return trace

    def save(self, run_dir: str | os.PathLike[str]) -> Trace:
        """A copy of the tables in a new run folder (activations are not copied).

        Raises:
            RunError: If the folder holds a trace already, or cannot be written.
        """
        require_path("Trace.save: run_dir", run_dir)
        path = Path(run_dir) / FILE_NAME
        self._database.copy(path)
        return Trace(path)

    # --- writing ----------------------------------------------------------------------------

    def claim(self, seeds: Iterable[int]) -> None:
        """Be the writer of some seeds of a run folder: one that claimed them before is refused.

        Two processes that trace one seed into one folder would leave looks of two trainings among
        each other. So the later takes over, and the earlier fails at its next look; a process that
        was killed bars nobody. Without a claim nothing is checked.

        Args:
            seeds: The seeds.

        Raises:
            RunError: If the file cannot be written.
        """
        if self.path is None:
            return
        self._token = secrets.token_hex(8)
        with self._database.transaction() as connection:
            claim_seeds(connection, seeds, self._token)

    def append(
        self,
        rows: Iterable[Row],
        scalars: Iterable[Scalar] = (),
        *,
        replacing: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Write a snapshot: all of it or, if interrupted, none of it.

        A row or scalar with the key of a stored one replaces it, so a resumed run that repeats a
        snapshot leaves no duplicate.

        Args:
            rows: The estimates.
            scalars: The other numbers.
            replacing: Seeds, each with a place on the clock, whose rows of before go first: they
                are of another network, and not each of them need have one that replaces it.

        Raises:
            InvalidInput: If two rows of the snapshot have one key.
            RunError: If the file cannot be written.
        """
        rows, scalars = list(rows), list(scalars)
        gone = [(int(seed), int(at)) for seed, at in replacing]
        if not rows and not scalars and not gone:
            return
        clock = self.clock
        _check_rows(rows, clock)
        measured = [_row_entry(row, clock) for row in rows]
        told = [_scalar_entry(scalar, clock) for scalar in scalars]
        with self._database.transaction() as connection:
            self._require_claimed(connection, {e.seed for e in (*measured, *told)})
            connection.executemany('DELETE FROM "rows" WHERE seed = ? AND "at" = ?', gone)
            put(connection, "rows", measured)
            put(connection, "scalars", told)
            # The key sorts by name; the network's order and the user's are kept beside it.
            known = read_meta(connection)
            information = information_of(known)
            traced = {*known["layers"], *known.get("captured", {})}
            traced |= {row.layer for row in rows if row.quantity in information}
            now = {
                "layers": (row.layer for row in rows if row.layer in traced),
                "modules": (row.layer for row in rows if row.layer and row.layer not in traced),
                "estimators": (row.instrument for row in rows if row.quantity in information),
                "lenses": (row.instrument for row in rows if row.quantity not in information),
                "quantities": (row.quantity for row in rows),
            }
            joined = {key: _joined(known.get(key, []), names) for key, names in now.items()}
            if new := {key: names for key, names in joined.items() if names != known.get(key, [])}:
                write_meta(connection, new)

    def _require_claimed(self, connection: sqlite3.Connection, seeds: Iterable[int]) -> None:
        """Raise if another has claimed one of the seeds since this trace did."""
        lost = [] if self._token is None else lost_seeds(connection, seeds, self._token)
        if lost:
            raise RunError(
                f"{self.path}: another process traces seed {', '.join(map(str, lost))} into this "
                "run now, and this one stops; give each a folder, or a seed, of its own"
            )

    def update_meta(self, meta: Mapping[str, Any]) -> None:
        """Set some of the meta entries; the others stay.

        Raises:
            InvalidInput: If a value cannot be written as JSON.
            RunError: If the file cannot be written.
        """
        with self._database.transaction() as connection:
            write_meta(connection, meta)

    def truncate(self, after: int, seeds: Sequence[int] | None = None) -> None:
        """Forget what lies after an epoch, so that a run can be resumed from there.

        Args:
            after: The last epoch to keep; of a trace that counts steps, the last step.
            seeds: The seeds to cut; None cuts all.
        """
        where, values = '"at" > ?', [int(after)]
        if seeds is not None:
            where += f" AND seed IN ({', '.join('?' * len(seeds))})"
            values += [int(seed) for seed in seeds]
        with self._database.transaction() as connection:
            self._require_claimed(connection, seeds or ())
            for table in ("rows", "scalars"):
                connection.execute(f'DELETE FROM "{table}" WHERE {where}', values)
        if self.path is not None:
            self._files.truncate(after, seeds)

    # --- reading ----------------------------------------------------------------------------

    def frame(self) -> pd.DataFrame:
        """All rows as a tidy table, one number per row: by seed, epoch, layer and estimator.

        Layers are in the network's order, estimators in that of their first use.

        Columns: ``seed, epoch, step, layer, quantity, estimator, estimand, bits, stderr, lower,
        upper, flags, seconds``, then ``variable``, how T was made of the layer's output (``gap``;
        empty if it is the output), and one for each diagnostic, by name.
        """
        return self._held("frame", self._frame)

    def _frame(self, connection: sqlite3.Connection) -> pd.DataFrame:
        rows = self._made("in order", connection, self._in_order)
        information = information_of(read_meta(connection))
        rows = rows.at(rows.places("quantity", information) < len(information))
        frame = rows.table().rename(columns={"instrument": "estimator", "value": "bits"})
        return pd.concat([frame[[*COLUMNS]], rows.figures()], axis=1)

    def readings(self, *, diagnostics: bool = False) -> pd.DataFrame:
        """Every number as a tidy table, whatever its quantity and unit: by seed, epoch and layer.

        Args:
            diagnostics: Whether a column for each diagnostic follows, by name, as in `frame`.

        Columns: ``seed, epoch, step, layer, quantity, instrument, value, unit, stderr, lower,
        upper, flags, seconds``. The instrument is an estimator's label or a lens's; of what the
        training loop logged it is empty, as is the unit where nobody said it. The layer of a
        quantity of the whole network is empty.
        """
        rows = self._held("rows", self._measured)
        if diagnostics:
            rows = pd.concat([rows, self._held("figures", self._figures)], axis=1)
        logged = self.scalars().rename(columns={"name": "quantity"})
        unknown = dict.fromkeys(("stderr", "lower", "upper", "seconds"), np.nan)
        logged = logged.assign(instrument="", flags="", **unknown)
        logged = logged[[*READING_COLUMNS]].astype({"instrument": "str", "flags": "str"})
        return pd.concat([rows, logged], ignore_index=True)

    def _measured(self, connection: sqlite3.Connection) -> pd.DataFrame:
        rows = self._made("in order", connection, self._in_order)
        return rows.table()[[*READING_COLUMNS]]

    def _figures(self, connection: sqlite3.Connection) -> pd.DataFrame:
        return self._made("in order", connection, self._in_order).figures()

    def _in_order(self, connection: sqlite3.Connection) -> Columns:
        """Stored rows by seed, place on the clock, layer, instrument and quantity."""
        rows, meta = self._database.read(connection, "rows"), read_meta(connection)
        # the network as a whole first
        layers = ["", *meta["layers"], *meta.get("modules", [])]
        instruments = [*meta["estimators"], *meta.get("lenses", [])]
        order = np.lexsort(  # the last key counts most
            [
                rows.places("quantity"),
                rows.places("instrument", instruments),
                rows.places("layer", layers),
                rows.records[meta.get("clock", "epoch")],
                rows.seed,
            ]
        )
        return rows.at(order)

    def scalars(self) -> pd.DataFrame:
        """What was logged: ``seed, epoch, step, layer, name, value, unit``, sorted."""
        return self._held("scalars", self._logged)

    def _logged(self, connection: sqlite3.Connection) -> pd.DataFrame:
        logged, clock = self._database.read(connection, "scalars"), read_meta(connection)
        at = logged.records[clock.get("clock", "epoch")]
        order = np.lexsort([logged.places("name"), logged.places("layer"), at, logged.seed])
        return logged.at(order).table()[[*_SCALARS]]

    def _held(self, what: str, make: Callable[[sqlite3.Connection], pd.DataFrame]) -> pd.DataFrame:
        """A table, made once for each state of the trace; the caller's own copy.

        Args:
            what: Its name.
            make: Reads it.
        """
        with self._database.connection() as connection:
            return self._made(what, connection, make).copy()

    def _made(
        self,
        what: str,
        connection: sqlite3.Connection,
        make: Callable[[sqlite3.Connection], _Read],
    ) -> _Read:
        """What was read of the trace, anew only when the trace is in another state."""
        # the state first: what is written meanwhile is read again
        return self._once(what, state_of(connection), lambda: make(connection))

    def remembered(self, key: Hashable, compute: Callable[[], _Read]) -> _Read:
        """``compute()``, done once for each state of the trace; shared, so not to be changed.

        Args:
            key: What is computed, and how.
            compute: Computes it of this trace alone.
        """
        with self._database.connection() as connection:
            state = state_of(connection)
        return self._once(key, state, compute)

    def _once(self, key: Hashable, state: int, compute: Callable[[], _Read]) -> _Read:
        if self._read.get(key, (None,))[0] != state:
            self._read[key] = (state, compute())
        read: _Read = self._read[key][1]
        return read

    @property
    def clock(self) -> str:
        """What the looks are counted by: ``epoch`` or ``step``; settled when the trace is made."""
        if self._clock is None:
            self._clock = str(self.meta.get("clock", "epoch"))
        return self._clock

    @property
    def meta(self) -> dict[str, Any]:
        """What is recorded of the run: schema, packages, git revision, config, n and more."""
        with self._database.connection() as connection:
            return read_meta(connection)

    @property
    def layers(self) -> list[str]:
        """The layers in the network's order."""
        return list(self.meta["layers"])

    @property
    def modules(self) -> list[str]:
        """What is no layer that is traced, and has readings: modules that hold parameters."""
        return list(self.meta.get("modules", []))

    @property
    def estimators(self) -> list[str]:
        """The estimators' labels in the order in which they were first used."""
        return list(self.meta["estimators"])

    @property
    def lenses(self) -> list[str]:
        """The lenses' labels in the order in which they were first used."""
        return list(self.meta.get("lenses", []))

    @property
    def seeds(self) -> list[int]:
        """The seeds that have rows."""
        select = 'SELECT DISTINCT seed FROM "rows" ORDER BY seed'
        with self._database.connection() as connection:
            return [seed for (seed,) in connection.execute(select)]

    def places(self) -> dict[int, list[int]]:
        """Where on the trace's clock each seed has rows, of any instrument, or kept activations."""
        with self._database.connection() as connection:
            held = set(connection.execute('SELECT DISTINCT seed, "at" FROM "rows"'))
        if self.path is not None:
            held |= {*self._files.files()}
        places: dict[int, list[int]] = {}
        for seed, at in sorted(held):
            places.setdefault(seed, []).append(at)
        return places

    def __len__(self) -> int:
        with self._database.connection() as connection:
            return int(connection.execute('SELECT total(count) FROM "rows"').fetchone()[0])

    def __repr__(self) -> str:
        return f"Trace({'in memory' if self.path is None else str(self.path)}, {len(self)} rows)"

    def bound(self) -> BottleneckCurve:
        """The information-bottleneck curve of the probe's X and Y, which no layer can pass.

        It is that of the probe's samples: known where these are all of X, else an estimate, which
        says N and how many values it has seen. See `ibtrace.bottleneck`.

        Raises:
            InvalidInput: If the trace does not tell the joint law: the labels are no classes, or
                those of tokens, whose T is made of more than their X; it holds more than 4096
                probabilities; or the trace is of an earlier version.
        """
        if (record := self.meta.get("joint")) is None:
            raise InvalidInput(
                "bound: the trace does not tell the joint law of X and Y (labels that are no "
                "classes, or of tokens; too many values; an earlier version); give a curve, "
                "bound=ibtrace.bottleneck(x=…, y=…)"
            )
        return curve_of(record)

    def verdict(
        self,
        rule: Rule | None = None,
        *,
        x: str | None = None,
        bound: BottleneckCurve | bool = False,
    ) -> Verdict:
        """Does each layer compress, a question at a time, with intervals (`ibtrace.plane`).

        Args:
            rule: What counts as compression (default: ``Rule()``).
            x: The source of the probe that stands for X; None: the inputs themselves.
            bound: Tell the distances to a curve too: True for that of the probe (`bound`).
        """
        return verdict(self, rule, x=x, bound=self._curve(bound, x))

    def pair(self, x: str | None = None, y: str | None = None) -> TraceLike:
        """The trace with two of its named variables as X and Y: see `ibtrace.plane.pair`."""
        return pair(self, x, y)

    def _curve(self, bound: BottleneckCurve | bool, *named: str | None) -> BottleneckCurve | None:
        """The curve that is meant, of a plane of these variables."""
        if not isinstance(bound, bool):
            return bound
        if bound and any(name is not None for name in named):
            raise InvalidInput(
                "bound=True is the curve of the inputs and the first target; of other variables "
                "give it, bound=ibtrace.bottleneck(x=…, y=…)"
            )
        return self.bound() if bound else None

    def trust(self, chain: Sequence[str] | None = None, rule: Rule | None = None) -> Trust:
        """Which points of the information plane fail a check, and how far each is from its ceiling.

        Print it to read how many; see `ibtrace.plane.trust`.
        """
        return trust(self, chain=chain, rule=rule)

    def examine(
        self, estimators: Sequence[str | Estimator] | None = None, **arguments: Any
    ) -> Examination:
        """Estimates against chance and on fewer samples, cells, units and the geometry of classes.

        Of a trace that keeps its activations. Print it to read the last look.

        Args:
            estimators: Names, estimators, or labels of the trace's own; None for all of these.
            **arguments: ``looks``, ``permutations``, ``layers``, ``seeds``, ``most_seconds``,
                ``jobs``, ``progress``: see `ibtrace.trace.examining.examine`.
        """
        return examine(self, estimators, **arguments)

    def resolution(self, scales: Sequence[float] | None = None, **arguments: Any) -> Resolution:
        """Information at every resolution, of a trace that keeps its activations.

        Print it to read at which scales each layer compresses; draw it with
        `ibtrace.plots.resolution_map`.

        Args:
            scales: Widths of bins, or deviations of noise; None spans the range of the layers.
            **arguments: ``reader``, ``samples``, ``layers``, ``seeds``, ``looks``, ``rule``,
                ``jobs``, ``progress``: see `ibtrace.trace.resolving.resolve`.
        """
        return resolve(self, scales, **arguments)

    def multiverse(
        self,
        grid: Choices | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        **arguments: Any,
    ) -> Multiverse:
        """Every layer judged under a grid of analysis choices, from the activations kept.

        Print it to read under how many analyses each layer compresses and on which choice that
        turns; draw it with `ibtrace.plots.specification_curve`.

        Args:
            grid: A YAML file, what one says, or `ibtrace.trace.Choices`; None is the default grid.
            **arguments: ``layers``, ``seeds``, ``rule``, ``jobs``, ``progress``: see
                `ibtrace.trace.analysing.analyse`.
        """
        return analyse(self, grid, **arguments)

    def events(self, looked_for: Event | Iterable[Event] = EVENTS) -> Events:
        """When what happened in each seed, with intervals (`ibtrace.alignment.events`)."""
        return events(self, looked_for)

    def order(
        self, first: Named, second: Named, looked_for: Event | Iterable[Event] = EVENTS
    ) -> Order:
        """Which of two events comes first, with an exact sign test (`ibtrace.alignment.order`)."""
        return order(self.events(looked_for), first, second)

    def coincidence(self, of: str | Sequence[str] = (I_XT,), **arguments: Any) -> pd.DataFrame:
        """What changes together, with intervals (`ibtrace.alignment.coincidence`)."""
        return coincidence(self, of, **arguments)

    def plot(
        self,
        estimator: str | None = None,
        *,
        x: str | None = None,
        y: str | None = None,
        bound: BottleneckCurve | bool = False,
    ) -> Figure:
        """The information plane; of a trace without labels, I(X;T) against the epoch.

        See `ibtrace.plots.information_plane` and `ibtrace.plots.curves`.

        Args:
            estimator: The estimator's label; the first of the trace by default.
            x: The source of the probe that stands for X; None: the inputs themselves.
            y: The target of the probe that stands for Y; None: the first.
            bound: The bottleneck curve, drawn beneath; True for that of the probe (`bound`).
        """
        from ibtrace import plots  # here, because it loads matplotlib

        curve, seen = self._curve(bound, x, y), self.pair(x, y)
        if self.meta.get("labels") == "none":
            return plots.curves(seen, estimator)
        return plots.information_plane(seen, estimator, bound=curve)

    def report(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        resolution: Resolution | None = None,
        multiverse: Multiverse | None = None,
        examination: Examination | None = None,
        bound: BottleneckCurve | bool = False,
    ) -> Path:
        """Write the trace as one HTML file with figures to look into, and return its path.

        Verdict, planes over time, curves, every other quantity, the record of the run: see
        `ibtrace.page`. ``ibtrace report RUN`` adds the claims of a replication.

        Args:
            path: The file, which is replaced; None is ``report.html`` in the run folder, or of a
                trace in memory in the folder that is current.
            resolution: What `Trace.resolution` gave, to be drawn too.
            multiverse: What `Trace.multiverse` gave, likewise.
            examination: What `Trace.examine` gave, to be told too.
            bound: The bottleneck curve of the inputs and the first target, drawn beneath their
                plane; True for that of the probe (`bound`).

        Raises:
            InvalidInput: If the trace is empty, the name is no page's, or the curve is not known.
            RunError: If the file cannot be written.
        """
        folder = None if self.path is None else self.path.parent
        file = (folder or Path()) / "report.html" if path is None else path
        name = folder.resolve().name if folder else ""
        maps = {} if resolution is None else {name: resolution}
        multiverses = {} if multiverse is None else {name: multiverse}
        examined = {} if examination is None else {name: examination}
        curve = self._curve(bound)
        bounds = {} if curve is None else {name: curve}
        more = {"maps": maps, "multiverses": multiverses, "examinations": examined}
        return write({name: self}, file, bounds=bounds, **more)

    # --- activations ------------------------------------------------------------------------

    def save_activations(
        self, epoch: int, activations: Mapping[str, Tensor], seed: int = 0
    ) -> Path:
        """Keep a snapshot's activations, in their own precision, as one safetensors file.

        Raises:
            RunError: If the trace is in memory, or the file cannot be written.
        """
        return self._files.save(epoch, activations, seed)

    def activations(self, epoch: int, seed: int | None = None) -> dict[str, Tensor]:
        """The activations kept at an epoch, ``{layer: (n, …)}`` in the layers' order.

        Args:
            epoch: The epoch; of a trace that counts steps, the step.
            seed: The seed; may be left out where one seed only was kept.

        Raises:
            RunError: If none were kept, several seeds were and none is named, or the file is bad.
        """
        return self._files.load(epoch, seed)

    def activation_epochs(self, seed: int | None = None) -> list[int]:
        """The epochs (or steps) at which activations were kept, for a seed, or for any."""
        return [] if self.path is None else self._files.epochs(seed)

    def look(self, at: int) -> tuple[int, int | None]:
        """Epoch and step of a look whose activations were kept.

        Args:
            at: Its place on the trace's clock.
        """
        if self.clock == "epoch":
            return at, None
        return int(self.meta["epochs"][str(at)]), at

    def save_probe(self, probe: Probe) -> Path:
        """Keep the inputs and labels beside the activations, so that others can measure them too.

        Raises:
            RunError: If the trace is in memory, or the file cannot be written.
        """
        file = self._folder / PROBE
        inputs = {f"x.{name}": value for name, value in probe.inputs.items()}
        named = {f"{each.role}.{each.name}": each.values for each in probe.named}
        write_tensors(file, {**inputs, **named, "y": probe.y})
        return file

    def probe(self) -> Probe:
        """The inputs and labels that the trace was measured on.

        Raises:
            RunError: If they were not kept, or are not those of the trace.
        """
        file = self._folders[0] / PROBE
        if not file.is_file():
            raise RunError(
                f"{file} is not there; trace the run with Keep(FOLDER, activations=True)"
            )
        tensors = read_tensors(file, "probe", "restore it, or run again")
        y: Any = tensors.pop("y")
        named = _named(tensors, self.meta.get("named", ()))
        inputs = {
            name.removeprefix("x").removeprefix("."): value for name, value in tensors.items()
        }
        classes: Any = 0 if y.is_floating_point() else None
        if named["target"]:
            y, classes = named["target"], None
        values = {**named["source"], **named["target"]}
        numbers = {name: 0 for name, v in values.items() if v.is_floating_point()}
        population = bool(self.meta.get("population", False))
        padding = self.meta.get("padding", {})
        more: dict[str, Any] = {"population": population, "sources": named["source"] or None}
        probe = Probe(as_x(inputs), y, numbers or classes, padding=padding, **more)
        if probe.digest != self.meta.get("samples_digest", self.meta.get("probe_digest")):
            raise RunError(f"{file}: not the probe of this trace; restore it, or run again")
        return probe

    @property
    def _files(self) -> ActivationFiles:
        first, *others = (folder / ACTIVATIONS for folder in self._folders)
        return ActivationFiles(first, self.clock, others)

    @property
    def _folders(self) -> list[Path]:
        """Where its activations are: of a point of a sweep the folders of its jobs."""
        jobs: list[str] = self.meta.get(JOB_FOLDERS, [""])
        return [self._folder / job for job in jobs]

    @property
    def _folder(self) -> Path:
        if self.path is None:
            raise RunError("a trace in memory keeps no activations; give Trace.create a run folder")
        return self.path.parent


def _named(
    tensors: dict[str, Tensor], named: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Tensor]]:
    """Named variables by their role, taken out of what was stored of a probe."""
    variables: dict[str, dict[str, Tensor]] = {"source": {}, "target": {}}
    for each in named:
        name = str(each["name"])
        variables[each["role"]][name] = tensors.pop(f"{each['role']}.{name}")
    return variables


def _check_rows(rows: Sequence[Row], clock: str) -> None:
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        key = (row.seed, _at(row, clock), row.layer, row.quantity, row.instrument)
        for name, number in (("seed", row.seed), ("epoch", row.epoch), ("step", row.step)):
            if number is not None and int(number) != number:
                raise InvalidInput(f"a row's {name} must be a whole number, got {number}")
        if key in seen:
            raise InvalidInput(f"two rows of a snapshot have one key {key}; label them apart")
        seen.add(key)
        if taken := RESERVED & {*row.diagnostics}:
            names = f"diagnostics {sorted(taken)}"
            raise InvalidInput(f"{row.instrument}: {names} have a column's name")


def _at(entry: Row | Scalar, clock: str) -> int:
    """The place on the trace's clock."""
    if clock == "step" and entry.step is None:
        raise InvalidInput("a trace that counts steps needs the step of every row and scalar")
    return int(entry.epoch if clock == "epoch" or entry.step is None else entry.step)


def _row_entry(row: Row, clock: str) -> Entry:
    texts = (row.layer, row.quantity, row.instrument, row.estimand, row.variable)
    reals = (row.value, row.stderr, row.lower, row.upper, row.seconds)
    return Entry(
        *(int(row.seed), _at(row, clock), int(row.epoch)),
        None if row.step is None else int(row.step),
        (*texts, row.unit, row.flags),
        tuple(map(float, reals)),
        {name: float(value) for name, value in row.diagnostics.items()},
    )


def _scalar_entry(scalar: Scalar, clock: str) -> Entry:
    return Entry(
        *(int(scalar.seed), _at(scalar, clock), int(scalar.epoch)),
        None if scalar.step is None else int(scalar.step),
        (scalar.layer, scalar.name, scalar.unit),
        (float(scalar.value),),
    )


def _joined(known: Sequence[str], names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*known, *names)))


def _provenance() -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree
            continue
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"created": created, "packages": versions, "git_revision": _git_revision()}


@functools.cache
def _git_revision() -> str | None:
    """The commit of the folder the process runs in, ``-dirty`` if changed; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
