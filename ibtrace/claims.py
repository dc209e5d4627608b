"""A paper's statement that a trace can bear out or not, and the table of what came of it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

import pandas as pd

from ibtrace.errors import InvalidInput
from ibtrace.runtime.text import wrap
from ibtrace.types import TraceLike

Status = Literal["held", "failed", "inconclusive", "not measured"]
"""``inconclusive``: the numbers leave it open; ``not measured``: there are none."""


def within(lower: float, upper: float, low: float, high: float = math.inf) -> Status:
    """Held if an interval lies between two bounds, failed if outside, open if over one of them.

    Args:
        lower: The interval's lower end; NaN decides nothing.
        upper: Its upper end.
        low: The lower bound.
        high: The upper bound.

    Example:
        >>> within(1.1, 1.9, 1, 2), within(0.9, 1.9, 1, 2), within(0.1, 0.9, 1, 2)
        ('held', 'inconclusive', 'failed')
    """
    if low < lower and upper < high:
        return "held"
    return "failed" if upper < low or lower > high else "inconclusive"


@dataclass(frozen=True)
class Outcome:
    """What came of a claim.

    Args:
        status: Whether it held.
        number: What was measured, in words with units: ``"4.4 bits [3.9, 4.9]"``.
    """

    status: Status
    number: str


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, with the test that decides on it.

    Args:
        name: A word or two, as in ``"compression-tanh"``.
        source: Author, year and where in the paper.
        statement: The statement, as the paper makes it.
        test: Decides on the traces of the experiment, by their names; its thresholds are keyword
            arguments with defaults, see `at`.
        needs: Names of the traces it cannot do without; where one is missing the claim is not
            measured.
        by: Labels of the estimators that each of these traces must hold, likewise.
        reads: Quantities that each of them must hold, likewise, and the lens that reads each, by
            its registered name.

    >>> claim = Claim("ceiling", "a textbook", "I(X;T) is at most log2 N.",
    ...               lambda traces: Outcome("held", f"{len(traces)} traces"))
    >>> claim({})
    Outcome(status='held', number='0 traces')
    """

    name: str
    source: str
    statement: str
    test: Callable[..., Outcome]
    needs: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    reads: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, traces: Mapping[str, TraceLike]) -> Outcome:
        """Test the claim on the traces of an experiment."""
        if missing := [name for name in self.needs if name not in traces]:
            return Outcome("not measured", f"not run: {', '.join(missing)}")
        for name in self.needs:
            if absent := [label for label in self.by if label not in traces[name].estimators]:
                return Outcome("not measured", f"{name} was not measured by {', '.join(absent)}")
        if lenses := [lens for what, lens in self.reads.items() if not self._read(traces, what)]:
            return Outcome("not measured", f"needs --lenses {','.join(dict.fromkeys(lenses))}")
        return self.test(traces)

    def at(self, **thresholds: Any) -> Claim:
        """The same claim with other thresholds.

        Args:
            **thresholds: Keyword arguments of its test.

        Raises:
            InvalidInput: If the test takes no such argument; lists those that it takes.

        Example:
            >>> def any_runs(traces, least=1):
            ...     return Outcome("held" if len(traces) >= least else "failed", f"{len(traces)}")
            >>> claim = Claim("runs", "nobody", "There are runs.", any_runs)
            >>> claim({}).status, claim.at(least=0)({}).status
            ('failed', 'held')
        """
        _traces, *arguments = inspect.signature(self.test).parameters
        if unknown := [name for name in thresholds if name not in arguments]:
            known = ", ".join(arguments) or "none"
            raise InvalidInput(f"claim {self.name} has no {', '.join(unknown)}; it has {known}")
        return replace(self, test=partial(self.test, **thresholds))

    def _read(self, traces: Mapping[str, TraceLike], quantity: str) -> bool:
        """Whether each trace that the claim needs has a number of a quantity."""
        frames = (traces[name].readings() for name in self.needs)
        return all(
            bool((frame["value"].notna() & (frame["quantity"] == quantity)).any())
            for frame in frames
        )


def claims_table(claims: Iterable[Claim], traces: Mapping[str, TraceLike]) -> pd.DataFrame:
    """Test all claims: ``name, status, number, statement, source``, one row for each.

    Args:
        claims: The claims.
        traces: The traces of the experiment, by name.
    """
    rows = []
    for claim in claims:
        outcome = claim(traces)
        rows.append((claim.name, outcome.status, outcome.number, claim.statement, claim.source))
    return pd.DataFrame(rows, columns=["name", "status", "number", "statement", "source"])


def claims_text(table: pd.DataFrame) -> str:
    """The table of `claims_table` for a terminal, at most 110 columns wide.

    Args:
        table: What `claims_table` returned.
    """
    lines = []
    measured = table["status"] != "not measured"
    for row in table[measured].itertuples(index=False):
        lines.append(wrap(f"{row.status:12}  {row.statement} ({row.source})", rest=" " * 14))
        lines.append(wrap(f"{'':12}  measured: {row.number}", rest=" " * 14))
    for why, part in table[~measured].groupby("number", sort=False):
        names = ", ".join(part["name"])
        lines.append(wrap(f"{'not measured':12}  {names}: {why}", rest=" " * 14))
    counts = table["status"].value_counts()
    statuses = get_args(Status)[: 3 if measured.all() else 4]
    summary = ", ".join(f"{counts.get(status, 0)} {status}" for status in statuses)
    return "\n".join((*lines, f"{len(table)} claims: {summary}"))
