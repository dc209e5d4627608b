"""Hugging Face: trace a model while a `transformers.Trainer` trains it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ibtrace.integrations._callback import Traced
from ibtrace.integrations._metrics import numbers
from ibtrace.runtime.optional import require

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
else:
    TrainerCallback = require("huggingface", "transformers").TrainerCallback


_ENDLESS = 2**31
"""The `Trainer` says more epochs than this where the data have no length."""


class IBTrace(Traced, TrainerCallback):
    """A callback that traces the model before training, after each epoch and at the end.

    What the `Trainer` logs is stored as scalars of its epoch. Training itself is not changed by one
    bit, and the probe is measured in the precision of the weights, also under ``bf16=True``. A
    training that goes on from a checkpoint goes on with the trace in the folder ``run``; without
    one, its trace begins there. With ``load_best_model_at_end`` every epoch is measured: which one
    is the last is known only when its weights are gone. The `Trainer` does not tell its callbacks
    when training fails; where sinks must be closed before the process ends, train inside
    ``with trace:``.

    Args:
        data: The probe: ``({"input_ids": …, "attention_mask": …}, labels)``, a ``DataLoader`` or a
            ``Dataset`` of dictionaries with ``labels`` (`ibtrace.Probe.of`).
        **tracer_arguments: Those of `ibtrace.Tracer`: ``estimators``, ``lenses``, ``every``,
            ``look``, ``keep`` …

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
        done = math.floor(state.epoch or 0.0)
        self._start(given["model"], done, state.global_step, by_steps=_one_epoch(args, state))
        self._training = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Measure the model if steps are counted and this one is due."""
        self._step_done(math.floor(state.epoch or 0.0), state.global_step)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Measure the model if the epoch is due."""
        last = args.load_best_model_at_end  # or may be: see above
        self._epoch_done(_epoch(state), state.global_step, {}, force=last)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Store what is logged while training with the epoch that it belongs to."""
        if self._training:
            logged = {name: value for name, value in given["logs"].items() if name != "epoch"}
            scalars: dict[str, Any] = {**numbers(logged)}
            self.tracer.log(_epoch(state), step=state.global_step, **scalars)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Measure the last epoch if it was not due."""
        self._training = False
        self._finish()


def _one_epoch(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether the training has no second epoch, or, of a stream, nobody knows where one ends."""
    return state.num_train_epochs <= 1 or (args.max_steps > 0 and state.num_train_epochs > _ENDLESS)


def _epoch(state: TrainerState) -> int:
    """The epoch that runs or ends here; one cut short must not take the place of the one before."""
    return math.ceil(state.epoch or 0.0)
