"""What networks are trained on: the mean over samples of a loss, and the labels that it takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from ibtrace.capture.calls import FEW, Calls
from ibtrace.capture.networks import require_loss
from ibtrace.capture.transforms import each
from ibtrace.errors import ConfigError
from ibtrace.numerics.losses import LOSSES, NATS
from ibtrace.runtime.arguments import shown

MeanLoss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs ``(n, ...)`` and labels ``(n, ...)``, one number."""


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
    def mean(self) -> tuple[MeanLoss, nn.Module | None]:
        """The mean loss over samples, and the softmax before which its argument is taken.

        The log-likelihood of a softmax's probabilities is the cross-entropy of its logits, where
        no probability underflows.

        Raises:
            ConfigError: If the loss is not known.
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
        if loss == "nll" and isinstance(self._calls.softmax_or_none, nn.Softmax):
            return LOSSES["cross_entropy"], self._calls.softmax_or_none
        return LOSSES[loss], None

    def _mean_of_samples(self, loss: MeanLoss) -> MeanLoss:
        """The user's loss, if it is the mean over the samples of what each alone costs.

        Raises:
            ConfigError: If it is not: a sum, a contrast of samples, shapes that broadcast.
        """
        of_each = self._calls.samples.of_each
        few = [every[0][:FEW] for every in (self._calls.first_outputs, of_each(self.targets))]
        # A sum, or shapes that broadcast, give the same for one sample and other than the mean for
        # several: a few samples tell.
        alone = [loss(*(part[at : at + 1] for part in few)) for at in range(len(few[0]))]
        mean, together = torch.stack([value.mean() for value in alone]).mean(), loss(*few)
        if together.dim() or not torch.allclose(together, mean, 1e-3, 1e-6, equal_nan=True):
            outputs, labels = (tuple(part.shape) for part in few)
            got = shown(together.item()) if not together.dim() else f"shape {tuple(together.shape)}"
            raise ConfigError(
                f"loss: of outputs {outputs} and labels {labels} together it gives {got}, and the "
                f"mean of what each sample alone gives is {mean.item():.6g}; it must be the mean "
                "over the samples (labels are given as the probe was given them)"
            )
        return loss

    @cached_property
    def targets(self) -> Tensor:
        """The labels of all samples as the loss takes them, ``(all, ...)``.

        A function of the user's is given what the probe was given; a loss of classes takes their
        ids, and the squared error numbers, one for each output, or classes for one-hot rows.

        Raises:
            Unsupported: If there are no labels.
        """
        samples = self._calls.samples
        samples.require_labels()
        targets = samples.probe.targets.to(samples.device)
        if callable(self._loss):
            return targets
        labels, outputs = samples.all_labels, self._calls.first_outputs.shape[2:]
        if self._loss != "mse":
            return labels
        if targets.shape[1:].numel() == outputs.numel():
            return targets.reshape(len(targets), *outputs)
        if labels.dim() == 1 and int(labels.max()) < outputs.numel():
            return nn.functional.one_hot(labels, outputs.numel())
        return labels.view(len(labels), -1)

    def of_samples(self, outputs: Tensor) -> Tensor:
        """The loss of each sample, ``(s, n)``, of what `mean` takes of each network."""
        mean, _ = self.mean
        targets = self._calls.samples.of_each(self.targets)

        def of_sample(output: Tensor, y: Tensor) -> Tensor:
            return mean(output[None], y[None])

        def losses(one_by_one: bool) -> Tensor:
            pairs = zip(outputs, targets, strict=True)
            return torch.stack(
                [each(of_sample, (0, 0), *pair, one_by_one=one_by_one) for pair in pairs]
            )

        with torch.no_grad():
            return self._calls.together_if_possible(losses)
