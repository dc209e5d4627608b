"""Invariance: whether a network treats alike what a symmetry of the task makes of an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.datasets.tishby import reflections
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses._rows import rows_of
from ibtrace.numerics.symmetry import orbits
from ibtrace.numerics.walsh import patterns
from ibtrace.runtime.arguments import is_alone, shown
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

DISAGREEMENT = Quantity("disagreement within orbits", "1", per="network")
SHARE = Quantity("invariant share of variance", "1", per="network")

_BITS = 12  # of the task of Shwartz-Ziv & Tishby


@dataclass(frozen=True)
class Invariance:
    r"""How far the network has the symmetries of its task: permutations of the inputs' places.

    With g drawn uniformly from the group and x from the probe:

    - disagreement within orbits, P(class of x ≠ class of gx): 0 where every decision is
      invariant; that of the labels themselves is the diagnostic ``labels``;
    - invariant share of variance, of the logits less their mean over the classes (of two classes:
      their difference), f:

      .. math:: \mathrm{Var}_x\big( \mathbb E_g f(gx) \big) \big/ \mathrm{Var}_x f(x)

      1 of an invariant function, about the number of orbits by the number of samples of one that
      knows nothing of the group. NaN, flagged ``constant``, of a function that is constant.

    A network that gives one class to all samples never disagrees: ``one_class`` is flagged.
    Where the labels themselves are not invariant, the group is none of the task, or its labels are
    noisy: ``labels_vary`` is flagged.

    Args:
        permutations: Permutations of the places of an input vector, which generate the group. None:
            the 15 reflections of the icosahedron, which generate the 120 symmetries of the 12-bit
            task (82 orbits); only where the probe is all its 4096 patterns.

    Raises:
        ConfigError: If ``permutations`` are not permutations of one length.
        Unsupported: When called, if the probe is not one whole orbit after the other, each sample
            once, or the network does not give a class to each.

    Example:
        >>> Invariance(permutations=[(1, 0, 2)]).permutations
        ((1, 0, 2),)
    """

    permutations: Sequence[Sequence[int]] | None = None

    tags: ClassVar[LensTags] = LensTags(
        quantities=(DISAGREEMENT, SHARE),
        reference="Raj et al. 2017, Local Group Invariant Representations via Orbit Embeddings "
        "(group averaging)",
        needs=frozenset({"inputs"}),
        cost="O(N d) for each permutation",
        caveats="an untrained ReLU network that gives one class to all is perfectly invariant",
    )

    def __post_init__(self) -> None:
        if self.permutations is None:
            return
        given = () if is_alone(self.permutations) else tuple(self.permutations)
        rows = [() if is_alone(row) else tuple(row) for row in given]
        whole = all(isinstance(at, int) and not isinstance(at, bool) for row in rows for at in row)
        if (
            not rows
            or not rows[0]
            or not whole
            or any(sorted(row) != [*range(len(rows[0]))] for row in rows)
        ):
            raise ConfigError(
                "Invariance: permutations must be permutations of 0 … d-1, such as "
                f"[(1, 0, 2)], got {shown(self.permutations)}"
            )
        object.__setattr__(self, "permutations", tuple(rows))

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """Both quantities; see `ibtrace.types.Lens`."""
        labels, logits = view.labels, view.logits.double()
        if labels.dim() != 2 or labels.is_floating_point() or logits.dim() != 3:
            raise Unsupported("invariance is of networks that give one class to each sample")
        classes = max(2, logits.shape[2])
        ids = self._orbits(rows_of(view.inputs)[0])
        diverged = ~logits.isfinite().flatten(1).all(1)
        decided = view.decisions
        apart = _disagreement(decided, ids, classes).masked_fill(diverged, torch.nan)
        of_labels = _disagreement(labels.long(), ids, int(labels.max()) + 1)
        f = logits if logits.shape[2] == 1 else logits - logits.mean(2, keepdim=True)
        share = _share(f, ids)
        constant = share.isnan() & ~diverged
        flags = {"labels_vary": of_labels > 0, "diverged": diverged}
        one_class = (decided == decided[:, :1]).all(1) & ~diverged
        known = {"labels": of_labels, "orbits": ids.max() + 1}
        read = {
            DISAGREEMENT: Reading(
                apart, "1", flags={"one_class": one_class, **flags}, diagnostics=known
            ),
            SHARE: Reading(share, "1", flags={"constant": constant, **flags}),
        }
        return {quantity.name: {"": reading} for quantity, reading in read.items()}

    def _orbits(self, x: Tensor) -> Tensor:
        """The orbit of each sample, ``(n,)``."""
        places = x.shape[1]
        if self.permutations is None:
            if places != _BITS or patterns(x) is None:
                raise Unsupported(
                    "the symmetries known without being given are those of the 12-bit task, on all "
                    "its 4096 patterns; give Invariance(permutations=…)"
                )
            group: Sequence[Sequence[int]] = reflections()
        else:
            group = self.permutations
            if len(group[0]) != places:
                raise Unsupported(
                    f"Invariance permutes {len(group[0])} places, and inputs have {places}"
                )
        ids = orbits(x, group)
        if ids is None:
            raise Unsupported(
                "what the permutations make of the samples is not all in the probe, each once; "
                "give a probe of whole orbits (all patterns)"
            )
        return ids


def _disagreement(decided: Tensor, ids: Tensor, classes: int) -> Tensor:
    """P(class of x ≠ class of gx) of classes ``(s, n)``: 1 - Σ p² in each orbit, ``(s,)``."""
    one_hot = torch.nn.functional.one_hot(decided, classes).double()
    means = _orbit_means(one_hot, ids)
    apart: Tensor = (1 - means.square().sum(2)).mean(1)
    return apart


def _share(f: Tensor, ids: Tensor) -> Tensor:
    """The share of the variance of functions ``(s, n, k)`` that is between orbits, ``(s,)``."""
    centred = f - f.mean(1, keepdim=True)
    total, size = centred.square().sum((1, 2)), f.square().sum((1, 2))
    share = _orbit_means(centred, ids).square().sum((1, 2)) / total
    return share.masked_fill(total <= 1e-24 * size, torch.nan)


def _orbit_means(f: Tensor, ids: Tensor) -> Tensor:
    """Functions ``(s, n, k)`` with each value replaced by the mean over its orbit."""
    count = torch.bincount(ids).double()
    sums = f.new_zeros(len(f), len(count), f.shape[2]).index_add(1, ids, f)
    return (sums / count[:, None])[:, ids]
