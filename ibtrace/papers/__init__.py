"""The papers that can be replicated, one module each."""

from __future__ import annotations

from ibtrace.errors import UnknownName
from ibtrace.papers import (
    adilova,
    butakov,
    chelombiev,
    cohen,
    goldfeld,
    lorenzen,
    nagarajan,
    saxe,
    saxe_linear,
    tishby,
    tishby_sizes,
    wickstrom,
    zhang,
)
from ibtrace.papers._paper import Paper as Paper
from ibtrace.runtime.imports import imported

PAPERS = {
    paper.name: paper
    for paper in (
        tishby.PAPER,
        tishby_sizes.PAPER,
        zhang.PAPER,
        saxe_linear.PAPER,
        cohen.PAPER,
        nagarajan.PAPER,
        saxe.PAPER,
        chelombiev.PAPER,
        goldfeld.PAPER,
        lorenzen.PAPER,
        wickstrom.PAPER,
        adilova.PAPER,
        butakov.PAPER,
    )
}


def find(name: str) -> Paper:
    """A paper by its name, or one of the user's own by its place.

    Args:
        name: ``tishby``, or ``my_paper.PAPER`` for a `Paper` in the user's file ``my_paper.py``.

    Raises:
        UnknownName: If there is none; lists those that there are.
    """
    if name in PAPERS:
        return PAPERS[name]
    if isinstance(paper := imported(name), Paper):
        return paper
    raise UnknownName(
        f"no replication is called {name!r}; there are: {', '.join(PAPERS)}, and your own as "
        "my_file.PAPER"
    )
