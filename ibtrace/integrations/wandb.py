"""Weights & Biases: information per layer as metrics over epochs, the plane as an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ibtrace.integrations._points import GROUPS
from ibtrace.integrations._sink import Numbers, Pixels
from ibtrace.runtime.generators import preserved_generators
from ibtrace.runtime.optional import require

if TYPE_CHECKING:
    from wandb import Run

AXES = {"epoch": "ibtrace/epoch", "step": "ibtrace/step"}
"""The x axis of the metrics, by the trace's clock; a run's own step may count something else."""


class WandB(Numbers):
    """A sink that logs to a run of Weights & Biases.

    Args:
        run: A run of yours, which is left open; by default the active one, or else a new one,
            which is finished when the trace is complete, as failed if the training fails.
        image_every: Log the information planes at every so many snapshots; None: at the end only.
        **init: Arguments of ``wandb.init`` for the new run: ``project``, ``mode="offline"`` …

    Raises:
        MissingDependency: If wandb is not installed.

    Example::

        from ibtrace import Keep, Tracer
        from ibtrace.integrations.wandb import WandB

        keep = Keep(sinks=[WandB(project="compression")])
        with Tracer(model, data=(x, y), keep=keep) as tracer:
            for epoch in range(1, epochs + 1):
                train_one_epoch(model)
                tracer.snapshot(epoch)
    """

    def __init__(
        self, run: Run | None = None, *, image_every: int | None = None, **init: Any
    ) -> None:
        super().__init__(image_every)
        self._wandb = require("wandb", "wandb")
        active = run or self._wandb.run
        with preserved_generators():
            self.run: Run = active if active and not init else self._wandb.init(**init)
        self._own = self.run is not active
        self._axis: str | None = None

    def send(self, epoch: int, numbers: Mapping[str, float], images: Mapping[str, Pixels]) -> None:
        """Log the numbers and images at once, so that the run's own step moves by one."""
        if self._axis is None:
            self._axis = AXES[self.clock]
            self.run.define_metric(self._axis, hidden=True)
            for group in GROUPS:
                self.run.define_metric(f"{group}/*", step_metric=self._axis)
        pictures = {name: self._wandb.Image(image) for name, image in images.items()}
        self.run.log({self._axis: epoch, **numbers, **pictures})

    def finish(self, failed: bool) -> None:
        """Finish the run if it was started here, with exit code 1 if it failed."""
        if self._own:
            self.run.finish(exit_code=int(failed))
