"""Binning: plug-in mutual information after cutting every unit's range into bins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput, Unsupported
from ibtrace.estimators._bins import check_range, label_bins, own_range_bins, trace_values
from ibtrace.estimators._plugin import PlugIn, Symbols, check_correction, largest, too_many_symbols
from ibtrace.numerics.bins import (
    digitise_linspace,
    floor_bins,
    row_ids,
    uniform_bins,
)
from ibtrace.numerics.columns import extremes
from ibtrace.numerics.entropy import Correction
from ibtrace.numerics.scale import columns_apart
from ibtrace.runtime.fields import require_types
from ibtrace.types import LayerContext, Tags

Range = Literal["activation", "snapshot", "trace"] | tuple[float, float]

_DEFAULT_BINS = 30
_IDNNS = "idnns"
_OUT = "out_of_range"
_APART = "scales_apart"


@dataclass(frozen=True)
class Binning(PlugIn):
    """Plug-in mutual information of binned activations, the estimator of the first papers.

    Estimand: I(X; B(T)) and I(B(T); Y), where B puts each unit's value into a bin and a sample's
    symbol is the row of its bin numbers; each entropy is ``-Σ p log₂ p``. For a deterministic
    network I(X; B(T)) is the entropy of B(T): it depends on the bins as much as on the network
    (Saxe et al. 2018, Goldfeld et al. 2019), which is why `estimand` travels with every number.

    ``bins`` cuts a range into equal bins (closed on the left, the last on both sides); ``width``
    is ``floor(T / width)`` without a range. The range is

    - ``"activation"``: that of the layer's nonlinearity, told by `bind` (tanh: [-1, 1]); where
      none is known (ReLU, linear, no `bind`), as ``"snapshot"``;
    - ``"snapshot"``: the minimum and maximum of the values at hand, one pair per problem;
    - ``"trace"``: the minimum and maximum over all snapshots, told by `bind`;
    - ``(low, high)``: given. Values beyond it go to two open end bins.

    Diagnostics: ``out_of_range``, the share of values beyond a given range (the flag of that name
    is raised above 0), and ``occupied_bins``, the number of distinct rows seen. Flags:
    ``constant`` (all samples in one bin: exactly 0 bits), ``near_ceiling`` (within 5 % of
    ``log₂ n``, where the plug-in saturates; Nothnagel & Geiger 2026), ``crowded`` (one bin holds
    95 % of the samples, which differ: an outlier sets the range), ``scales_apart`` (units whose
    spreads differ by more than a factor of 10: one width is for all, and the narrow ones hardly
    count) and ``undersampled`` (random labels would have given more than 0.1 bit: the
    diagnostic ``null_bits``, see `Exact`).

    Two presets reproduce published code: `Binning.idnns` and `Binning.ibsgd`.

    Cost: O(N d + N log N) time, O(N d) memory. Units: bits.

    Reference: Shwartz-Ziv & Tishby (2017), Opening the Black Box of Deep Neural Networks via
    Information, arXiv:1703.00810.

    Args:
        bins: Number of bins per unit; 30 if neither it nor ``width`` is given.
        width: Width of a bin, instead of ``bins``. A probe's continuous labels are in other units:
            they are cut, column by column, into ``bins`` (or 30) bins of equal mass.
        range: See above.
        correction: ``none``, ``miller_madow``, ``grassberger`` or ``chao_shen``, applied to each
            entropy; see `ibtrace.numerics.entropy.entropy`.
        preset: Set by the presets: their name in tables.

    Raises:
        ConfigError: If both ``bins`` and ``width`` are given, or a value is impossible.

    Example:
        >>> t = torch.tensor([[-0.9], [-0.8], [0.3], [0.9]])
        >>> Binning(bins=2, range=(-1, 1))(t, torch.tensor([0, 0, 1, 1])).bits.item()
        1.0
    """

    bins: int | None = None
    width: float | None = None
    range: Range = "activation"
    correction: Correction = "none"
    preset: str = ""

    def __post_init__(self) -> None:
        require_types(self)
        if self.bins is None and self.width is None:
            object.__setattr__(self, "bins", _DEFAULT_BINS)
        names = ("activation", "snapshot", "trace")
        object.__setattr__(self, "range", check_range("Binning", self.range, names))
        check_correction("Binning", self.correction)
        if self.bins is not None and self.width is not None:
            raise ConfigError(f"Binning got bins={self.bins} and width={self.width}; give one")
        if self.bins is not None and not (isinstance(self.bins, int) and self.bins >= 1):
            raise ConfigError(f"Binning: bins must be a whole number above 0, got {self.bins!r}")
        if self.width is not None and not (math.isfinite(self.width) and self.width > 0):
            raise ConfigError(f"Binning: width must be above 0, got {self.width!r}")
        if self.width is not None and self.range != "activation":
            raise ConfigError(f"Binning: width needs no range, got {self.range!r}; leave it out")
        if self.preset == _IDNNS and (self.bins, self.range) != (_DEFAULT_BINS, (-1.0, 1.0)):
            raise ConfigError("Binning: the preset 'idnns' has its own bins; use Binning.idnns()")

    @classmethod
    def idnns(cls) -> Binning:
        """Tishby's published code: 30 edges ``linspace(-1, 1, 30)``, rounded to float32.

        It has 29 bins on [-1, 1) and one more that pools all values of at least 1 with all values
        below -1 (whose index -1 wraps around). Raises ``out_of_range`` where that matters.

        Reference: github.com/ravidziv/IDNNs, ``calc_information_sampling``.
        """
        return cls(bins=30, range=(-1.0, 1.0), preset=_IDNNS)

    @classmethod
    def ibsgd(cls, width: float = 0.07) -> Binning:
        """Saxe et al.'s code: ``floor(T / width)``, 0.07 on the 12-bit task, 0.5 on MNIST.

        Reference: github.com/artemyk/ibsgd, ``bin_calc_information2``.
        """
        return cls(width=width, preset=f"ibsgd({width:g})")

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        fixed = "the width of the bins is in the units of the data"
        bins = f"{self.bins} bins" if self.width is None else f"bins of width {self.width:g}"
        return Tags(
            estimand=f"I(X;B(Y)) with B {bins}",
            of_information=False,
            reference="Shwartz-Ziv & Tishby 2017, arXiv:1703.00810",
            question="resolution",
            variable="made",
            scale_dependence="" if self.width is None and isinstance(self.range, str) else fixed,
            adds_up=self.width is not None or isinstance(self.range, tuple),
            cost="N d + N log N",
            bias=f"down by the width of the bins, {too_many_symbols(self.correction)}",
        )

    @property
    def needs_trace(self) -> bool:
        """Whether the bins depend on the whole trace."""
        return self.range == "trace"

    @property
    def estimand(self) -> str:
        """Axis text of T: its bins."""
        if self.width is not None:
            return f"floor(T / {self.width:g})"
        if self.preset == _IDNNS:
            return "T in IDNNs' bins, linspace(-1, 1, 30)"
        if isinstance(self.range, tuple):
            low, high = self.range
            return f"T in {self.bins} bins on [{low:g}, {high:g}]"
        over = " over the trace" if self.needs_trace else ""
        return f"T in {self.bins} bins on its own [min, max]{over}"

    def bind(self, context: LayerContext) -> Binning:
        """This binning with the range settled that the layer or the trace decides.

        Raises:
            InvalidInput: If ``range="trace"`` and the context has no values of the trace.
        """
        if self.width is not None:
            return self
        if self.range == "activation":
            return dataclasses.replace(self, range=context.activation_range or "snapshot")
        if self.range == "trace":
            values = trace_values("Binning", context)
            return dataclasses.replace(self, range=(float(values.min()), float(values.max())))
        return self

    def _discretise(self, value: Tensor, *, labels: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
        inside = torch.zeros(value.shape[:-2], dtype=torch.float64, device=value.device)
        if labels:
            return row_ids(label_bins(value, self.bins or _DEFAULT_BINS)), {_OUT: inside}
        figures = {_OUT: inside, _APART: columns_apart(value)}
        if self.tags.adds_up:
            numbers, own = self.numbers(value)
            return row_ids(numbers), {**figures, **own}
        if self.range == "trace":
            raise InvalidInput(
                "Binning(range='trace') has no trace yet; bind() it to a layer first"
            )
        return row_ids(own_range_bins(value, self.bins or _DEFAULT_BINS)), figures

    def numbers(self, value: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The bin of each value ``(..., n, d)``, and the share of the values beyond the range.

        Raises:
            Unsupported: If the bins depend on the samples at hand.
        """
        if self.width is not None:
            return floor_bins(value, self.width), {}
        if not isinstance(self.range, tuple):
            raise Unsupported(
                f"Binning(range={self.range!r}): the bins depend on all samples at once; give "
                "range=(low, high), or width="
            )
        low, high = (value.new_tensor(end) for end in self.range)
        legacy = self.preset == _IDNNS
        bins = self.bins or _DEFAULT_BINS
        numbers = _idnns_bins(value) if legacy else uniform_bins(value, low, high, bins)
        return numbers, {_OUT: _share_outside(value, low, high)}

    def _report(
        self, measured: Sequence[Symbols]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        none = torch.zeros((), dtype=torch.float64, device=measured[0].ids.device)
        share = largest([symbol.figures.get(_OUT, none) for symbol in measured])
        occupied = largest([symbol.number for symbol in measured])
        no = torch.zeros((), dtype=torch.bool, device=share.device)
        apart = largest([symbol.figures.get(_APART, no) for symbol in measured])
        return {_OUT: share > 0, _APART: apart}, {_OUT: share, "occupied_bins": occupied}


def _idnns_bins(values: Tensor) -> Tensor:
    edges = torch.linspace(-1, 1, _DEFAULT_BINS, dtype=torch.float64, device=values.device)
    numbers = digitise_linspace(values, edges.float().to(values.dtype))
    return numbers.masked_fill_(numbers == 0, _DEFAULT_BINS)


def _share_outside(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The share of values beyond a range in each problem, float64, ``(...)``."""
    ends = extremes(values)
    beyond = (ends.low.amin(-1) < low) | (ends.high.amax(-1) > high)
    if not bool(beyond.any()):  # counting is many times slower than the extremes
        return torch.zeros(values.shape[:-2], dtype=torch.float64, device=values.device)
    return ((values < low) | (values > high)).double().mean((-2, -1))
