"""AdaptiveBinning: plug-in mutual information with bins of equal mass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.estimators._bins import label_bins, trace_values
from ibtrace.estimators._plugin import PlugIn, Symbols, check_correction, largest, too_many_symbols
from ibtrace.numerics.bins import digitise, quantile_edges, row_ids
from ibtrace.numerics.entropy import Correction
from ibtrace.runtime.fields import require_types
from ibtrace.types import LayerContext, Tags


@dataclass(frozen=True)
class AdaptiveBinning(PlugIn):
    """Plug-in mutual information with bins that hold equally many of a layer's values.

    Estimand: I(X; B(T)) and I(B(T); Y), where B cuts the values of all units of the layer, pooled,
    at their quantiles: the bins follow the activations wherever they go, so that neither the
    range nor the scale of the layer enters (a strictly increasing map of T leaves the number
    as it is). Chelombiev et al. found compression in ReLU networks with such bins.

    Edges are values of the layer (rank ``ceil(k m / bins)`` of m). A value that more than one bin's
    share of them has (the zeros of a ReLU) is a bin of its own. The diagnostic ``value_bins``
    says how many of the ``bins`` the ties leave, and ``occupied_bins`` counts the distinct rows.
    A probe's continuous labels are cut column by column. Flags: those of `Binning`, but for
    ``out_of_range``.

    Cost: O(N d log(N d)) time, O(N d) memory. Units: bits.

    Reference: Chelombiev, Houghton & O'Donnell (2019), Adaptive Estimators Show Information
    Compression in Deep Neural Networks, ICLR, arXiv:1902.09037.

    Args:
        bins: Number of bins.
        range: ``"snapshot"``, the quantiles of the values at hand, per problem; or ``"trace"``,
            those of the layer over all snapshots, told by `bind`.
        correction: ``none``, ``miller_madow``, ``grassberger`` or ``chao_shen``, applied to each
            entropy; see `ibtrace.numerics.entropy.entropy`.
        edges: The inner edges, where they are settled already (`bind` does that).

    Raises:
        ConfigError: If a value is impossible.

    Example:
        >>> t = torch.tensor([[0.0], [0.1], [10.0], [1000.0]])
        >>> AdaptiveBinning(bins=2)(t, torch.tensor([0, 0, 1, 1])).bits.item()
        1.0
    """

    bins: int = 30
    range: Literal["snapshot", "trace"] = "snapshot"
    correction: Correction = "none"
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_types(self)
        check_correction("AdaptiveBinning", self.correction)
        if not (isinstance(self.bins, int) and self.bins >= 2):
            raise ConfigError(f"AdaptiveBinning: bins must be 2 or more, got {self.bins!r}")
        if self.range not in ("snapshot", "trace"):
            got = f"got {self.range!r}"
            raise ConfigError(f"AdaptiveBinning: range must be 'snapshot' or 'trace', {got}")
        object.__setattr__(self, "edges", tuple(float(edge) for edge in self.edges))
        if self.edges and (
            len(self.edges) != self.bins - 1 or list(self.edges) != sorted(self.edges)
        ):
            got = f"needs {self.bins - 1} ascending edges, got {len(self.edges)}"
            raise ConfigError(f"AdaptiveBinning(bins={self.bins}) {got}; let bind() find them")

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand=f"I(X;B(Y)) with B {self.bins} quantile bins",
            of_information=False,
            reference="Chelombiev et al. 2019, arXiv:1902.09037",
            question="resolution",
            variable="made",
            scale_dependence="the edges are settled, in the units of the data"
            if self.edges
            else "",
            cost="N d log(N d)",
            bias=f"down by the width of the bins, {too_many_symbols(self.correction)}",
        )

    @property
    def needs_trace(self) -> bool:
        """Whether the bins depend on the whole trace."""
        return self.range == "trace" and not self.edges

    @property
    def estimand(self) -> str:
        """Axis text of T: its bins."""
        over = " over the trace" if self.range == "trace" else ""
        return f"T in {self.bins} quantile bins{over}"

    def bind(self, context: LayerContext) -> AdaptiveBinning:
        """This binning with its edges settled, if they are those of the trace.

        Raises:
            InvalidInput: If they are and the context has no values of the trace.
        """
        if not self.needs_trace:
            return self
        values = trace_values("AdaptiveBinning", context)
        edges = quantile_edges(values.flatten(), self.bins).tolist()
        return dataclasses.replace(self, edges=tuple(edges))

    def _discretise(self, value: Tensor, *, labels: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
        if self.needs_trace:
            raise InvalidInput(
                "AdaptiveBinning(range='trace') has no trace yet; bind() it to a layer first"
            )
        if labels:
            return row_ids(label_bins(value, self.bins)), {}
        if self.edges:
            edges = value.new_tensor(self.edges)
        else:
            edges = quantile_edges(value.flatten(-2), self.bins)
        low, high = value.amin((-2, -1)), value.amax((-2, -1))
        starts = edges.diff(dim=-1).ne(0).sum(-1) + 1 - (high < edges[..., -1]).to(torch.int64)
        return row_ids(digitise(value, edges)), {"value_bins": starts + (low < edges[..., 0])}

    def _report(
        self, measured: Sequence[Symbols]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        none = torch.zeros((), dtype=torch.int64, device=measured[0].ids.device)
        value_bins = largest([symbol.figures.get("value_bins", none) for symbol in measured])
        occupied = largest([symbol.number for symbol in measured])
        return {}, {"occupied_bins": occupied, "value_bins": value_bins}
