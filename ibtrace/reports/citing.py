"""What to cite for a run, as BibTeX: ``ibtrace cite``.

Instruments and claims name their sources in words, such as "Kraskov, Stögbauer & Grassberger 2004,
Phys. Rev. E 69"; ``references.bib`` has the entries. Which entries words mean is told by the first
author's name and the year.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from ibtrace import __version__, lenses
from ibtrace.errors import RunError
from ibtrace.trace.remaking import used
from ibtrace.trace.stored import StoredTrace
from ibtrace.types import label

_BIB = Path(__file__).with_name("references.bib")
_ITSELF = "ibtrace"
_ENTRY = re.compile(r"^@\w+\{([\w-]+),$.*?^\}$", re.MULTILINE | re.DOTALL)
_AUTHOR = re.compile(r"author = \{+([^,}]+)")
_YEAR = re.compile(r"year = \{(\d{4})\}")


@dataclass(frozen=True)
class Entry:
    """An entry of a bibliography.

    Args:
        key: Its key.
        bibtex: All of it.
    """

    key: str
    bibtex: str

    @property
    def words(self) -> re.Pattern[str]:
        """What a text says that means it: the first author, then the year."""
        author, year = _AUTHOR.search(self.bibtex), _YEAR.search(self.bibtex)
        assert author is not None
        assert year is not None
        return re.compile(rf"(?<!& )(?<!, )\b{re.escape(author[1])}\b[^;]*?\b{year[1]}\b")


@cache
def entries() -> Mapping[str, Entry]:
    """All that the package cites, by key."""
    text = _BIB.read_text(encoding="utf-8")
    return {found[1]: Entry(found[1], found[0]) for found in _ENTRY.finditer(text)}


def cited(words: str) -> list[Entry]:
    """The entries that a source in words means; an entry of the words themselves if none.

    Args:
        words: Such as "Ross 2014, PLoS ONE 9; Kraskov et al. 2004", sources parted by semicolons.

    Example:
        >>> [entry.key for entry in cited("Ross 2014, PLoS ONE 9; Kraskov et al. 2004")]
        ['ross2014', 'kraskov2004']
    """
    found = []
    for part in filter(None, (part.strip() for part in words.split(";"))):
        meant = [each for each in entries().values() if each.words.search(part)]
        found += meant or [_of_words(part)]
    return found


def _of_words(words: str) -> Entry:
    key = re.sub(r"\W+", "", words.lower())[:24] or "source"
    safe = words.replace("{", "(").replace("}", ")")
    return Entry(key, f"@misc{{{key},\n  note = {{{safe}}},\n}}")


def of_traces(traces: Iterable[StoredTrace], claims: pd.DataFrame | None = None) -> str:
    """BibTeX of ibtrace and of all that traces, and claims on them, rest on; each entry once.

    Args:
        traces: The traces.
        claims: A table with a column ``source``, as ``claims.csv``.
    """
    own = entries()[_ITSELF]
    version = f"  version = {{{__version__}}},\n}}"
    told = {own.key: (own.bibtex.removesuffix("}") + version, ["the tracer"])}
    for what, words in _sources(traces, claims):
        for entry in cited(words):
            _, reasons = told.setdefault(entry.key, (entry.bibtex, []))
            if what not in reasons:
                reasons.append(what)
    return "\n\n".join(f"% {', '.join(reasons)}\n{text}" for text, reasons in told.values())


def _sources(
    traces: Iterable[StoredTrace], claims: pd.DataFrame | None
) -> Iterator[tuple[str, str]]:
    """What was used and the source that it names."""
    known = {label(lens): lens for lens in map(lenses.make, lenses.names())}
    for trace in traces:
        for estimator in used(trace)[0]:
            yield label(estimator), estimator.tags.reference
        for name in trace.meta.get("lenses", {}):
            lens = known.get(name.partition("(")[0])
            if lens is not None:
                yield name, lens.tags.reference
    for source in dict.fromkeys(claims["source"].dropna() if claims is not None else ()):
        yield "claims", source


def of_run(traces: Mapping[str, StoredTrace], folder: Path) -> str:
    """`of_traces` of a run folder, with the claims that lie there.

    Args:
        traces: Its traces by variant.
        folder: The folder.

    Raises:
        RunError: If the claims cannot be read.
    """
    table = folder / "claims.csv"
    try:
        claims = pd.read_csv(table) if table.is_file() else None
    except (OSError, ValueError) as error:
        raise RunError(f"{table} cannot be read ({error})") from error
    return of_traces(traces.values(), claims)
