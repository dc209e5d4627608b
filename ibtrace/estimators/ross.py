"""Mutual information of a discrete and a continuous variable (Ross 2014)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from ibtrace.estimators._checks import checked, undefined
from ibtrace.estimators._inputs import batch_shape, check_pair, each_problem, is_ids
from ibtrace.numerics.distances import Norm, Space, is_constant, row_ids
from ibtrace.numerics.knn import class_neighbours, looks_tied
from ibtrace.types import (
    ConfigError,
    Estimate,
    InvalidInput,
    ProbeLike,
    Tags,
    TooFewSamples,
    Unsupported,
    label,
)

_Counts = TypeVar("_Counts")


@checked
@dataclass(frozen=True)
class Ross:
    """I(X;Y) of class ids and a continuous variable, from nearest neighbours within classes.

    For each sample i, take the distance to its k-th neighbour within its own class, of N_i
    samples, and count the m_i samples of any class that are as near, that neighbour included and
    the sample itself not. Then, in nats (Ross 2014, eq. 2),

        I = ψ(N) + ψ(k) - <ψ(N_i)> - <ψ(m_i)>.

    The ids may be x or y; the other one is continuous, of any dimension. In a class with no more
    than k samples, k is lowered to N_i - 1 (flag ``small_classes``). Samples that are alone
    in their class have no neighbour: they are left out of all counts, N included, as
    scikit-learn does, so that the estimate is of the law without them (``singletons_dropped``).
    The result is in bits, never clipped.

    Where samples repeat or neighbours tie, the continuous variable gets a seeded uniform
    jitter of ``jitter`` standard deviations (flag ``ties_jittered``); with ``jitter=0`` that is
    an error.

    Args:
        k: Which neighbour.
        norm: ``"euclidean"`` or ``"max"``.
        jitter: Amplitude of the jitter, relative to the variable's standard deviation.

    Flags: those above, and ``constant`` (one class only, or a variable that never varies:
    0 bits). Diagnostics: ``ceiling``, the entropy of the ids in bits; ``dropped``, the share of
    samples left out.

    References:
        Ross 2014, Mutual information between discrete and continuous data sets, PLoS ONE 9.

    Example:
        Two classes far apart: one bit.

        >>> import torch
        >>> ids = torch.arange(1000) % 2
        >>> t = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)) + 5 * ids[:, None]
        >>> round(float(Ross(k=3)(t, ids).bits), 2)
        1.0
    """

    k: int = 3
    norm: Norm = "euclidean"
    jitter: float = 1e-10

    tags: ClassVar[Tags] = Tags(
        estimand="I(X; Y)",
        reference="Ross 2014, PLoS ONE 9",
        cost="N² d time, N d memory",
        bias="small classes and many dimensions: towards 0",
    )

    def __post_init__(self) -> None:
        check_fields("Ross", self.k, self.norm, self.jitter)

    @property
    def estimand(self) -> str:
        """The layer itself, as a continuous variable."""
        return "T as a continuous variable"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; see the class.

        Args:
            x: ``(..., n, dx)`` floats, or ``(..., n)`` ids.
            y: The other kind.
            seed: Seeds the jitter, where there are ties.

        Raises:
            InvalidInput: If x or y is malformed, or tied and ``jitter`` is 0.
            TooFewSamples: If there are not more than k samples, or none shares its class.
            Unsupported: If x and y are of the same kind.
        """
        check_pair(label(self), x, y, minimum=self.k + 1)
        if is_ids(x) == is_ids(y):
            kind, other = ("ids", "binning") if is_ids(x) else ("floats", "KSG")
            raise Unsupported(f"{label(self)}: x and y are both {kind}; use {other}")
        ids, t = (x, y) if is_ids(x) else (y, x)
        solved = each_problem(lambda c, one: self._solve(c, one, seed), ids, t)
        bits, stderr, tied, constant, small, dropped, entropy = solved.unbind(-1)
        return Estimate(
            bits=bits,
            stderr=stderr,
            flags={
                "ties_jittered": tied > 0,
                "constant": constant > 0,
                "small_classes": small > 0,
                "singletons_dropped": dropped > 0,
            },
            diagnostics={"ceiling": entropy, "dropped": dropped},
        )

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) in bits for ``t (..., n, d)``.

        The inputs are the ids in I(X;T). Where none repeats, as is usual, this method cannot
        tell it: NaN, flagged ``undefined``. So is I(T;Y) of continuous targets. Use `KSG`.

        Raises:
            InvalidInput: If ``t`` is malformed or does not pair with the probe, or there are
                ties and ``jitter`` is 0.
            TooFewSamples: If there are not more than k samples.
        """
        pair = []
        for ids in (probe.x_ids.to(t.device), probe.labels.to(t.device)):
            n = check_pair(label(self), ids, t, minimum=self.k + 1)
            if is_ids(ids) and int(ids.unique().numel()) < n:
                pair.append(self(ids, t, seed=seed))
            else:
                pair.append(undefined(batch_shape(t), t.device))
        return pair[0], pair[1]

    def _solve(self, labels: Tensor, t: Tensor, seed: int) -> Tensor:
        """Bits, standard error, jittered, constant, small, dropped, entropy: ``(7,)``."""
        ids = row_ids(labels)
        sizes = torch.bincount(ids)[ids]
        paired = sizes > 1
        found = dict.fromkeys(("bits", "stderr", "tied", "constant", "small"), 0.0)
        found["dropped"] = float((~paired).double().mean())
        found["entropy"] = float(-(sizes / len(ids)).log2().double().mean())
        if is_constant(t):
            found["constant"] = 1.0
        elif not paired.any():
            raise TooFewSamples(
                f"{label(self)}: each of the {len(ids)} classes has one sample; "
                "give ids that repeat, or the variable as floats to KSG"
            )
        elif is_constant(ids[paired]) or is_constant(t[paired]):
            found["constant"] = 1.0
        else:
            found["small"] = float((sizes[paired] <= self.k).any())
            by_class = ids[paired].argsort(stable=True)
            space = Space(t[paired][by_class], self.norm, self.jitter, 2 * seed + 1)
            local, tied = self._local(space, sizes[paired][by_class], ids[paired][by_class])
            estimate = Estimate.from_local(local / math.log(2))
            found["bits"], found["stderr"] = float(estimate.bits), float(estimate.stderr)
            found["tied"] = float(tied)
        return torch.tensor(list(found.values()), dtype=torch.float64, device=t.device)

    def _local(self, space: Space, sizes: Tensor, ids: Tensor) -> tuple[Tensor, bool]:
        """Per-sample information in nats, and whether ties had to be broken; class by class."""
        classes = ids.unique_consecutive(return_counts=True)[1]
        k = (sizes - 1).clamp(max=self.k)

        def count(jittered: bool) -> Tensor | None:
            distances = space.jittered if jittered else space.exact
            return class_neighbours(distances, classes, self.k, stop_at_tie=not jittered)

        counts, tied = break_ties(label(self), self.jitter, [space], self.k, count)
        n, psi = torch.tensor(len(ids), dtype=torch.float64), torch.special.digamma
        terms = [psi(value.to(torch.float64)) for value in (k, sizes, counts + 1)]
        return float(psi(n)) + terms[0] - terms[1] - terms[2], tied


def break_ties(
    name: str,
    jitter: float,
    spaces: Sequence[Space],
    k: int,
    count: Callable[[bool], _Counts | None],
) -> tuple[_Counts, bool]:
    """Counts of neighbours among the samples as they are or, if tied, jittered; and which.

    Args:
        name: The estimator's label, for the message.
        jitter: Its jitter.
        spaces: The continuous variables, looked at first, since most ties show at once.
        k: The number of neighbours.
        count: Counts, of jittered samples if its argument is true; None if stopped by a tie.

    Raises:
        InvalidInput: If there are ties and ``jitter`` is 0.
    """
    counts = None if any(looks_tied(space, k) for space in spaces) else count(False)
    if counts is not None:
        return counts, False
    counts = count(True) if jitter else None
    if counts is None:
        raise InvalidInput(
            f"{name}: samples repeat or neighbours tie, where this estimator is undefined; "
            "set jitter > 0, or give a discrete variable as ids"
        )
    return counts, True


def check_fields(name: str, k: int, norm: str, jitter: float) -> None:
    """Raise unless the configuration of a nearest-neighbour estimator is possible.

    Raises:
        ConfigError: If k, the norm or the jitter is impossible.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ConfigError(f"{name}: k must be a whole number of at least 1, got {k!r}")
    if norm not in ("euclidean", "max"):
        raise ConfigError(f"{name}: norm must be 'euclidean' or 'max', got {norm!r}")
    if not 0 <= jitter < 1e-3:
        raise ConfigError(f"{name}: jitter must lie in [0, 0.001), got {jitter!r}")
