"""What the callbacks of all frameworks share: a tracer that is made when training starts."""

from __future__ import annotations

import atexit
import inspect
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import nn

from ibtrace.capture import Look
from ibtrace.errors import ConfigError
from ibtrace.integrations._metrics import numbers
from ibtrace.runtime.schedule import Steps
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Tracer

if TYPE_CHECKING:
    from typing_extensions import Self

    from ibtrace.plane import Verdict


class Traced:
    """A callback's tracer: made when training starts, readable while and after it runs.

    If the training fails, what was traced stays and the sinks are closed: at once where the
    framework tells, or on leaving ``with callback:``, else when the next training starts or the
    process ends.

    Args:
        data: The probe, whatever `ibtrace.Probe.of` takes.
        **tracer_arguments: Those of `ibtrace.Tracer`: ``estimators``, ``look``, ``every``,
            ``keep`` … ``every=Steps(…)`` looks within epochs; a training that has no
            second epoch is looked at by log-spaced steps where ``every`` is not given.

    Raises:
        TypeError: If `Tracer` has no such argument.
    """

    def __init__(self, data: Any, **tracer_arguments: Any) -> None:
        inspect.signature(Tracer).bind(None, data, **tracer_arguments)
        self._data = data
        self._arguments = tracer_arguments
        self._tracer: Tracer | None = None
        self._step = 0

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
        """Does each layer compress, a question at a time: see `ibtrace.plane.verdict`."""
        return self.tracer.verdict()

    def _start(
        self, model: nn.Module, epochs_done: int, steps_done: int, *, by_steps: bool = False
    ) -> None:
        """Make the tracer; training that goes on goes on with the run folder's trace, if any.

        Args:
            model: What is traced.
            epochs_done: Epochs of training done.
            steps_done: Optimiser steps done.
            by_steps: Whether the training has no second epoch, so that steps are to be counted
                where the user does not say.
        """
        self._abandon()  # an earlier training that failed, if its framework has not said so
        self._tracer = None  # of an earlier training: not to be taken for this one's if this fails
        # The last resort where a framework does not tell that its training has failed.
        atexit.register(self._abandon)
        self._step = steps_done
        arguments = dict(self._arguments)
        if by_steps and arguments.get("every") is None:
            arguments["every"] = Steps()
        if steps_done == 0:
            self._tracer = Tracer(model, self._data, **arguments)
            return
        # The network is not measured here: it may be inside an epoch, the first one even.
        look = replace(Look.of(arguments.pop("look", None)), initial=False)
        keep = replace(Keep.of(arguments.pop("keep", None)), resume=True)
        self._tracer = Tracer(model, self._data, look=look, keep=keep, **arguments)
        done = steps_done if self.tracer.clock == "step" else epochs_done
        self.tracer.resume_from(done)

    def _finish(self) -> None:
        """The training is over."""
        atexit.unregister(self._abandon)
        self.tracer.close()

    def _abandon(self, error: BaseException | None = None) -> None:
        """The training failed; without one, and after a finished one, nothing happens."""
        atexit.unregister(self._abandon)
        if self._tracer is not None:
            self._tracer.abandon(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._abandon(error)

    def _step_done(self, epoch: int, step: int) -> None:
        """An optimiser step, or a part of one, is done; ``epoch`` epochs are."""
        if self.tracer.clock == "step" and step != self._step:
            self._step = step
            self.tracer.snapshot(epoch, step=step)

    def _epoch_done(
        self, epoch: int, step: int, metrics: Mapping[str, Any], force: bool = False
    ) -> None:
        """An epoch is done: look where epochs are counted, and store what was logged."""
        scalars: dict[str, Any] = {**numbers(metrics)}
        if self.tracer.clock == "epoch" or force:
            self.tracer.snapshot(epoch, step=step, force=force, **scalars)
        else:
            self.tracer.log(epoch, step=step, **scalars)
