"""The papers that can be replicated, one module each."""

from __future__ import annotations

from ibtrace.errors import UnknownName
from ibtrace.papers import tishby
from ibtrace.papers._paper import Paper as Paper

PAPERS = {paper.name: paper for paper in (tishby.PAPER,)}


def find(name: str) -> Paper:
    """A paper by its name.

    Raises:
        UnknownName: If there is none; lists those that there are.
    """
    if name not in PAPERS:
        raise UnknownName(f"no replication is called {name!r}; there are: {', '.join(PAPERS)}")
    return PAPERS[name]
