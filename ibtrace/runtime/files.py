"""Files that are either whole or as they were, however the process ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
    part = file.with_name(f".{file.stem}.{os.getpid()}.part{file.suffix}")
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(file)
    except OSError as error:
        raise RunError(f"{file}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
