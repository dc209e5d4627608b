"""Mutual information of variables that may be discrete, continuous or both (Gao et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ibtrace.estimators._checks import checked
from ibtrace.estimators._inputs import check_pair, each_problem, is_ids, many_dimensions, samples
from ibtrace.estimators.ross import check_fields
from ibtrace.numerics.bins import dense_ids
from ibtrace.numerics.distances import Norm, is_constant
from ibtrace.numerics.mixed import Rows, mixed_counts, space
from ibtrace.types import ConfigError, Estimate, ProbeLike, Tags, TooFewSamples, label

_FIGURES = ("bits", "stderr", "constant", "small", "dropped", "tied", "atoms", "apart")


class _First(NamedTuple):
    points: Tensor
    distances: Rows


@checked
@dataclass(frozen=True)
class MixedKSG:
    """I(X;Y) of any two variables, discrete, continuous, or continuous with atoms.

    As in `KSG` the distance of two samples is the larger of those in x and in y, and ρ_i is
    the distance of sample i to its k-th neighbour. Where ρ_i = 0 the sample lies on an atom of
    the joint law, and k̃_i counts the samples on it; elsewhere k̃_i = k. With n_x and n_y the
    samples nearer than ρ_i (at the same place, if ρ_i = 0) in x and y, in nats

        I = <ψ(k̃_i) + log N - ψ(n_x) - ψ(n_y)>,

    each count including sample i itself, but for k. This is the form of Gao et al.'s published
    code; their Algorithm 1 has log(n + 1) of closed counts instead, which is off by up to 0.26
    bit on their own laws at N = 5000. Their code clips at 0; nothing is clipped here.

    Variables may be ids or floats on either side. Two different ids are infinitely far apart.
    A sample with fewer than k others at a finite distance uses those (flag ``small_classes``);
    where ids meet floats, samples alone in their class are left out, as in `Ross`
    (``singletons_dropped``). With both as ids, the estimate is Grassberger's (1988),
    H(X) + H(Y) - H(X,Y) with H = log N - <ψ(n)>.

    A row of floats that occurs more than k times is an atom. To Gao et al. an atom is a place
    like any other (``atoms="near"``): balls around continuous samples nearby hold the atom's
    whole mass, which costs 0.23 bit on ``normal-with-atoms`` at N = 5000. By default
    (``atoms="apart"``) it is infinitely far from everything else, as ids are.

    Args:
        k: Which neighbour.
        norm: The norm within x and within y: ``"euclidean"`` or ``"max"`` (Gao et al.).
        atoms: ``"apart"`` or ``"near"``.

    Flags: those above; ``tied_radii`` (somewhere the k-th and the next neighbour are equally
    far, ρ > 0: a lattice, where k̃_i is too small and the estimate too low); ``scales_apart``
    (around half of the samples or more, ρ_i spans all of x or all of y, which then says nothing:
    bring the two to one scale); ``many_dimensions`` (see `KSG`); ``constant`` (a variable that
    never varies: 0 bits).
    Diagnostics: ``atoms``, the share of samples with ρ_i = 0; ``dropped``, the share left out.

    References:
        Gao, Kannan, Oh & Viswanath 2017, Estimating mutual information for discrete-continuous
        mixtures, NeurIPS.

    Example:
        A fair coin y that x repeats, plus noise on one side: one bit.

        >>> import torch
        >>> y = (torch.arange(1000) % 2)[:, None].double()
        >>> noise = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)).double()
        >>> round(float(MixedKSG()(y + y * noise, y).bits), 2)
        1.0
    """

    k: int = 5
    norm: Norm = "euclidean"
    atoms: Literal["apart", "near"] = "apart"

    tags: ClassVar[Tags] = Tags(
        estimand="I(X; Y)",
        reference="Gao, Kannan, Oh & Viswanath 2017, NeurIPS",
        cost="N² d time, N d memory, N² for X's kept distances",
        bias="towards 0 at high information or dimension, and on lattices of rare values",
    )

    def __post_init__(self) -> None:
        check_fields("MixedKSG", self.k, self.norm, 0)
        if self.atoms not in ("apart", "near"):
            raise ConfigError(f"MixedKSG: atoms must be 'apart' or 'near', got {self.atoms!r}")

    @property
    def estimand(self) -> str:
        """The layer itself, atoms included."""
        return "T as it is, continuous or not"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; see the class. Nothing is random: ``seed`` is not used.

        Args:
            x: ``(..., n, dx)`` floats or ``(..., n)`` ids.
            y: ``(..., n, dy)`` floats or ``(..., n)`` ids.
            seed: Not used.

        Raises:
            InvalidInput: If x or y is malformed.
            TooFewSamples: If there are not more than k, or ids meet floats and none repeats.
        """
        check_pair(label(self), x, y, minimum=self.k + 1)
        solved = each_problem(lambda a, b: self._solve(a, b, None), x, y)
        return _estimate(solved, many_dimensions(x, y))

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) in bits for ``t (..., n, d)``, X's distances kept with the probe.

        Raises:
            InvalidInput: If ``t`` is malformed or does not pair with the probe.
            TooFewSamples: If there are not more than k samples.
        """
        x = probe.features.to(t.device)
        check_pair(label(self), x, t, minimum=self.k + 1)
        key = f"mixed ksg:{self.k}:{self.norm}:{self.atoms}:{t.device}"
        first = probe.cached(key, lambda: _First(x, self._space(x, keep=True)))
        kept = None if is_ids(t) else first.distances  # with ids, singletons may have to go
        solved = each_problem(lambda _, one: self._solve(first.points, one, kept), x, t)
        return _estimate(solved, many_dimensions(x, t)), self(
            t, probe.labels.to(t.device), seed=seed
        )

    def _space(self, x: Tensor, *, keep: bool = False) -> Rows:
        return space(x, self.norm, apart_above=self.k if self.atoms == "apart" else None, keep=keep)

    def _solve(self, x: Tensor, y: Tensor, kept: Rows | None) -> Tensor:
        """Bits, standard error, constant, small, dropped, tied, share of atoms, apart: ``(8,)``."""
        found = dict.fromkeys(_FIGURES, 0.0)
        paired = _paired(x, y)
        found["dropped"] = float((~paired).double().mean())
        if is_constant(x) or is_constant(y):
            found["constant"] = 1.0
        elif not bool(paired.any()):
            raise TooFewSamples(
                f"{label(self)}: each of the {samples(x)} classes has one sample; "
                "give ids that repeat, or both variables as floats"
            )
        elif is_constant(x[paired]) or is_constant(y[paired]):
            found["constant"] = 1.0
        else:
            n = int(paired.sum())
            first = kept or self._space(x[paired])
            counts = mixed_counts(first, self._space(y[paired]), n, self.k, x.device)
            k, in_x, in_y = (torch.digamma(value.to(torch.float64)) for value in counts[:3])
            estimate = Estimate.from_local((k + math.log(n) - in_x - in_y) / math.log(2))
            found["bits"], found["stderr"] = float(estimate.bits), float(estimate.stderr)
            both_ids = is_ids(x) and is_ids(y)
            found["small"] = float(not both_ids and bool((counts.k < self.k).any()))
            found["tied"] = float(counts.tied.any())
            found["atoms"] = float(counts.atom.double().mean())
            spanned = [float((value == n).double().mean()) for value in (counts.x, counts.y)]
            found["apart"] = float(max(spanned) >= 0.5)
        return torch.tensor(list(found.values()), dtype=torch.float64, device=x.device)


def _paired(x: Tensor, y: Tensor) -> Tensor:
    """Which samples share their class with another, where ids meet floats; else all, ``(n,)``."""
    if is_ids(x) == is_ids(y):
        return torch.ones(samples(x), dtype=torch.bool, device=x.device)
    ids = dense_ids(x if is_ids(x) else y)
    return torch.bincount(ids)[ids] > 1


def _estimate(solved: Tensor, beyond: Tensor) -> Estimate:
    bits, stderr, constant, small, dropped, tied, atoms, apart = solved.unbind(-1)
    return Estimate(
        bits=bits,
        stderr=stderr,
        flags={
            "constant": constant > 0,
            "small_classes": small > 0,
            "singletons_dropped": dropped > 0,
            "tied_radii": tied > 0,
            "scales_apart": apart > 0,
            "many_dimensions": beyond,
        },
        diagnostics={"atoms": atoms, "dropped": dropped},
    )
