"""EffectiveDimension: how many parameters the training samples determine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses._curvature import eigenvalues, parameters_of, together, without_loss
from ibtrace.lenses._training import training_view
from ibtrace.numerics.flat import flattened
from ibtrace.runtime.arguments import shown, whole
from ibtrace.types import LensTags, Need, ProbeLike, Quantity, Reading, View

Matrix = Literal["gauss_newton", "hessian"]

COUNT = Quantity("effective dimension", "parameters", per="network")
OF_HESSIAN = Quantity("effective dimension of the Hessian", "parameters", per="network")

_MOST = 1000  # parameters


@dataclass(frozen=True)
class EffectiveDimension:
    r"""The effective number of parameters, by the generalised Gauss-Newton matrix.

    With λ the eigenvalues of G = E Jᵀ (diag p - p pᵀ) J, J the logits' derivatives in the
    parameters and p the class probabilities, over the n training samples:

    .. math:: N_\mathrm{eff}(z) = \sum \frac{λ}{λ + z}

    (MacKay 1992; Maddox et al. 2020): directions that curve more than z count. By default z is
    ln n / n, the scale of the local learning coefficient, of which N_eff / 2 is then the value for
    a quadratic loss; a weight decay is another choice.

    ``of="hessian"`` takes the positive eigenvalues of the Hessian of the mean loss, which is not
    the same away from a minimum; how many are negative is a diagnostic.

    G is that of the cross-entropy: where the loss is another, or not known by name, that is flagged
    ``other_loss``.

    Args:
        z: What a direction has to curve; None: ln n / n.
        of: ``"gauss_newton"`` or ``"hessian"``.
        samples: More training samples than this are thinned by the seed; z is of all.

    Raises:
        Unsupported: When called, if the network has more than 1000 parameters, or no classes.
        ConfigError: If ``z`` is not above 0, ``of`` no matrix or ``samples`` none above 1.

    Example:
        >>> EffectiveDimension(z=0.1).z
        0.1
    """

    z: float | None = None
    of: Matrix = "gauss_newton"
    samples: int = 5000

    @property
    def tags(self) -> LensTags:
        """What it measures, by its matrix."""
        exact = self.of == "hessian"
        needs: set[Need] = {"training", "hessian", "loss"} if exact else {"training", "jacobian"}
        return LensTags(
            quantities=(OF_HESSIAN if exact else COUNT,),
            reference="MacKay 1992, Bayesian Interpolation; Maddox, Benton & Wilson 2020, "
            "Rethinking Parameter Counting in Deep Models",
            needs=frozenset(needs),
            cost="P products with the Hessian and O(P³)"
            if exact
            else "O(N k P² + P³) time and N k P memory, k logits",
            caveats="a softer network (larger loss) has more curvature everywhere",
            looks=50 if exact else 8,
        )

    def __post_init__(self) -> None:
        if self.z is not None and not (
            isinstance(self.z, (int, float))
            and not isinstance(self.z, bool)
            and 0 < self.z < float("inf")
        ):
            raise ConfigError(f"EffectiveDimension: z must be above 0, got {shown(self.z)}")
        if self.of not in get_args(Matrix):
            raise ConfigError(
                f"EffectiveDimension: of must be 'gauss_newton' or 'hessian', got {shown(self.of)}"
            )
        count = whole("EffectiveDimension: samples", self.samples, least=2)
        object.__setattr__(self, "samples", count)

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """The effective dimension; see `ibtrace.types.Lens`."""
        if (count := parameters_of(view)) > _MOST:
            raise Unsupported(f"the effective dimension is of {_MOST} parameters at most: {count}")
        training, flags = training_view(view)
        n, seen = training.samples, training.thinned(self.samples, seed)
        z = math.log(n) / n if self.z is None else float(self.z)
        diagnostics = {"z": torch.tensor(z, dtype=torch.float64)}
        if self.of == "hessian":
            values = eigenvalues(seen.hessian.double())
            diagnostics["negative"] = (values < 0).sum(1)
        else:
            values = eigenvalues(_gauss_newton(seen))
            other = torch.full((len(values),), view.loss_unit != "nats")
            flags = {**flags, "other_loss": other}
        positive = values.clamp(min=0)
        number = (positive / (positive + z)).sum(1)
        if self.of == "hessian":
            number = number.masked_fill(without_loss(seen), torch.nan)
        flags = {**flags, "not_finite": number.isnan()}
        reading = Reading(number, COUNT.unit, diagnostics=diagnostics)
        return together({self.tags.quantities[0].name: reading}, seen, flags)


def _gauss_newton(view: View) -> Tensor:
    """G of the mean cross-entropy, ``(s, P, P)``."""
    if view.logits.dim() != 3 or view.logits.shape[-1] < 2:
        raise Unsupported("the effective dimension is of classes, one a sample")
    p = view.logits.double().softmax(-1)
    jacobian = flattened(view.jacobian, leading=3).double()  # (s, n, k, P)
    # diag p - p pᵀ = R Rᵀ with R = (I - p 1ᵀ) diag √p
    weighted = p.sqrt()[..., None] * (jacobian - (p[..., None] * jacobian).sum(2, keepdim=True))
    rows = weighted.flatten(1, 2)
    return rows.mT @ rows / view.samples
