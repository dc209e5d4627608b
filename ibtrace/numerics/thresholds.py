"""Above which curvature a full-batch optimiser with memory oscillates with growing amplitude.

For the loss ½hw² each optimiser is a linear recurrence in w; at the threshold one root of its
characteristic polynomial leaves the unit circle at -1.
"""

from __future__ import annotations


def descent(lr: float, momentum: float = 0, dampening: float = 0, nesterov: bool = False) -> float:
    """Of `torch.optim.SGD`: 2/η, with momentum β and dampening τ (2 + 2β) / ((1 - τ) η).

    With Nesterov's momentum, (2 + 2β) / ((1 + 2β) η).

    Args:
        lr: η.
        momentum: β.
        dampening: τ.
        nesterov: Whether the momentum is Nesterov's.

    Example:
        >>> descent(0.1), round(descent(0.1, momentum=0.9), 12)
        (20.0, 38.0)
    """
    if momentum == 0:
        return 2 / lr  # torch dampens momentum alone
    share = 1 + 2 * momentum if nesterov else 1 - dampening
    return (2 + 2 * momentum) / (share * lr)


def adam(lr: float, beta: float, decay: float = 0) -> float:
    """Of Adam whose preconditioner stands still, for P⁻¹H: (2 + 2β₁) / ((1 - β₁) η).

    With AdamW's decay λ, apart from the gradient, (2 - ηλ)(1 + β₁) / ((1 - β₁) η).

    Args:
        lr: η.
        beta: β₁.
        decay: λ; 0 for Adam, whose decay is a part of the gradient.

    Example:
        >>> round(adam(1.0, 0.9), 9)
        38.0
    """
    return (2 - lr * decay) * (1 + beta) / ((1 - beta) * lr)
