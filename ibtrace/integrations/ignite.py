"""PyTorch-Ignite: trace a model while an `Engine` trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ibtrace.integrations._callback import Traced
from ibtrace.integrations._require import require

if TYPE_CHECKING:
    from ignite.engine import Engine


class IBTrace(Traced):
    """A handler that traces a model before training, after each epoch and at the end.

    The engine's ``state.metrics`` are stored as scalars of the epoch. Training itself is not
    changed by one bit. An engine that goes on goes on with the trace in the folder ``run``;
    without one, its trace begins there.

    Args:
        model: The model that the engine trains.
        data: The probe: ``(x, y)``, a ``DataLoader``, a ``Dataset`` (`ibtrace.Probe.of`).
        **tracer_arguments: Those of `ibtrace.Tracer`: ``estimators``, ``layers``, ``every``,
            ``run``, ``sinks`` …

    Example::

        from ibtrace.integrations.ignite import IBTrace

        trace = IBTrace(model, data=(x, y), estimators=["binning"])
        trace.attach(engine)
        engine.run(train_loader, max_epochs=10)
        print(trace.verdict())
    """

    def __init__(self, model: nn.Module, data: Any, **tracer_arguments: Any) -> None:
        super().__init__(data, **tracer_arguments)
        self.model = model

    def attach(self, engine: Engine) -> None:
        """Have the engine call this handler.

        Raises:
            MissingDependency: If PyTorch-Ignite is not installed.
        """
        events = require("ignite", "ignite.engine").Events
        engine.add_event_handler(events.STARTED, self._on_started)
        engine.add_event_handler(events.EPOCH_COMPLETED, self._on_epoch_completed)
        engine.add_event_handler(events.COMPLETED, self._on_completed)

    def _on_started(self, engine: Engine) -> None:
        self._start(self.model, engine.state.epoch, engine.state.iteration)

    def _on_epoch_completed(self, engine: Engine) -> None:
        state = engine.state
        self._snapshot(state.epoch, step=state.iteration, metrics=state.metrics)

    def _on_completed(self, engine: Engine) -> None:
        self.tracer.close()
