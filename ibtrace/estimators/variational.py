"""Variational bounds with a trained critic: MINE, NWJ, InfoNCE, SMILE."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ibtrace.errors import ConfigError
from ibtrace.estimators._checks import checked
from ibtrace.estimators._fields import require_count
from ibtrace.estimators._inputs import check_pair, each_estimate, is_ids, mean_of
from ibtrace.estimators._mlp import descend, forward, mlp, parameters, trainable
from ibtrace.numerics import variational
from ibtrace.numerics.distances import is_constant, row_ids
from ibtrace.numerics.gaussian import copula_normal
from ibtrace.numerics.projections import content_order
from ibtrace.runtime.fields import require_types
from ibtrace.types import Estimate, Tags, label


class Progress(Protocol):
    """What is told of a training after each of its steps."""

    def __call__(self, step: int, steps: int, /) -> None:
        """So many of the most steps there may be are done."""
        ...


_BOUNDS = ("dv", "nwj", "infonce", "smile")
_REFERENCES = {
    "dv": "Belghazi et al. 2018, ICML",
    "nwj": "Nguyen, Wainwright & Jordan 2010, IEEE Trans. Inf. Theory 56",
    "infonce": "van den Oord, Li & Vinyals 2018, arXiv:1807.03748",
    "smile": "Song & Ermon 2020, ICLR",
}
_BIAS = {
    "dv": "up by the logarithm of a mean, much where information is high",
    "nwj": "scatters widely where information is high",
    "infonce": "at most log2 of the batch",
    "smile": "up or down by the clip",
}
_FEWEST = 20
_LARGEST_BLOCK = 2048  # samples whose pairs are scored together in the evaluation
_CHECK_EVERY, _PATIENCE = 20, 10


@checked
@dataclass(frozen=True)
class Variational:
    """A lower bound on I(X;Y) from a critic trained on one half and evaluated on the other.

    The critic f(x, y) = g(x) · h(y), two networks with ReLU units, scores pairs. With E over
    paired samples and E' over all other pairs, the bounds are, in nats here and in bits as given,

        dv       E f - log E' exp f               Donsker-Varadhan; MINE, Belghazi et al. 2018
        nwj      E f + 1 - E' exp f               Nguyen, Wainwright & Jordan 2010
        infonce  E [f - log 1/K Σ_j exp f_ij]     van den Oord et al. 2018; K is ``batch``
        smile    dv, f clipped to ±tau in E'      Song & Ermon 2020

    Each is trained on itself, SMILE on the Jensen-Shannon objective as in its paper. NWJ and
    InfoNCE are below I(X;Y) on average; DV too but for the logarithm of a mean, which makes it too
    large where it varies much (high information); SMILE is no bound. InfoNCE cannot exceed
    log2 K (diagnostic ``ceiling``; NaN for the others).

    Half of the samples train the critic: three fifths of them by gradients, in batches of
    ``batch``, and two fifths say every 20 steps how good it is. The best critic is kept,
    and training stops after 10 such checks without a better one or after ``steps``. The other
    half gives the estimate, in blocks of K for InfoNCE and of up to 2048 for the others.
    ``stderr`` is that of the evaluation; how well the critic was trained is not in it.

    Floats are replaced by their normal scores, feature by feature, which leaves I(X;Y) as it is
    and bounds what a heavy tail or an outlier can do to a critic; ids are taken as one-hot
    vectors, which says nothing about ids that only the evaluation holds (flag ``unseen_ids``).
    The split, weights and batches come from ``seed`` and the values of the samples, not from
    their order.

    Args:
        bound: ``"dv"``, ``"nwj"``, ``"infonce"`` or ``"smile"``.
        hidden: Units in each of the two hidden layers of g and h.
        embedding: Outputs of g and h.
        steps: The most training steps.
        batch: Samples in a batch, each paired with all the others; InfoNCE's K.
        learning_rate: Adam's.
        tau: SMILE's clip, in nats.

    Flags: ``near_ceiling`` (InfoNCE within 5 % of its ceiling), ``still_improving`` (the
    last check was the best: more ``steps`` would help), ``unseen_ids``, ``constant`` (a
    variable that never varies: 0 bits, nothing is trained). Diagnostics: ``ceiling``, and
    ``steps``, after which the critic was best.

    References:
        Belghazi et al. 2018, Mutual information neural estimation, ICML.
        Nguyen, Wainwright & Jordan 2010, Estimating divergence functionals and the likelihood
        ratio by convex risk minimization, IEEE Trans. Inf. Theory 56.
        van den Oord, Li & Vinyals 2018, Contrastive predictive coding, arXiv:1807.03748.
        Song & Ermon 2020, Understanding the limitations of variational mutual information
        estimators, ICLR.

    Example:
        Two normals with correlation 0.9: 1.198 bits.

        >>> import torch
        >>> noise = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> x, y = noise[:, :1], 0.9 * noise[:, :1] + 0.19 ** 0.5 * noise[:, 1:]
        >>> estimate = Variational(steps=100, batch=128)(x, y)
        >>> 0.9 < float(estimate.bits) < 1.3, float(estimate.diagnostics["ceiling"]) < 7
        (True, True)
    """

    bound: Literal["dv", "nwj", "infonce", "smile"] = "infonce"
    hidden: int = 32
    embedding: int = 16
    steps: int = 1000
    batch: int = 256
    learning_rate: float = 2e-3
    tau: float = 5.0

    _progress: ClassVar[Progress | None] = None  # of a twin: see `reporting`

    def __post_init__(self) -> None:
        require_types(self)
        if self.bound not in _BOUNDS:
            known = ", ".join(_BOUNDS)
            raise ConfigError(f"Variational: bound must be one of {known}, got {self.bound!r}")
        for name, least in (("hidden", 1), ("embedding", 1), ("steps", 1), ("batch", 2)):
            require_count("Variational", name, getattr(self, name), least=least)
        for name in ("learning_rate", "tau"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"Variational: {name} must be positive and finite, got {value!r}")

    @property
    def tags(self) -> Tags:
        """What it does under this configuration."""
        return Tags(
            estimand="I(X;Y)",
            reference=_REFERENCES[self.bound],
            question="density",
            bound="lower" if self.bound in ("nwj", "infonce") else "none",
            symmetric=False,
            scale_dependence="a training of limited length goes another way in other units",
            cost=f"{self.steps} steps · {self.batch} (d + {self.batch}) {self.hidden}, then N² / "
            "4; N d memory",
            bias=f"down by what the critic misses; {_BIAS[self.bound]}",
        )

    @property
    def estimand(self) -> str:
        """The layer itself, as a continuous variable."""
        return "T as a continuous variable"

    def reporting(self, progress: Progress) -> Variational:
        """The same estimator, which calls ``progress(step, steps)`` after each training step."""
        twin = copy.copy(self)
        object.__setattr__(twin, "_progress", progress)
        return twin

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """A bound on I(x; y) in bits; see the class.

        Args:
            x: ``(..., n, dx)`` floats or ``(..., n)`` ids.
            y: ``(..., n, dy)`` floats or ``(..., n)`` ids.
            seed: Seeds the split, the weights and the batches of every problem alike.

        Raises:
            InvalidInput: If x or y is malformed.
            TooFewSamples: If there are fewer than 20.
        """
        check_pair(label(self), x, y, minimum=_FEWEST)
        return each_estimate(lambda a, b: self._solve(a, b, seed), x, y)

    def _solve(self, x: Tensor, y: Tensor, seed: int) -> Estimate:
        if is_constant(x) or is_constant(y):
            return self._estimate(x, None, math.nan, Training(0, False), unseen=False)
        generator = torch.Generator().manual_seed(seed)
        with trainable():
            parts = _split(x, y, generator)
            critic = Critic(self, parts.x, parts.y, generator)
            training = self._train(critic, parts, generator)
            with torch.no_grad():
                local, ceiling = self._evaluate(critic, parts)
        return self._estimate(x, local, ceiling, training, unseen=parts.unseen)

    def _estimate(
        self, x: Tensor, local: Tensor | None, ceiling: float, training: Training, *, unseen: bool
    ) -> Estimate:
        bits, stderr = mean_of(local)
        return Estimate.single(
            bits,
            stderr,
            flags={
                "constant": local is None,
                "near_ceiling": bits >= 0.95 * ceiling,
                "still_improving": training.last_was_best,
                "unseen_ids": unseen,
            },
            diagnostics={"ceiling": ceiling, "steps": training.best_step},
            device=x.device,
        )

    def _train(self, critic: Critic, parts: Parts, generator: torch.Generator) -> Training:
        """Leave the critic at its best."""
        progress = self._progress
        best, best_step, best_weights = -math.inf, 0, critic.copy()
        training = descend(
            (critic.g, critic.h),
            lambda samples: -self._objective(critic(parts.train[samples])),
            len(parts.train),
            batch=self.batch,
            learning_rate=self.learning_rate,
            generator=generator,
        )
        for step in training:
            if progress is not None:
                progress(step, self.steps)
            done = step >= self.steps
            if step % _CHECK_EVERY == 0 or done:
                with torch.no_grad():
                    blocks = _blocks(parts.check, _LARGEST_BLOCK)
                    values = [self._objective(critic(block)) * len(block) for block in blocks]
                    value = float(sum(values)) / len(parts.check)
                if value > best:
                    best, best_step, best_weights = value, step, critic.copy()
                if done or step - best_step >= _PATIENCE * _CHECK_EVERY:
                    break
        critic.restore(best_weights)
        return Training(best_step, best_step == self.steps)

    def _objective(self, scores: Tensor) -> Tensor:
        if self.bound == "smile":
            return variational.jensen_shannon(scores)
        return self._local(scores).mean()

    def _local(self, scores: Tensor) -> Tensor:
        match self.bound:
            case "dv":
                return variational.donsker_varadhan(scores)
            case "nwj":
                return variational.nwj(scores)
            case "infonce":
                return variational.infonce(scores)
        return variational.smile(scores, self.tau)

    def _evaluate(self, critic: Critic, parts: Parts) -> tuple[Tensor, float]:
        """Bits of each held-out sample, and the most that they can be on average."""
        largest = self.batch if self.bound == "infonce" else _LARGEST_BLOCK
        m = len(parts.test)
        blocks = _blocks(parts.test, largest)
        local = torch.cat([self._local(critic(block)) for block in blocks])
        ceiling = sum(len(block) * math.log2(len(block)) for block in blocks) / m
        return local, ceiling if self.bound == "infonce" else math.nan


class Training(NamedTuple):
    """How the training of a critic went.

    Args:
        best_step: After how many steps it was best.
        last_was_best: Whether that was the last step there was.
    """

    best_step: int
    last_was_best: bool


class Parts(NamedTuple):
    """Both variables, ready for the critic, and the samples that train, check and test it.

    Args:
        x: Normal scores ``(n, dx)`` or ids ``0..k-1`` ``(n,)``.
        y: The same of the second variable.
        train: Numbers of the samples that gradients see.
        check: Numbers of the samples that choose the critic.
        test: Numbers of the samples that give the estimate: the other half.
        unseen: Whether some ids of the test are not among those of the training.
    """

    x: Tensor
    y: Tensor
    train: Tensor
    check: Tensor
    test: Tensor
    unseen: bool


class Critic:
    """f(x, y) = g(x) · h(y) on the samples of a problem.

    Args:
        sizes: Whose ``hidden`` and ``embedding`` count.
        x: Floats ``(n, dx)`` or ids ``(n,)``.
        y: Floats ``(n, dy)`` or ids ``(n,)``.
        generator: Draws the initial weights.
    """

    def __init__(
        self, sizes: Variational, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> None:
        inner = (sizes.hidden, sizes.hidden, sizes.embedding)
        self.x, self.y = x, y
        self.g, self.h = (mlp((_inputs(v), *inner), generator, v.device) for v in (x, y))
        with torch.no_grad():
            self.g[-1][0].zero_()  # all scores start at 0, where every bound is 0 too
        self.scale = sizes.embedding**-0.5

    def __call__(self, samples: Tensor) -> Tensor:
        """Scores of all pairs of some samples, ``(K, K)`` in nats."""
        scores: Tensor = forward(self.g, self.x[samples]) @ forward(self.h, self.y[samples]).T
        return scores.mul(self.scale)

    def copy(self) -> list[Tensor]:
        """The weights as they are now."""
        return [tensor.detach().clone() for tensor in parameters(self.g, self.h)]

    def restore(self, weights: list[Tensor]) -> None:
        """Go back to copied weights."""
        with torch.no_grad():
            for tensor, value in zip(parameters(self.g, self.h), weights, strict=True):
                tensor.copy_(value)


def _blocks(samples: Tensor, largest: int) -> Sequence[Tensor]:
    """Samples in blocks of nearly equal size, whose pairs are scored together."""
    return samples.tensor_split(-(-len(samples) // largest))


def _inputs(value: Tensor) -> int:
    return value.shape[1] if value.is_floating_point() else int(value.max()) + 1


def _split(x: Tensor, y: Tensor, generator: torch.Generator) -> Parts:
    """Variables in the order of their contents, and a random split of it."""
    ids = [row_ids(v) if is_ids(v) else v.detach().clone().to(torch.float64) for v in (x, y)]
    columns = [v if v.dim() == 2 else v.to(torch.float64).unsqueeze(1) for v in ids]
    order = content_order(torch.cat(columns, 1))
    a, b = (v[order] for v in ids)
    n = len(a)
    shuffled = torch.randperm(n, generator=generator).to(a.device)
    half, fitted = n // 2, n // 2 - n // 5
    train, check, test = shuffled.tensor_split((fitted, half))
    unseen = any(_unseen(v, train, test) for v in (a, b) if is_ids(v))
    return Parts(_scores(a), _scores(b), train, check, test, unseen)


def _unseen(ids: Tensor, train: Tensor, test: Tensor) -> bool:
    return not bool(torch.isin(ids[test], ids[train]).all())


def _scores(value: Tensor) -> Tensor:
    """Normal scores of floats; ids as they are."""
    return value if is_ids(value) else copula_normal(value)[0]
