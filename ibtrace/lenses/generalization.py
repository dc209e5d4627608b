"""Generalization: loss and accuracy on training and test samples, and the gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.types import LOSS, LensTags, ProbeLike, Quantity, Reading, View

TRAIN_LOSS = Quantity("training loss", LOSS, per="network")
TEST_LOSS = Quantity("test loss", LOSS, per="network")
TRAIN = Quantity("training accuracy", "1", per="network")
TEST = Quantity("test accuracy", "1", per="network")
LOSS_GAP = Quantity("loss gap", LOSS, per="network")
GAP = Quantity("accuracy gap", "1", per="network")


@dataclass(frozen=True)
class Generalization:
    """Mean loss and accuracy on the training and the test samples of each network, and the gaps.

    The loss gap is test less training, the accuracy gap training less test, so that both are above
    0 where a network remembers more than it learns. Standard errors are over the draw of the
    samples, √(σ²/n), those of the gaps of both samples.

    Raises:
        Unsupported: When called, if the training or the test samples are not known, or the labels
            are no classes.

    Example:
        >>> Generalization().tags.quantities[-1].name
        'accuracy gap'
    """

    tags: ClassVar[LensTags] = LensTags(
        quantities=(TRAIN_LOSS, TEST_LOSS, TRAIN, TEST, LOSS_GAP, GAP),
        reference="Zhang et al. 2017, Understanding deep learning requires rethinking "
        "generalization",
        needs=frozenset({"loss", "training", "test"}),
        cost="a forward pass of training and test samples",
        caveats="a test sample that was looked at to choose a network is none any more",
    )

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """All quantities; see `ibtrace.types.Lens`."""
        training, test = view.training, view.test
        if training is None or test is None:
            raise Unsupported(
                "the training and test samples are not known: give the tracer Recipe(data, test)"
            )
        losses = [_mean(seen.losses) for seen in (training, test)]
        right = [_mean(_right(seen)) for seen in (training, test)]
        return {
            TRAIN_LOSS.name: {"": Reading(losses[0][0], LOSS, losses[0][1])},
            TEST_LOSS.name: {"": Reading(losses[1][0], LOSS, losses[1][1])},
            TRAIN.name: {"": Reading(right[0][0], "1", right[0][1])},
            TEST.name: {"": Reading(right[1][0], "1", right[1][1])},
            LOSS_GAP.name: {"": _difference(losses[1], losses[0], LOSS)},
            GAP.name: {"": _difference(right[0], right[1], "1")},
        }


_MeanError = tuple[Tensor, Tensor]


def _right(view: View) -> Tensor:
    """Whether each sample is classified as it is labelled, ``(s, n)``."""
    if view.labels.is_floating_point() or view.logits.shape[-1] < 2:
        raise Unsupported("accuracy needs classes, one a sample")
    right = (view.logits.argmax(-1) == view.labels).double()
    return right if right.dim() == 2 else right.flatten(2).mean(-1)


def _mean(values: Tensor) -> _MeanError:
    values = values.double()
    return values.mean(1), values.std(1) / values.shape[1] ** 0.5


def _difference(a: _MeanError, b: _MeanError, unit: str) -> Reading:
    return Reading(a[0] - b[0], unit, torch.hypot(a[1], b[1]))
