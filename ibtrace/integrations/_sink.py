"""What the sinks of all services share: which numbers, under which names, each of them once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ibtrace.integrations._points import PLANES, Point, of_rows, of_scalars, of_trace
from ibtrace.plane import coordinates
from ibtrace.trace import Trace
from ibtrace.types import I_TY, I_XT, Row

Pixels = npt.NDArray[np.uint8]


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
        self.clock = "epoch"
        self._snapshots = 0
        self._sent: set[tuple[int, int, str]] = set()
        self._several: bool | None = None

    def send(self, epoch: int, numbers: Mapping[str, float], images: Mapping[str, Pixels]) -> None:
        """Hand the numbers and pictures of one epoch (of one step, by the clock) to the service."""
        raise NotImplementedError

    def finish(self, failed: bool) -> None:
        """Close what the sink opened itself, as failed if the training or the sending was."""
        raise NotImplementedError

    def write(self, trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]) -> None:
        """Send a snapshot's rows and scalars."""
        self.clock = trace.clock
        self._snapshots += 1
        due = self.image_every is not None and self._snapshots % self.image_every == 0
        images = information_planes(trace) if due else {}
        self._send(
            trace, [*of_rows(rows, self.clock), *of_scalars(rows, scalars, self.clock)], images
        )

    def close(self, trace: Trace, failed: bool) -> None:
        """Send what was not sent yet of the seeds seen here, and the information planes."""
        try:
            if self._sent:
                seeds = {seed for _, seed, _ in self._sent}
                points = [p for p in of_trace(trace) if p.seed in seeds and p[:3] not in self._sent]
                self._send(trace, points, information_planes(trace))
        except BaseException:
            failed = True
            raise
        finally:
            self.finish(failed)

    def _send(self, trace: Trace, points: Iterable[Point], images: Mapping[str, Pixels]) -> None:
        if self._several is None:
            self._several = len(trace.seeds) > 1
        epochs: dict[int, dict[str, float]] = defaultdict(dict)
        for point in points:
            name = f"{point.name}/seed{point.seed}" if self._several else point.name
            epochs[point.at][name] = point.value
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
