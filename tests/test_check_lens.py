"""check_lens passes honest lenses and names what is wrong with each of the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from ibtrace import lenses
from ibtrace.lenses import EffectiveDimension, Flatness, Saturation, Topology
from ibtrace.testing import check_lens, lens_checks
from ibtrace.testing._views import cases
from ibtrace.types import Lens, LensTags, Need, ProbeLike, Quantity, Reading, View

NORM = Quantity("gradient norm", "loss", "network")
TRACE = Quantity("curvature", "loss", "network")
HEIGHT = Quantity("largest value", "V")
Read = Mapping[str, Mapping[str, Reading]]


def norm(of_parameters: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([v.square().flatten(1).sum(1) for v in of_parameters.values()]).sum(0).sqrt()


def heights(view: View) -> dict[str, Reading]:
    return {n: Reading(t.flatten(1).amax(1), "V") for n, t in view.activations.items()}


@dataclass(frozen=True)
class Good:
    """The gradient's norm, a random estimate of the curvature, and the largest values."""

    draws: int = 2
    tags: ClassVar[LensTags] = LensTags(
        (NORM, TRACE, HEIGHT),
        "Hutchinson 1990, Communications in Statistics 19",
        frozenset({"activations", "gradient", "hessian"}),
        cost="N P",
    )

    def __call__(self, view: View, probe: ProbeLike, *, seed: int = 0) -> Read:
        generator = torch.Generator().manual_seed(seed)
        total = torch.zeros(len(view.seeds), dtype=torch.float64)
        for _ in range(self.draws):
            vector = {
                name: torch.randn(value.shape[1:], generator=generator, dtype=value.dtype)
                .expand_as(value)
                .clone()
                for name, value in view.parameters.items()
            }
            product = view.hessian_product(vector)
            total += sum((vector[n] * product[n]).flatten(1).sum(1) for n in vector) / self.draws
        return {
            "gradient norm": {"": Reading(norm(view.gradient), "loss")},
            "curvature": {"": Reading(total, "loss")},
            "largest value": heights(view),
        }


@dataclass(frozen=True)
class Weights:
    """The norm of all weights, for which the weights are enough."""

    tags: ClassVar[LensTags] = LensTags(
        (Quantity("weights' norm", "1", "network"),), "a textbook of 1999", cost="P"
    )

    def __call__(self, view: View, probe: ProbeLike, *, seed: int = 0) -> Read:
        return {"weights' norm": {"": Reading(norm(view.parameters), "1")}}


# by default of the 12-bit task alone, which is too many samples here
CONFIGURED = {"invariance": {"permutations": [(1, 2, 3, 4, 0), (1, 0, 2, 3, 4)]}}


@pytest.mark.parametrize(
    "lens",
    [
        Weights(),
        *(lenses.make(name, **CONFIGURED.get(name, {})) for name in lenses.names()),
        *(Saturation(0.2), Good(), EffectiveDimension(of="hessian"), Flatness(by="error")),
    ],
)
@pytest.mark.parametrize(("name", "check"), lens_checks)
def test_an_honest_lens_passes(name: str, check: Callable[[Lens], None], lens: Lens) -> None:
    if isinstance(lens, Topology):
        pytest.importorskip("ripser", reason="the extra 'topology' is not installed")
    check(lens)


# --- planted faults -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """The largest value of each layer, made wrong by a function that a test gives."""

    wrong: Callable[[View, int], Read]
    tags: ClassVar[LensTags] = LensTags(
        (HEIGHT,), "Nobody 1999", frozenset({"activations"}), cost="N d"
    )

    def __call__(self, view: View, probe: ProbeLike, *, seed: int = 0) -> Read:
        return self.wrong(view, seed)


def _each(change: Callable[[Tensor], Any]) -> Callable[[View, int], Read]:
    """The largest values with each changed."""

    def read(view: View, seed: int) -> Read:
        changed = {n: change(t.flatten(1).amax(1)) for n, t in view.activations.items()}
        made = {n: v if isinstance(v, Reading) else Reading(v, "V") for n, v in changed.items()}
        return {"largest value": made}

    return read


def _first(view: View) -> Tensor:
    return next(iter(view.activations.values()))


def undeclared(view: View, seed: int) -> Read:
    return {"largest value": {n: Reading(norm(view.gradient), "V") for n in view.activations}}


def unseeded(view: View, seed: int) -> Read:
    return _each(lambda top: top + torch.rand(()))(view, seed)


def reseeding(view: View, seed: int) -> Read:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    return _each(lambda top: top + torch.rand(()))(view, seed)


def writing(view: View, seed: int) -> Read:
    _first(view)[:, 0] = 0
    return {"largest value": heights(view)}


def writing_and_undoing(view: View, seed: int) -> Read:
    _first(view).add_(1).sub_(1)
    return {"largest value": heights(view)}


def by_rank(view: View, seed: int) -> Read:
    return _each(lambda top: top.argsort().argsort().double())(view, seed)


def by_place(view: View, seed: int) -> Read:
    return _each(lambda top: top + torch.arange(len(top)))(view, seed)


