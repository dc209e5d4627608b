"""Tracing inside training frameworks, and where the numbers also go: one leaf for each.

Callbacks ``lightning.IBTrace``, ``huggingface.IBTrace`` and ``ignite.IBTrace`` make a `Tracer` and
call it at the right moments; sinks ``tensorboard.TensorBoard``, ``wandb.WandB`` and
``mlflow.MLflow`` are given to a tracer (or a callback) as ``keep=Keep(sinks=[...])``. A leaf needs
the package of its name: ``pip install 'ibtrace[lightning]'``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ibtrace.integrations import huggingface as huggingface
    from ibtrace.integrations import ignite as ignite
    from ibtrace.integrations import lightning as lightning
    from ibtrace.integrations import mlflow as mlflow
    from ibtrace.integrations import tensorboard as tensorboard
    from ibtrace.integrations import wandb as wandb
else:
    from ibtrace.runtime.imports import when_named

    __getattr__, __dir__ = when_named(
        __name__, "huggingface", "ignite", "lightning", "mlflow", "tensorboard", "wandb"
    )
