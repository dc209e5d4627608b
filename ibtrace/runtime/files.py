"""Files that are either whole or as they were, however the process ends."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ibtrace.errors import RunError

FILE_NAME = "trace.sqlite"
"""Of a trace, in a run folder."""


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, if it is not there.

    Raises:
        RunError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made ({error.strerror}); choose another") from error


def is_free(folder: Path) -> bool:
    """Whether there is no such folder, or nothing in it but hidden files.

    These are locks, and what a process was writing when it was killed.

    Args:
        folder: The folder.
    """
    if not folder.exists():
        return True
    return folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """A name beside a file to write under; the file has the content once all of it is on disk.

    Its folder is made if need be.

    Args:
        file: The file, which may exist.

    Yields:
        The name to write under.

    Raises:
        RunError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "answer.txt"
        >>> with written_whole(file) as part:
        ...     _ = part.write_text("42")
        >>> file.read_text()
        '42'
    """
    make_folder(file.parent)
    # the suffix stays last: some writers choose a format, or add a suffix, by it
    # and processes of two machines may have one number
    part = file.with_name(f".{file.stem}.{secrets.token_hex(4)}.part{file.suffix}")
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(file)
    except OSError as error:
        raise RunError(f"{file}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # a folder that cannot be written to, a name that is too long
            part.unlink(missing_ok=True)


@contextmanager
def held(file: Path, seconds: float = 0.0) -> Iterator[bool]:
    """Whether this process has a file for itself, until the end of the block.

    The lock is SQLite's own: where traces can be written it works, on shared file systems too, and
    it goes with the process that holds it, however that ends.

    Args:
        file: A file for nothing else; its folder is made if need be.
        seconds: How long to wait for another process that has it.

    Yields:
        False, if another process has it.

    Raises:
        RunError: If the file cannot be made.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "lock"
        >>> with held(file) as first, held(file) as second:
        ...     first, second
        (True, False)
    """
    make_folder(file.parent)
    try:
        connection = sqlite3.connect(file, timeout=seconds, isolation_level=None)
    except sqlite3.Error as error:
        raise RunError(f"{file}: cannot be locked ({error})") from error
    try:
        yield _alone(connection, file)
    finally:
        connection.close()


def _alone(connection: sqlite3.Connection, file: Path) -> bool:
    """Whether this connection has got the file, and no other has."""
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):  # Python 3.10 has no error codes
            return False
        raise RunError(f"{file}: cannot be locked ({error})") from error
    return True
