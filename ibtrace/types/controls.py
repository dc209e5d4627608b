"""Controls: networks beside a subject, of which nothing that it learns can be the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ControlKind = Literal["shuffled_labels", "linear", "frozen"]
"""What is different: the labels are permuted; no unit is nonlinear; no step is taken."""

CONTROLS: Mapping[ControlKind, str] = {
    "shuffled_labels": "shuffled labels",
    "linear": "linear network",
    "frozen": "frozen random network",
}
"""Every control, and what it is called in texts and figures."""

CONTROL = "control"
"""Where a trace's meta says that it is a control: ``{"kind": …, "of": …}``."""

CONTROLS_LEFT_OUT = "controls_left_out"
"""Where a subject's meta says which controls it could not have, and why: ``{kind: sentence}``."""


@dataclass(frozen=True)
class Control:
    """What a network is a control of.

    Args:
        kind: What is different from the subject.
        of: The name of the subject among the variants of its run; ``""`` where there are none.
    """

    kind: ControlKind
    of: str = ""

    @property
    def words(self) -> str:
        """What it is called."""
        return CONTROLS[self.kind]


def control_of(meta: Mapping[str, Any]) -> Control | None:
    """What a trace is a control of; None for every other.

    Args:
        meta: Of the trace.

    >>> control_of({"control": {"kind": "frozen", "of": "tanh"}}), control_of({})
    (Control(kind='frozen', of='tanh'), None)
    """
    record = meta.get(CONTROL)
    return None if record is None else Control(**record)
