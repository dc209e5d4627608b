"""GradientNoise: how much the gradients of the samples differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.lenses._curvature import product_of, together, without_loss
from ibtrace.lenses._noise import Noise
from ibtrace.lenses._training import training_view
from ibtrace.lenses.readings import modules_of
from ibtrace.numerics.flat import flattened
from ibtrace.runtime.arguments import whole
from ibtrace.types import LOSS, LensTags, ProbeLike, Quantity, Reading, View

VARIANCE = Quantity("gradient variance", f"{LOSS}²", per="network")
SQUARE = Quantity("squared gradient norm", f"{LOSS}²", per="network")
SCALE = Quantity("gradient noise scale", "samples", per="network")
BENT = Quantity("curvature noise scale", "samples", per="network")
MEAN = Quantity("gradient mean over weights", LOSS)
SPREAD = Quantity("gradient spread over weights", LOSS)
SNR = Quantity("gradient SNR", "1")


@dataclass(frozen=True)
class GradientNoise:
    r"""The spread of the gradients of the training samples, at the network as it stands.

    With g the mean gradient over n samples, Σ the covariance of a sample's gradient (with
    n - 1) and H the Hessian, of the network as a whole:

    - gradient variance tr Σ, and squared gradient norm ‖g‖²;
    - gradient noise scale :math:`B = \text{tr} Σ / (‖g‖^2 - \text{tr} Σ / n)`, the batch at which
      noise and gradient are equally long; ‖g‖² alone is too large by tr Σ / n on average. Where
      the difference is not positive B is NaN, flagged ``lost_in_noise``. The diagnostic
      ``uncorrected`` is tr Σ / ‖g‖²;
    - curvature noise scale :math:`\text{tr}(HΣ) / g^\top H g`, the same for the change of the
      loss at second order; where gᵀHg is not positive it is no scale, flagged ``curves_down``;

    and of each module with parameters w, whose part of g is μ and of Σ is Σ:

    - gradient mean over weights ‖μ‖/‖w‖ and gradient spread over weights √trΣ/‖w‖;
    - gradient SNR :math:`‖μ‖ / \sqrt{\text{tr} Σ / b}`, b the samples of a training step, a
      diagnostic; where it is not known, b is 1, flagged ``batch_unknown``. Its fall is the "drift
      to diffusion" of Shwartz-Ziv & Tishby, who took means over minibatches while the weights
      moved; here the weights stand still.

    Args:
        exact: The most parameters of a network whose tr(HΣ) is computed by the Hessian as a
            matrix, without error and dearer; 0: always from ``draws``.
        draws: Random combinations of the samples' gradients for tr(HΣ), which give its error.
        samples: g and gᵀHg are of all n training samples. Where these are more than this, H in
            tr(HΣ) is of so many, drawn by the seed; and Σ is an unbiased estimate by so many, or by
            fewer where samples times parameters are above 5 million. The diagnostic ``gradients``
            says by how many, and what is made of them has an error over their draw.

    Raises:
        ConfigError: If a number is no whole number above 0 (``draws`` above 1).
        Unsupported: When called, if a network has more than 150 000 parameters.

    Example:
        >>> GradientNoise().tags.quantities[2]
        Quantity(name='gradient noise scale', unit='samples', per='network')
    """

    exact: int = 0
    draws: int = 20
    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(VARIANCE, SQUARE, SCALE, BENT, MEAN, SPREAD, SNR),
        reference="McCandlish et al. 2018, An Empirical Model of Large-Batch Training; Shwartz-Ziv "
        "& Tishby 2017, Opening the Black Box of Deep Neural Networks via Information",
        needs=frozenset({"loss", "gradient", "hessian", "training"}),
        cost="a gradient of each of N samples, one of all, and 21 products with the Hessian; "
        "memory N P",
        caveats="weight decay and momentum are no part of it; networks with batch normalisation "
        "are read in eval mode",
        looks=5,
    )

    def __post_init__(self) -> None:
        for name, least in (("exact", 0), ("draws", 2), ("samples", 2)):
            number = whole(f"GradientNoise: {name}", getattr(self, name), least=least)
            object.__setattr__(self, name, number)

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        training, flags = training_view(view)
        noise = Noise.of(training, self.samples, seed, "GradientNoise")
        squares = noise.squares()
        read = self._of_networks(noise, torch.stack([*squares.values()]).sum(0))
        of_networks = together(read, training, flags, of_loss=True)
        return {**of_networks, **_of_modules(noise, squares, flags)}

    def _of_networks(self, noise: Noise, squares: Tensor) -> dict[str, Reading]:
        mean, (variance, doubt) = noise.mean, noise.averaged(squares)
        square = mean.square().sum(1)
        unbiased = square - variance / noise.training.samples
        lost = unbiased <= 0
        bent, error = noise.bent(self.exact, self.draws)
        along = (mean * product_of(noise.training)(mean)).sum(1)
        known = {"gradients": torch.tensor(noise.held.samples)}
        return {
            VARIANCE.name: Reading(variance, VARIANCE.unit, doubt, diagnostics=known),
            SQUARE.name: Reading(square, SQUARE.unit),
            SCALE.name: Reading(
                torch.where(lost, torch.nan, variance / unbiased),
                SCALE.unit,
                doubt * square / unbiased.square(),
                flags={"lost_in_noise": lost},
                diagnostics={"uncorrected": variance / square, **known},
            ),
            BENT.name: Reading(
                bent / along,
                BENT.unit,
                stderr=error / along.abs(),
                flags={"curves_down": along <= 0},
                diagnostics=known,
            ),
        }


def _of_modules(
    noise: Noise, squares: Mapping[str, Tensor], flags: Mapping[str, Tensor]
) -> dict[str, dict[str, Reading]]:
    read: dict[str, dict[str, Reading]] = {q.name: {} for q in (MEAN, SPREAD, SNR)}
    view, gradient = noise.training, noise.training.gradient
    batch = view.batch_size
    counts = {"samples": torch.tensor(view.samples)}
    lossless = without_loss(view)
    drawn = {**counts, "gradients": torch.tensor(noise.held.samples)}
    for module, names in modules_of(view).items():
        size = flattened({n: view.parameters[n] for n in names}).double().norm(dim=1)
        mean = flattened({n: gradient[n] for n in names}).double().norm(dim=1)
        mean = mean.masked_fill(lossless, torch.nan)
        variance, doubt = noise.averaged(torch.stack([squares[name] for name in names]).sum(0))
        variance = variance.masked_fill(lossless, torch.nan)
        spread, share = variance.sqrt(), doubt / variance / 2  # of the error of a root
        finite = size.isfinite() & (mean.isfinite() | lossless)
        marks = {**flags, "diverged": ~finite, "not_finite": lossless}
        by_size = {**marks, "no_weights": size == 0}
        by_noise = {
            **marks,
            "no_noise": spread == 0,
            "batch_unknown": torch.full_like(finite, batch is None),
        }
        known = {**drawn, "batch": torch.tensor(batch or 1)}
        snr = mean / spread * (batch or 1) ** 0.5
        wide = spread / size
        read[MEAN.name][module] = Reading(mean / size, LOSS, flags=by_size, diagnostics=counts)
        read[SPREAD.name][module] = Reading(
            wide, LOSS, share * wide, flags=by_size, diagnostics=drawn
        )
        read[SNR.name][module] = Reading(snr, "1", share * snr, flags=by_noise, diagnostics=known)
    return read
