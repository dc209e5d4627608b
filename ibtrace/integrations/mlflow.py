"""MLflow: information per layer as metrics over epochs, the information plane as an image."""

from __future__ import annotations

import atexit
import re
import time
from collections.abc import Mapping

from ibtrace.integrations._sink import Numbers, Pixels
from ibtrace.runtime.generators import preserved_generators
from ibtrace.runtime.optional import require

_BATCH = 1000  # the most metrics that MLflow takes at once


class MLflow(Numbers):
    """A sink that logs to a run of MLflow by epoch; in its names ``KSG(k=5)`` is ``KSG_k_5``.

    Args:
        run_id: A run of yours, which is left open; by default the active one, or else a new one,
            which is ended when the trace is complete, as ``FAILED`` if the training fails or
            the process ends before.
        tracking_uri: Where the store is; by default what MLflow is set to.
        experiment: The name of the new run's experiment, made if there is none.
        image_every: Log the information planes at every so many snapshots; None: at the end only.

    Raises:
        MissingDependency: If MLflow is not installed.

    Example::

        from ibtrace import Keep, Tracer
        from ibtrace.integrations.mlflow import MLflow

        keep = Keep(sinks=[MLflow(experiment="compression")])
        with Tracer(model, data=(x, y), keep=keep) as tracer:
            for epoch in range(1, epochs + 1):
                train_one_epoch(model)
                tracer.snapshot(epoch)
    """

    def __init__(
        self,
        run_id: str | None = None,
        *,
        tracking_uri: str | None = None,
        experiment: str = "ibtrace",
        image_every: int | None = None,
    ) -> None:
        super().__init__(image_every)
        self._mlflow = require("mlflow", "mlflow")
        self.client = self._mlflow.MlflowClient(tracking_uri)
        active = self._mlflow.active_run()
        self._own = run_id is None and (active is None or tracking_uri is not None)
        if self._own:
            with preserved_generators():  # MLflow draws the run's name from Python's generator
                run_id = self._create(experiment)
            # MLflow itself ends only runs that it knows as active; this one would run for ever.
            atexit.register(self._not_closed)
        self.run_id: str = run_id or active.info.run_id

    def _create(self, experiment: str) -> str:
        existing = self.client.get_experiment_by_name(experiment)
        home = existing.experiment_id if existing else self.client.create_experiment(experiment)
        return str(self.client.create_run(home).info.run_id)

    def send(self, epoch: int, numbers: Mapping[str, float], images: Mapping[str, Pixels]) -> None:
        """Log the numbers as metrics, the images as artifacts named by the epoch."""
        metric, now = self._mlflow.entities.Metric, int(time.time() * 1000)
        metrics = [metric(_allowed(name), bits, now, epoch) for name, bits in numbers.items()]
        for start in range(0, len(metrics), _BATCH):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + _BATCH])
        for name, image in images.items():
            self.client.log_image(self.run_id, image, f"{_allowed(name)}/{self.clock}{epoch}.png")

    def finish(self, failed: bool) -> None:
        """End the run if it was started here: ``FAILED`` or ``FINISHED``."""
        atexit.unregister(self._not_closed)
        if self._own:
            self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")

    def _not_closed(self) -> None:
        """The process ends and nobody has closed the trace."""
        self.finish(failed=True)


def _allowed(name: str) -> str:
    return "/".join(re.sub(r"[^-\w.]+", "_", part).strip("_") for part in name.split("/"))
