"""HTML of texts and tables that nobody vouches for: every text is escaped, here alone."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import pandas as pd

_MANY = 12  # entries of a list that stand open


def text(value: object) -> str:
    """A value as HTML text, or as an attribute's between quotes.

    >>> text('<img onerror="x">')
    '&lt;img onerror=&quot;x&quot;&gt;'
    """
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{round(value, 4) + 0.0:g}"
    return html.escape(str(value), quote=True)


def table(frame: pd.DataFrame, caption: str) -> str:
    """A table in a box that scrolls by itself; the first column heads its rows."""
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in frame.columns)
    rows = "".join(_row(row) for row in frame.astype(object).itertuples(index=False, name=None))
    return _scrolling(
        f"<table><caption>{text(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table>",
        caption,
    )


def _row(values: Sequence[object]) -> str:
    first, *others = values
    cells = "".join(
        f'<td class="number">{text(value)}</td>'
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else f"<td>{text(value)}</td>"
        for value in others
    )
    return f'<tr><th scope="row">{text(first)}</th>{cells}</tr>'


def _scrolling(inner: str, label: str) -> str:
    # focusable, so that the keyboard can scroll it
    return (
        f'<div class="scroll" role="region" aria-label="{text(label)}" tabindex="0">{inner}</div>'
    )


def preformatted(content: str, label: str) -> str:
    """Text whose columns are lined up by spaces."""
    return _scrolling(f"<pre>{text(content)}</pre>", label)


def definitions(entries: Mapping[str, object]) -> str:
    """Names and values; what is long is folded, and what is nested in it stands in its lines."""
    parts = [f"<dt>{text(name)}</dt><dd>{_value(value)}</dd>" for name, value in entries.items()]
    return f"<dl>{''.join(parts)}</dl>"


def _value(value: object) -> str:
    if isinstance(value, Mapping) and value:
        parts = "".join(
            f"<dt>{text(name)}</dt><dd>{text(_told(inner))}</dd>" for name, inner in value.items()
        )
        return folded(_number(value), f"<dl>{parts}</dl>")
    if isinstance(value, (list, tuple)) and len(value) > _MANY:
        return folded(_number(value), f"<p>{text(_told(value))}</p>")
    return text(_told(value))


def _told(value: object) -> object:
    """A value in a line."""
    if value is None or value in ("", {}, []):
        return "–"
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_told(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(str(_told(inner)) for inner in value)
    return value


def _number(value: Sequence[object] | Mapping[str, object]) -> str:
    return f"{len(value)} entr{'y' if len(value) == 1 else 'ies'}"


def folded(title: str, inner: str) -> str:
    """What is read when somebody opens it."""
    return f"<details><summary>{text(title)}</summary>{inner}</details>"
