"""What a command says on the standard output and error, whatever these are."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ibtrace.errors import RunError


def occupy() -> None:
    """Let what was closed (``2>&-``) go nowhere: else the next file that is opened stands there."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))


def say(text: str) -> None:
    """Write a text and an end of line to the standard output, and see that it is gone.

    Characters that the output's encoding lacks are written as Python escapes them. Nothing is said
    where there is no output (``>&-``).

    Args:
        text: The text.

    Raises:
        SystemExit: With status 0: who reads a pipe (``head``, ``less``) has seen enough.
        RunError: If it cannot be written: it goes to a file, and the disk is full.
    """
    if sys.stdout is None:
        return
    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:
            coding = sys.stdout.encoding
            print(text.encode(coding, "backslashreplace").decode(coding), flush=True)
    except BrokenPipeError as error:
        _drop()
        raise SystemExit(0) from error
    except OSError as error:
        _drop()
        why = error.strerror or error
        raise RunError(f"standard output: cannot be written ({why})") from error


def _drop() -> None:
    """Let what is still to be written go nowhere: it would fail once more at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def complain(text: str) -> None:
    """Write a text and an end of line to the standard error, if there is one that takes it.

    Args:
        text: The text.
    """
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, file=sys.stderr)
