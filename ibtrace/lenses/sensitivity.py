"""Sensitivity: how far the output moves with the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.lenses._classes import classes_or_none
from ibtrace.numerics.walsh import degrees, patterns, walsh
from ibtrace.runtime.arguments import whole
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

JACOBIAN = Quantity("mean input Jacobian norm", "1", per="network")
INFLUENCE = Quantity("total influence of the bits", "bits flipped", per="network")


@dataclass(frozen=True)
class Sensitivity:
    r"""The mean Frobenius norm of ∂logits/∂x; on bits, the total influence of the decision.

    Where the samples are all patterns of d bits, each once, and there are two logits, the total
    influence of g, the sign of the logits' difference, is the mean number of single flips that
    change it: :math:`\sum_S |S| \hat g(S)^2`, exactly (O'Donnell 2014). Its diagnostics are that
    of the labels (``label``) and that of 2p - 1 (``probability``). Elsewhere it is left out.

    Args:
        samples: More than these are thinned by the seed for the Jacobian.

    Raises:
        Unsupported: When called, if the inputs are no numbers.
        ConfigError: If ``samples`` is no whole number above 1.

    Example:
        >>> Sensitivity().tags.quantities[0].name
        'mean input Jacobian norm'
    """

    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(JACOBIAN, INFLUENCE),
        reference="Novak et al. 2018, Sensitivity and Generalization in Neural Networks; "
        "O'Donnell 2014, Analysis of Boolean Functions",
        needs=frozenset({"inputs"}),
        cost="a backward pass of N samples for each logit",
        caveats="the Jacobian's norm is in units of logits by units of x",
        looks=2,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", whole("Sensitivity: samples", self.samples, least=2))

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """Both quantities; see `ibtrace.types.Lens`."""
        few = view.thinned(self.samples, seed)
        norms = few.input_jacobian.double().flatten(2).norm(dim=2)
        error = norms.std(1) / norms.shape[1] ** 0.5
        lost = ~norms.isfinite().all(1)
        read = {
            JACOBIAN: Reading(
                norms.mean(1),
                "1",
                error,
                flags={"diverged": lost},
                diagnostics={"samples": torch.tensor(few.samples)},
            )
        }
        logits, labels = view.logits.double(), classes_or_none(view)
        order = patterns(view.inputs[0].flatten(1)) if logits.shape[-1] == 2 else None
        if order is not None and logits.dim() == 3:
            logits = logits[:, order]
            lost = ~logits.isfinite().flatten(1).all(1)
            decided = torch.where(logits[..., 1] > logits[..., 0], 1.0, -1.0).double()
            known = {"probability": _influence(2 * logits.softmax(-1)[..., 1] - 1)}
            if labels is not None:
                known["label"] = _influence(2 * labels[:, order].double() - 1)
            read[INFLUENCE] = Reading(
                _influence(decided).masked_fill(lost, torch.nan),
                INFLUENCE.unit,
                flags={"diverged": lost},
                diagnostics=known,
            )
        return {quantity.name: {"": reading} for quantity, reading in read.items()}


def _influence(f: Tensor) -> Tensor:
    """Σ |S| f̂(S)² of functions ``(s, 2^d)``, ``(s,)``."""
    degree = degrees((f.shape[1] - 1).bit_length(), f.device)
    total: Tensor = (walsh(f).square() * degree).sum(1)
    return total
