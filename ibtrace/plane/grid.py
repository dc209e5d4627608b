"""The verdicts on the points of a grid, each by its own networks, in one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ibtrace.plane.answer import QUESTIONS, AnswerCall
from ibtrace.plane.finding import Finding
from ibtrace.plane.result import Verdict
from ibtrace.plane.rule import Rule
from ibtrace.runtime.text import WIDTH
from ibtrace.types import Question

_MARKS: Mapping[AnswerCall, str] = {
    "compresses": "falls",
    "does not compress": "no",
    "inconclusive": "?",
    "hangs on the resolution": "hangs",
    "hangs on the estimator": "hangs",
}
_LEGEND = (
    "falls: compresses; no: does not; ?: inconclusive; hangs: on the resolution or estimator; "
    "-: not asked."
)


@dataclass(frozen=True)
class GridVerdict(Mapping[str, Verdict]):
    """The verdict on every point of a grid, by its name; ``print`` it for the answers in a table.

    Networks of different points are never counted together.

    Args:
        verdicts: By point.
        grid: The values of the grid at each, by their keys.
    """

    verdicts: Mapping[str, Verdict]
    grid: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, name: str) -> Verdict:
        return self.verdicts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    @property
    def least_drop(self) -> float:
        """The least fall that counts, in bits."""
        return next((judged.rule.least_drop for judged in self.values()), Rule().least_drop)

    def table(self) -> pd.DataFrame:
        """`Verdict.table` of every point, after a column for each key of the grid."""
        return joined({name: judged.table() for name, judged in self.items()}, self.grid)

    def by(self, estimator: str) -> dict[str, list[Finding]]:
        """What an estimator says of every layer, by the points that it judged.

        Args:
            estimator: Its label.
        """
        found = {
            name: [finding for finding in judged.findings if finding.estimator == estimator]
            for name, judged in self.items()
        }
        return {name: own for name, own in found.items() if own}

    def answers(self, question: Question) -> pd.DataFrame:
        """The answers to one question: a row for each point, a column for each layer.

        Args:
            question: One of those that `ibtrace.types.Tags` has.
        """
        rows = {
            name: {
                layer.layer: answer.call
                for layer in judged
                for answer in layer
                if answer.question == question
            }
            for name, judged in self.items()
        }
        rows = {name: row for name, row in rows.items() if row}
        return pd.DataFrame.from_dict(rows, orient="index")

    def __str__(self) -> str:
        parts = []
        for question, words in QUESTIONS.items():
            table = self.answers(question)
            if len(table):
                parts.append(f"{words[0].upper()}{words[1:]}\n{_text(table)}")
        return "\n\n".join([*parts, _LEGEND]) if parts else "No point was judged."


def joined(
    tables: Mapping[str, pd.DataFrame], grid: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """The tables of several points as one, after a column for each key of the grid.

    Args:
        tables: By point.
        grid: The values of the grid at each, by their keys.
    """
    parts = [
        pd.concat([pd.DataFrame(grid[name], index=own.index), own], axis=1)
        for name, own in tables.items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _text(table: pd.DataFrame) -> str:
    """Answers as text, layer by layer, in as many blocks of columns as the width needs."""
    marked = table.map(lambda call: _MARKS.get(call, "-"))
    first = max(map(len, [*marked.index, "point"]))
    widths = [max(5, len(layer)) + 2 for layer in marked.columns]
    blocks: list[list[int]] = [[]]
    for place, width in enumerate(widths):
        if blocks[-1] and first + sum(widths[p] for p in blocks[-1]) + width > WIDTH:
            blocks.append([])
        blocks[-1].append(place)
    lines = []
    for block in blocks:
        heads = "".join(f"{marked.columns[p]:>{widths[p]}}" for p in block)
        lines.append(f"{'point':{first}}{heads}")
        for name, row in zip(marked.index, marked.to_numpy(), strict=True):
            lines.append(f"{name:{first}}" + "".join(f"{row[p]:>{widths[p]}}" for p in block))
    return "\n".join(lines)
