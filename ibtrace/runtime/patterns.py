"""Patterns of layers' names, read like those of paths with dots for slashes."""

from __future__ import annotations

import re
from functools import lru_cache

from ibtrace.errors import InvalidInput

_WILD = re.compile(r"\*\*\.|\*\*|\*|\?|\[!?[^\]]+\]")
_MEANING = {"**.": r"(?:.*\.)?", "**": ".*", "*": r"[^.]*", "?": r"[^.]"}


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern means a name.

    ``*`` and ``?`` stop at a dot, ``**`` crosses dots, ``[ab]`` and ``[!ab]`` are one character of
    (not of) these. What is written like the name itself means it, whatever brackets it has.

    Args:
        name: A layer's name, ``encoder.layer.0.output``.
        pattern: As above, ``encoder.layer.*.output`` or ``**.output``.

    Raises:
        InvalidInput: If the brackets of a pattern mean nothing.

    Example:
        >>> [matches("layer.0.attention.output", p) for p in ("layer.*.output", "layer.**.output")]
        [False, True]
        >>> matches("act", "**.act"), matches("lstm[0]", "lstm[0]")
        (True, True)
    """
    return name == pattern or _compiled(pattern).fullmatch(name) is not None


def is_pattern(text: str) -> bool:
    """Whether a name has wild cards in it."""
    return "*" in text or "?" in text or re.search(r"(^|\.)\[|\[(?!-?\d+\])", text) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts, last = [], 0
    for wild in _WILD.finditer(pattern):
        parts.append(re.escape(pattern[last : wild.start()]))
        token = wild[0]
        parts.append(_MEANING.get(token, token.replace("[!", "[^", 1)))
        last = wild.end()
    try:
        return re.compile("".join([*parts, re.escape(pattern[last:])]), re.DOTALL)
    except re.error as error:
        raise InvalidInput(f"the pattern {pattern!r} cannot be read: {error}") from error
