"""Tracing inside training frameworks, and where the numbers also go: one leaf for each.

Callbacks ``lightning.IBTrace``, ``huggingface.IBTrace`` and ``ignite.IBTrace`` make a `Tracer` and
call it at the right moments; sinks ``tensorboard.TensorBoard``, ``wandb.WandB`` and
``mlflow.MLflow`` are given to a tracer (or a callback) as ``sinks=[...]``. A leaf needs the package
of its name: ``pip install 'ibtrace[lightning]'``.
"""
