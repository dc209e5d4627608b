"""The lenses of a tracer: when each is due, and what they read as rows of the trace."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from ibtrace.capture.view import NetworkView
from ibtrace.errors import InvalidInput, LensFailed
from ibtrace.lenses import checked, layer_of, registry
from ibtrace.measure import plain_numbers
from ibtrace.numerics.compiled import clock
from ibtrace.probe import Probe
from ibtrace.runtime.schedule import Schedule
from ibtrace.tracer._untouched import Untouched, require_untouched
from ibtrace.types import INFORMATION, Lens, Quantity, Reading, Row, View, label


@dataclass(frozen=True)
class Scheduled:
    """A lens and when it looks.

    Args:
        lens: The lens.
        every: Its schedule.
        looks: Of the looks that are due, it takes every ``looks``-th.
    """

    lens: Lens
    every: Schedule
    looks: int = 1


@dataclass(frozen=True)
class _Looked:
    """What a lens saw, and at which place on the trace's clock."""

    at: int
    view: NetworkView


class Lenses:
    """Several lenses with their schedules, and what they remember of earlier looks.

    A lens that fails does not stop the training: why is kept in `failed`, and warned of once. So it
    is with one that writes to what it is handed: that is put back.

    Args:
        scheduled: The lenses and when each looks.

    Raises:
        InvalidInput: If two have one label, or mean different things by one quantity's name, or
            one reads a quantity that is information.
    """

    def __init__(self, scheduled: Sequence[Scheduled]) -> None:
        self._scheduled = tuple(scheduled)
        self.failed: dict[str, str] = {}
        self.begun = False
        """Whether there was a look: a resumed run has had its first, which may not be known."""
        self._initial: NetworkView | None = None
        self._looked: dict[str, tuple[_Looked, ...]] = {}  # the last two places of each lens
        self._waited: Counter[str] = Counter()
        lenses = [item.lens for item in self._scheduled]
        _require_one_meaning(lenses)
        needs = {need for lens in lenses for need in lens.tags.needs}
        self._remembers = bool(needs & {"initial", "previous"})

    def __len__(self) -> int:
        return len(self._scheduled)

    def configurations(self) -> dict[str, str]:
        """The whole configuration of each, by its label."""
        return {label(item.lens): repr(item.lens) for item in self._scheduled}

    def schedules(self) -> dict[str, tuple[Schedule, int]]:
        """When each looks, by its label, and that it takes every so many-th of these looks."""
        return {label(item.lens): (item.every, item.looks) for item in self._scheduled}

    def due(self, at: int, force: bool = False) -> list[Lens]:
        """Those that look at this place on the trace's clock; at the first all do."""
        return [
            item.lens
            for item in self._scheduled
            if force or at == 0 or (item.every(at) and self._turn(item))
        ]

    def _turn(self, item: Scheduled) -> bool:
        return self._waited[label(item.lens)] + 1 >= item.looks

    def looked(self, at: int, due: Sequence[Lens]) -> None:
        """Count a look: a dear lens that was not due waits one look less."""
        for item in self._scheduled:
            name = label(item.lens)
            if item.lens in due:
                self._waited[name] = 0
            elif item.every(at):
                self._waited[name] += 1

    def read(
        self,
        due: Sequence[Lens],
        view: NetworkView,
        probe: Probe,
        layers: Collection[str],
        at: int,
    ) -> list[Row]:
        """The rows of the lenses that are due, in their order.

        Args:
            due: The lenses.
            view: The networks.
            probe: The inputs and labels.
            layers: Those that are traced; of others, and of modules that hold no parameters, a
                reading is refused.
            at: The place on the trace's clock. A second look at one place is no look before it.
        """
        if self._remembers:
            view = view.held()
            self._initial = self._initial if self.begun else view
        self.begun = True
        named = {*layers, *map(layer_of, view.networks.parameters)}
        rows: list[Row] = []
        for lens in due:
            start = clock()
            own = type(lens) in registry.values()
            seen = view if own else view.apart()
            seen.remember(cache(partial(self._past, label(lens), at, own)))
            try:
                readings = lens(seen, probe) if own else self._read_untouched(lens, seen, probe)
                numbered = list(checked(lens, readings, seen, named))
                made = [
                    (quantity, layer, list(plain_numbers(reading, samples=probe.n)))
                    for quantity, layer, reading in numbered
                ]
            except Exception as error:
                self.note(lens, error)
                continue
            finally:
                if "previous" in lens.tags.needs:
                    before = self._before(label(lens), at)
                    self._looked[label(lens)] = (*before[-1:], _Looked(at, seen))
            seconds = clock() - start
            rows += _rows(label(lens), made, view, seconds)
        for kept in (view, *self._earlier()):
            kept.release()
        return rows

    def _read_untouched(
        self, lens: Lens, view: NetworkView, probe: Probe
    ) -> Mapping[str, Mapping[str, Reading]]:
        """What a lens that is not the package's reads, if it changes nothing.

        Raises:
            InvalidInput: If it does; all is put back.
        """
        untouched = Untouched(view, probe, self._earlier())
        try:
            readings = lens(view, probe)
        finally:
            changed = untouched.restore()
        require_untouched(changed)
        return readings

    def _earlier(self) -> list[NetworkView]:
        initial = [] if self._initial is None else [self._initial]
        return [*initial, *(looked.view for looks in self._looked.values() for looked in looks)]

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of earlier looks, as tensors and numbers."""
        return {
            "waited": dict(self._waited),
            "initial": None if self._initial is None else self._initial.state_dict(),
            "looked": {
                name: {looked.at: looked.view.state_dict() for looked in looks}
                for name, looks in self._looked.items()
            },
        }

    def load_state_dict(
        self, state: Mapping[str, Any], view: Callable[[Mapping[str, Any]], NetworkView]
    ) -> None:
        """Go on from what `state_dict` gave.

        Args:
            state: What it gave.
            view: Makes a view of what one's `NetworkView.state_dict` gave.
        """
        self._waited = Counter(state["waited"])
        initial = state.get("initial")
        self._initial = None if initial is None else view(initial)
        self._looked = {
            name: tuple(_Looked(at, view(held)) for at, held in looks.items())
            for name, looks in state.get(
                "looked", {}
            ).items()  # not in checkpoints of earlier versions
        }

    def _before(self, name: str, at: int) -> list[_Looked]:
        """The looks of the lens of this name that are remembered from before a place."""
        return [looked for looked in self._looked.get(name, ()) if looked.at < at]

    def _past(self, name: str, at: int, own: bool, when: str) -> NetworkView | None:
        """The view at the initial look, or at the last one of the lens of this name before.

        Args:
            name: The lens's.
            at: The place.
            own: Whether it is the package's, and may share what is computed of the initial look.
            when: Which look.
        """
        if when == "initial":
            return self._initial if own or self._initial is None else self._initial.apart()
        before = self._before(name, at)
        return before[-1].view if before else None

    def note(self, lens: Lens, error: Exception) -> None:
        """Take down that a lens failed, and why."""
        name = label(lens)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if name not in self.failed:
            warnings.warn(f"lens {name} gives nothing: {reason}", LensFailed, stacklevel=2)
        self.failed[name] = reason


def _require_one_meaning(lenses: Sequence[Lens]) -> None:
    labels = [label(lens) for lens in lenses]
    known: dict[str, tuple[Quantity, str]] = {}
    for lens in lenses:
        if labels.count(label(lens)) > 1:
            raise InvalidInput(f"lenses: two are called {label(lens)}; drop one")
        names = [quantity.name for quantity in lens.tags.quantities]
        if taken := sorted({*names} & {*INFORMATION}):
            raise InvalidInput(
                f"{label(lens)} reads {taken[0]}, which is what estimators measure; give the "
                "quantity another name"
            )
        for quantity in lens.tags.quantities:
            other, whose = known.setdefault(quantity.name, (quantity, label(lens)))
            if quantity != other:
                raise InvalidInput(
                    f"{whose} and {label(lens)} both read {quantity.name}, as {other} and as "
                    f"{quantity}; give one of them another name"
                )


def _rows(
    name: str,
    made: Sequence[tuple[str, str, Sequence[Mapping[str, object]]]],
    view: View,
    seconds: float,
) -> Iterator[Row]:
    each = seconds / max(1, sum(len(numbers) for _, _, numbers in made))
    for quantity, layer, numbers in made:
        for seed, fields in zip(view.seeds, numbers, strict=True):
            yield Row(
                seed=seed,
                epoch=view.epoch,
                step=view.step,
                layer=layer,
                quantity=quantity,
                instrument=name,
                estimand="",
                seconds=each,
                **fields,  # type: ignore[arg-type]  # each field has its own type
            )
