"""The lenses of a tracer: when each is due, and what they read as rows of the trace."""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence

from ibtrace.errors import InvalidInput, LensFailed
from ibtrace.lenses import checked
from ibtrace.measure import plain_numbers
from ibtrace.probe import Probe
from ibtrace.runtime.schedule import Schedule
from ibtrace.types import INFORMATION, Lens, Quantity, Row, View, label


class Lenses:
    """Several lenses with their schedules.

    A lens that fails does not stop the training: why is kept in `failed`, and warned of once.

    Args:
        scheduled: The lenses and when each looks.

    Raises:
        InvalidInput: If two have one label, or mean different things by one quantity's name, or
            one reads a quantity that is information.
    """

    def __init__(self, scheduled: Sequence[tuple[Lens, Schedule]]) -> None:
        self._scheduled = tuple(scheduled)
        self.failed: dict[str, str] = {}
        labels = [label(lens) for lens, _ in scheduled]
        known: dict[str, tuple[Quantity, str]] = {}
        for lens, _ in scheduled:
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

    def __len__(self) -> int:
        return len(self._scheduled)

    def configurations(self) -> dict[str, str]:
        """The whole configuration of each, by its label."""
        return {label(lens): repr(lens) for lens, _ in self._scheduled}

    def due(self, at: int, force: bool = False) -> list[Lens]:
        """Those that look at this place on the trace's clock; at the first all do."""
        return [lens for lens, every in self._scheduled if force or at == 0 or every(at)]

    def read(
        self, due: Sequence[Lens], view: View, probe: Probe, layers: Collection[str]
    ) -> list[Row]:
        """The rows of the lenses that are due, in their order.

        Args:
            due: The lenses.
            view: The networks.
            probe: The inputs and labels.
            layers: Those that are traced; a reading of another is refused.
        """
        rows: list[Row] = []
        for lens in due:
            start = time.perf_counter()
            try:
                numbered = list(checked(lens, lens(view, probe), view, layers))
                made = [
                    (quantity, layer, list(plain_numbers(reading, samples=probe.n)))
                    for quantity, layer, reading in numbered
                ]
            except Exception as error:
                self._note(label(lens), error)
                continue
            seconds = time.perf_counter() - start
            rows += _rows(label(lens), made, view, seconds)
        return rows

    def _note(self, name: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if name not in self.failed:
            warnings.warn(f"lens {name} gives nothing: {reason}", LensFailed, stacklevel=2)
        self.failed[name] = reason


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
                **fields,  # type: ignore[arg-type]
            )
