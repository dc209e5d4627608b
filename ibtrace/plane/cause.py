"""Why a layer got its call: a kind that decisions read, and words for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Call = Literal["compresses", "does not compress", "inconclusive"]

CauseKind = Literal[
    "no I(X;T)",
    "one snapshot",
    "not to the end",
    "constant",
    "few seeds",
    "nothing seen",
    "below zero",
    "fall",
    "estimate falls",
    "saturated",
    "wide interval",
    "seeds apart",
    "not converged",
    "no fall",
]
"""What decides a call, in the order in which it is asked:

- ``no I(X;T)``: undefined at every look, so that the estimator has no say;
- ``one snapshot``, ``constant``, ``few seeds``: nothing to judge by;
- ``not to the end``: others have measured on, so that its last look is not the training's;
- ``nothing seen``, ``below zero``: the curve shows no information, or less than none;
- ``fall``, ``estimate falls``: the held-out fall is sure; the latter where the true I(X;T) did not
  move;
- ``saturated``: at its ceiling throughout;
- ``wide interval``, ``seeds apart``, ``not converged``: a fall is not excluded;
- ``no fall``: it is.
"""

_CALLS: dict[CauseKind, Call] = {"fall": "compresses", "no fall": "does not compress"}


@dataclass(frozen=True)
class Cause:
    """What decided a call.

    Args:
        kind: Which of the reasons it is.
        text: The same in a few words, with its numbers.
    """

    kind: CauseKind
    text: str

    @property
    def call(self) -> Call:
        """What it decides: all but ``fall`` and ``no fall`` leave it open."""
        return _CALLS.get(self.kind, "inconclusive")

    def __str__(self) -> str:
        return self.text
