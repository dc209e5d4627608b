"""PyTorch-Ignite: trace a model while an `Engine` trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ibtrace.integrations._callback import Traced
from ibtrace.runtime.optional import require

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
        **tracer_arguments: Those of `ibtrace.Tracer`: ``estimators``, ``lenses``, ``every``,
            ``look``, ``keep`` …

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
        engine.add_event_handler(events.ITERATION_COMPLETED, self._on_iteration_completed)
        engine.add_event_handler(events.EPOCH_COMPLETED, self._on_epoch_completed)
        engine.add_event_handler(events.COMPLETED, self._on_completed)
        engine.add_event_handler(events.EXCEPTION_RAISED, self._on_exception)

    def _on_started(self, engine: Engine) -> None:
        state = engine.state
        length, steps = state.epoch_length, getattr(state, "max_iters", None)
        short = steps is not None and length is not None and steps <= length
        one_epoch = short or length is None or state.max_epochs == 1
        self._start(self.model, state.epoch, state.iteration, by_steps=one_epoch)

    def _on_iteration_completed(self, engine: Engine) -> None:
        state = engine.state
        length = state.epoch_length
        self._step_done(
            state.iteration // length if length else state.epoch - 1, step=state.iteration
        )

    def _on_epoch_completed(self, engine: Engine) -> None:
        state = engine.state
        self._epoch_done(state.epoch, state.iteration, state.metrics)

    def _on_completed(self, engine: Engine) -> None:
        self._finish()

    def _on_exception(self, engine: Engine, error: BaseException) -> None:
        self._abandon(error)
        # An engine raises what nobody handles, and takes what any handler gets for handled.
        raised = require("ignite", "ignite.engine").Events.EXCEPTION_RAISED
        owners = [getattr(each[0], "__self__", None) for each in engine._event_handlers[raised]]
        if all(isinstance(owner, IBTrace) for owner in owners):
            raise error
