"""Modes: which parts of the label a network has learned, the simple ones first or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses._classes import classes_or_none
from ibtrace.numerics.walsh import degrees, patterns, walsh
from ibtrace.runtime.arguments import shown, whole
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

Of = Literal["probabilities", "outputs"]

DEGREE = Quantity("mean degree of the output", "1", per="network")

_LEAST = 0.01  # share of the label's energy
_ROUNDING = 1e-10  # of the largest covariance that there could be


@dataclass(frozen=True)
class Modes:
    r"""The share of each mode of the label that the network's output has learned.

    Where the samples are all :math:`2^d` patterns of d bits, each once, and there are two classes,
    mode k is the label's part of Walsh degree k (all parities of k bits): with f = 2p - 1 the
    network's output and y = ±1,

    .. math:: \sum_{|S| = k} \hat f(S)\, \hat y(S) \Big/ \sum_{|S| = k} \hat y(S)^2.

    There the mean degree of the output is read too, :math:`\sum |S| \hat f(S)^2 / \sum \hat
    f(S)^2`, with that of the label as the diagnostic ``label``.

    Elsewhere mode k is the k-th singular mode of the covariance of labels (one-hot) and inputs,
    Σ_yx = U S Vᵀ, as in deep linear networks: uₖᵀ Σ_fx vₖ / sₖ, f the class probabilities.

    A network that is trained by squares on one-hot labels has the label itself for its aim, not
    logits of it: take f as it comes out, ``of="outputs"`` (on bits the second less the first).

    0 is not learned, 1 learned; more than 1 is overshooting. Modes with less than 1 % of the
    energy (of the label's on bits, else of Σ_yx, sₖ² / Σ s²), and those that there are not, are
    NaN, flagged ``no_mode``. Diagnostics: ``energy``, the mode's share of it; ``strength``, sₖ
    (on bits the root of the energy); ``walsh``, whether it is a degree.

    Args:
        modes: Modes 1 … this: a label may have its energy above (a parity of 12 bits is degree 12).
        of: Whether f are the class probabilities or the ``outputs`` as they are.

    Raises:
        ConfigError: If ``modes`` is no whole number above 0, or ``of`` neither of the two.
        Unsupported: When called, if the labels are no classes.

    Example:
        >>> Modes().tags.quantities[0].name
        'learned share of mode 1'
    """

    modes: int = 8
    of: Of = "probabilities"

    @property
    def tags(self) -> LensTags:
        """What it measures, so many modes."""
        return LensTags(
            quantities=(*map(_quantity, range(1, self.modes + 1)), DEGREE),
            reference="Saxe, McClelland & Ganguli 2014, Exact solutions to the nonlinear dynamics "
            "of learning in deep linear neural networks; O'Donnell 2014, Analysis of Boolean "
            "Functions",
            needs=frozenset({"inputs"}),
            cost="O(N log N) on bits; else O(N d) and a singular value decomposition",
            caveats="of a population of bits it is exact; singular modes see what is linear in x, "
            "the weak ones of a sample are its noise, and equal ones are any basis of theirs",
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "modes", whole("Modes: modes", self.modes, least=1))
        if self.of not in get_args(Of):
            raise ConfigError(f"Modes: of must be one of {get_args(Of)}, got {shown(self.of)}")

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities that there are; see `ibtrace.types.Lens`."""
        y, logits = view.labels, view.logits if self.of == "probabilities" else view.outputs
        if y.is_floating_point() or y.dim() != 2 or logits.dim() != 3 or logits.shape[-1] < 2:
            raise Unsupported("the modes of a label need classes, one a sample")
        if classes_or_none(view) is None:
            raise Unsupported("the modes of a label need one logit for each class")
        x = view.inputs.flatten(2) if view.inputs.dim() > 2 else view.inputs[..., None]
        order = patterns(x[0]) if logits.shape[-1] == 2 else None
        f = logits.double()
        f = f.softmax(-1) if self.of == "probabilities" else f
        lost = ~f.isfinite().flatten(1).all(1)
        read: dict[str, Reading] = {}
        if order is None:
            share, energy, strength = _singular(x.double(), y.long(), f, self.modes)
        else:
            signs, outputs = 2.0 * y[:, order].double() - 1, f[:, order, 1] - f[:, order, 0]
            share, energy = _degrees(signs, outputs, self.modes)
            strength = energy.sqrt()
            read[DEGREE.name] = Reading(
                mean := _mean_degree(outputs),
                "1",
                flags={"constant": mean.isnan(), "diverged": lost},
                diagnostics={"label": _mean_degree(signs)},
            )
        missing = ~(energy >= _LEAST)
        for k in range(self.modes):
            read[_quantity(k + 1).name] = Reading(
                share[:, k].masked_fill(missing[:, k], torch.nan),
                "1",
                flags={"no_mode": missing[:, k], "diverged": lost},
                diagnostics={
                    "energy": energy[:, k],
                    "strength": strength[:, k],
                    "walsh": torch.tensor(order is not None),
                },
            )
        return {name: {"": reading} for name, reading in read.items()}


def _quantity(k: int) -> Quantity:
    return Quantity(f"learned share of mode {k}", "1", per="network")


def _degrees(y: Tensor, f: Tensor, modes: int) -> tuple[Tensor, Tensor]:
    """Learned share and energy of degrees 1, 2, …, ``(s, modes)``, by functions ``(s, 2^d)``."""
    of_y, of_f = walsh(y), walsh(f)
    degree = degrees((y.shape[1] - 1).bit_length(), y.device)
    of_degree = torch.stack([degree == k for k in range(1, modes + 1)]).double()  # (modes, 2^d)
    energy, learned = of_y.square() @ of_degree.T, (of_f * of_y) @ of_degree.T
    return learned / energy, energy


def _mean_degree(f: Tensor) -> Tensor:
    """Σ |S| f̂² / Σ f̂² of functions ``(s, 2^d)``; NaN of one that is 0."""
    squares = walsh(f).square()
    degree = degrees((f.shape[1] - 1).bit_length(), f.device)
    mean: Tensor = (squares * degree).sum(1) / squares.sum(1)
    return mean


def _singular(x: Tensor, y: Tensor, f: Tensor, modes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Learned share, energy and singular value of singular modes 1, 2, …, each ``(s, modes)``.

    Args:
        x: ``(s, n, d)``.
        y: Class ids, ``(s, n)``.
        f: ``(s, n, classes)``.
        modes: How many.
    """
    target = torch.nn.functional.one_hot(y, f.shape[-1]).double()
    x, target, f = (v - v.mean(1, keepdim=True) for v in (x, target, f))
    left, values, right = torch.linalg.svd(target.mT @ x / x.shape[1], full_matrices=False)
    most = target.norm(dim=(1, 2)) * x.norm(dim=(1, 2)) / x.shape[1]
    values = torch.where(values > _ROUNDING * most[:, None], values, 0.0)
    response = torch.einsum("snc,snd->scd", f, x) / x.shape[1]
    learned = torch.einsum("sck,scd,skd->sk", left, response, right)
    share = values.new_full((len(x), modes), torch.nan)
    energy, strength = torch.zeros_like(share), torch.zeros_like(share)
    count = min(modes, values.shape[1])
    share[:, :count] = (learned / values)[:, :count]
    squares = values.square()
    energy[:, :count] = (squares / squares.sum(1, keepdim=True))[:, :count].nan_to_num()
    strength[:, :count] = values[:, :count]
    return share, energy, strength
