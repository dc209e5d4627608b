"""Text for a terminal: one width, one way to wrap and to shorten."""

from __future__ import annotations

import textwrap

WIDTH = 110
"""Columns of all that is printed."""


def wrap(text: str, *, first: str = "", rest: str = "  ", width: int = WIDTH) -> str:
    """Text in lines of at most a width; a word (a name, a path) is never broken at a hyphen.

    Args:
        text: The text; runs of spaces inside a line stay.
        first: What the first line begins with.
        rest: What the others begin with.
        width: Columns.

    Example:
        >>> print(wrap("tanh1 compresses by all estimators", width=20))
        tanh1 compresses by
          all estimators
    """
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def shorten(name: str, width: int = WIDTH) -> str:
    """A name that fits; the end of a long one is an ellipsis.

    Args:
        name: The name.
        width: Columns.

    Example:
        >>> shorten("Binning.idnns", 8)
        'Binning…'
    """
    return name if len(name) <= width else name[: width - 1] + "…"


def printable(name: str) -> str:
    r"""A name of a file as every font and page takes it: bytes that are no text stand escaped.

    Args:
        name: The name.

    Example:
        >>> printable("run-\udcff")
        'run-\\udcff'
    """
    return name.encode("utf-8", "backslashreplace").decode()
