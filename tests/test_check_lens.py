"""The contract of a lens holds for every registered one, and sees what is wrong with a bad one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from ibtrace import lenses
from ibtrace.testing import check_lens
from ibtrace.types import LensTags, Quantity, Reading

NORM = Quantity("norm", "1", "network")
TAGS = LensTags((NORM,), "a textbook")


@pytest.mark.parametrize("name", lenses.names())
def test_every_lens_keeps_the_contract(name: str) -> None:
    check_lens(lenses.make(name))


@dataclass(frozen=True)
class Norm:
    """The norm of all weights: keeps the contract."""

    tags: ClassVar[LensTags] = TAGS

    def norm(self, view: Any) -> torch.Tensor:
        squares = [p.square().flatten(1).sum(1) for p in view.parameters.values()]
        return torch.stack(squares).sum(0).sqrt()

    def __call__(
        self, view: Any, probe: Any, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        return {"norm": {"": Reading(self.norm(view), "1")}}


class Unsourced(Norm):
    tags = LensTags((NORM,), "")


class Unitless(Norm):
    tags = LensTags((Quantity("norm", "", "network"),), "a textbook")


class Unnamed(Norm):
    tags = LensTags((Quantity("length", "1", "network"),), "a textbook")


class OfALayer(Norm):
    tags = LensTags((Quantity("norm", "1", "layer"),), "a textbook")


class InMetres(Norm):
    def __call__(self, view: Any, probe: Any, *, seed: int = 0) -> Any:
        return {"norm": {"": Reading(self.norm(view), "m")}}


class Pooled(Norm):
    def __call__(self, view: Any, probe: Any, *, seed: int = 0) -> Any:
        return {"norm": {"": Reading(self.norm(view).mean(), "1")}}


class Mixing(Norm):
    def norm(self, view: Any) -> torch.Tensor:
        return super().norm(view) / super().norm(view).max()


class Drawing(Norm):
    def norm(self, view: Any) -> torch.Tensor:
        return super().norm(view) + torch.rand(len(view.seeds))


class Writing(Norm):
    def norm(self, view: Any) -> torch.Tensor:
        next(iter(view.parameters.values())).mul_(2)
        return super().norm(view)


class Greedy(Norm):
    def norm(self, view: Any) -> torch.Tensor:
        loss: torch.Tensor = view.loss
        return loss


def test_a_good_lens_passes() -> None:
    check_lens(Norm())


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (Unsourced(), "name no source"),
        (Unitless(), "needs a name and a unit"),
        (Unnamed(), "its tags name .*length.* which it does not read"),
        (OfALayer(), "norm is per layer, and was read of ''"),
        (InMetres(), "norm is in '1', and was read in 'm'"),
        (Pooled(), "one number a network, got shape \\(\\)"),
        (Mixing(), "a network alone gives other numbers"),
        (Drawing(), "draws from the global generator"),
        (Writing(), "changes 0.weight of the view"),
        (Greedy(), "asks for loss, and its tags' needs lack 'loss'"),
    ],
)
def test_a_bad_lens_is_told_what_is_wrong(bad: Any, match: str) -> None:
    with pytest.raises(AssertionError, match=match):
        check_lens(bad)


def test_what_is_no_frozen_dataclass_is_told_so() -> None:
    class Plain:
        tags = TAGS

        def __call__(self, view: Any, probe: Any, *, seed: int = 0) -> Any:
            return Norm()(view, probe)

    with pytest.raises(AssertionError, match="no frozen dataclass"):
        check_lens(Plain())
