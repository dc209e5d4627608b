"""Examples in docstrings, which doctest runs, as code; and a dataclass's arguments as they are."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1(?! *$)\S.*|\n\1 +\S.*)*", re.MULTILINE)


def fenced(docstring: str) -> str:
    """A docstring with each of its examples, prompt and output, in a fence of its own."""

    def fence(match: re.Match[str]) -> str:
        indent = match[1]
        return f"{indent}```pycon\n{match[0]}\n{indent}```"

    return _EXAMPLE.sub(fence, docstring)


class Doctests(griffe.Extension):
    """Fences the examples of every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each object that was loaded."""
        if obj.docstring is not None and "```" not in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)
