"""NTK: the kernel of the gradients of the logits, and whether training stays linear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses._classes import classes_or_none
from ibtrace.lenses._curvature import parameters_of, together
from ibtrace.lenses._training import training_view
from ibtrace.numerics.flat import flattened, unflattened
from ibtrace.numerics.representations import effective_rank, participation_ratio
from ibtrace.numerics.spectra import eigenvalues
from ibtrace.numerics.tangent_kernel import centred_kernel, cosine, linearised
from ibtrace.runtime.arguments import shown, whole
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

TRACE = Quantity("NTK trace per logit", "1", per="network")
LARGEST = Quantity("NTK largest eigenvalue per sample", "1", per="network")
RANK = Quantity("NTK effective rank", "1", per="network")
DIMENSIONS = Quantity("NTK participation ratio", "1", per="network")
ALIGNMENT = Quantity("NTK label alignment", "1", per="network")
VELOCITY = Quantity("NTK velocity", "1", per="network")
DISTANCE = Quantity("NTK distance to the initial look", "1", per="network")
RESIDUAL = Quantity("linearised residual", "1", per="network")
PREDICTED = Quantity("linearised change of squared loss", "1", per="network")
MEASURED = Quantity("measured change of squared loss", "1", per="network")
OFF = Quantity("measured less linearised change", "1", per="network")

_LOGITS = 1000  # samples times logits: the side of K
_NUMBERS = 20_000_000  # of the Jacobian of one network
_LEAST = 8
_ROUNDINGS = 10  # of the network's numbers, in the steps of descent


@dataclass(frozen=True)
class NTK:
    r"""The empirical neural tangent kernel K = JJᵀ of the training samples, J of the logits.

    K is a matrix over n samples times c logits, with eigenvalues λ:

    - trace / (n c), λ_max / n, effective rank exp(-Σ p ln p) with p = λ/Σλ and participation ratio
      (Σλ)²/Σλ²;
    - label alignment: the cosine of K summed over logits with the matrix of ones where two samples
      have one class, both centred. Without centring, a constant part makes it large;
    - velocity 1 - cos(K, K at the look before), and the distance 1 - cos(K, K at the first look),
      each K of the parameters that are trained now;
    - linearised residual: ``steps`` steps of full-batch descent on ½ mean ‖f - y‖², y one-hot,
      from the weights as they are, against what a K that stands still predicts of them,
      :math:`f_{lin} = y + (I - ηK/n)^k (f_0 - y)`: ‖f_lin - f‖ / ‖f - y‖. 0 in the lazy regime and
      for a linear model. η is ``rate`` times 2n/λ_max(K), above which even the linear model
      diverges. Its error is over the draw of the samples, to first order;
    - linearised and measured change of squared loss: of the mean of ½ ‖f - y‖² in these steps, as
      :math:`f_{lin}` says and as it was, and measured less linearised. The errors are over the
      draw of the samples, that of the difference from the samples' own differences (at least the
      rounding of the network's numbers).

    Alignment, residual and changes are of class labels only, and are left out of others.

    Args:
        samples: Drawn by the seed of the training samples; fewer where samples times logits are
            above 1000, or times parameters above 20 million.
        steps: Of descent.
        rate: η as a share of 2n/λ_max(K), between 0 and 1.

    Raises:
        ConfigError: If a number is no whole number above 0, or ``rate`` not between 0 and 1.
        Unsupported: When called, if fewer than 8 samples could be read.

    Example:
        >>> NTK().tags.quantities[5].name
        'NTK velocity'
    """

    samples: int = 241
    steps: int = 10
    rate: float = 0.5

    tags: ClassVar[LensTags] = LensTags(
        quantities=(
            *(TRACE, LARGEST, RANK, DIMENSIONS, ALIGNMENT, VELOCITY, DISTANCE),
            *(RESIDUAL, PREDICTED, MEASURED, OFF),
        ),
        reference="Jacot, Gabriel & Hongler 2018, Neural Tangent Kernel; Cortes, Mohri & "
        "Rostamizadeh 2012, Algorithms for learning kernels based on centered alignment; Fort et "
        "al. 2020, Deep learning versus kernel learning",
        needs=frozenset({"jacobian", "training", "initial", "previous"}),
        cost="13 Jacobians of n c logits in P parameters, O((n c)³) for the eigenvalues; memory "
        "n c P",
        caveats="of n samples: compare looks of the same number alone; networks that end in a "
        "softmax are read before it; the residual is of a squared loss, not of the training's",
        looks=20,
    )

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("steps", 1)):
            number = whole(f"NTK: {name}", getattr(self, name), least=least)
            object.__setattr__(self, name, number)
        if isinstance(self.rate, bool) or not isinstance(self.rate, (int, float)):
            raise ConfigError(f"NTK: rate must be a number, got {shown(self.rate)}")
        if not 0 < self.rate < 1:
            raise ConfigError(f"NTK: rate must lie between 0 and 1, got {shown(self.rate)}")

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        training, flags = training_view(view)
        seen = self._thinned(training, seed)
        kernel = _kernel(seen)
        values = eigenvalues(kernel)
        logits = kernel.shape[1] // seen.samples
        values_of = {
            TRACE: values.mean(1),
            LARGEST: values[:, -1] / seen.samples,
            RANK: effective_rank(values),
            DIMENSIONS: participation_ratio(values),
            DISTANCE: 1 - cosine(kernel, _kernel(seen.initial)),
        }
        if (previous := seen.previous) is not None:
            values_of[VELOCITY] = 1 - cosine(kernel, _kernel(previous))
        errors_of: dict[Quantity, Tensor] = {}
        if (targets := _one_hot(seen, logits)) is not None:
            values_of[ALIGNMENT] = _alignment(kernel, targets)
            curves = self._descended(seen, kernel, values[:, -1], targets)
            rounding = _ROUNDINGS * torch.finfo(seen.logits.dtype).eps
            for quantity, (value, error) in _held_against(*curves, rounding).items():
                values_of[quantity], errors_of[quantity] = value, error
        counts = {"logits": torch.tensor(logits)}
        read = {
            quantity.name: Reading(
                value,
                "1",
                stderr=errors_of.get(quantity, torch.full_like(value, torch.nan)),
                flags={"undefined": ~value.isfinite()},
                diagnostics=counts,
            )
            for quantity, value in values_of.items()
        }
        return together(read, seen, flags)

    def _thinned(self, view: View, seed: int) -> View:
        count = parameters_of(view)
        logits = view.thinned(2, seed).logits[0, 0].numel()
        most = min(self.samples, _LOGITS // logits, _NUMBERS // (logits * count))
        if most < min(_LEAST, view.samples):
            raise Unsupported(
                f"NTK: the Jacobian of {logits} logits in {count} parameters takes too much "
                f"memory or time; {_NUMBERS // _LEAST:,} logits times parameters at most, "
                f"{_LOGITS // _LEAST} logits"
            )
        return view.thinned(most, seed)

    def _descended(
        self, view: View, kernel: Tensor, largest: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs less targets, ``(s, n, c)``: at the start, at the end if linear, at the end.

        By descent in the weights, with the Jacobian at each step.
        """
        flat = flattened(view.parameters)
        shapes = {name: value.shape[1:] for name, value in view.parameters.items()}
        start = errors = view.logits.flatten(1).double() - targets.flatten(1)
        step = self.rate * 2 / largest  # η / n
        predicted = linearised(kernel, errors, step, self.steps)
        seen = view
        for _ in range(self.steps):
            slopes = flattened(seen.jacobian, leading=3).flatten(1, 2)  # (s, n c, P)
            pull = torch.einsum("smp,sm->sp", slopes, errors.to(slopes))
            flat = flat - step[:, None].to(flat) * pull
            seen = view.at(unflattened(flat, shapes))
            errors = seen.logits.flatten(1).double() - targets.flatten(1)
        first, linear, last = (each.view_as(targets) for each in (start, predicted, errors))
        return first, linear, last


