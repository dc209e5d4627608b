"""What the sinks of all services share: which numbers, under which names, each of them once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ibtrace.plane import coordinates
from ibtrace.trace import Trace
from ibtrace.types import I_TY, I_XT, Row

Pixels = npt.NDArray[np.uint8]

_QUANTITIES = {I_XT: "I_XT", I_TY: "I_TY"}
SCALARS, PLANES = "scalars", "information_plane"
GROUPS = (*_QUANTITIES.values(), SCALARS, PLANES)
"""The first parts of the names."""


class Point(NamedTuple):
    """A number of a trace and what it is, without the seed in its name."""

    epoch: int
    seed: int
    name: str
    value: float


class Numbers:
    """A sink (see `ibtrace.tracer.Sink`) but for how the numbers are sent.

    Estimates are named ``I_XT/<layer>/<estimator>`` and ``I_TY/<layer>/<estimator>``, the user's
    scalars ``scalars/<name>``, the pictures ``information_plane/<estimator>``; with several seeds
    in the trace, numbers end in ``/seed<seed>``. What no snapshot brought (losses of epochs that
    were not due, estimates that need the whole trace) is sent when the trace is complete.

    Args:
        image_every: Send the information planes at every so many snapshots; None: at the end only.
    """

    def __init__(self, image_every: int | None = None) -> None:
        self.image_every = image_every
        self._snapshots = 0
        self._sent: set[tuple[int, int, str]] = set()
        self._several: bool | None = None

    def send(self, epoch: int, numbers: Mapping[str, float], images: Mapping[str, Pixels]) -> None:
        """Hand the numbers and pictures of one epoch to the service."""
        raise NotImplementedError

    def finish(self) -> None:
        """Close what the sink opened itself."""
        raise NotImplementedError

    def write(self, trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]) -> None:
        """Send a snapshot's rows and scalars."""
        self._snapshots += 1
        due = self.image_every is not None and self._snapshots % self.image_every == 0
        images = information_planes(trace) if due else {}
        self._send(trace, [*_of_rows(rows), *_of_scalars(rows, scalars)], images)

    def close(self, trace: Trace) -> None:
        """Send what was not sent yet of the seeds seen here, and the information planes."""
        seeds = {seed for _, seed, _ in self._sent}
        points = [p for p in _of_trace(trace) if p.seed in seeds and p[:3] not in self._sent]
        self._send(trace, points, information_planes(trace))
        self.finish()

    def _send(self, trace: Trace, points: Iterable[Point], images: Mapping[str, Pixels]) -> None:
        if self._several is None:
            self._several = len(trace.seeds) > 1
        epochs: dict[int, dict[str, float]] = defaultdict(dict)
        for point in points:
            name = f"{point.name}/seed{point.seed}" if self._several else point.name
            epochs[point.epoch][name] = point.value
            self._sent.add(point[:3])
        last = max(epoch for epoch, _, _ in self._sent)
        for epoch in sorted({*epochs, *([last] if images else [])}):
            self.send(epoch, epochs[epoch], images if epoch == last else {})


def information_planes(trace: Trace) -> dict[str, Pixels]:
    """The information plane of each estimator that gave one, as RGB images."""
    points = coordinates(trace.frame()).dropna(subset=[I_XT, I_TY])
    drawn = [name for name in trace.estimators if name in set(points["estimator"])]
    return {f"{PLANES}/{name}": _pixels(trace.plot(name)) for name in drawn}


def _pixels(figure: Figure) -> Pixels:
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _name(quantity: str, layer: str, estimator: str) -> str:
    return f"{_QUANTITIES.get(quantity, quantity)}/{layer}/{estimator}"


def _scalar_name(name: str, layer: str = "") -> str:
    return "/".join(part for part in (SCALARS, layer, name) if part)


def _of_rows(rows: Iterable[Row]) -> Iterator[Point]:
    for row in rows:
        name = _name(row.quantity, row.layer, row.estimator)
        yield Point(row.epoch, row.seed, name, row.bits)


def _of_scalars(rows: Sequence[Row], scalars: Mapping[str, Any]) -> Iterator[Point]:
    """Scalars of the rows' epoch: one number for each of their seeds, or one for all."""
    seeds = list(dict.fromkeys(row.seed for row in rows))
    for name, value in scalars.items():
        each = torch.as_tensor(value, dtype=torch.float64).expand(len(seeds)).tolist()
        for seed, number in zip(seeds, each, strict=True):
            yield Point(rows[0].epoch, seed, _scalar_name(name), number)


def _of_trace(trace: Trace) -> Iterator[Point]:
    for table, name_of, named, value in (
        (trace.frame(), _name, ["quantity", "layer", "estimator"], "bits"),
        (trace.scalars(), _scalar_name, ["name", "layer"], "value"),
    ):
        names = map(name_of, *(table[column] for column in named))
        epochs, seeds, values = (table[column].tolist() for column in ("epoch", "seed", value))
        yield from map(Point, epochs, seeds, names, values)
