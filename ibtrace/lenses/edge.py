"""Edge: how near the training is to the curvature above which its optimiser is unstable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._curvature import product_of, start_of, together
from ibtrace.lenses._training import training_view
from ibtrace.numerics import thresholds
from ibtrace.numerics.flat import flattened
from ibtrace.numerics.spectra import lanczos
from ibtrace.runtime.arguments import whole
from ibtrace.types import LOSS, LensTags, OptimizerState, ProbeLike, Quantity, Reading, View

SHARPNESS = Quantity("preconditioned sharpness", LOSS, per="network")
EDGE = Quantity("sharpness over threshold", "1", per="network")

_ADAMS = ("adam", "adamw")
_CONVERGED = 0.01


@dataclass(frozen=True)
class Edge:
    r"""The largest eigenvalue of P⁻¹H, and that over the threshold of the training's optimiser.

    H is the Hessian of the mean training loss in what the optimiser trains, P how it scales the
    gradient. Above 1,
    a full-batch step of a quadratic loss overshoots by more than it came from. With η the learning
    rate and β the momentum, the thresholds are

    - SGD 2/η; with momentum (2 + 2β)/η, Nesterov's (2 + 2β)/((1 + 2β)η), with dampening τ
      (2 + 2β)/((1 - τ)η); P is 1, and weight decay is subtracted from the threshold;
    - Adam (2 + 2β₁)/((1 - β₁)η) with :math:`P = (1 - β_1^t)(\sqrt{v/(1 - β_2^t)} + ε)` as it is
      at this step, t the steps of each parameter; weight decay is added to H.
      AdamW (2 - ηλ)(1 + β₁)/((1 - β₁)η).

    By Lanczos's method with full reorthogonalisation; ``not_converged`` as in `Curvature`. The
    threshold is a diagnostic. Before Adam's first step there is no P: NaN, flagged ``no_step``.
    The thresholds are those of full batches: where the batch is smaller than the training set, or
    not known, ``minibatch`` is flagged; such a training stays below 1.

    Args:
        steps: Of Lanczos's method.
        samples: More training samples than this are thinned by the seed.

    Raises:
        ConfigError: If a number is no whole number above 0.
        Unsupported: When called, if the optimiser is not known, has no threshold that is known
            here, or diverges by its weight decay alone.

    Example:
        >>> Edge().tags.quantities[1].name
        'sharpness over threshold'
    """

    steps: int = 30
    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(SHARPNESS, EDGE),
        reference="Cohen et al. 2021, Gradient Descent on Neural Networks Typically Occurs at the "
        "Edge of Stability; Cohen et al. 2022, Adaptive Gradient Methods at the Edge of Stability",
        needs=frozenset({"loss", "hessian", "training", "optimizer"}),
        cost="30 products with the Hessian, each of about 4 passes over N samples; memory 30 P",
        caveats="of a quadratic loss, full batches and a P that stands still; in eval mode, which "
        "with batch normalisation or dropout is not what is trained",
        looks=10,
    )

    def __post_init__(self) -> None:
        for name in ("steps", "samples"):
            number = whole(f"Edge: {name}", getattr(self, name), least=1)
            object.__setattr__(self, name, number)

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """Both quantities; see `ibtrace.types.Lens`."""
        state = view.optimizer
        if state is None:
            raise Unsupported(
                "the optimiser is not known: give the tracer Recipe(data, optimizer=…)"
            )
        threshold = threshold_of(state)
        training, flags = training_view(view)
        seen = training.thinned(self.samples, seed)
        scale = preconditioner(state, view)  # (s, P)
        decay = state.weight_decay if state.kind == "adam" else 0.0
        root, product = scale.sqrt(), product_of(seen)

        def scaled(vectors: Tensor) -> Tensor:
            inner = vectors / root
            return (product(inner) + decay * inner) / root

        ritz = lanczos(scaled, start_of(seen, seed), self.steps, seed)
        value, residual = ritz.nodes[:, -1], ritz.residuals[:, -1]
        size = view.batch_size
        flags = {
            **flags,
            "not_converged": residual > _CONVERGED * value.abs(),
            "no_step": scale.isnan().any(1),
            "minibatch": torch.full_like(
                value, size is None or size < training.samples, dtype=torch.bool
            ),
        }
        known = {"threshold": torch.tensor(threshold, dtype=torch.float64), "residual": residual}
        read = {
            SHARPNESS.name: Reading(value, LOSS, diagnostics=known),
            EDGE.name: Reading(value / threshold, "1", diagnostics=known),
        }
        return together(read, seen, flags, of_loss=True)


def threshold_of(state: OptimizerState) -> float:
    """The threshold of an optimiser, less its weight decay where P is 1.

    Args:
        state: Its settings.

    Raises:
        Unsupported: If none is known, or there is none because the step is of no length.
    """
    if state.maximize:
        raise Unsupported("an optimiser that climbs (maximize=True) has no edge of stability")
    if state.lr <= 0:
        raise Unsupported(f"a learning rate of {state.lr} has no threshold")
    if state.kind in _ADAMS:
        apart = state.weight_decay if state.kind == "adamw" else 0.0
        threshold = thresholds.adam(state.lr, state.adam.betas[0], apart)
    elif state.kind == "sgd":
        threshold = thresholds.descent(state.lr, state.momentum, state.dampening, state.nesterov)
        threshold -= state.weight_decay
    else:
        raise Unsupported(
            f"no threshold is known of {state.kind}; Edge knows sgd, {', '.join(_ADAMS)}"
        )
    if threshold <= 0:
        raise Unsupported(
            f"the weight decay of {state.weight_decay} alone makes steps of {state.lr} diverge"
        )
    return threshold


def preconditioner(state: OptimizerState, view: View) -> Tensor:
    """P of each parameter, ``(s, P)``: by what the next step divides the gradient, but for η.

    NaN before Adam's first step; infinite for what the optimiser does not train.

    Args:
        state: The optimiser's.
        view: The networks.

    Raises:
        Unsupported: If Adam has made a step, and none of some parameter that it trains.
    """
    trained = set(state.trained or view.parameters)
    scales = {}
    for name, value in view.parameters.items():
        if name not in trained:
            scale = torch.full_like(value, torch.inf)
        elif state.kind not in _ADAMS:
            scale = torch.ones_like(value)
        elif state.steps == 0:
            scale = torch.full_like(value, torch.nan)
        elif name not in state.adam.second:
            raise Unsupported(f"the optimiser has made no step of {name}")
        else:
            first, second = (1 - beta ** state.adam.steps[name] for beta in state.adam.betas)
            moments = state.adam.second[name].to(value.device).double()
            scale = first * ((moments / second).sqrt() + state.adam.eps)
        scales[name] = scale.double()
    return flattened(scales)