def _held_against(
    start: Tensor, predicted: Tensor, errors: Tensor, rounding: float = 0.0
) -> dict[Quantity, tuple[Tensor, Tensor]]:
    """The residual and both changes of the loss, with their errors over the draw of the samples.

    Args:
        start: Outputs less targets, ``(s, n, c)``.
        predicted: After the steps, of a kernel that stands still.
        errors: After the steps.
        rounding: Of the loss, as a share of it at the start.
    """
    root = start.shape[1] ** 0.5
    before, linear, after = (
        each.square().sum(-1) / 2 for each in (start, predicted, errors)
    )  # (s, n)
    off = (predicted - errors).square().sum(-1) / 2
    residual = (off.mean(1) / after.mean(1)).sqrt()
    # of a ratio's root: half the spread of the samples' own deviations, as shares of the means
    share = off / off.mean(1, keepdim=True) - after / after.mean(1, keepdim=True)
    doubt = torch.where(residual == 0, 0.0, residual / 2 * share.std(1) / root)
    changed, missed = after - before, after - linear
    unsure = torch.maximum(missed.std(1) / root, rounding * before.mean(1))
    return {
        RESIDUAL: (residual, doubt),
        PREDICTED: ((linear - before).mean(1), torch.full_like(residual, torch.nan)),
        MEASURED: (changed.mean(1), changed.std(1) / root),
        OFF: (missed.mean(1), unsure),
    }


def _kernel(view: View) -> Tensor:
    """K, float64 ``(s, n c, n c)``, added up parameter by parameter."""
    total: Tensor | None = None
    for slopes in view.jacobian.values():
        rows = slopes.flatten(1, 2).flatten(2).double()  # (s, n c, p)
        part = rows @ rows.mT
        total = part if total is None else total + part
    assert total is not None  # a network that is trained has parameters
    return total


def _one_hot(view: View, logits: int) -> Tensor | None:
    """The labels as rows, float64 ``(s, n, c)``; None if they are not classes of the logits."""
    labels = classes_or_none(view) if logits > 1 else None
    if labels is None:
        return None
    return torch.nn.functional.one_hot(labels, logits).double()


def _alignment(kernel: Tensor, targets: Tensor) -> Tensor:
    n, c = targets.shape[1:]
    summed = kernel.view(-1, n, c, n, c).diagonal(dim1=2, dim2=4).sum(-1)
    return cosine(centred_kernel(summed), centred_kernel(targets @ targets.mT))
