"""The noise of the gradient of one sample, for several lenses."""

from __future__ import annotations

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._curvature import device_of, parameters_of, product_of
from ibtrace.numerics.flat import flattened
from ibtrace.numerics.spectra import mean_and_error, rademacher
from ibtrace.types import View

_NUMBERS = 5_000_000  # samples by parameters of one network's gradients
_LEAST = 32


def thinned_for_gradients(view: View, samples: int, seed: int, who: str) -> View:
    """The networks on so many samples that each one's gradient can be held in memory.

    Args:
        view: The networks.
        samples: At most so many.
        seed: Draws them.
        who: The lens, for the error.

    Raises:
        Unsupported: If these would be too few to tell a spread by.
    """
    count = parameters_of(view)
    most = min(samples, _NUMBERS // count)
    if most < min(_LEAST, view.samples):
        raise Unsupported(
            f"{who}: the gradient of each sample of a network of {count} parameters takes too "
            f"much memory; {_NUMBERS // _LEAST} parameters at most"
        )
    return view.thinned(most, seed)


def curvature_of_noise(view: View, exact: int, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """tr(HΣ) and its standard error, ``(s,)``: Σ the covariance of the samples' gradients.

    Args:
        view: The networks.
        exact: Up to so many parameters by the Hessian as a matrix, without error (NaN).
        draws: Of random combinations of the samples, which have the covariance Σ.
        seed: Draws them.
    """

    def compute() -> tuple[Tensor, Tensor]:
        gradients = flattened(view.sample_gradients, leading=2)
        moved = (gradients - gradients.mean(1, keepdim=True)).double()  # (s, n, P)
        freedom = moved.shape[1] - 1
        if parameters_of(view) <= exact:
            bent = moved @ view.hessian.double()
            value = (bent * moved).sum((1, 2)) / freedom
            return value, torch.full_like(value, torch.nan)
        product = product_of(view)
        signs = rademacher(draws, moved.shape[1], seed).to(device_of(view))
        vectors = torch.einsum("kn,snp->ksp", signs, moved) / freedom**0.5
        return mean_and_error(torch.stack([(v * product(v)).sum(1) for v in vectors]))

    return view.once(("tr(HΣ)", exact, draws, seed), compute)
