"""What a run's controls say: told beside their subjects, and drawn beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from matplotlib.figure import Figure

from ibtrace import plots
from ibtrace.plane import Controlled, controlled
from ibtrace.types import CONTROLS_LEFT_OUT, I_XT, TraceLike, control_of

_Trace = TypeVar("_Trace", bound=TraceLike)


@dataclass(frozen=True)
class Group:
    """A subject with its controls.

    Args:
        variant: The subject's name among the variants.
        name: The same as it stands in figures: the run's, where there are no variants.
        subject: Its trace.
        controls: Those of its controls, by their names.
    """

    variant: str
    name: str
    subject: TraceLike
    controls: Mapping[str, TraceLike]

    def held_against(self) -> Controlled:
        """The verdict on the subject beside those on its controls."""
        return controlled(self.subject, self.controls)

    def figures(self) -> Iterator[tuple[Literal["curves", "drops"], str, Figure]]:
        """Curves and drops beside one another, by each estimator that all of them share."""
        together = {self.name: self.subject}
        for trace in self.controls.values():
            if (control := control_of(trace.meta)) is not None:
                together[control.words] = trace
        for label in self.subject.estimators:
            if not all(label in trace.estimators for trace in together.values()):
                continue
            yield "curves", label, plots.beside_controls(together, label)
            frame = self.subject.frame()
            if ((frame["estimator"] == label) & (frame["quantity"] == I_XT)).any():
                yield "drops", label, plots.drops(together, label)


def subjects(traces: Mapping[str, _Trace]) -> dict[str, _Trace]:
    """The traces of a run that are no controls.

    Args:
        traces: The run, by variant.
    """
    return {name: trace for name, trace in traces.items() if control_of(trace.meta) is None}


def groups(traces: Mapping[str, TraceLike], run: str) -> list[Group]:
    """Every subject that has controls, or could not have one that was asked for.

    Args:
        traces: The run, by variant.
        run: What a run without variants is called.
    """
    found = []
    for name, trace in subjects(traces).items():
        controls = {
            each: other
            for each, other in traces.items()
            if (control := control_of(other.meta)) is not None and control.of == name
        }
        if controls or trace.meta.get(CONTROLS_LEFT_OUT):
            found.append(Group(name, name or run, trace, controls))
    return found
