"""NPEET's nearest-neighbour estimate, as a peer to compare ours with."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ibtrace.errors import MissingDependency
from ibtrace.estimators._checks import checked
from ibtrace.estimators._fields import unscaled
from ibtrace.estimators._inputs import (
    check_pair,
    each_estimate,
    few_samples,
    is_ids,
    many_dimensions,
    refuse_two_ids,
)
from ibtrace.estimators._ties import check_fields
from ibtrace.numerics.distances import Space, is_constant, row_ids
from ibtrace.numerics.knn import tied_share
from ibtrace.numerics.scale import Scale, centre, check_scale, scale_flags, scaled, spread, words
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Tags, label


@checked
@dataclass(frozen=True)
class NPEET:
    """I(X;Y) by ``mi`` of NPEET, or of its fork npeet-plus, which is the same (Ver Steeg 2000).

    Kraskov et al.'s first estimator in the max-norm, by trees. NPEET adds uniform noise of 1e-10
    to all data from NumPy's global generator, which is seeded by ``seed`` here and put back. Its
    result depends on the data's scale through that noise, so both variables are first divided by
    the larger of their standard deviations; this alters no neighbour.

    A variable of ids enters ``mi`` as one column whose values are farther apart than any two
    samples of the other variable, so that all k neighbours of a sample are of its class. The
    estimate then is Ross's (2014) in the max-norm. NPEET's own ``micd`` is not used: it takes
    an absolute value, so it is biased on independent data, and npeet-plus breaks half of it.
    A class with no more than k samples makes neighbours of other classes count; this is flagged
    ``small_classes``, and `Ross` should be used; where all classes are so small there is no number
    (``undefined``).

    Args:
        k: Which neighbour.
        scale: What each variable is divided by first, as in `KSG`.

    Flags: those above; ``constant`` (a variable that never varies: 0 bits, NPEET is not asked);
    ``many_dimensions``, ``few_samples``, ``scales_apart``, ``heavy_tails`` and ``extreme_values``
    (see `KSG`); ``near_ceiling`` (within 5 % of ψ(N) - ψ(k) - 1/k nats, diagnostic ``ceiling``).
    Diagnostics: ``tied``, the share of samples that repeat or whose neighbours tie. No standard
    error: ``mi`` gives only the mean.

    References:
        Ver Steeg, Non-parametric entropy estimation toolbox (NPEET).
        Kraskov, Stögbauer & Grassberger 2004, Estimating mutual information, Phys. Rev. E 69.

    Example:
        Two normals with correlation 0.9: 1.198 bits.

        >>> import torch
        >>> noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> x, y = noise[:, :1], 0.9 * noise[:, :1] + 0.19 ** 0.5 * noise[:, 1:]
        >>> abs(float(NPEET(k=3)(x, y).bits) - 1.198) < 0.1
        True
    """

    k: int = 3
    scale: Scale = "variable"

    def __post_init__(self) -> None:
        require_types(self)
        check_fields("NPEET", self.k, "max", 0)
        check_scale("NPEET", self.scale)

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand="I(X;Y)",
            reference="Ver Steeg, NPEET; Kraskov, Stögbauer & Grassberger 2004, Phys. Rev. E 69",
            question="density",
            scale_dependence=unscaled(self.scale),
            cost="N log N time in few dimensions, N² d in many; CPU only",
            bias="towards 0 at high information or dimension, and on lattices by bits; at most "
            "ψ(N) - ψ(k) nats",
        )

    @property
    def estimand(self) -> str:
        """The layer itself, as a continuous variable, at its scale."""
        return f"T as a continuous variable, {words(self.scale)}"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; see the class. Data on other devices are copied to the CPU.

        Args:
            x: ``(..., n, dx)`` floats, or ``(..., n)`` ids if y is floats.
            y: ``(..., n, dy)`` floats, or ``(..., n)`` ids if x is floats.
            seed: Seeds the noise that NPEET adds.

        Raises:
            InvalidInput: If x or y is malformed.
            TooFewSamples: If there are not more than k samples.
            Unsupported: If both are ids.
            MissingDependency: If neither npeet nor npeet-plus is installed.
        """
        check_pair(label(self), x, y, minimum=self.k + 1)
        refuse_two_ids(label(self), x, y, "use binning or exact")
        mi = load_mi()
        a, b = (scaled(value, self.scale, "max") for value in (x, y))
        solved = each_estimate(lambda c, d: self._solve(mi, c, d, seed), a.points, b.points)
        flags = {
            "many_dimensions": many_dimensions(x, y),
            "few_samples": few_samples(x, y, self.k),
            **scale_flags(a, b),
        }
        return solved.flagged(**flags)

    def _solve(self, mi: Callable[..., Any], x: Tensor, y: Tensor, seed: int) -> Estimate:
        if is_constant(x) or is_constant(y):
            return self._estimate(x, constant=True)
        sizes = [torch.bincount(row_ids(v)) for v in (x, y) if is_ids(v)]
        small = any(int(of.min()) <= self.k for of in sizes)
        if any(int(of.max()) <= self.k for of in sizes):  # no neighbour is in its sample's class
            return self._estimate(x, math.nan, small=True, undefined=True)
        columns = [v.to("cpu") for v in (x, y) if not is_ids(v)]
        tied = max(tied_share(Space(v, "max", 0, seed), self.k) for v in columns)
        scale = max(float(spread(v - centre(v), "max")) for v in columns)
        reach = max(float((v.amax(0) - v.amin(0)).max()) for v in columns) / scale
        a, b = (
            (reach + 1) * row_ids(v).to("cpu", torch.float64).unsqueeze(1)
            if is_ids(v)
            else v.to("cpu") / scale
            for v in (x, y)
        )
        with numpy_seeded(seed):
            bits = float(mi(a.numpy(), b.numpy(), k=self.k, base=2))
        return self._estimate(x, bits, small=small, tied=tied)

    def _estimate(
        self,
        x: Tensor,
        bits: float = 0.0,
        *,
        constant: bool = False,
        undefined: bool = False,
        small: bool = False,
        tied: float = 0.0,
    ) -> Estimate:
        psi_k, psi_n = torch.tensor([self.k, len(x)], dtype=torch.float64).digamma().tolist()
        ceiling = (psi_n - psi_k - 1 / self.k) / math.log(2)
        return Estimate.single(
            bits,
            flags={
                "constant": constant,
                "undefined": undefined,
                "small_classes": small,
                "near_ceiling": bits >= 0.95 * ceiling,
                "ties_jittered": tied > 0,
            },
            diagnostics={"ceiling": ceiling, "tied": tied},
            device=x.device,
        )


def load_mi() -> Callable[..., Any]:
    """``mi`` of npeet if it is installed, else of npeet-plus.

    Raises:
        MissingDependency: If neither is installed.
    """
    for module in ("npeet.entropy_estimators", "npeet_plus"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # theirs, at import: not ours to fix or to show
                mi: Callable[..., Any] = importlib.import_module(module).mi
        except ModuleNotFoundError:
            continue
        return mi
    raise MissingDependency("NPEET needs the package npeet or npeet-plus: pip install npeet-plus")


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator seeded within the block, and as it was after it."""
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)
