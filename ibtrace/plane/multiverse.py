"""Verdicts under many analyses, and which choice they turn on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.numerics.variance_shares import Shares, variance_shares
from ibtrace.plane.answer import QUESTIONS
from ibtrace.plane.cause import Call, CauseKind
from ibtrace.runtime.text import wrap
from ibtrace.types import Question

Outcome = Literal["fall", "call"]

COMPRESSES: Call = "compresses"
DENIED: Call = "does not compress"

FAMILY = "family"
"""The choice that groups the others: each family has settings of its own."""


_NUMBERS = ("analysis", "held_out", "held_out_lower", "held_out_upper")
_NEEDED = {*_NUMBERS, "estimator", "question"}


class Turn(NamedTuple):
    """The choice that explains most of a spread over analyses, and its share of the variance."""

    choice: str
    share: float


@dataclass(frozen=True)
class Multiverse:
    """Every layer judged under every combination of analysis choices; ``print`` it.

    Args:
        table: One row for each analysis and layer: ``analysis`` (its number), ``layer``, a column
            of text for each choice (empty where a family has no such choice), ``estimator`` (its
            label), ``question`` (what it asks of I(X;T)), ``held_out`` with its interval
            ``held_out_lower`` and ``held_out_upper`` in bits, ``call``, ``cause``, and the peak and
            the end of the mean curve.
        layers: The layers, in the network's order.
        choices: The columns that are choices; the first is ``family``.
        seeds: The seeds that were run.
        looks: How many snapshots.
        clock: What the looks are counted by.
        declined: Why an estimator gave no number for a layer, by both.
        notes: Which analyses of the grid are others over again.
    """

    table: pd.DataFrame
    layers: tuple[str, ...]
    choices: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    looks: int = 0
    clock: str = "epoch"
    declined: Mapping[tuple[str, str], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table["analysis"].nunique())

    def __iter__(self) -> Iterator[LayerMultiverse]:
        return (self.of(layer) for layer in self.layers)

    def of(self, layer: str) -> LayerMultiverse:
        """The analyses of one layer.

        Raises:
            UnknownName: If there is none of this name; lists those that there are.
        """
        if layer not in self.layers:
            known = ", ".join(self.layers)
            raise UnknownName(f"no layer {layer!r} in the multiverse; it has {known}")
        rows = self.table[self.table["layer"] == layer].reset_index(drop=True)
        return LayerMultiverse(layer, rows, self.choices)

    @classmethod
    def read(cls, file: Path) -> Multiverse:
        """What a table that was written as CSV holds: what can be told from the table alone.

        Args:
            file: ``multiverse.csv``, as ``ibtrace multiverse`` leaves it.

        Raises:
            InvalidInput: If it is another table.
        """
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        names = [*table.columns]
        if names[:2] != ["analysis", "layer"] or not _NEEDED <= {*names}:
            raise InvalidInput(f"{file}: not the table of a multiverse; run ibtrace multiverse")
        for name in _NUMBERS:
            table[name] = pd.to_numeric(table[name])
        choices = tuple(names[2 : names.index("estimator")])
        return cls(table, tuple(dict.fromkeys(table["layer"])), choices)

    def summary(self) -> pd.DataFrame:
        """One row for each layer and question: shares of the calls, the falls, what they turn on.

        Analyses that ask different things of I(X;T) are not counted together.
        """
        return pd.DataFrame([record for layer in self for record in layer.records()])

    def shares(self, outcome: Outcome = "fall") -> pd.DataFrame:
        """`LayerMultiverse.shares` of all layers: a row for each layer, question and choice."""
        parts = [
            {"layer": layer.layer, "question": question, "choice": name, "share": share}
            for layer in self
            for question, asking in layer.asked.items()
            for name, share in asking.shares(outcome).items()
        ]
        return pd.DataFrame(parts)

    def __str__(self) -> str:
        """For each layer: under how many analyses it compresses, and on what that turns."""
        said = [wrap(layer.sentence(), rest="  ") for layer in self]
        reasons: dict[str, list[str]] = {}
        for (estimator, layer), reason in self.declined.items():
            reasons.setdefault(f"{estimator}: {reason}", []).append(layer)
        said += [
            wrap(f"No number in {', '.join(names)} by {reason}", rest="  ")
            for reason, names in reasons.items()
        ]
        said += [wrap(note, rest="  ") for note in self.notes]
        return "\n".join(said)


@dataclass(frozen=True)
class LayerMultiverse:
    """One layer under many analyses.

    Args:
        layer: The layer.
        rows: Its rows of `Multiverse.table`.
        choices: The columns that are choices.
    """

    layer: str
    rows: pd.DataFrame
    choices: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def share_of(self, call: Call) -> float:
        """The share of the analyses that make a call."""
        rows = self.judged
        return float((rows["call"] == call).mean()) if len(rows) else np.nan

    @property
    def judged(self) -> pd.DataFrame:
        """The analyses that can make a call: with numbers, of several looks, of seeds enough.

        The others are in `rows` and in no share: what they leave open says nothing of the layer.
        """
        return _judged(self.rows)

    @property
    def varied(self) -> list[str]:
        """The choices that take several values."""
        return [name for name in self.choices if len({*self.rows[name]} - {""}) > 1]

    def levels(self, choice: str) -> dict[str, pd.DataFrame]:
        """The analyses at each value of a choice, of the families that have it."""
        having = self.rows[self.rows[choice] != ""]
        return {str(level): rows for level, rows in having.groupby(choice, sort=False)}

    def shares(self, outcome: Outcome = "fall") -> dict[str, float]:
        """How much of the spread over the analyses each choice explains; ``together`` is the rest.

        The variance of the held-out falls (or of the call, 1 where it is "compresses") is parted
        among the families and, within these, their settings (`variance_shares`). NaN where all
        analyses agree.

        Args:
            outcome: ``fall`` or ``call``.

        Raises:
            InvalidInput: If the analyses ask different things of I(X;T): of two answers the
                spread is no choice's. Each of `asked` has its shares.
        """
        if len(asked := [*self.asked]) > 1:
            raise InvalidInput(
                f"{self.layer}: shares are of analyses that ask one thing, and these ask "
                f"{len(asked)}: {', '.join(asked)}; take asked[{asked[0]!r}].shares()"
            )
        rows = self.judged
        rows = rows if outcome == "call" else rows[np.isfinite(rows["held_out"])]
        outcomes = rows["call"] == COMPRESSES if outcome == "call" else rows["held_out"]
        values = np.asarray(outcomes, dtype=np.float64)
        varied = [name for name in self.varied if len({*rows[name]} - {""}) > 1]
        names = [name for name in varied if name != FAMILY]
        shares: Shares = variance_shares(
            values, [*rows[FAMILY]], {name: [*rows[name]] for name in names}
        )
        group = {FAMILY: shares.group} if FAMILY in varied else {}
        return {**group, **shares.factors, "together": shares.rest}

    def turns_on(self, outcome: Outcome = "fall") -> Turn | None:
        """The single choice that explains most, and its share; None where nothing varies.

        Args:
            outcome: ``fall`` or ``call``.

        Raises:
            InvalidInput: If the analyses ask different things of I(X;T): see `shares`.
        """
        shares = {name: share for name, share in self.shares(outcome).items() if name != "together"}
        if not shares or np.isnan([*shares.values()]).any():
            return None
        name = max(shares, key=lambda each: shares[each])
        return Turn(name, shares[name])

    @property
    def asked(self) -> dict[Question, LayerMultiverse]:
        """The analyses by what they ask of I(X;T): no share is taken across questions.

        Of questions that some analysis can make a call about.
        """
        asking = {
            question: replace(self, rows=self.rows[self.rows["question"] == question])
            for question in QUESTIONS
        }
        return {question: some for question, some in asking.items() if len(some.judged)}

    def records(self) -> list[dict[str, object]]:
        """The layer's rows of `Multiverse.summary`."""
        return [asking._record(question) for question, asking in self.asked.items()]

    def _record(self, question: Question) -> dict[str, object]:
        rows, most, call = self.judged, self.turns_on(), self.turns_on("call")
        return {
            "layer": self.layer,
            "question": question,
            "analyses": len(rows),
            "compresses": float((rows["call"] == COMPRESSES).mean()),
            "does_not_compress": float((rows["call"] == DENIED).mean()),
            "lowest_fall": rows["held_out"].min(),
            "median_fall": rows["held_out"].median(),
            "highest_fall": rows["held_out"].max(),
            "falls_turn_on": most.choice if most else "",
            "falls_share": most.share if most else np.nan,
            "call_turns_on": call.choice if call else "",
            "call_share": call.share if call else np.nan,
        }

    def sentence(self) -> str:
        """Under how many analyses it compresses, how far it falls, and what that turns on.

        A question at a time.
        """
        if self.judged["held_out"].isna().all():
            return f"{self.layer}: no analysis of {len(self)} has a fall over seeds."
        each = (asking._answer(question) for question, asking in self.asked.items())
        text = f"{self.layer}: {' '.join(each)}"
        if uncounted := len(self) - len(self.judged):
            have = "have" if uncounted > 1 else "has"
            text += f" {uncounted} more {have} too few seeds or looks for a call."
        return text

    def _answer(self, question: Question) -> str:
        """The calls and falls of analyses that ask one question, and what these turn on."""
        text = _calls(question, self.judged)
        if most := self.turns_on():
            text += (
                f" Of the falls' spread the {_name(most.choice)} explains {_percent(most.share)}."
            )
        if call := self.turns_on("call"):
            text += (
                f" The call turns most on the {_name(call.choice)}: {self._by_level(call.choice)}."
            )
        return text

    def _by_level(self, choice: str) -> str:
        """The share of the analyses that compress, at each value of a choice."""
        shares = {
            level: float((rows["call"] == COMPRESSES).mean())
            for level, every in self.levels(choice).items()
            if len(rows := _judged(every))
        }
        ordered = sorted(shares.items(), key=lambda item: -item[1])
        return ", ".join(f"{_percent(share)} with {level}" for level, share in ordered)


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[~rows["cause"].isin(_NO_CALL)]


