"""What networks are trained on: the mean over samples of a loss, and the labels that it takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from ibtrace.capture.calls import FEW, Calls
from ibtrace.capture.logits import Squash, sum_to_one
from ibtrace.capture.networks import require_loss
from ibtrace.capture.transforms import each
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.numerics.losses import LOSSES, NATS
from ibtrace.runtime.arguments import shown

MeanLoss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs ``(n, ...)`` and labels ``(n, ...)``, one number."""

_CLASSES, _ROWS = 1000, 64
"""Kinds of labels, and of rows of numbers, on which it is seen that a loss is a mean."""


class Objective:
    """The loss of networks on their samples.

    Args:
        calls: The networks and the samples.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls, self._loss = calls, calls.setting.loss
        self._seen_to_be_a_mean: MeanLoss | None = None

    def learn(self, other: Objective) -> None:
        """Take over that the same loss was seen to be a mean over samples."""
        self._seen_to_be_a_mean = other._seen_to_be_a_mean

    @property
    def unit(self) -> str:
        """``"nats"``, or ``"loss"`` of one that is not known by name."""
        return "nats" if self._loss in NATS else "loss"

    @property
    def mean(self) -> tuple[MeanLoss, Squash | None]:
        """The mean loss over samples, and the softmax before which its argument is taken.

        The log-likelihood of a softmax's probabilities, or of their logarithms, is the
        cross-entropy of its logits, where no probability underflows.

        Raises:
            ConfigError: If the loss is not known, or not of what the networks give.
        """
        loss = self._loss
        if loss is None:
            raise ConfigError(
                'the loss is not known: give the tracer loss="cross_entropy" or another'
            )
        if callable(loss):
            if self._seen_to_be_a_mean is None:
                self._seen_to_be_a_mean = self._mean_of_samples(loss)
            return self._seen_to_be_a_mean, None
        require_loss(loss)
        return self._likelihood if loss == "nll" else (LOSSES[loss], None)

    @cached_property
    def _likelihood(self) -> tuple[MeanLoss, Squash | None]:
        squash = self._calls.squash_or_none
        if squash is not None and squash.function in ("softmax", "log_softmax"):
            return LOSSES["cross_entropy"], squash
        outputs = self._calls.first_outputs[0]
        if sum_to_one(outputs.exp()):  # of logarithms of probabilities these are the logits, too
            return LOSSES["cross_entropy"], None
        if sum_to_one(outputs) or not bool(outputs.isfinite().all()):
            return LOSSES["nll"], None
        raise ConfigError(
            'loss: "nll" takes probabilities of classes or their logarithms, and the network\'s '
            'outputs are neither; of logits it is loss="cross_entropy"'
        )

    def _mean_of_samples(self, loss: MeanLoss) -> MeanLoss:
        """The user's loss, if it is the mean over the samples of what each alone costs.

        Raises:
            ConfigError: If it is not: a sum, a contrast of samples, shapes that broadcast.
        """
        outputs, labels = self._calls.first_outputs[0][:FEW], _kinds(self.targets)
        # A sum, or shapes that broadcast, give the same for one sample and other than the mean for
        # several: a few samples tell. A weight of a class is seen on labels of its class alone.
        few = outputs[torch.arange(len(labels)) % len(outputs)], labels  # a loss pairs any two
        alone = [loss(*(part[at : at + 1] for part in few)) for at in range(len(few[0]))]
        mean, together = torch.stack([value.mean() for value in alone]).mean(), loss(*few)
        if together.dim() or not torch.allclose(together, mean, 1e-3, 1e-6, equal_nan=True):
            shapes = " and labels ".join(str(tuple(part.shape)) for part in few)
            got = shown(together.item()) if not together.dim() else f"shape {tuple(together.shape)}"
            raise ConfigError(
                f"loss: of outputs {shapes} together it gives {got}, and the "
                f"mean of what each sample alone gives is {mean.item():.6g}; it must be the mean "
                "over the samples, of whatever classes (labels are given as the probe was given "
                "them; a loss that weighs classes or leaves one out is no such mean)"
            )
        return loss

    @cached_property
    def targets(self) -> Tensor:
        """The labels of all samples as the loss takes them, ``(all, ...)``.

        A function of the user's is given what the probe was given; a loss of classes takes their
        ids, and the squared error numbers, one for each output, or classes for one-hot rows.

        Raises:
            Unsupported: If there are no labels, or classes that the networks have no logit for.
        """
        samples = self._calls.samples
        samples.require_labels()
        targets = samples.probe.targets.to(samples.device)
        if callable(self._loss) or self._loss is None:
            return targets
        labels, outputs = samples.all_labels, self._calls.first_outputs.shape[2:]
        if self._loss != "mse":
            self._require_logits(labels)
            return labels
        if targets.shape[1:].numel() == outputs.numel():
            return targets.reshape(len(targets), *outputs)
        if labels.dim() == 1 and int(labels.max()) < outputs.numel():
            return nn.functional.one_hot(labels, outputs.numel())
        return labels.view(len(labels), -1)

    def _require_logits(self, labels: Tensor) -> None:
        classes = self._calls.first_outputs.shape[-1]
        if labels.is_floating_point():
            raise Unsupported(
                f"loss: {shown(self._loss)} takes classes, and the labels are numbers; give class "
                'ids, or loss="mse"'
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise Unsupported(
                f"loss: {shown(self._loss)} takes one output for each class, and the labels "
                f"{low} … {high} are not among the classes 0 … {classes - 1} of the outputs"
            )

    @property
    def arguments(self) -> Tensor:
        """What the mean loss takes of each network: outputs, or the logits before a softmax."""
        _, before = self.mean
        return self._calls.outputs if before is None else self._calls.logits

    @property
    def decisions(self) -> Tensor:
        """The class that each network gives to each sample, ``(s, n)``, or to each of its labels.

        That of the largest logit. One output is a class by the loss alone: that of the two labels
        that would cost less (of a logit 1 above 0, of squares the nearer one).

        Raises:
            ConfigError: If there is one output, and the loss is not known.
            Unsupported: If there is one output, and the labels are not of two classes, or each
                sample has several labels.
        """
        if self._calls.samples.probe.label_kind == "joint":
            raise Unsupported("each sample has several labels, of which no output is the class")
        logits = self._calls.logits_or_outputs
        if logits.dim() > 2 and logits.shape[-1] > 1:
            return logits.argmax(-1)
        labels = self._calls.samples.all_labels
        two = labels.dim() == 1 and not labels.is_floating_point() and int(labels.max()) == 1
        if logits[0, 0].numel() > 1 or not two or not bool((labels == 0).any()):
            raise Unsupported("one output decides between two classes, and the labels are others")
        of_classes = [self.targets[(labels == label).nonzero()[0, 0]] for label in (0, 1)]
        false, true = (
            self._costs(self.arguments, target.expand(*logits.shape[:2], *target.shape))
            for target in of_classes
        )
        return (true < false).long()

    @property
    def of_samples(self) -> Tensor:
        """The loss of each sample, ``(s, n)``."""
        outputs = self.arguments  # first: that these are known saves a call for the labels
        return self._costs(outputs, self._calls.samples.of_each(self.targets))

    def _costs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each of outputs and labels ``(s, n, ...)``, ``(s, n)``."""
        mean, _ = self.mean

        def of_sample(output: Tensor, y: Tensor) -> Tensor:
            return mean(output[None], y[None])

        def losses(one_by_one: bool) -> Tensor:
            pairs = zip(outputs, targets, strict=True)
            return torch.stack(
                [each(of_sample, (0, 0), *pair, one_by_one=one_by_one) for pair in pairs]
            )

        with torch.no_grad():
            return self._calls.together_if_possible(losses)


def _kinds(targets: Tensor) -> Tensor:
    """One row of labels of each kind; of too many some, from end to end."""
    single = targets[0].numel() == 1
    kinds = (targets if single else _spread(targets, _CLASSES)).unique(dim=0)
    return _spread(kinds, _ROWS if kinds.is_floating_point() or not single else _CLASSES)


def _spread(rows: Tensor, most: int) -> Tensor:
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most, device=rows.device).long()]
