"""EffectiveDimension: how many parameters the training samples determine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses._training import training_view
from ibtrace.numerics.flat import flattened
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

COUNT = Quantity("effective dimension", "parameters", per="network")
_MOST = 1000  # parameters


@dataclass(frozen=True)
class EffectiveDimension:
    r"""The effective number of parameters, by the generalised Gauss-Newton matrix.

    With λ the eigenvalues of G = E Jᵀ (diag p - p pᵀ) J, J the logits' derivatives in the
    parameters and p the class probabilities, over the n training samples:

    .. math:: N_\mathrm{eff}(z) = \sum \frac{λ}{λ + z}

    (MacKay 1992; Maddox et al. 2020): directions that curve more than z count. By default z is
    ln n / n, the scale of the local learning coefficient, of which N_eff / 2 is then the value for
    a quadratic loss.

    Args:
        z: What a direction has to curve; None: ln n / n.

    Raises:
        Unsupported: When called, if the network has more than 1000 parameters, or no classes.
        ConfigError: If ``z`` is not above 0.

    Example:
        >>> EffectiveDimension(z=0.1).z
        0.1
    """

    z: float | None = None

    tags: ClassVar[LensTags] = LensTags(
        quantities=(COUNT,),
        reference="MacKay 1992, Bayesian Interpolation; Maddox, Benton & Wilson 2020, Rethinking "
        "Parameter Counting in Deep Models",
        needs=frozenset({"jacobian", "training"}),
        cost="O(N k P² + P³) time and N k P memory, k logits",
        caveats="of cross-entropy; a softer network (larger loss) has more curvature everywhere",
        looks=8,
    )

    def __post_init__(self) -> None:
        if self.z is not None and not (
            isinstance(self.z, (int, float)) and not isinstance(self.z, bool) and self.z > 0
        ):
            raise ConfigError(f"EffectiveDimension: z must be above 0, got {self.z!r}")

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """The effective dimension; see `ibtrace.types.Lens`."""
        count = sum(value[0].numel() for value in view.parameters.values())
        if count > _MOST:
            raise Unsupported(f"the effective dimension is of {_MOST} parameters at most: {count}")
        seen, flags = training_view(view)
        if seen.logits.dim() != 3 or seen.logits.shape[-1] < 2:
            raise Unsupported("the effective dimension is of classes, one a sample")
        z = math.log(seen.samples) / seen.samples if self.z is None else float(self.z)
        p = seen.logits.double().softmax(-1)
        jacobian = flattened(seen.jacobian, leading=3).double()  # (s, n, k, P)
        # diag p - p pᵀ = R Rᵀ with R = (I - p 1ᵀ) diag √p
        weighted = p.sqrt()[..., None] * (jacobian - (p[..., None] * jacobian).sum(2, keepdim=True))
        rows = weighted.flatten(1, 2)
        values = torch.linalg.eigvalsh(rows.mT @ rows / seen.samples).clamp(min=0)
        diagnostics = {"z": torch.tensor(z), "samples": torch.tensor(seen.samples)}
        number = (values / (values + z)).sum(1)
        reading = Reading(number, COUNT.unit, flags=flags, diagnostics=diagnostics)
        return {COUNT.name: {"": reading}}
