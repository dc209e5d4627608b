"""How a deep linear network of one hidden layer learns, in closed form.

Saxe, McClelland & Ganguli 2014: white inputs, squared loss ½ E‖y - W₂W₁x‖², gradient flow from a
start that is balanced (W₁W₁ᵀ = W₂ᵀW₂) and lies along the singular modes of Σ_yx. Each mode then
learns by itself, ȧ = 2a(s - a), s its singular value.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", float, NDArray[np.float64])


def mode(time: Number, strength: Number, start: Number) -> Number:
    """a(t) = s / (1 + (s/a₀ - 1) e^(-2st)).

    Args:
        time: t.
        strength: s, above 0.
        start: a₀, above 0.

    Example:
        >>> round(float(mode(1.334339, 3.0, 1e-3)), 5)
        1.5
    """
    a: Number = strength / (1 + (strength / start - 1) * np.exp(-2 * strength * time))
    return a


def half_time(strength: Number, start: Number) -> Number:
    """When half of a mode is learned: ln(s/a₀ - 1) / 2s.

    Args:
        strength: s, above 0.
        start: a₀, between 0 and s.

    Example:
        >>> [round(float(half_time(s, 1e-3)), 6) for s in (3.0, 1.5, 0.5)]
        [1.334339, 2.437518, 6.212606]
    """
    time: Number = np.log(strength / start - 1) / (2 * strength)
    return time


def delay(now: Number, strength: Number, start: Number, step: Number) -> Number:
    """By how much steps of descent come later than the flow to a strength, to first order.

    Where the flow follows ẇ = f, steps of length h follow ẇ = f - ½h f′f + O(h²): from w₀ to w
    they take ½h ln(f(w)/f(w₀)) longer. Here w = √a and f = w(s - w²).

    Args:
        now: a, between 0 and s.
        strength: s, above 0.
        start: a₀, between 0 and s.
        step: h, the time of one step.

    Example:
        >>> round(float(delay(1.5, 3.0, 1e-3, 1e-2)), 6)
        0.014819
    """
    ratio = np.sqrt(now / start) * (strength - now) / (strength - start)
    late: Number = step / 2 * np.log(ratio)
    return late
