"""Hugging Face: trace a model while a `transformers.Trainer` trains it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ibtrace.integrations._callback import Traced, numbers
from ibtrace.integrations._precision import full_precision
from ibtrace.integrations._require import require

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
else:
    TrainerCallback = require("huggingface", "transformers").TrainerCallback


class IBTrace(Traced, TrainerCallback):
    """A callback that traces the model before training, after each epoch and at the end.

    What the `Trainer` logs is stored as scalars of its epoch. Training itself is not changed by one
    bit, and the probe is measured in the precision of the weights, also under ``bf16=True``. A
    training that goes on from a checkpoint goes on with the trace in the folder ``run``. With
    ``load_best_model_at_end`` every epoch is measured: which one is the last is known only when
    its weights are gone.

    Args:
        data: The probe: ``({"input_ids": …, "attention_mask": …}, labels)``, a ``DataLoader`` or a
            ``Dataset`` of dictionaries with ``labels`` (`ibtrace.Probe.of`).
        **tracer_arguments: Those of `ibtrace.Tracer`: ``estimators``, ``layers``, ``every``,
            ``run``, ``sinks`` …

    Example::

        from ibtrace.integrations.huggingface import IBTrace

        trace = IBTrace(data=({"input_ids": tokens}, labels), estimators=["binning"])
        trainer = Trainer(model, training_arguments, train_dataset=dataset, callbacks=[trace])
        trainer.train()
        print(trace.verdict())
    """

    _training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Measure the model as initialised."""
        with full_precision(given["model"]) as model:
            self._start(model, _epochs_done(state))
        self._training = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Measure the model if the epoch is due."""
        force = args.load_best_model_at_end
        with full_precision(given["model"]):
            self.tracer.snapshot(_epochs_done(state), step=state.global_step, force=force)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Store what is logged while training with the epoch that it belongs to."""
        if self._training:
            logged = {name: value for name, value in given["logs"].items() if name != "epoch"}
            self.tracer.log(_epochs_done(state), **numbers(logged))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Measure the last epoch if it was not due."""
        self._training = False
        with full_precision(given["model"]):
            self.tracer.close()


def _epochs_done(state: TrainerState) -> int:
    """Epochs of training done, a begun one counted: it must not take the place of the last."""
    return math.ceil(state.epoch or 0.0)
