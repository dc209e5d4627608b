"""Generalization: loss and accuracy on training and test samples, and the gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.lenses._classes import decisions_or_none, scores
from ibtrace.lenses._curvature import diverged
from ibtrace.numerics.spectra import mean_and_error
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
    samples, √(σ²/n), those of the gaps of both samples. Accuracies are left out where the labels
    are not classes that the networks give (that of the largest logit; one output is that of two
    labels which costs less); of several labels a sample it is the share that is right.

    Raises:
        Unsupported: When called, if the training or the test samples are not known.

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
        """All quantities that there are; see `ibtrace.types.Lens`."""
        training, test = view.training, view.test
        if training is None or test is None:
            raise Unsupported(
                "the training and test samples are not known: give the tracer Recipe(data, test)"
            )
        lost = diverged(view)
        train_loss, test_loss = (_mean(seen.losses, LOSS, lost) for seen in (training, test))
        read = {
            TRAIN_LOSS: train_loss,
            TEST_LOSS: test_loss,
            LOSS_GAP: _difference(test_loss, train_loss),
        }
        right = [_right(seen) for seen in (training, test)]
        if all(each is not None for each in right):
            train, of_test = (_mean(each, "1", lost) for each in right if each is not None)
            read |= {TRAIN: train, TEST: of_test, GAP: _difference(train, of_test)}
        return {quantity.name: {"": reading} for quantity, reading in read.items()}


def _right(view: View) -> Tensor | None:
    """The share of each sample's labels that is right, ``(s, n)``; NaN where a logit is.

    None where the networks give no classes.
    """
    decisions = decisions_or_none(view)
    if decisions is None:
        return None
    right, lost = (decisions == view.labels).double(), ~scores(view).isfinite()
    right = right.masked_fill(lost if lost.dim() == right.dim() else lost.any(-1), torch.nan)
    return right.flatten(1) if right.dim() <= 2 else right.flatten(2).mean(-1)


def _mean(values: Tensor, unit: str, lost: Tensor) -> Reading:
    """The mean over samples ``(s, n)``."""
    mean, error = mean_and_error(values.double().T)
    flags = {"diverged": lost, "not_finite": ~mean.isfinite()}
    samples = {"samples": torch.tensor(values.shape[1])}
    return Reading(mean, unit, error, flags=flags, diagnostics=samples)


def _difference(a: Reading, b: Reading) -> Reading:
    flags = {name: a.flags[name] | b.flags[name] for name in a.flags}
    return Reading(a.value - b.value, a.unit, torch.hypot(a.stderr, b.stderr), flags=flags)
