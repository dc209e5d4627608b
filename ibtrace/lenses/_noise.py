"""The noise of the gradient of one sample, for several lenses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._curvature import device_of, parameters_of, product_of
from ibtrace.numerics.flat import flattened
from ibtrace.numerics.spectra import Product, mean_and_error, rademacher
from ibtrace.types import View

_NUMBERS = 5_000_000  # samples by parameters of one network's gradients
_LEAST = 32


@dataclass(frozen=True, eq=False)
class Noise:
    """Σ, the covariance (with n - 1) of the gradients of all n training samples.

    The mean gradient g is that of all of them. Σ is theirs where all gradients fit in memory; else
    an unbiased estimate by some samples, with its error over their draw.

    Args:
        training: The networks on all n samples.
        held: On those whose own gradients are held in memory.
        samples: H is of the mean loss of at most so many in all.
        seed: Draws these, and combinations of the held.
    """

    training: View
    held: View
    samples: int
    seed: int

    @classmethod
    def of(cls, training: View, samples: int, seed: int, who: str) -> Noise:
        """The noise of these networks.

        Args:
            training: On all training samples.
            samples: H and Σ are of at most so many; Σ of so many that the gradients fit in memory.
            seed: Draws them.
            who: The lens, for the error.

        Raises:
            Unsupported: If these would be too few to tell a spread by.
        """
        count = parameters_of(training)
        most = min(samples, _NUMBERS // count)
        if most < min(_LEAST, training.samples):
            raise Unsupported(
                f"{who}: the gradient of each sample of a network of {count} parameters takes too "
                f"much memory; {_NUMBERS // _LEAST} parameters at most"
            )
        return cls(training, training.thinned(most, seed), samples, seed)

    @property
    def whole(self) -> bool:
        """Whether Σ is computed of all training samples."""
        return self.held.samples == self.training.samples

    @property
    def mean(self) -> Tensor:
        """The gradient g of all training samples, float64 ``(s, P)``."""
        return flattened(self.training.gradient).double()

    def squares(self) -> Mapping[str, Tensor]:
        """What each held sample says of tr Σ of each parameter, float64 ``{name: (s, m)}``."""
        return {
            name: (of_samples.double() - self.training.gradient[name].double()[:, None])
            .square()
            .reshape(*of_samples.shape[:2], -1)
            .sum(-1)
            * self._freedom
            for name, of_samples in self.held.sample_gradients.items()
        }

    def averaged(self, of_samples: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over the held samples ``(s, m)``, and its error; NaN where these are all."""
        value = of_samples.mean(1)
        if self.whole:
            return value, torch.full_like(value, torch.nan)
        left_out = 1 - self.held.samples / self.training.samples
        return value, of_samples.std(1) * (left_out / self.held.samples) ** 0.5

    def bent(self, exact: int, draws: int) -> tuple[Tensor, Tensor]:
        """tr(HΣ) and its standard error, ``(s,)``.

        Args:
            exact: Up to so many parameters by the Hessian as a matrix, if H is of all samples; if Σ
                is, too, without error (NaN).
            draws: Of random combinations of the samples, which have the covariance Σ. Where Σ is an
                estimate, each is of held samples of its own, and with H of samples of its own where
                it is not of all, so that the error is over all that is drawn.
        """

        def compute() -> tuple[Tensor, Tensor]:
            gradients = flattened(self.held.sample_gradients, leading=2)
            moved = (gradients.double() - self.mean[:, None]) * self._freedom**0.5  # (s, m, P)
            view = self.training
            if parameters_of(view) <= exact and view.samples <= self.samples:
                bent: Tensor = moved @ view.hessian.double()
                return self.averaged((bent * moved).sum(2))
            mixing = self._mixing(draws).to(device_of(view))
            vectors = torch.einsum("kn,snp->ksp", mixing, moved)
            each = [(v * self._curved(k, draws)(v)).sum(1) for k, v in enumerate(vectors)]
            return mean_and_error(torch.stack(each))

        key = "tr(HΣ)", exact, draws, self.seed, self.samples, self.held.samples
        return self.training.once(key, compute)

    def _curved(self, draw: int, draws: int) -> Product:
        """The Hessian for a draw: of all samples, or of others for each draw."""
        view = self.training
        if view.samples > self.samples:
            view = view.thinned(max(self.samples // draws, _LEAST), self.seed + 1 + draw)
        return product_of(view)

    def _mixing(self, draws: int) -> Tensor:
        """Weights of combinations of the held samples, of random signs, ``(k, m)``."""
        count = self.held.samples
        if self.whole:
            every: Tensor = rademacher(draws, count, self.seed) / count**0.5
            return every
        generator = torch.Generator().manual_seed(self.seed)
        signs = rademacher(1, count, self.seed)[0]
        blocks = torch.randperm(count, generator=generator).tensor_split(min(draws, count))
        weights = torch.zeros(len(blocks), count, dtype=torch.float64)
        for weight, block in zip(weights, blocks, strict=True):
            weight[block] = signs[block] / len(block) ** 0.5
        return weights

    @property
    def _freedom(self) -> float:
        """The factor n / (n - 1): deviations are from the mean of all n."""
        return self.training.samples / (self.training.samples - 1)
