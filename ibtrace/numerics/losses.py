"""Losses that keep the seeds apart: the mean over a batch, one number for each seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs ``(..., batch, classes)`` and targets ``(..., batch)`` to the mean loss ``(...)``."""


def nll(probabilities: Tensor, y: Tensor) -> Tensor:
    """Mean negative log-likelihood of class probabilities, in nats.

    The IDNNs code takes ``log(clip(p, 1e-50, 1))``, and 1e-50 is 0 in float32; here the floor is
    the smallest normal number of the type, so that a probability that underflowed costs a large
    finite loss (87 nats in float32).

    Args:
        probabilities: What a softmax gave, ``(..., batch, classes)``.
        y: Class ids, ``(..., batch)``.

    Example:
        >>> nll(torch.tensor([[0.5, 0.5], [0.75, 0.25]]), torch.tensor([0, 0]))
        tensor(0.4904)
    """
    of_label = probabilities.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return -of_label.clamp_min(torch.finfo(probabilities.dtype).tiny).log().mean(-1)


def require_probabilities(outputs: Tensor) -> None:
    """Raise for outputs below 0, of which `nll` would be a constant without a gradient.

    Raises:
        ConfigError: If there are any: logits, or logarithms of probabilities.
    """
    least = float(outputs.min())
    if least < 0:
        raise ConfigError(
            f"loss: nll takes probabilities, and the network gives {least:.3g}; of logits, and of "
            "what a log-softmax gives, it is cross_entropy"
        )


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of logits, in nats.

    Args:
        logits: ``(..., batch, classes)``.
        y: Class ids, ``(..., batch)``.
    """
    return -logits.log_softmax(-1).gather(-1, y.unsqueeze(-1)).squeeze(-1).mean(-1)


def mse(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean squared error, over the batch and the outputs.

    Args:
        outputs: ``(..., batch, d)``.
        y: Targets, ``(..., batch, d)``; class ids ``(..., batch)`` stand for one-hot rows, or for
            themselves where there is one output.

    Raises:
        InvalidInput: If there are other numbers of targets than of outputs.
    """
    if y.dim() < outputs.dim():
        d = outputs.shape[-1]
        y = y.unsqueeze(-1) if d == 1 else torch.nn.functional.one_hot(y.long(), d)
    if y.shape[-1] != outputs.shape[-1]:
        raise InvalidInput(f"mse: {y.shape[-1]} targets a sample for {outputs.shape[-1]} outputs")
    return (outputs - y.to(outputs.dtype)).square().mean((-1, -2))


LOSSES: dict[str, Loss] = {"nll": nll, "cross_entropy": cross_entropy, "mse": mse}

NATS = ("cross_entropy", "nll")
"""Those whose unit is the nat; of any other it is not known."""
