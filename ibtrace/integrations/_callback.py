"""What the callbacks of all frameworks share: a tracer that is made when training starts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from ibtrace.integrations._metrics import numbers
from ibtrace.trace import Trace
from ibtrace.tracer import Tracer
from ibtrace.types import ConfigError

if TYPE_CHECKING:
    from ibtrace.plane import Verdict


class Traced:
    """A callback's tracer: made when training starts, readable while and after it runs.

    Args:
        data: The probe, whatever `ibtrace.Probe.of` takes.
        **tracer_arguments: Those of `ibtrace.Tracer`: ``estimators``, ``layers``, ``every``,
            ``run``, ``sinks`` …

    Raises:
        TypeError: If `Tracer` has no such argument.
    """

    def __init__(self, data: Any, **tracer_arguments: Any) -> None:
        inspect.signature(Tracer).bind(None, data, **tracer_arguments)
        self._data = data
        self._arguments = tracer_arguments
        self._tracer: Tracer | None = None

    @property
    def tracer(self) -> Tracer:
        """The tracer of the training that runs, or ran last.

        Raises:
            ConfigError: If no training has started yet.
        """
        if self._tracer is None:
            raise ConfigError(f"{type(self).__name__} has no trace yet; start the training first")
        return self._tracer

    @property
    def trace(self) -> Trace:
        """The rows so far."""
        return self.tracer.trace

    def verdict(self) -> Verdict:
        """Which layers compress, by which estimators: see `ibtrace.plane.verdict`."""
        return self.tracer.verdict()

    def _start(self, model: nn.Module, epochs_done: int, steps_done: int) -> None:
        """Make the tracer; training that goes on goes on with the run folder's trace, if any."""
        self._tracer = None  # of an earlier training: not to be taken for this one's if this fails
        if steps_done == 0:
            self._tracer = Tracer(model, self._data, **self._arguments)
            return
        # The network is not measured here: it may be inside an epoch, the first one even.
        goes_on = {**self._arguments, "resume": True, "initial": False}
        self._tracer = Tracer(model, self._data, **goes_on)
        self.trace.truncate(epochs_done, self.tracer.seeds)

    def _snapshot(self, epoch: int, step: int, metrics: Mapping[str, Any]) -> None:
        scalars: dict[str, Any] = {**numbers(metrics)}
        self.tracer.snapshot(epoch, step=step, **scalars)
