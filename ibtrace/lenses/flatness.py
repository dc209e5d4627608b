"""Flatness: how much noise the weights bear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.lenses._classes import error_rate, require_decisions
from ibtrace.lenses._curvature import parameters_of, together
from ibtrace.lenses._training import training_view
from ibtrace.lenses._variants import mean_loss, of_variants
from ibtrace.numerics.flat import flattened
from ibtrace.numerics.spectra import mean_and_error
from ibtrace.runtime.arguments import shown, whole
from ibtrace.types import LensTags, Need, ProbeLike, Quantity, Reading, View

Criterion = Literal["loss", "error"]

BY_LOSS = Quantity("flatness", "1", per="network")
BY_ERROR = Quantity("flatness by error", "1", per="network")

_GRID = tuple(2.0**power for power in range(-13, 4))
_HALVINGS = 10  # of the interval between two σ of the grid
_STEP = 0.05  # of σ, to either side, for the slope


@dataclass(frozen=True)
class Flatness:
    r"""The largest noise on the weights that costs no more than a limit.

    .. math:: \sigma^* = \max \{ \sigma :
              \mathbb E_{ε \sim N(0, I)} L(w + σ ε) - L(w) \le \text{limit} \}

    over the training samples: L is the mean loss, or the error rate with ``by="error"`` (Jiang et
    al. 2020). σ is looked for among powers of 2 from 2⁻¹³ to 8, and then between the largest one
    that is within the limit and the next. ε and -ε are drawn together, the same ones for every σ
    and network, so that the slope of the loss at w cancels. The standard error is that of the mean
    over pairs, by the slope of the mean in σ.

    σ is in the unit of the weights: a network with larger weights bears more, of the same
    function too (rescaled ReLU layers).

    Flags: ``beyond`` where the largest σ is within the limit, which is then given as the value
    (an untrained network has nothing to lose); ``below`` where the smallest is not, and the
    value NaN; ``not_monotone`` where a smaller σ of the grid costs more than the limit.

    Args:
        limit: In the unit of the loss, or a share of the samples by error.
        by: ``"loss"`` or ``"error"``.
        draws: Pairs ε, -ε.
        samples: More training samples than this are thinned by the seed.

    Raises:
        ConfigError: If ``limit`` is not above 0, ``by`` no criterion, ``draws`` no whole number
            above 1 or ``samples`` none above 0.
        Unsupported: When called by error, if the networks give no class to each sample.

    Example:
        >>> Flatness(by="error").tags.quantities[0].name
        'flatness by error'
    """

    limit: float = 0.1
    by: Criterion = "loss"
    draws: int = 10
    samples: int = 1000

    @property
    def tags(self) -> LensTags:
        """What it measures, by its criterion."""
        needs: set[Need] = {"training", "loss"} if self.by == "loss" else {"training"}
        return LensTags(
            quantities=(BY_LOSS if self.by == "loss" else BY_ERROR,),
            reference="Neyshabur et al. 2017, Exploring Generalization in Deep Learning; Jiang et "
            "al. 2020, Fantastic Generalization Measures and Where to Find Them",
            needs=frozenset(needs),
            cost="29 passes over N samples for each of 20 draws; memory 20 P",
            caveats="in the unit of the weights, which a rescaled network of the same function "
            "changes; of the loss, larger logits bear less",
            looks=50,
        )

    def __post_init__(self) -> None:
        limit = self.limit
        numeric = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if not numeric or not 0 < limit < float("inf"):
            raise ConfigError(f"Flatness: limit must be a number above 0, got {shown(limit)}")
        if self.by not in get_args(Criterion):
            raise ConfigError(f"Flatness: by must be 'loss' or 'error', got {shown(self.by)}")
        for name, least in (("draws", 2), ("samples", 1)):
            count = whole(f"Flatness: {name}", getattr(self, name), least=least)
            object.__setattr__(self, name, count)

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """The largest σ; see `ibtrace.types.Lens`."""
        training, flags = training_view(view)
        seen = training.thinned(self.samples, seed)
        rise = self._rise(seen, seed)
        like = flattened(seen.parameters).double()[:, 0]
        grid = torch.tensor(_GRID, dtype=torch.float64, device=like.device)
        costs = torch.stack([rise(sigma.expand_as(like)).mean(0) for sigma in grid])  # (grid, s)
        within = costs <= self.limit
        places = torch.arange(len(grid), device=like.device)[:, None]
        last = torch.where(within, places, -1).amax(0)
        below, beyond = last < 0, last == len(grid) - 1
        last = last.clamp(0, len(grid) - 2)
        sigma = self._between(rise, grid[last], grid[last + 1], costs, last)
        mean, doubt = mean_and_error(rise(sigma))
        apart = rise(sigma * (1 + _STEP)).mean(0) - rise(sigma * (1 - _STEP)).mean(0)
        slope = apart / (2 * _STEP * sigma)
        error = torch.where((slope > 0) & ~beyond & ~below, doubt / slope, torch.nan)
        sigma = torch.where(beyond, grid[-1], sigma.masked_fill(below, torch.nan))
        reading = Reading(
            sigma,
            "1",
            stderr=error,
            flags={
                "beyond": beyond,
                "below": below,
                "not_monotone": (~within & (places < last)).any(0) & ~below,
            },
            diagnostics={"rise": mean},
        )
        return together({self.tags.quantities[0].name: reading}, seen, flags)

    def _rise(self, view: View, seed: int) -> Callable[[Tensor], Tensor]:
        """What noise of scale σ ``(s,)`` costs each network, by pairs of draws ``(draws, s)``."""
        if self.by == "error":
            require_decisions(view, "Flatness by error")
        measure = mean_loss if self.by == "loss" else error_rate
        own, here = flattened(view.parameters).double(), measure(view)
        generator = torch.Generator().manual_seed(seed)
        shape = self.draws, 1, parameters_of(view)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(own.device)

        def rise(sigma: Tensor) -> Tensor:
            moved = sigma[:, None] * noise
            both = torch.cat([own + moved, own - moved])
            costs = of_variants(view, both, measure) - here
            return costs.view(2, self.draws, -1).mean(0)

        return rise

    def _between(
        self,
        rise: Callable[[Tensor], Tensor],
        low: Tensor,
        high: Tensor,
        costs: Tensor,
        last: Tensor,
    ) -> Tensor:
        """Where the mean cost is the limit, between two σ ``(s,)``: halved, then interpolated."""
        at_low, at_high = costs.gather(0, torch.stack([last, last + 1]))
        for _ in range(_HALVINGS):
            middle = (low * high).sqrt()
            cost = rise(middle).mean(0)
            within = cost <= self.limit
            low, at_low = torch.where(within, middle, low), torch.where(within, cost, at_low)
            high, at_high = torch.where(within, high, middle), torch.where(within, at_high, cost)
        share = ((self.limit - at_low) / (at_high - at_low)).nan_to_num(0.0).clamp(0, 1)
        sigma: Tensor = low * (high / low) ** share
        return sigma
