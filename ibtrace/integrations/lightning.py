"""Lightning: trace a `LightningModule` while a `Trainer` fits it."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from torch import nn

from ibtrace.errors import ConfigError, UnknownName
from ibtrace.integrations._callback import Traced
from ibtrace.runtime.optional import require

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    # Of the two packages Lightning is published as, the one that is in use already.
    _NAMES = sorted(("lightning.pytorch", "pytorch_lightning"), key=lambda n: n not in sys.modules)
    Callback = require("lightning", *_NAMES).Callback
# The forward of a module that has none, Lightning's and torch's.
_NO_FORWARD = ("LightningModule.forward", nn.Module.forward.__qualname__)


class IBTrace(Traced, Callback):
    """A callback that traces the module before training, after each epoch and at the end.

    ``trainer.callback_metrics`` of the epoch (what the module logs) are stored as scalars. The fit
    itself is not changed by one bit. If it fails, what was traced until then can be read. A fit
    with ``ckpt_path`` goes on with the trace in the folder ``run``; without one, it begins there.

    Args:
        data: The probe: ``(x, y)``, a ``DataLoader``, a ``Dataset`` (`ibtrace.Probe.of`).
        module: Dotted name of the submodule to trace; the whole `LightningModule` by default.
        **tracer_arguments: Those of `ibtrace.Tracer`: ``estimators``, ``lenses``, ``every``,
            ``look``, ``keep`` …

    Raises:
        UnknownName: When the fit starts, if there is no such submodule, layer or estimator.

    Example::

        from ibtrace.integrations.lightning import IBTrace

        trace = IBTrace(data=(x, y), estimators=["binning"])
        trainer = Trainer(max_epochs=10, callbacks=[trace])
        trainer.fit(lightning_module, train_dataloader)
        print(trace.verdict())
    """

    def __init__(self, data: Any, module: str = "", **tracer_arguments: Any) -> None:
        super().__init__(data, **tracer_arguments)
        self.module = module

    # Not on_fit_start, where a checkpoint's weights and epoch may not be restored yet, nor
    # on_fit_end, where the model may have left its device.

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the module as initialised."""
        modules = dict(pl_module.named_modules(remove_duplicate=False))
        if self.module not in modules:
            known = ", ".join(filter(None, modules))
            raise UnknownName(f"no submodule {self.module!r}; the submodules are: {known}")
        traced = modules[self.module]
        without = type(traced).forward.__qualname__ in _NO_FORWARD
        if without and "forward" not in self._arguments:
            children = ", ".join(f"{n!r}" for n, _ in pl_module.named_children()) or "none"
            raise ConfigError(
                f"{type(traced).__name__} has no forward to look at; name the network in it by "
                f"module=, its submodules are: {children}"
            )
        self._start(
            traced, trainer.current_epoch, trainer.global_step, by_steps=_one_epoch(trainer)
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure the module if steps are counted and this one is due."""
        self._step_done(trainer.current_epoch + trainer.is_last_batch, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the module if the epoch is due, and store what was logged."""
        epoch, metrics = trainer.current_epoch + 1, trainer.callback_metrics
        self._epoch_done(epoch, trainer.global_step, metrics)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the last epoch if it was not due."""
        self._finish()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Keep what was traced, and close the sinks."""
        self._abandon(exception)


def _one_epoch(trainer: Trainer) -> bool:
    """Whether the fit has no second epoch, or nobody knows where one ends."""
    if trainer.max_epochs == 1 or math.isinf(batches := trainer.num_training_batches):
        return True
    steps = math.ceil(batches / trainer.accumulate_grad_batches)
    return 0 < trainer.max_steps <= steps
