"""The iteration of Blahut and Arimoto for the information bottleneck, on logarithms."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_LN2 = math.log(2)
_TINY = 1e-300
_AT_REST = 1e-12
"""Bits by which the objective still rises in a cycle, below which a start is at its end."""

_STRIDE = 1000.0
"""The most steps that are leapt over at once."""

_CYCLE = 3  # steps


class Law(NamedTuple):
    """A joint law of two discrete variables, every value of X of positive probability.

    Args:
        p_x: p(x), float64, ``(s,)``.
        p_y_x: p(y|x), float64, ``(s, m)``.
    """

    p_x: Tensor
    p_y_x: Tensor


class Encoder(NamedTuple):
    """A channel from X to T, and what is told through it.

    Args:
        log_p: ln p(t|x), ``(..., s, k)``.
        i_xt: I(X;T) in bits, ``(...)``.
        i_ty: I(T;Y) in bits, ``(...)``.
    """

    log_p: Tensor
    i_xt: Tensor
    i_ty: Tensor

    def objective(self, beta: float) -> Tensor:
        """I(T;Y) - I(X;T)/β in bits, ``(...)``; of β = ∞ it is I(T;Y)."""
        return self.i_ty - self.i_xt / beta


class Solved(NamedTuple):
    """Where every start ended.

    Args:
        encoders: Of each start, ``(r, s, k)``.
        iterations: How many steps were made.
        at_rest: Whether each had ended before the last step allowed, ``(r,)``.
    """

    encoders: Encoder
    iterations: int
    at_rest: Tensor


class _Decoder(NamedTuple):
    log_t: Tensor
    """ln p(t), ``(..., 1, k)``."""

    p_y_t: Tensor
    """p(y|t), ``(..., k, m)``."""


def solve(law: Law, beta: float, starts: Tensor, *, most: int) -> Solved:
    """Follow the iteration from several starts to where it stands still.

    The self-consistent equations p(t|x) ∝ p(t) exp(-β D(p(y|x) ‖ p(y|t))), p(t) and p(y|t) the
    marginal and conditional laws under p(t|x), applied in turn:
    I(T;Y) - I(X;T)/β never falls.

    Args:
        law: Of X and Y.
        beta: β, above 0 and finite.
        starts: ln p(t|x), ``(r, s, k)``.
        most: How many steps at most.

    References:
        Tishby, Pereira & Bialek 1999, The information bottleneck method.
        Varadhan & Roland 2008, Scand. J. Statist. 35: the leaps ahead, which near a critical β
        save most of the steps.
    """
    state = measured(law, starts)
    at_rest, done = torch.zeros(len(starts), dtype=torch.bool), 0
    while done < most and not at_rest.all():
        before = state.objective(beta)
        state = _cycle(law, beta, state.log_p)
        done += _CYCLE
        at_rest = state.objective(beta) - before <= _AT_REST
    return Solved(state, done, at_rest)


def _cycle(law: Law, beta: float, log_p: Tensor) -> Encoder:
    """Two steps and a third from far ahead on their way, if that tells more (SQUAREM)."""
    first = _step(law, beta, log_p)
    second = _step(law, beta, first)
    change, bend = first - log_p, second - 2 * first + log_p
    weights = law.p_x[:, None] * second.exp()  # the logarithms of what does not occur run away
    ratio = (weights * change.square()).sum((-2, -1)) / (weights * bend.square()).sum((-2, -1))
    stride = ratio.nan_to_num(1.0).sqrt().clamp(1, _STRIDE)[..., None, None]
    ahead = (log_p + 2 * stride * change + stride.square() * bend).log_softmax(-1)
    leapt, plain = measured(law, _step(law, beta, ahead)), measured(law, second)
    better = leapt.objective(beta) >= plain.objective(beta)
    return Encoder(
        torch.where(better[..., None, None], leapt.log_p, plain.log_p),
        torch.where(better, leapt.i_xt, plain.i_xt),
        torch.where(better, leapt.i_ty, plain.i_ty),
    )


def measured(law: Law, log_p: Tensor) -> Encoder:
    """Both informations of encoders.

    Args:
        law: Of X and Y.
        log_p: ln p(t|x), ``(..., s, k)``.
    """
    decoder = _decoder(law, log_p)
    p = log_p.exp()
    of_x = (law.p_x[:, None] * p * (log_p - decoder.log_t)).sum((-2, -1))
    p_y = law.p_x @ law.p_y_x
    ratio = decoder.p_y_t.clamp(min=_TINY).log() - p_y.log()
    of_y = ((decoder.p_y_t * ratio).sum(-1) * decoder.log_t.squeeze(-2).exp()).sum(-1)
    return Encoder(log_p, of_x / _LN2, of_y / _LN2)


def _step(law: Law, beta: float, log_p: Tensor) -> Tensor:
    decoder = _decoder(law, log_p)
    # -D(p(y|x) ‖ p(y|t)) but for the entropy of p(y|x), which all t share.
    log_y_t = decoder.p_y_t.clamp(min=_TINY).log()
    closeness = law.p_y_x @ log_y_t.mT
    return (decoder.log_t + beta * closeness).log_softmax(-1)


def _decoder(law: Law, log_p: Tensor) -> _Decoder:
    joint = law.p_x.log()[:, None] + log_p
    # Values of T of next to no probability still have a law of Y: shifted, it does not underflow.
    largest = joint.amax(-2, keepdim=True)
    weights = (joint - largest).exp()
    total = weights.sum(-2, keepdim=True)
    return _Decoder(largest + total.log(), (weights / total).mT @ law.p_y_x)
