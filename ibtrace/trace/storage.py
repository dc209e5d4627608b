"""The files of a run folder: one SQLite database, and activations as safetensors on request.

A row of the database is what one network gave at one look, packed (`ibtrace.trace.packing`): a
trace of half a million numbers is read in a tenth of the time that a row for each number takes.

SQLite's rollback journal is used, not its write-ahead log: a snapshot every second or so needs no
more, it works on network file systems, and a run stays one file that can be copied, also after
``kill -9`` (the next reader rolls a half-written snapshot back).
"""

from __future__ import annotations

import json
import math
import os
import secrets
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ibtrace.errors import InvalidInput, RunError
from ibtrace.runtime.files import FILE_NAME as FILE_NAME
from ibtrace.runtime.files import written_whole
from ibtrace.trace.packing import LAYOUTS, Columns, Entry

ACTIVATIONS = "activations"
PROBE = "probe.safetensors"
SCHEMA_VERSION = 4
OF_SWEEP = "points"
"""The meta entry of a sweep's file that lists its points."""
JOB_FOLDERS = "job_folders"
"""The meta entry of a point of a sweep: the folders of its jobs, from that of the sweep."""
_APPLICATION_ID = 0x49425452  # "IBTR", in the file's header: tells our files from foreign ones
_LONGEST = 504  # bytes of a path, that of the journal beside it included
_LOCK_TIMEOUT = 60.0  # seconds to wait while another process appends
_PACKED = """CREATE TABLE "{table}" (
        seed INTEGER NOT NULL, "at" INTEGER NOT NULL,
        count INTEGER NOT NULL, packed BLOB NOT NULL,
        PRIMARY KEY (seed, "at")
    )"""
_SCHEMA = (
    *(_PACKED.format(table=table) for table in LAYOUTS),
    "CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {_APPLICATION_ID}",
)
# The file of a sweep has these as well. Its networks are numbered through: the ``seed`` of its rows
# and scalars is a network's number, and what is recorded of a point is in ``of_points``.
SWEEP_SCHEMA = (
    """CREATE TABLE networks (number INTEGER PRIMARY KEY, point INTEGER NOT NULL,
        seed INTEGER NOT NULL, UNIQUE (point, seed))""",
    "CREATE TABLE of_points (point INTEGER, key TEXT, value TEXT, PRIMARY KEY (point, key))",
)
_ONE_POINT = (
    *(
        f"""CREATE TEMP VIEW "{table}" AS SELECT networks.seed AS seed, "at", count, packed
            FROM main."{table}" AS t JOIN main.networks AS networks ON t.seed = networks.number
            WHERE networks.point = {{point}}"""
        for table in LAYOUTS
    ),
    "CREATE TEMP VIEW meta AS SELECT key, value FROM main.of_points WHERE point = {point}",
)
"""What stands before the tables of a sweep, so that a point's are read like those of a run."""
# Older schemas had a row for each number, its figures as JSON. The first two held information
# alone, in bits, and how T was made behind the estimand, after "; T: "; the first counted epochs
# only, and its scalars knew no step. Columns are those of the layouts, in their order.
_INFORMATION_ALONE = """SELECT seed, {at}, epoch, step, layer, quantity, estimator,
    CASE instr(estimand, '; T: ') WHEN 0 THEN estimand
        ELSE substr(estimand, 1, instr(estimand, '; T: ') - 1) END,
    CASE instr(estimand, '; T: ') WHEN 0 THEN ''
        ELSE substr(estimand, instr(estimand, '; T: ') + 5) END,
    'bits', flags, bits, stderr, lower, upper, seconds, diagnostics FROM old.rows"""
_NO_UNIT = """SELECT seed, {at}, epoch, {step}, layer, name, '', value, '{{}}' FROM old.scalars"""
_OLD = {
    1: {
        "rows": _INFORMATION_ALONE.format(at="epoch"),
        "scalars": _NO_UNIT.format(at="epoch", step="NULL"),
    },
    2: {
        "rows": _INFORMATION_ALONE.format(at='"at"'),
        "scalars": _NO_UNIT.format(at='"at"', step="step"),
    },
    3: {
        "rows": """SELECT seed, "at", epoch, step, layer, quantity, instrument, estimand, variable,
            unit, flags, value, stderr, lower, upper, seconds, diagnostics FROM old.rows""",
        "scalars": """SELECT seed, "at", epoch, step, layer, name, unit, value, '{}'
            FROM old.scalars""",
    },
}


