"""Modes: which parts of the label a network has learned, the simple ones first or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.numerics.walsh import degrees, patterns, walsh
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

_MODES = 6
_LEAST = 0.01  # share of the label's energy
MODES = tuple(
    Quantity(f"learned share of mode {k}", "1", per="network") for k in range(1, _MODES + 1)
)


@dataclass(frozen=True)
class Modes:
    r"""The share of each mode of the label that the network's output has learned.

    Where the samples are all :math:`2^d` patterns of d bits, each once, and there are two classes,
    mode k is the label's part of Walsh degree k (all parities of k bits): with f = 2p - 1 the
    network's output and y = ±1,

    .. math:: \sum_{|S| = k} \hat f(S)\, \hat y(S) \Big/ \sum_{|S| = k} \hat y(S)^2.

    Elsewhere it is the k-th singular mode of the covariance of labels (one-hot) and inputs,
    Σ_yx = U S Vᵀ, as in deep linear networks: uₖᵀ Σ_fx vₖ / sₖ, f the class probabilities.

    0 is not learned, 1 learned; more than 1 is overshooting. Modes with less than 1 % of the
    label's energy, and those that there are not, are NaN, flagged ``no_mode``. Diagnostic
    ``energy``: the mode's share of the label's energy.

    Raises:
        Unsupported: When called, if the labels are no classes.

    Example:
        >>> Modes().tags.quantities[0].name
        'learned share of mode 1'
    """

    tags: ClassVar[LensTags] = LensTags(
        quantities=MODES,
        reference="Saxe, McClelland & Ganguli 2014, Exact solutions to the nonlinear dynamics of "
        "learning in deep linear neural networks; O'Donnell 2014, Analysis of Boolean Functions",
        needs=frozenset({"inputs"}),
        cost="O(N log N) on bits; else O(N d) and a singular value decomposition",
        caveats="of a population of bits it is exact; singular modes see what is linear in x",
    )

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        y, logits = view.labels, view.logits
        if y.is_floating_point() or logits.dim() != 3 or logits.shape[-1] < 2:
            raise Unsupported("the modes of a label need classes, one a sample")
        x = view.inputs.flatten(2)
        order = patterns(x[0]) if logits.shape[-1] == 2 else None
        probabilities = logits.double().softmax(-1)
        if order is None:
            share, energy = _singular(x.double(), y, probabilities)
        else:
            signs = 2.0 * y[:, order].double() - 1
            share, energy = _degrees(signs, 2 * probabilities[:, order, 1] - 1)
        missing = energy < _LEAST
        return {
            quantity.name: {
                "": Reading(
                    share[:, k].masked_fill(missing[:, k], torch.nan),
                    "1",
                    flags={"no_mode": missing[:, k]},
                    diagnostics={"energy": energy[:, k]},
                )
            }
            for k, quantity in enumerate(MODES)
        }


def _degrees(y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
    """Learned share and energy of degrees 1, 2, …, ``(s, modes)``, by functions ``(s, 2^d)``."""
    of_y, of_f = walsh(y), walsh(f)
    degree = degrees((y.shape[1] - 1).bit_length(), y.device)
    chosen = torch.stack([degree == k for k in range(1, _MODES + 1)]).double()  # (modes, 2^d)
    energy, learned = of_y.square() @ chosen.T, (of_f * of_y) @ chosen.T
    return learned / energy, energy


def _singular(x: Tensor, y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
    """The same of singular modes, by x ``(s, n, d)``, labels ``(s, n)``, f ``(s, n, classes)``."""
    target = torch.nn.functional.one_hot(y, f.shape[-1]).double()
    x, target, f = (v - v.mean(1, keepdim=True) for v in (x, target, f))
    left, values, right = torch.linalg.svd(target.mT @ x / x.shape[1], full_matrices=False)
    response = torch.einsum("snc,snd->scd", f, x) / x.shape[1]
    learned = torch.einsum("sck,scd,skd->sk", left, response, right)
    share = values.new_full((len(x), _MODES), torch.nan)
    energy = torch.zeros_like(share)
    count = min(_MODES, values.shape[1])
    share[:, :count] = (learned / values)[:, :count]
    squares = values.square()
    energy[:, :count] = (squares / squares.sum(1, keepdim=True))[:, :count].nan_to_num()
    return share, energy
