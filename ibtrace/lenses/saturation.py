"""Saturation: the activations near the ends of their range, and the units that are dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ibtrace.errors import ConfigError
from ibtrace.numerics.saturation import dead_share, near_ends
from ibtrace.runtime.fields import require_types
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

SATURATED = Quantity("saturated share", "1")
DEAD = Quantity("dead share", "1")


@dataclass(frozen=True)
class Saturation:
    r"""The shares of saturated activations and of dead units of each layer.

    Saturated share, of a layer whose nonlinearity lies between a and b, with m = (a + b) / 2 and
    r = (b - a) / 2, over the samples i of the probe and the units j:

    .. math:: \frac1{nd} \sum_{ij} [\, |t_{ij} - m| > \text{share} \cdot r \,]

    Its standard error is over the draw of the samples: the spread of the samples' own shares by
    √n. A layer without two ends (ReLU, linear) has none and is left out.

    Dead share: of the units, those that give one value for all samples.

    Binned I(X;T) of a saturating layer falls because its values gather in the outermost bins;
    this is the explanation of Saxe et al. (2018) that a compression phase has to be held against.

    Args:
        share: How near an end is, as a share of half the range, between 0 and 1.

    Raises:
        ConfigError: If ``share`` does not lie between 0 and 1.

    Example:
        >>> Saturation().tags.quantities[0]
        Quantity(name='saturated share', unit='1', per='layer')
    """

    share: float = 0.9

    tags: ClassVar[LensTags] = LensTags(
        quantities=(SATURATED, DEAD),
        reference="Saxe et al. 2018, On the Information Bottleneck Theory of Deep Learning",
        needs=frozenset({"activations"}),
        cost="O(N d) of each layer",
        caveats="of T as it is traced: an average over positions hides what each of them does; a "
        "unit that is dead on the probe may live elsewhere",
    )

    def __post_init__(self) -> None:
        require_types(self)
        if not 0 < self.share < 1:
            raise ConfigError(f"Saturation: share must lie between 0 and 1, got {self.share}")

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """Both shares of every layer that has them; see `ibtrace.types.Lens`."""
        saturated, dead = {}, {}
        for layer, t in view.activations.items():
            values = t.flatten(2) if t.dim() > 2 else t[..., None]  # (s, n, d)
            dead[layer] = Reading(dead_share(values), DEAD.unit)
            if (ends := view.activation_ranges.get(layer)) is not None:
                near = near_ends(values, *ends, self.share)
                error = near.std(1) / near.shape[1] ** 0.5
                samples = {"samples": torch.tensor(near.shape[1])}  # tokens, where T is one token
                saturated[layer] = Reading(
                    near.mean(1), SATURATED.unit, stderr=error, diagnostics=samples
                )
        return {SATURATED.name: saturated, DEAD.name: dead}
