"""PACBayes: a bound on the error of the network with noise on its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses._classes import error_rate, require_decisions
from ibtrace.lenses._curvature import parameters_of, together
from ibtrace.lenses._variants import of_variants, outputs_differ
from ibtrace.numerics.flat import flattened
from ibtrace.numerics.pac_bayes import gaussian_kl, maurer, sampled
from ibtrace.numerics.spectra import mean_and_error
from ibtrace.runtime.arguments import is_alone, shown, whole
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

BOUND = Quantity("PAC-Bayes bound", "1", per="network")
GIBBS = Quantity("Gibbs error", "1", per="network")
KL = Quantity("KL to the prior", "nats", per="network")
SIGMA = Quantity("posterior scale", "1", per="network")

STATEMENT = (
    "With probability at least 0.95 over the training samples, drawn independently of the prior at "
    "random (with or without replacement) from the population, and over the draws of weights, the "
    "Gibbs classifier that draws its weights from N(w, σ²I) has error at most the PAC-Bayes bound. "
    "It is a statement of that classifier, not of the network itself, and of one look, not of all; "
    "compare with the error of the majority class, not with 1."
)
"""What a bound of this lens says, and must be printed with it."""

_FAILS, _DRAWS_FAIL = 0.04, 0.01  # δ of the bound and of the draws: 0.05 in all
_PILOT = 20  # draws of each σ, by which one is chosen
_BLOCK = 64
_ROUNDING = 1e-9  # of a bound


@dataclass(frozen=True)
class PACBayes:
    r"""A PAC-Bayesian bound on the error of the Gibbs classifier around the network.

    The prior is N(w₀, λ²I) at the initial weights, the posterior N(w, σ²I). With R̂ the error of
    the posterior's classifiers on the m training samples (the Gibbs error), with probability 0.95

    .. math:: R \le \text{kl}^{-1}\!\big(\hat R^+,
              (\text{KL} + \ln(2 \sqrt m K / 0.04)) / m\big), \quad
              \hat R^+ = \text{kl}^{-1}(\bar R, \ln(2 / 0.01) / \text{draws})

    λ and σ are chosen of the K ``scales``, which are fixed in advance: the choice of λ costs ln K,
    that of σ nothing; σ is chosen by 20 draws for each, and R̄ is the mean of new draws. The
    Gibbs error has its standard error over the draws; the diagnostics have λ, m and ``majority``,
    the error of always saying the largest class. A bound at or above that is flagged
    ``vacuous``: as σ grows, the Gibbs classifier becomes a coin, and its bound that of a coin.

    `ibtrace.lenses.pac_bayes.STATEMENT` is what a bound says.

    Args:
        scales: λ and σ, standard deviations, fixed before the training is seen.
        draws: Of the chosen posterior.
        samples: More training samples than this are thinned by the seed: m is what is left.

    Raises:
        ConfigError: If ``scales`` are not different numbers above 0, ``draws`` no whole number
            above 1, or ``samples`` none above 0.
        Unsupported: When called, if the training samples are not known or were not drawn at
            random (``Recipe(random=False)``), the first look was not before the training, the
            networks have learned buffers (running means), or the labels are no classes of the
            logits.

    Example:
        >>> PACBayes().tags.quantities[0]
        Quantity(name='PAC-Bayes bound', unit='1', per='network')
    """

    scales: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    draws: int = 500
    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(BOUND, GIBBS, KL, SIGMA),
        reference="Langford & Seeger 2001, Bounds for averaging classifiers; Maurer 2004, A note "
        "on the PAC Bayesian theorem; Dziugaite & Roy 2017, Computing nonvacuous generalization "
        "bounds for deep (stochastic) neural networks with many more parameters than training data",
        needs=frozenset({"training", "initial"}),
        cost="640 passes over N samples; memory 64 P",
        caveats="of a random training set and a start that has not seen it: not of weights that "
        "were trained before on the same samples",
        looks=50,
        statement=STATEMENT,
    )

    def __post_init__(self) -> None:
        given = () if is_alone(self.scales) else tuple(self.scales)
        numbers = [v for v in given if isinstance(v, (int, float)) and not isinstance(v, bool)]
        right = [v for v in numbers if 0 < v < float("inf")]
        if not given or len({*right}) < len(given):
            raise ConfigError(
                f"PACBayes: scales must be different numbers above 0, got {shown(self.scales)}"
            )
        object.__setattr__(self, "scales", tuple(map(float, right)))
        for name, least in (("draws", 2), ("samples", 1)):
            number = whole(f"PACBayes: {name}", getattr(self, name), least=least)
            object.__setattr__(self, name, number)

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        seen = self._of_training(view, seed)
        start = view.initial
        if start.epoch != 0 or start.step not in (0, None):
            raise Unsupported(
                f"the first look was after {start.epoch} epochs of training: weights that have "
                "seen the samples are no prior; trace from the start"
            )
        moved = view.at(start.parameters).thinned(64, seed)
        if bool(outputs_differ(moved.logits, start.thinned(64, seed).logits).any()):
            raise Unsupported(
                "the networks have learned more than the weights that are trained now (buffers, "
                "such as the running means of batch normalisation, or weights that were frozen "
                "later): a prior on these weights alone has seen the samples"
            )
        own, before = (flattened(each.parameters).double() for each in (view, start))
        distance, count = (own - before).norm(dim=1), parameters_of(view)
        grid = torch.tensor(self.scales, dtype=torch.float64, device=own.device)
        every = gaussian_kl(distance[:, None, None], count, grid[:, None], grid)  # (s, σ, λ)
        cheapest = every.min(2)
        kl, prior = cheapest.values, grid[cheapest.indices]
        at = self._best(seen, own, kl, grid, seed)
        kl, prior = (value.gather(1, at[:, None])[:, 0] for value in (kl, prior))
        errors = _errors(seen, own, grid[at], self.draws, seed)
        gibbs, doubt = mean_and_error(errors)
        bound = self._bound(sampled(gibbs, self.draws, _DRAWS_FAIL), kl, seen.samples)
        majority = 1 - _largest_class(seen)
        marks = {"vacuous": bound >= majority, "not_finite": bound.isnan()}
        known = {"majority": majority, "prior scale": prior}
        read = {
            BOUND.name: Reading(bound, "1", flags=marks, diagnostics=known),
            GIBBS.name: Reading(gibbs, "1", stderr=doubt, flags={"not_finite": gibbs.isnan()}),
            KL.name: Reading(kl, "nats"),
            SIGMA.name: Reading(grid[at], "1"),
        }
        return together(read, seen, {})

    def _of_training(self, view: View, seed: int) -> View:
        training = view.training
        if training is None:
            raise Unsupported(
                "the training samples are not known, of which the bound is: give the tracer "
                "Recipe(data)"
            )
        if not view.random_split:
            raise Unsupported(
                "the training samples were not drawn at random from the population "
                "(Recipe(random=False)): there is no bound on what they say of it"
            )
        seen = training.thinned(self.samples, seed)
        require_decisions(seen, "PACBayes")
        return seen

    def _bound(self, error: Tensor, kl: Tensor, samples: int) -> Tensor:
        return maurer(error, kl, samples, _FAILS, len(self.scales))

    def _best(self, view: View, own: Tensor, kl: Tensor, grid: Tensor, seed: int) -> Tensor:
        """Which σ of the grid seems to have the least bound, ``(s,)``, by a few draws of each."""
        if len(grid) == 1:
            return torch.zeros(len(own), dtype=torch.long, device=own.device)
        pilot = [
            _errors(view, own, sigma.expand(len(own)), _PILOT, seed + 1).mean(0) for sigma in grid
        ]
        return first_least(self._bound(torch.stack(pilot, 1), kl, view.samples))


def first_least(bounds: Tensor) -> Tensor:
    """Where the least of each row ``(s, k)`` is, ``(s,)``; of equal ones the first.

    Bounds that differ by rounding are equal: before training those of many scales are one number,
    and which is least would depend on what else is computed with them.

    Example:
        >>> first_least(torch.tensor([[0.5, 0.2 + 1e-12, 0.2]], dtype=torch.float64))
        tensor([1])
    """
    return (bounds <= bounds.amin(1, keepdim=True) + _ROUNDING).int().argmax(1)


def _errors(view: View, own: Tensor, sigma: Tensor, draws: int, seed: int) -> Tensor:
    """The error rates of weights N(w, σ²), ``(draws, s)``; the same noise for all networks."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for start in range(0, draws, _BLOCK):
        count = min(_BLOCK, draws - start)
        noise = torch.randn(count, own.shape[1], generator=generator, dtype=torch.float64)
        variants = own + sigma[:, None] * noise[:, None].to(own.device)
        parts.append(of_variants(view, variants, error_rate))
    return torch.cat(parts)


def _largest_class(view: View) -> Tensor:
    """The share of the largest class in each network's samples, ``(s,)``."""
    shares = torch.nn.functional.one_hot(view.labels.long()).double().mean(1)
    return shares.amax(1)