def _calls(question: Question, rows: pd.DataFrame) -> str:
    """The calls and the falls of the analyses that ask one question."""
    yes, no = (float((rows["call"] == call).mean()) for call in (COMPRESSES, DENIED))
    asked = QUESTIONS[question]
    parts = [f"{asked[0].upper()}{asked[1:]}: compresses under {_percent(yes)} of {len(rows)}"]
    parts[0] += f" analys{'e' if len(rows) != 1 else 'i'}s"
    parts += [f"does not under {_percent(no)}"] if no else []
    parts += [f"{_percent(1 - yes - no)} leave it open"] if yes + no < 1 - 1e-9 else []
    falls = rows["held_out"].dropna()
    if falls.empty:
        return f"{', '.join(parts)}; none has a fall over seeds."
    low, high, middle = (
        f"{round(fall, 2) + 0.0:.2f}" for fall in (falls.min(), falls.max(), falls.median())
    )
    return f"{', '.join(parts)}; falls from {low} to {high} bits, median {middle}."


_ROUNDING = 1e-9
_NO_CALL: tuple[CauseKind, ...] = ("few seeds", "one snapshot", "no I(X;T)")

_NAMES = {
    "family": "family of estimators",
    "samples": "share of the probe",
    "bins": "number of bins",
    "training": "share of the training",
    "seeds": "choice of seeds",
    "k": "number of neighbours",
}


def _name(choice: str) -> str:
    return _NAMES.get(choice, choice.replace("_", " "))


def _percent(share: float) -> str:
    if _ROUNDING < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 - _ROUNDING else f"{100 * share:.0f} %"
