"""What goes into the page's source: numbers, names that nobody vouches for, scripts and styles."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibtrace.errors import IbtraceError

_ASSETS = files("ibtrace.page") / "assets"
# None of these may stand in a script element: they could end it, or begin a comment or an entity.
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def asset(name: str) -> str:
    """The text of a file that the page is made of."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def packed(values: NDArray[Any], kind: str = "<f4") -> str:
    """Numbers as base64 of little-endian binary, row by row: a third of the size of their text.

    Args:
        values: The numbers, of any shape.
        kind: NumPy's name of the type; ``<f4`` keeps 7 digits, and NaN.

    >>> packed(np.array([1.0, 0.5]))
    'AACAPwAAAD8='
    """
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


def as_json(value: object) -> str:
    r"""JSON that may stand inside a script element, whatever its texts are.

    Raises:
        ValueError: If a number is not finite, which JSON has no word for.

    >>> as_json({"layer": "</script>"})
    '{"layer":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character, escape in _UNSAFE.items():
        text = text.replace(character, escape)
    return text


def script(parts: Iterable[str]) -> str:
    """Scripts of the assets as one, whose names are not seen by others.

    Raises:
        IbtraceError: If one could end its element, which only a damaged installation has.
    """
    text = "\n".join(parts)
    if "</script" in text.lower():
        raise IbtraceError("a script of the page would end its element; install ibtrace again")
    return text


def digest(text: str) -> str:
    """The source that a content security policy allows a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
