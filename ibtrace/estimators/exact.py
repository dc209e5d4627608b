"""Exact: mutual information of variables that are discrete already, by enumeration."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput, Unsupported
from ibtrace.estimators._plugin import (
    UNDEFINED,
    PlugIn,
    Symbols,
    check_correction,
    largest,
    near_ceiling,
    too_many_symbols,
)
from ibtrace.numerics.bins import joint_ids, row_ids
from ibtrace.numerics.entropy import (
    Correction,
    distinct,
    local_information,
    sample_counts,
    sample_masses,
)
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Tags


@dataclass(frozen=True)
class Exact(PlugIn):
    """Mutual information of discrete or quantized variables by enumeration of their values.

    Estimand: I(X;Y) of the law that puts mass ``weights`` (equal masses if not given) on the
    samples, ``Σ p(x,y) log₂ p(x,y) / (p(x) p(y))``. Rows of floats are values: two samples have
    the same T when all their float32 (float64) numbers are equal, where -0.0 equals 0.0. If the
    samples are the whole space (the 4096 inputs of the 12-bit task) the number is the truth for
    the network as the machine computes it; if they are a draw, the plug-in estimate, biased up
    by about ``(K_xy - K_x - K_y + 1) / (2 n ln 2)``, which ``correction`` reduces.

    The flag ``all_distinct`` says that no two samples share a representation: I(X;T) is then the
    entropy of the sample, ``log₂ n`` however the network was trained, and I(T;Y) is H(Y)
    ("constant or infinite", Goldfeld et al. 2019). The flag ``near_ceiling`` marks estimates within
    5 % of ``log₂ n``, where the plug-in saturates (Nothnagel & Geiger 2026), and ``constant`` a
    variable with one value: 0 bits.

    Of a draw, I(T;Y) is near H(Y) whatever T knows once few samples share a symbol. The diagnostic
    ``null_bits`` is what random labels would have given: the mean of the estimate over all
    permutations of Y, from both tables of counts (Vinh, Epps & Bailey 2010). The flag
    ``undersampled`` says that it exceeds 0.1 bit. It is not raised (and ``null_bits`` is NaN) of
    I(X;T) where X determines T, as the estimate is H(T) then; nor of a probe that is the whole
    population. Of continuous targets that hardly repeat, I(T;Y) would be H(T): NaN, flagged
    ``undefined``. The diagnostic ``distinct`` is the number of distinct representations.

    The standard error is the delta method's, of the draw of the samples. It leaves out the bias,
    and what a correction itself varies: where many symbols are seen once, Miller and Madow's
    spreads about twice as much. `Binning` shares it, and leaves out the choice of the bins.

    Cost: O(N d + N log N) time, O(N d) memory. Units: bits.

    Reference: Lorenzen, Igel & Nielsen (2022), Information Bottleneck: Exact Analysis of
    (Quantized) Neural Networks, ICLR.

    Args:
        correction: ``none``, ``miller_madow``, ``grassberger`` or ``chao_shen``, applied to each
            entropy; see `ibtrace.numerics.entropy.entropy`.
        weights: Mass p(x) of each sample, proportional; the standard error is then 0, because the
            law is known. Not combined with a correction.

    Raises:
        ConfigError: If the correction is unknown or the weights are no masses.

    Example:
        >>> bits = (torch.arange(8)[:, None] >> torch.arange(3)) & 1
        >>> popcount = bits.sum(-1, keepdim=True).float()
        >>> round(Exact()(torch.arange(8), popcount).bits.item(), 4)
        1.8113
    """

    correction: Correction = "none"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require_types(self)
        check_correction("Exact", self.correction)
        if self.weights is None:
            return
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        if self.correction != "none":
            raise ConfigError(
                "Exact: a correction is for draws; with weights use correction='none'"
            )
        finite = all(math.isfinite(weight) and weight >= 0 for weight in self.weights)
        if not finite or sum(self.weights) <= 0:
            raise ConfigError("Exact: weights must be finite masses of at least 0, not all 0")

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand="I(X;Y) of the discrete law on the samples",
            of_information=False,
            reference="Lorenzen et al. 2022, ICLR",
            question="information",
            adds_up=self.weights is None,
            cost="N d + N log N",
            bias="none: the law is that of the weights"
            if self.weights is not None
            else f"none on an enumerated space; on a draw {too_many_symbols(self.correction)}",
        )

    @property
    def preset(self) -> str:
        """``weighted(…)`` with a digest of the weights, which are too long for a table."""
        if self.weights is None:
            return ""
        return f"weighted({hashlib.sha256(repr(self.weights).encode()).hexdigest()[:8]})"

    @property
    def estimand(self) -> str:
        """Axis text of T."""
        return "T exactly, by its distinct values"

    def numbers(self, value: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The values themselves.

        Raises:
            Unsupported: If the samples have weights of their own.
        """
        if self.weights is not None:
            raise Unsupported("Exact: weights are of all samples at once; leave them out")
        return value, {}

    def _discretise(self, value: Tensor, *, labels: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
        ids = row_ids(value)
        if not labels:
            return ids, {}
        return ids, {UNDEFINED: 2 * distinct(sample_counts(ids)) > ids.shape[-1]}

    def _report(
        self, measured: Sequence[Symbols]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        n = measured[0].ids.shape[-1]
        numbers = [symbol.number for symbol in measured]
        every = reduce(torch.logical_and, [number == n for number in numbers])
        flag = every if measured[0].measured else torch.zeros_like(every)
        return {"all_distinct": flag}, {"distinct": largest(numbers)}

    def _estimate(
        self, x: Symbols, y: Symbols, joint: Tensor, measured: Sequence[Symbols]
    ) -> Estimate:
        estimate = super()._estimate(x, y, joint, measured)
        if UNDEFINED in y.figures:
            undefined = y.figures[UNDEFINED].expand(estimate.bits.shape)
            nan = estimate.bits.masked_fill(undefined, torch.nan)
            estimate = dataclasses.replace(estimate.flagged(undefined=undefined), bits=nan)
        return estimate if self.weights is None else self._weigh(estimate, x, y)

    def _weigh(self, estimate: Estimate, x: Symbols, y: Symbols) -> Estimate:
        n = x.ids.shape[-1]
        if self.weights is None or len(self.weights) != n:
            got = len(self.weights or ())
            raise InvalidInput(f"Exact has {got} weights for {n} samples; give one for each")
        weights = torch.tensor(self.weights, dtype=torch.float64, device=x.ids.device)
        weights /= weights.sum()
        joint = sample_masses(joint_ids(x.ids, y.ids), weights)
        masses = sample_masses(x.ids, weights), sample_masses(y.ids, weights)
        local = local_information(*masses, joint, total=1.0)
        # A sample of no mass adds nothing, whatever its ratio 0 / 0.
        bits = torch.where(weights > 0, weights * local, 0.0).sum(-1)
        bits = bits.masked_fill(estimate.flags["constant"], 0.0)
        return dataclasses.replace(
            estimate.flagged(near_ceiling=near_ceiling(bits, n)),
            bits=bits,
            stderr=torch.zeros_like(bits),
        )