class Database:
    """The SQLite database of a trace, in a file or (``path`` None) in memory.

    A file is opened anew for each operation, so the object may be pickled, forked and shared
    between processes that write, and there is nothing to close. What is in memory is pickled, and
    copied deeply, with all that it holds.

    Args:
        path: The file.
        point: Of the file of a sweep the point whose networks are meant; they are only read.
        name: What the file will be called when it is whole, for errors.
    """

    def __init__(
        self, path: Path | None, point: int | None = None, *, name: Path | None = None
    ) -> None:
        self.path = path
        self._name = name or path
        self.point = point
        self._old: int | None = None  # an older schema's version: a copy is read, none is written
        self._memory = self._in_memory() if path is None else None

    def _in_memory(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, uri=True
        )
        weakref.finalize(self, connection.close)
        return connection

    def __getstate__(self) -> dict[str, Any]:
        held = None
        if self.path is None and self._memory is not None:
            with TemporaryDirectory() as folder:
                file = Path(folder) / "held"
                with Database(file).connection("rwc") as copy:
                    self._memory.backup(copy)
                held = file.read_bytes()
        return {**vars(self), "_memory": held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        held = state.pop("_memory")
        vars(self).update(state, _memory=None)
        if held is not None:
            self._memory = self._in_memory()
            with TemporaryDirectory() as folder:
                file = Path(folder) / "held"
                file.write_bytes(held)
                with Database(file).connection() as source:
                    source.backup(self._memory)

    @contextmanager
    def connection(self, mode: str = "rw") -> Iterator[sqlite3.Connection]:
        """A connection; whatever SQLite raises inside becomes a `RunError` of one line.

        Args:
            mode: ``"rw"`` opens an existing file (to read, where it is write-protected);
                ``"rwc"`` makes it.

        Raises:
            RunError: If the file cannot be opened, read or written.
        """
        try:
            if self._old is not None and self._memory is None:
                self._memory = self._migrated(self._old)
            if self._memory is not None:
                yield self._memory
                return
            assert self.path is not None
            uri = f"{self.path.resolve().as_uri()}?mode={mode}"
            connection = sqlite3.connect(
                uri, uri=True, timeout=_LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            try:
                for view in () if self.point is None else _ONE_POINT:
                    connection.execute(view.format(point=self.point))
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise RunError(self._explain(str(error))) from error
        except UnicodeDecodeError as error:
            raise RunError(self._explain("malformed")) from error

    @contextmanager
    def transaction(self, mode: str = "rw") -> Iterator[sqlite3.Connection]:
        """A connection whose writes all happen, or, if interrupted, none of them.

        Raises:
            RunError: If the file cannot be written, is of an older schema, or is that of a sweep.
        """
        if self.point is not None:
            raise RunError(
                f"{self.path}: a point of a sweep is only read; add to one of the sweep's jobs, or "
                "to a copy, Sweep.load(folder)[point].save(copy)"
            )
        if self._old is not None:
            raise RunError(
                f"{self.path}: written by an older ibtrace (schema {self._old}) and only read by "
                "this one; Trace.load(run).save(folder) makes a copy that can be added to"
            )
        with self.connection(mode) as connection:
            # IMMEDIATE: two processes queue at the start, instead of a deadlock at the end.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute(f"PRAGMA user_version = {(state_of(connection) + 1) % 2**31}")
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def create(self, meta: Mapping[str, Any]) -> None:
        """Write the empty tables and the meta entries.

        A file gets its name when it is complete: whoever is killed here leaves no half-made trace,
        and of two processes that make one trace the second gets an error.

        Raises:
            InvalidInput: If a meta value cannot be written as JSON.
            RunError: If the folder holds a trace already, or cannot be written.
        """
        entries = [(key, to_json(key, value)) for key, value in meta.items()]
        if self.path is None:
            return self._write_schema(entries)
        with made(self.path) as part:
            Database(part, name=self.path)._write_schema(entries)
        return None

    def _write_schema(self, entries: Sequence[tuple[str, str]]) -> None:
        with self.transaction("rwc") as connection:
            make_tables(connection)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", entries)

    def read(self, connection: sqlite3.Connection, table: str) -> Columns:
        """All records of a table.

        Args:
            connection: To this database.
            table: One of `ibtrace.trace.packing.LAYOUTS`.

        Raises:
            RunError: If a look is damaged.
        """
        looks = connection.execute(f'SELECT seed, count, packed FROM "{table}"')
        texts = dict(connection.execute("SELECT id, text FROM texts"))
        try:
            return LAYOUTS[table].columns(looks, texts)
        except (TypeError, ValueError) as error:
            raise RunError(self._explain("malformed")) from error

    def copy(self, path: Path) -> None:
        """Copy the tables to a new file.

        Raises:
            RunError: If the folder holds a trace already, or cannot be written.
        """
        with (
            made(path) as part,
            self.connection() as source,
            Database(part, name=path).connection("rwc") as target,
        ):
            if self.point is None:
                source.backup(target)
            else:
                _copy_point(source, target)

    def check(self) -> None:
        """Raise unless the file is a whole trace that this version can read.

        Raises:
            RunError: If the file is foreign, truncated, corrupted or of a newer version.
        """
        with self.connection() as connection:
            (mark,) = connection.execute("PRAGMA application_id").fetchone()
            if mark != _APPLICATION_ID:
                raise RunError(self._explain("not a database"))
            (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok" or self._is_cut(connection):
                raise RunError(self._explain("malformed"))
            version = self._version(connection)
        if version > SCHEMA_VERSION:
            raise RunError(
                f"{self.path}: written by a newer ibtrace (schema {version}, this one reads up to"
                f" {SCHEMA_VERSION}); upgrade ibtrace"
            )
        self._old = version if version < SCHEMA_VERSION else None

    def _is_cut(self, connection: sqlite3.Connection) -> bool:
        """Whether the file ends within a page, which SQLite's own check lets pass."""
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        return self.path is not None and self.path.stat().st_size % int(page) != 0

    def _version(self, connection: sqlite3.Connection) -> int:
        """The schema's version.

        Raises:
            RunError: If the meta entries cannot be read, or name no version that there was.
        """
        try:
            version = int(read_meta(connection)["schema_version"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(self._explain("malformed")) from error
        if version < min(_OLD):
            raise RunError(self._explain("malformed"))
        return version

    def _migrated(self, version: int) -> sqlite3.Connection:
        """The file's content as today's schema has it, in memory."""
        assert self.path is not None
        memory = self._in_memory()
        for statement in _SCHEMA:
            memory.execute(statement)
        memory.execute("ATTACH DATABASE ? AS old", (f"{self.path.resolve().as_uri()}?mode=ro",))
        for table, select in _OLD[version].items():
            put(memory, table, [_entry(table, record) for record in memory.execute(select)])
        memory.execute("INSERT INTO meta SELECT key, value FROM old.meta")
        write_meta(memory, {"schema_version": SCHEMA_VERSION, "read_from_schema": version})
        write_meta(memory, _of_layers(read_meta(memory)))
        memory.execute("DETACH DATABASE old")
        return memory

    def _explain(self, message: str) -> str:
        if "not a database" in message:
            return f"{self._name}: not a trace that ibtrace wrote, or its beginning is damaged"
        if "malformed" in message:
            return f"{self._name}: truncated or corrupted; restore it from a copy, or run again"
        if "locked" in message:
            wait = f"{_LOCK_TIMEOUT:.0f} s"
            return f"{self._name}: another process has held it for {wait}; try again later"
        if "full" in message:
            return (
                f"{self._name}: the disk is full; what was written before is whole: make room, "
                "and resume"
            )
        length = 0 if self.path is None else len(os.fsencode(self.path.resolve()))
        if length > _LONGEST:
            return (
                f"{self._name}: a path of {length} bytes, SQLite opens up to {_LONGEST}; choose "
                "a shorter one"
            )
        return f"{self._name}: {message}"


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the empty tables of a trace.

    Args:
        connection: To an empty file.
    """
    for statement in _SCHEMA:
        connection.execute(statement)
    # another trace in the place of this one is in another state
    connection.execute(f"PRAGMA user_version = {secrets.randbits(30)}")


def _copy_point(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy what a connection shows of one point of a sweep, as the trace of a run."""
    make_tables(target)
    for table in (*LAYOUTS, "texts", "meta"):
        records = source.execute(f'SELECT * FROM "{table}"').fetchall()
        if records:
            marks = ", ".join("?" * len(records[0]))
            target.executemany(f'INSERT INTO "{table}" VALUES ({marks})', records)
    target.execute("DELETE FROM meta WHERE key = ?", (JOB_FOLDERS,))


def _entry(table: str, record: Sequence[Any]) -> Entry:
    """A record of an older schema, in which NULL stood for NaN."""
    seed, at, epoch, step, *rest, figures = record
    texts, reals = rest[: len(LAYOUTS[table].texts)], rest[len(LAYOUTS[table].texts) :]
    known = tuple(math.nan if value is None else value for value in reals)
    return Entry(seed, at, epoch, step, tuple(texts), known, json.loads(figures))


def put(connection: sqlite3.Connection, table: str, entries: Sequence[Entry]) -> None:
    """Write records; one with the key of a stored one replaces it.

    Args:
        connection: In a transaction.
        table: One of `ibtrace.trace.packing.LAYOUTS`.
        entries: The records.
    """
    looks: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries:
        looks.setdefault((entry.seed, entry.at), []).append(entry)
    ids = _ids(connection, {word for entry in entries for word in entry.words})
    held = f'SELECT count, packed FROM "{table}" WHERE seed = ? AND "at" = ?'
    for look, some in looks.items():
        packed = LAYOUTS[table].pack(some, ids, connection.execute(held, look).fetchone())
        connection.execute(
            f'INSERT OR REPLACE INTO "{table}" VALUES (?, ?, ?, ?)', (*look, *packed)
        )


def _ids(connection: sqlite3.Connection, texts: Iterable[str]) -> dict[str, int]:
    """The id of each text; what is new gets one."""
    ids = {}
    for text in texts:
        known = connection.execute("SELECT id FROM texts WHERE text = ?", (text,)).fetchone()
        if known is None:
            made = connection.execute("INSERT INTO texts (text) VALUES (?)", (text,)).lastrowid
            known = (made,)
        ids[text] = int(known[0])
    return ids


def state_of(connection: sqlite3.Connection) -> int:
    """A number that every write changes."""
    (state,) = connection.execute("PRAGMA user_version").fetchone()
    return int(state)


def _of_layers(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What stood for T was once told of an estimator, and is now of each layer by itself."""
    told = meta.get("variables", {})
    return {
        "variables": {
            label: dict.fromkeys(meta["layers"], variable)
            if isinstance(variable, str)
            else variable
            for label, variable in told.items()
        }
    }


@contextmanager
def made(path: Path) -> Iterator[Path]:
    """A name under which to write a new trace, which gets its own when it is whole.

    Args:
        path: Of the trace; its folder is made.

    Yields:
        The name to write under.

    Raises:
        RunError: If there is a trace, or activations of one, or the folder cannot be made, or
            another process has made the trace meanwhile.
    """
    folder = path.parent
    try:
        taken = path.exists() or (folder / ACTIVATIONS).exists()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made a run folder ({error.strerror})") from error
    if taken:
        raise RunError(f"{folder}: holds a run already; choose another folder, or resume that run")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        _publish(part, path)
    finally:
        part.unlink(missing_ok=True)


def _publish(part: Path, path: Path) -> None:
    """Give a complete file its name, unless another process has taken the name meanwhile.

    Raises:
        RunError: If it has, or the folder cannot be written.
    """
    try:
        # Unlike a rename, a hard link never replaces a file.
        path.hardlink_to(part)
    except FileExistsError as error:
        raise RunError(f"{path}: another process has just made it; load it instead") from error
    except OSError:  # a file system without hard links
        part.replace(path)


def claim_seeds(connection: sqlite3.Connection, seeds: Iterable[int], token: str) -> None:
    """Take down who writes some seeds from now on.

    Args:
        connection: In a transaction.
        seeds: The seeds.
        token: Of the writer.
    """
    # beside the schema: who only reads has no use for it
    connection.execute("CREATE TABLE IF NOT EXISTS writers (seed INTEGER PRIMARY KEY, token TEXT)")
    records = [(int(seed), token) for seed in seeds]
    connection.executemany("INSERT OR REPLACE INTO writers VALUES (?, ?)", records)


def lost_seeds(connection: sqlite3.Connection, seeds: Iterable[int], token: str) -> list[int]:
    """Those of some seeds that another writer has claimed.

    Args:
        connection: To a trace in which seeds were claimed.
        seeds: The seeds.
        token: Of the writer that asks.
    """
    held = dict(connection.execute("SELECT seed, token FROM writers"))
    return sorted(seed for seed in seeds if held.get(int(seed), token) != token)


def read_meta(connection: sqlite3.Connection) -> dict[str, Any]:
    """The meta entries.

    Raises:
        DatabaseError: If one is no JSON.
    """
    entries = connection.execute("SELECT * FROM meta")
    try:
        return {key: json.loads(value) for key, value in entries}
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError("malformed") from error


def write_meta(connection: sqlite3.Connection, meta: Mapping[str, Any]) -> None:
    """Set some of the meta entries."""
    entries = [(key, to_json(key, value)) for key, value in meta.items()]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", entries)


def to_json(key: str, value: object) -> str:
    """A meta value as JSON; paths become text, NumPy and torch numbers plain ones.

    Raises:
        InvalidInput: If it cannot be written as JSON.
    """

    def plain(item: Any) -> Any:
        if isinstance(item, os.PathLike):
            return os.fspath(item)
        if hasattr(item, "item"):
            return item.item()
        raise TypeError(f"{type(item).__name__} is no JSON value")

    try:
        return json.dumps(value, default=plain)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"meta {key!r} cannot be stored: {error}") from error


class ActivationFiles:
    """Activations kept beside a trace, one safetensors file for each snapshot and seed.

    Args:
        folder: The folder they are written to; need not exist.
        clock: What the numbers of the snapshots count: ``epoch`` or ``step``.
        others: Folders that hold some too, of other seeds.
    """

    def __init__(self, folder: Path, clock: str, others: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.clock = clock
        self.others = others

    def files(self) -> dict[tuple[int, int], Path]:
        """The files, ``{(seed, epoch): path}``."""
        files = {}
        pattern = f"seed*-{self.clock}*.safetensors"
        held = (file for place in (self.folder, *self.others) for file in place.glob(pattern))
        for file in sorted(held):
            seed, _, epoch = file.stem.removeprefix("seed").partition(f"-{self.clock}")
            files[int(seed), int(epoch)] = file
        return files

    def save(self, epoch: int, activations: Mapping[str, Tensor], seed: int) -> Path:
        """Write a snapshot so that the file is either whole or absent.

        Raises:
            RunError: If it cannot be written.
        """
        file = self.folder / f"seed{seed}-{self.clock}{epoch:06d}.safetensors"
        write_tensors(file, activations)
        return file

    def load(self, epoch: int, seed: int | None) -> dict[str, Tensor]:
        """Read a snapshot, ``{layer: (n, …)}`` in the layers' order.

        Raises:
            RunError: If there is none, several seeds have one and none is named, or it is damaged.
        """
        files = {s: file for (s, e), file in self.files().items() if e == epoch}
        if not files:
            held = ", ".join(map(str, self.epochs())) or "none"
            clock = self.clock
            raise RunError(f"no activations were kept at {clock} {epoch}; {clock}s kept: {held}")
        if seed is None and len(files) == 1:
            (seed,) = files
        if seed is None or seed not in files:
            seeds = ", ".join(map(str, files))
            raise RunError(
                f"activations at {self.clock} {epoch}: no seed {seed}; name one of {seeds}"
            )
        return read_tensors(files[seed], "activations", "delete the file")

    def epochs(self, seed: int | None = None) -> list[int]:
        """The epochs with a file (of a seed, or of any)."""
        return sorted({e for s, e in self.files() if seed is None or s == seed})

    def truncate(self, after_epoch: int, seeds: Sequence[int] | None) -> None:
        """Delete the files after an epoch."""
        for (seed, epoch), file in self.files().items():
            if epoch > after_epoch and (seeds is None or seed in seeds):
                file.unlink()


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors so that the file is either whole or absent.

    Raises:
        RunError: If it cannot be written.
    """
    # safetensors refuses views and tensors that share memory (in-place layers do).
    apart = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    try:
        with written_whole(file) as part:
            # The file sorts its tensors by size and name; their order goes beside them.
            save_file(apart, part, metadata={"layers": json.dumps(list(apart))})
    except SafetensorError as error:
        raise RunError(f"{file}: cannot be written ({error})") from error


def read_tensors(file: Path, what: str, advice: str) -> dict[str, Tensor]:
    """Read named tensors in the order in which they were written.

    Args:
        file: The file.
        what: What it holds, for the error.
        advice: What to do if it is damaged.

    Raises:
        RunError: If the file is damaged.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            names = json.loads(stored.metadata()["layers"])
            return {layer: stored.get_tensor(layer) for layer in names}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{file}: unreadable {what} ({error}); {advice}") from error
