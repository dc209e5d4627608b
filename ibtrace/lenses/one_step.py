"""OneStep: whether a second-order expansion predicts the next step's change of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses._curvature import EXACT, product_of, together
from ibtrace.lenses._noise import Noise
from ibtrace.lenses._training import training_view
from ibtrace.lenses._variants import mean_loss, of_variants
from ibtrace.numerics.flat import flattened
from ibtrace.numerics.spectra import mean_and_error
from ibtrace.runtime.arguments import shown, whole
from ibtrace.types import LOSS, LensTags, OptimizerState, ProbeLike, Quantity, Reading, View

PREDICTED = Quantity("predicted loss change", LOSS, per="network")
MEASURED = Quantity("measured loss change", LOSS, per="network")
RESIDUAL = Quantity("loss change residual", LOSS, per="network")

_ROUNDINGS = 10  # of the loss


@dataclass(frozen=True)
class OneStep:
    r"""The mean change of the training loss in one step of descent, predicted and measured.

    Predicted, with g the mean gradient over n samples, Σ the covariance of a sample's gradient, H
    the Hessian, η the learning rate and b samples drawn without replacement:

    .. math:: -η‖g‖^2 + \tfrac12 η^2 g^\top H g
              + \tfrac12 \tfrac{η^2}{b} (1 - \tfrac bn) \, \text{tr}(HΣ)

    Measured: the mean over seeded batches of the loss after the step less that before, with its
    standard error. The residual is measured less predicted, with its error: what the third order
    and beyond do. A theory of the step holds where it is within a few errors of 0. A full batch
    (or one that is not known, which is taken for it) is measured without error; there the
    prediction has one, the size of the first term that it leaves out, the third order along g,
    or where that is larger the rounding of the loss.

    The step is one of plain descent. Where the training's optimiser is another (momentum, Adam,
    weight decay, some of the parameters alone), it is a step that the training does not make,
    flagged ``other_optimizer``.

    Args:
        lr: η; None: that of the training's optimiser.
        batches: Of the measurement.
        exact: The most parameters of a network whose Hessian is computed as a matrix.
        draws: As in `GradientNoise`, for larger networks.
        samples: What is drawn for tr(HΣ) of more training samples than this, as in
            `GradientNoise`; g, gᵀHg, the batches and the loss are of all n.

    Raises:
        ConfigError: If ``lr`` is no number above 0, or another is no whole number (``batches``
            and ``draws`` above 1).
        Unsupported: When called, if η is not known, or a network has more than 150 000
            parameters.

    Example:
        >>> OneStep(lr=0.1).tags.quantities[0].name
        'predicted loss change'
    """

    lr: float | None = None
    batches: int = 30
    exact: int = EXACT
    draws: int = 20
    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(PREDICTED, MEASURED, RESIDUAL),
        reference="Smith et al. 2021, On the Origin of Implicit Regularization in Stochastic "
        "Gradient Descent",
        needs=frozenset({"loss", "gradient", "hessian", "training", "optimizer"}),
        cost="the Hessian, a gradient of each of N samples, 30 of batches, and 30 passes; "
        "memory N P",
        caveats="in eval mode: of networks with batch normalisation or dropout not the training's "
        "own step",
        looks=50,
    )

    def __post_init__(self) -> None:
        if self.lr is not None:
            object.__setattr__(self, "lr", _rate(self.lr))
        for name, least in (("batches", 2), ("exact", 0), ("draws", 2), ("samples", 2)):
            number = whole(f"OneStep: {name}", getattr(self, name), least=least)
            object.__setattr__(self, name, number)

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        state = view.optimizer
        rate = self.lr if self.lr is not None else state.lr if state is not None else None
        if rate is None:
            raise Unsupported(
                "the learning rate is not known: give OneStep(lr=…), or the tracer "
                "Recipe(data, optimizer=…)"
            )
        training, flags = training_view(view)
        noise = Noise.of(training, self.samples, seed, "OneStep")
        batch = min(view.batch_size or training.samples, training.samples)
        predicted, doubt = self._predicted(noise, rate, batch)
        measured, error = self._measured(training, rate, batch, seed)
        none = torch.zeros(len(view.seeds), dtype=torch.bool)
        flags = {
            **flags,
            "other_optimizer": none | (state is not None and not _plain(state, view)),
            "batch_unknown": none | (view.batch_size is None),
        }
        known = {"lr": torch.tensor(rate), "batch": torch.tensor(batch)}
        known["gradients"] = torch.tensor(noise.held.samples)
        both = (error.square() + doubt.nan_to_num().square()).sqrt()
        read = {
            PREDICTED.name: Reading(predicted, LOSS, stderr=doubt, diagnostics=known),
            MEASURED.name: Reading(measured, LOSS, stderr=error, diagnostics=known),
            RESIDUAL.name: Reading(measured - predicted, LOSS, stderr=both, diagnostics=known),
        }
        return together(read, training, flags, of_loss=True)

    def _predicted(self, noise: Noise, rate: float, batch: int) -> tuple[Tensor, Tensor]:
        mean, view = noise.mean, noise.training
        along = (mean * product_of(view)(mean)).sum(1)
        change = -rate * mean.square().sum(1) + rate**2 / 2 * along
        if batch == view.samples:
            return change, _third_order(view, mean, rate)
        bent, error = noise.bent(self.exact, self.draws)
        share = rate**2 / 2 * (1 / batch - 1 / view.samples)
        return change + share * bent, share * error

    def _measured(self, view: View, rate: float, batch: int, seed: int) -> tuple[Tensor, Tensor]:
        """The mean over batches; of the whole training set there is one."""
        count = self.batches if batch < view.samples else 1
        drawn = (view.thinned(batch, seed + 1 + at).gradient for at in range(count))
        steps = torch.stack([flattened(gradient) for gradient in drawn])
        after = of_variants(view, flattened(view.parameters) - rate * steps, mean_loss)
        mean, error = mean_and_error(after - mean_loss(view))
        return mean, error if count > 1 else torch.zeros_like(mean)


def _third_order(view: View, mean: Tensor, rate: float) -> Tensor:
    """The third-order term of a step along the gradient ``(s, P)``, at least rounding, ``(s,)``.

    By what is odd in the change of the loss, less its first order.
    """
    own = flattened(view.parameters).double()
    down, up = of_variants(view, torch.stack([own - rate * mean, own + rate * mean]), mean_loss)
    third = ((up - down) / 2 - rate * mean.square().sum(1)).abs()
    rounding = _ROUNDINGS * torch.finfo(view.losses.dtype).eps * mean_loss(view).abs()
    return torch.maximum(third, rounding)


def _plain(state: OptimizerState, view: View) -> bool:
    """Whether the optimiser's step is one of plain descent in all parameters."""
    whole_step = set(state.trained or view.parameters) == {*view.parameters}
    bare = state.momentum == 0 and state.weight_decay == 0 and not state.maximize
    return whole_step and state.kind == "sgd" and bare


def _rate(value: object) -> float:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0
    if not 0 < number < float("inf"):
        raise ConfigError(f"OneStep: lr must be a number above 0, or None, got {shown(value)}")
    return float(number)
