"""The papers that can be replicated, one module each, imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ibtrace.errors import UnknownName
from ibtrace.runtime.imports import imported

if TYPE_CHECKING:
    from ibtrace.papers._paper import Paper as Paper

_MODULES = (
    "tishby",
    "tishby_sizes",
    "zhang",
    "saxe_linear",
    "cohen",
    "nagarajan",
    "saxe",
    "chelombiev",
    "goldfeld",
    "lorenzen",
    "wickstrom",
    "adilova",
    "butakov",
    "conklin",
)


class _Papers(Mapping[str, "Paper"]):
    """Papers by name: that of their module, with a hyphen for an underscore."""

    def __getitem__(self, name: str) -> Paper:
        if name not in self:
            raise KeyError(name)
        module = importlib.import_module(f"ibtrace.papers.{name.replace('-', '_')}")
        paper: Paper = module.PAPER
        return paper

    def __iter__(self) -> Iterator[str]:
        return (name.replace("_", "-") for name in _MODULES)

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)

    def __len__(self) -> int:
        return len(_MODULES)


PAPERS: Mapping[str, Paper] = _Papers()


def find(name: str) -> Paper:
    """A paper by its name, or one of the user's own by its place.

    Args:
        name: ``tishby``, or ``my_paper.PAPER`` for a `Paper` in the user's file ``my_paper.py``.

    Raises:
        UnknownName: If there is none; lists those that there are.
    """
    if name in PAPERS:
        return PAPERS[name]
    if (theirs := imported(name)) is not None:
        from ibtrace.papers._paper import Paper

        if isinstance(theirs, Paper):
            return theirs
    raise UnknownName(
        f"no replication is called {name!r}; there are: {', '.join(PAPERS)}, and your own as "
        "my_file.PAPER"
    )


def __getattr__(name: str) -> object:
    if name != "Paper":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("ibtrace.papers._paper").Paper
