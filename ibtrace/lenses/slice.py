"""Slice: the loss on lines through the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.lenses._curvature import together
from ibtrace.lenses._training import training_view
from ibtrace.lenses._variants import frozen_since, mean_loss, of_variants
from ibtrace.numerics.flat import flattened
from ibtrace.numerics.landscape import barrier, between, filter_normalised
from ibtrace.numerics.spectra import mean_and_error
from ibtrace.runtime.arguments import shown, whole
from ibtrace.types import LOSS, LensTags, ProbeLike, Quantity, Reading, View

RISE = Quantity("slice rise", LOSS, per="network")
BUMP = Quantity("barrier from the start", LOSS, per="network")


@dataclass(frozen=True)
class Slice:
    r"""The training loss along random directions, and along the line from the initial weights.

    - slice rise: :math:`\tfrac12 [L(w + rd) + L(w - rd)] - L(w)`, mean over random directions d
      with the standard error over them. A direction is filter-normalised: each row of weights is
      as long as the network's own, and biases are left alone, so that a network of larger weights
      is not called flatter. The diagnostics ``loss at -1.0`` … are the mean loss at
      multiples of d from -2r to 2r;
    - barrier from the start: by how much the loss on the straight line from the initial weights
      to these rises above the line between the two losses; 0 if it never does. The diagnostic
      ``alpha`` is where. The line is of the weights that are trained now; where others have moved
      since and are frozen, it does not begin at the initial network: ``frozen_since``.

    Args:
        radius: r, in lengths of the weights.
        directions: How many.
        points: Of the line from the start.
        samples: More training samples than this are thinned by the seed.

    Raises:
        ConfigError: If ``radius`` is no number above 0, or another no whole number
            (``directions`` at least 2, ``points`` at least 3, ``samples`` at least 1).

    Example:
        >>> Slice(radius=0.1).tags.quantities[0].name
        'slice rise'
    """

    radius: float = 0.5
    directions: int = 5
    points: int = 25
    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(RISE, BUMP),
        reference="Li et al. 2018, Visualizing the Loss Landscape of Neural Nets; Goodfellow, "
        "Vinyals & Saxe 2015, Qualitatively characterizing neural network optimization problems",
        needs=frozenset({"loss", "training", "initial"}),
        cost="46 passes over N samples; memory 25 P",
        caveats="few of P dimensions: what rises elsewhere is not seen; biases made rows of their "
        "own, or batch normalisation, change the numbers",
        looks=20,
    )

    def __post_init__(self) -> None:
        radius = self.radius
        if isinstance(radius, bool) or not isinstance(radius, (int, float)):
            raise ConfigError(f"Slice: radius must be a number, got {shown(radius)}")
        if not 0 < radius < float("inf"):
            raise ConfigError(f"Slice: radius must be above 0, got {shown(radius)}")
        for name, least in (("directions", 2), ("points", 3), ("samples", 1)):
            number = whole(f"Slice: {name}", getattr(self, name), least=least)
            object.__setattr__(self, name, number)

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """Both quantities; see `ibtrace.types.Lens`."""
        training, flags = training_view(view)
        seen = training.thinned(self.samples, seed)
        own = flattened(seen.parameters).double()
        here = mean_loss(seen)
        at = [share * self.radius for share in (-2, -1, -0.5, 0.5, 1, 2)]
        lines = torch.stack(
            [self._line(seen, own, directions, at) for directions in self._directions(seen, seed)]
        )  # (directions, points, s)
        rise, error = mean_and_error((lines[:, 1] + lines[:, 4]) / 2 - here)
        start = flattened(view.initial.parameters).double()
        values = of_variants(seen, between(start, own, self.points), mean_loss)
        bump, alpha = barrier(values)
        profile = {f"loss at {a:.3g}": mean for a, mean in zip(at, lines.mean(0), strict=True)}
        lost = {"not_finite": ~torch.stack([rise, bump]).isfinite().all(0)}
        read = {
            RISE.name: Reading(rise, LOSS, stderr=error, flags=lost, diagnostics=profile),
            BUMP.name: Reading(
                bump,
                LOSS,
                flags={**lost, "frozen_since": frozen_since(view, view.initial)},
                diagnostics={"alpha": alpha},
            ),
        }
        return together(read, seen, flags)

    def _line(self, view: View, own: Tensor, direction: Tensor, at: list[float]) -> Tensor:
        """The loss at these multiples of a direction ``(s, P)``, ``(points, s)``."""
        return of_variants(view, torch.stack([own + a * direction for a in at]), mean_loss)

    def _directions(self, view: View, seed: int) -> list[Tensor]:
        """Filter-normalised directions, each ``(s, P)``, drawn alike for all networks."""
        generator = torch.Generator().manual_seed(seed)
        made = []
        for _ in range(self.directions):
            parts = {}
            for name, value in view.parameters.items():
                drawn = torch.randn(value.shape[1:], generator=generator, dtype=torch.float64)
                weights = value.double()
                parts[name] = torch.stack(
                    [filter_normalised(drawn.to(weights.device), weight) for weight in weights]
                )
            made.append(flattened(parts))
        return made