FAULTS: list[tuple[Callable[[View, int], Read], str, str]] = [
    (_each(lambda top: Reading(top, "m")), "readings", "largest value is in 'V', and was 'm'"),
    (_each(lambda top: top.mean()), "readings", "must be one number a network, got shape ()"),
    (_each(lambda top: top * torch.nan), "readings", "is not finite and has no flag"),
    (_each(lambda top: Reading(top, "V", stderr=-top.abs())), "readings", "error below 0"),
    (
        _each(lambda top: Reading(top, "V", lower=top + 1, upper=top)),
        "readings",
        "a lower end above the upper",
    ),
    (
        _each(lambda top: Reading(top, "V", diagnostics={"step": top})),
        "readings",
        "diagnostics ['step'] have a column's name; rename them",
    ),
    (lambda view, _: {"volume": heights(view)}, "readings", "reads 'volume', which its tags do"),
    (lambda view, _: {"largest value": {"x": Reading(_first(view)[:, 0, 0], "V")}}, "readings",
     "was read of 'x', no layer that is traced"),
    (lambda view, _: {"largest value": {"": Reading(_first(view)[:, 0, 0], "V")}}, "readings",
     "is per layer, and was read of ''"),
    (lambda view, _: {"largest value": {}}, "readings", "never reads largest value"),
    (undeclared, "needs", "view.gradient is asked for, and tags.needs lacks 'gradient'"),
    (lambda view, _: {"largest value": {}}, "needs", "has activations, and it is never asked for"),
    # mypy: what a lens must not ask for
    (lambda view, seed: {"largest value": {n: Reading(r.value + len(repr(view._setting)), "V")  # type: ignore[attr-defined]
                                           for n, r in heights(view).items()}},
     "needs", "view._setting is not in the protocol of a view"),
    (unseeded, "seed", "the same seed gives two results"),
    (unseeded, "global_state", "changes global state: torch's generator"),
    (reseeding, "global_state", "torch's generator, numpy's generator, python's generator"),
    (writing, "view", "writes to the view's activations"),
    (writing_and_undoing, "view", "writes to the view's activations"),
    (by_rank, "networks", "a dense network reads otherwise among others than alone"),
    (by_place, "networks", "reads otherwise among others than alone"),
    (by_place, "order", "the order of the networks changes their numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "name", "said"), FAULTS)
def test_a_fault_is_found_and_named(
    wrong: Callable[[View, int], Read], name: str, said: str
) -> None:
    lens = Fault(wrong)
    with pytest.raises(AssertionError) as caught:
        dict(lens_checks)[name](lens)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(AssertionError) as caught:
        check_lens(lens)
    assert f"\n{name}: AssertionError: " in str(caught.value)


def tags(**changes: Any) -> LensTags:
    given = {"quantities": (HEIGHT,), "reference": "Nobody 1999", "cost": "N d", **changes}
    needs: frozenset[Need] = frozenset({"activations"})
    return LensTags(**{"needs": needs, **given})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantities": ()}, "its tags lack quantities"),
        ({"reference": ""}, "its tags lack reference"),
        ({"reference": "nobody"}, "tags.reference has no year"),
        ({"cost": ""}, "its tags lack cost"),
        ({"quantities": (HEIGHT, HEIGHT)}, "name a quantity twice"),
        ({"quantities": (Quantity("height", ""),)}, 'height has no unit; "1" is a pure number'),
        ({"quantities": (Quantity("I(X;T)", "bits"),)}, "is what estimators measure"),
        ({"needs": frozenset({"weights"})}, r"tags.needs has ['weights']; a view has"),
    ],
)
def test_tags_that_lack_something_are_named(changes: dict[str, Any], said: str) -> None:
    kind = type("Tagged", (Fault,), {"tags": tags(**changes), "__doc__": "A lens."})
    with pytest.raises(AssertionError) as caught:
        dict(lens_checks)["tags"](kind(_each(lambda top: top)))
    assert said in str(caught.value)


def test_a_lens_without_a_docstring_and_what_is_no_lens_are_named() -> None:
    Bare: Any = dataclass(frozen=True)(type("Bare", (Fault,), {"__annotations__": {}}))
    wrong = _each(lambda top: top)
    with pytest.raises(AssertionError, match="it has no docstring"):
        dict(lens_checks)["tags"](Bare(wrong))
    with pytest.raises(AssertionError, match="has no tags, or is not called"):
        dict(lens_checks)["value"](lambda: None)  # type: ignore[arg-type]  # refused


def test_a_lens_that_can_be_changed_is_named() -> None:
    @dataclass
    class Changing:
        """It can be changed."""

        tags: ClassVar[LensTags] = tags()

        def __call__(self, view: View, probe: ProbeLike, *, seed: int = 0) -> Read:
            return {"largest value": heights(view)}

    with pytest.raises(AssertionError, match="is no frozen dataclass"):
        dict(lens_checks)["value"](Changing())


def test_the_unit_of_the_loss_is_filled_in() -> None:
    case, *_ = cases()
    view = case.view()
    read = lenses.checked(Good(), Good()(view, case.probe), view, [*view.activations])
    units = {quantity: reading.unit for quantity, _, reading in read}
    assert units == {"gradient norm": "nats", "curvature": "nats", "largest value": "V"}
