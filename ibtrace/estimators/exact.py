"""Exact: mutual information of variables that are discrete already, by enumeration.

`PlugIn`, the part that this estimator shares with the binnings, turns ids into estimates.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, NamedTuple, get_args

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput, TooFewSamples
from ibtrace.estimators._checks import checked, undersampled
from ibtrace.estimators._inputs import check_pair, check_variable, is_ids, samples
from ibtrace.numerics.bins import dense_ids, joint_ids, row_ids
from ibtrace.numerics.entropy import (
    Correction,
    constant,
    distinct,
    information_correction,
    local_information,
    null_information,
    sample_counts,
    sample_masses,
)
from ibtrace.types import Estimate, ProbeLike, Tags, label

_CROWDED, _NEARLY_ALL, _UNDEFINED = "crowded", 0.95, "undefined"


class Symbols(NamedTuple):
    """A variable as symbols of a finite alphabet.

    Args:
        ids: Which samples have the same symbol, ids below n, ``(..., n)``.
        counts: `sample_counts` of the ids.
        measured: Whether the variable came as floats (rather than as ids).
        figures: Diagnostics of how it was made discrete, ``(...)`` each.
    """

    ids: Tensor
    counts: Tensor
    measured: bool
    figures: Mapping[str, Tensor]


def symbols(
    ids: Tensor, *, measured: bool = False, figures: Mapping[str, Tensor] | None = None
) -> Symbols:
    """The symbols behind ids below n, ``(..., n)``."""
    return Symbols(ids, sample_counts(ids), measured, figures or {})


def check_correction(name: str, correction: str) -> None:
    """Raise ConfigError unless the correction exists.

    Raises:
        ConfigError: If it does not; lists those that do.
    """
    if correction not in get_args(Correction):
        known = ", ".join(get_args(Correction))
        raise ConfigError(f"{name}: correction={correction!r} is unknown; choose from {known}")


def near_ceiling(bits: Tensor, n: int) -> Tensor:
    """Whether an estimate is within 5 % of ``log₂ n``, the ceiling of every plug-in."""
    return bits >= 0.95 * math.log2(n)


@checked
class PlugIn:
    """An estimator that makes its variables discrete and takes the plug-in information.

    A subclass says how floats become ids (`_discretise`) and what to report of it (`_report`).
    """

    correction: Correction

    def _discretise(self, value: Tensor, *, labels: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Ids ``(..., n)`` and figures ``(...)`` of floats ``(..., n, d)``.

        ``labels`` says that they are a probe's continuous labels, not a layer's values.
        """
        raise NotImplementedError

    def _report(
        self, measured: Sequence[Symbols]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Flags and diagnostics, given the variables that came as floats (all, if none did)."""
        raise NotImplementedError

    def _symbols(self, value: Tensor, *, labels: bool = False) -> Symbols:
        if is_ids(value):
            return symbols(dense_ids(value))
        values = value.detach()
        values = values.float() if values.element_size() < 4 else values
        ids, figures = self._discretise(values, labels=labels)
        found = symbols(ids, measured=True, figures=figures)
        return found._replace(figures={**figures, _CROWDED: _crowded(values, found.counts)})

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; floats are made discrete, integer ids are taken as they are.

        Args:
            x: ``(..., n, dx)`` floats or ``(..., n)`` ids; leading dimensions broadcast.
            y: ``(..., n, dy)`` floats or ``(..., n)`` ids.
            seed: Without effect: nothing here is random.

        Returns:
            The estimate, ``(...)``; its standard error by the delta method.

        Raises:
            InvalidInput: If the variables are malformed or not paired.
            NonFinite: If one holds NaN or infinite values.
            TooFewSamples: If there are fewer than 2 samples.
        """
        check_pair(label(self), x, y)
        pair = [self._symbols(x), self._symbols(y)]
        joint = sample_counts(joint_ids(pair[0].ids, pair[1].ids))
        measured = [symbol for symbol in pair if symbol.measured] or pair
        estimate = self._estimate(pair[0], pair[1], joint, measured)
        known = torch.zeros((), dtype=torch.bool, device=joint.device)
        if len(measured) == 1:
            enumerated = pair[0] if pair[1].measured else pair[1]
            known = (enumerated.counts == 1).all(-1)
        return self._judge(estimate, pair[0], pair[1], known=known)

    def plane(self, t: Tensor, probe: ProbeLike, *, seed: int = 0) -> tuple[Estimate, Estimate]:
        """I(X;T) and I(T;Y) in bits, from making T discrete once.

        Args:
            t: Activations ``(..., n, d)``, or ids ``(..., n)``.
            probe: Inputs (as ids) and labels; continuous labels are made discrete too.
            seed: Without effect: nothing here is random.

        Returns:
            Two estimates of shape ``(...)``.

        Raises:
            InvalidInput: If ``t`` is malformed or does not have the probe's number of samples.
            NonFinite: If ``t`` or the labels hold NaN or infinite values.
            TooFewSamples: If there are fewer than 2 samples.
        """
        name = label(self)
        check_variable(name, "t", t)
        if samples(t) != probe.n:
            raise InvalidInput(
                f"{name}: t has {samples(t)} samples and the probe has {probe.n}; pair them"
            )
        if probe.n < 2:
            raise TooFewSamples(
                f"{name} needs at least 2 samples, got {probe.n}; enlarge the probe"
            )
        layer = self._symbols(t)
        x, all_x_distinct = probe.cached(
            f"plug-in x on {t.device}", lambda: _inputs_of(probe, t.device)
        )
        y = probe.cached(f"plug-in y of {name} on {t.device}", self._labels_of(probe, t.device))
        # Pairs with a variable that never repeats never repeat either.
        xt = x.counts if all_x_distinct else sample_counts(joint_ids(x.ids, layer.ids))
        ty = sample_counts(joint_ids(layer.ids, y.ids))
        about_x = self._estimate(x, layer, xt, [layer])
        about_y = self._estimate(layer, y, ty, [layer])
        # Where X determines T, I(X;T) is H(T): no pair of symbols is seen too rarely to count.
        whole = torch.tensor(bool(getattr(probe, "population", False)), device=t.device)
        determined = (xt == x.counts).all(-1)
        return (
            self._judge(about_x, x, layer, known=determined | whole),
            self._judge(about_y, layer, y, known=whole),
        )

    def _judge(self, estimate: Estimate, x: Symbols, y: Symbols, *, known: Tensor) -> Estimate:
        """The estimate with ``undersampled`` raised, but in problems ``(...)`` of a known law."""
        null = torch.full_like(estimate.bits, torch.nan)
        asked = ~known.expand(null.shape)
        if bool(asked.any()):
            shape = *null.shape, x.counts.shape[-1]
            of_x, of_y = (symbol.counts.expand(shape)[asked] for symbol in (x, y))
            null[asked] = null_information(of_x, of_y, self.correction)
        return dataclasses.replace(
            estimate.flagged(undersampled=undersampled(null)),
            diagnostics={**estimate.diagnostics, "null_bits": null},
        )

    def _labels_of(self, probe: ProbeLike, device: torch.device) -> Callable[[], Symbols]:
        def compute() -> Symbols:
            check_variable(label(self), "y", probe.labels)
            return self._symbols(probe.labels.to(device), labels=True)

        return compute

    def _estimate(
        self, x: Symbols, y: Symbols, joint: Tensor, measured: Sequence[Symbols]
    ) -> Estimate:
        n = joint.shape[-1]
        local = local_information(x.counts, y.counts, joint)
        added = information_correction(x.counts, y.counts, joint, self.correction)
        bits = local.mean(-1) + added
        flags, diagnostics = self._report(measured)
        no = torch.zeros((), dtype=torch.bool, device=bits.device)
        return Estimate(
            bits=bits,
            stderr=local.std(-1) / math.sqrt(n),
            flags={
                "constant": constant(x.counts) | constant(y.counts),
                "near_ceiling": near_ceiling(bits, n),
                _CROWDED: largest([symbol.figures.get(_CROWDED, no) for symbol in (x, y)]),
                **flags,
            },
            diagnostics=diagnostics,
        )


def _inputs_of(probe: ProbeLike, device: torch.device) -> tuple[Symbols, bool]:
    x = symbols(dense_ids(probe.x_ids.to(device)))
    return x, bool((x.counts == 1).all())


def _crowded(values: Tensor, counts: Tensor) -> Tensor:
    """Whether one symbol holds nearly all samples of a problem, whose values differ, ``(...)``."""
    most = counts.amax(-1, keepdim=True)
    crowd = (most >= _NEARLY_ALL * counts.shape[-1]).squeeze(-1)
    if not bool(crowd.any()):
        return crowd
    others = (counts < most).unsqueeze(-1)
    low = values.masked_fill(others, torch.inf).amin(-2)
    high = values.masked_fill(others, -torch.inf).amax(-2)
    return crowd & (low < high).any(-1)


def largest(tensors: Sequence[Tensor]) -> Tensor:
    """The largest of some tensors, element by element; shapes broadcast."""
    return reduce(torch.maximum, tensors)


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

    tags: ClassVar[Tags] = Tags(
        estimand="I(X;Y) of the discrete law on the samples",
        of_information=False,
        reference="Lorenzen et al. 2022, ICLR",
        cost="N d + N log N",
        bias="none on an enumerated space; up by (K_xy - K_x - K_y + 1)/(2 N ln 2) on a draw",
    )

    def __post_init__(self) -> None:
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
    def preset(self) -> str:
        """``weighted(…)`` with a digest of the weights, which are too long for a table."""
        if self.weights is None:
            return ""
        return f"weighted({hashlib.sha256(repr(self.weights).encode()).hexdigest()[:8]})"

    @property
    def estimand(self) -> str:
        """Axis text of T."""
        return "T exactly, by its distinct values"

    def _discretise(self, value: Tensor, *, labels: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
        ids = row_ids(value)
        seldom = 2 * distinct(sample_counts(ids)) > ids.shape[-1]
        return ids, {_UNDEFINED: seldom} if labels else {}

    def _report(
        self, measured: Sequence[Symbols]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        n = measured[0].ids.shape[-1]
        numbers = [distinct(symbol.counts) for symbol in measured]
        every = reduce(torch.logical_and, [number == n for number in numbers])
        flag = every if measured[0].measured else torch.zeros_like(every)
        return {"all_distinct": flag}, {"distinct": largest(numbers)}

    def _estimate(
        self, x: Symbols, y: Symbols, joint: Tensor, measured: Sequence[Symbols]
    ) -> Estimate:
        estimate = super()._estimate(x, y, joint, measured)
        if _UNDEFINED in y.figures:
            undefined = y.figures[_UNDEFINED].expand(estimate.bits.shape)
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
