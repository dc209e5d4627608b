"""What makes a network another one is seen, wherever it hangs; what only looks at it is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look
from ibtrace.errors import RunError
from ibtrace.numerics.bins import digest
from ibtrace.tracer import Tracer
from ibtrace.tracer._attributes import attributes, told
from ibtrace.tracer._weights import Weights

X = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


class Net(nn.Module):
    """A network with everything in it that a forward may depend on."""

    calls: Tensor
    adjacency: Tensor

    def __init__(self, seed: int = 0, **changes: Any) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.act, self.last = nn.Linear(5, 300), nn.Tanh(), nn.Linear(300, 2)
        self.f: Callable[[Tensor], Tensor] = torch.tanh
        self.scale, self.mode = 3.0, "wide"
        self.widths, self.options = [1, 2], SimpleNamespace(p={"gain": 1.0})
        self.shift, self.mask = torch.zeros(5), np.ones(5, dtype="float32")
        self.spare = [nn.Linear(2, 2)]
        self.seen: Tensor | None = None
        self.cache: Tensor | None = None
        self.batches = 0
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        for name, value in changes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.batches += 1
        self.cache = self.seen = self.f(self.act(self.first(x + self.shift)))
        out: Tensor = self.scale * self.last(self.seen)
        return out


def doubled(self: Net, x: Tensor) -> Tensor:
    return 2 * x


def lesion(model: Net) -> None:
    with torch.no_grad():
        model.first.weight[7, 3] = 0


def hook(_module: nn.Module, _x: Any, out: Tensor) -> Tensor:
    return 0 * out


CHANGES: dict[str, tuple[Callable[[Net], Any], str]] = {
    "one weight": (lesion, "first.weight"),
    "a sign": (lambda m: m.first.weight.data[:, :2].neg_(), "first.weight"),
    "two rows": (lambda m: m.first.weight.data[:2].copy_(m.first.weight[:2].flip(0)), "first.we"),
    "a hook": (lambda m: m.act.register_forward_hook(hook), "act.forward_hooks"),
    "a hook before": (lambda m: m.act.register_forward_pre_hook(lambda *_: None), "act.forward_pr"),
    "a module": (lambda m: setattr(m, "act", nn.Identity()), "act"),
    "a forward": (lambda m: setattr(m, "forward", partial(doubled, m)), "forward"),
    "an activation's forward": (lambda m: setattr(m.act, "forward", torch.relu), "act.forward"),
    "a function": (lambda m: setattr(m, "f", torch.relu), "f"),
    "a number": (lambda m: setattr(m, "scale", 0.0), "scale"),
    "a word": (lambda m: setattr(m, "mode", "thin"), "mode"),
    "a list": (lambda m: m.widths.__setitem__(0, 3), "widths.0"),
    "a namespace": (lambda m: m.options.p.update(gain=2.0), "options.p.gain"),
    "a tensor": (lambda m: m.shift.add_(1), "shift"),
    "an array": (lambda m: m.mask.fill(0), "mask"),
    "a module in a list": (lambda m: m.spare[0].weight.data.zero_(), "spare.0.weight"),
    "an attribute that is gone": (lambda m: delattr(m, "mode"), "mode"),
    "a type": (lambda m: m.half(), "first.weight"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_makes_it_another_is_seen_and_named(change: str) -> None:
    model = Net()
    weights = Weights(model)
    assert weights.changed() == []
    make, name = CHANGES[change]
    make(model)
    assert any(part.startswith(name) for part in weights.changed())


@pytest.mark.parametrize("change", ["one weight", "a hook", "a module", "a number", "a tensor"])
def test_and_is_not_measured_as_the_last_epoch(change: str) -> None:
    model = Net()
    tracer = Tracer(model, (X, Y), estimators="binning", look="act", every=[1])
    tracer.snapshot(2)
    make, name = CHANGES[change]
    make(model)
    with pytest.warns(UserWarning, match=rf"epoch 2, the last, .* have changed since \({name}"):
        tracer.close()
    assert sorted(tracer.trace.frame()["epoch"].unique()) == [0]


def evaluated(model: Net) -> None:
    model.eval()(X[:9])
    model.train()


def copied(model: Net) -> None:
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    model.act = nn.Tanh()


def looked(model: Net) -> None:
    Tracer(model, (X, Y), estimators="binning", look="act").close()


def recorded(model: Net) -> None:
    """A list that grows is a record of the training, as Lightning's users keep of their steps."""
    model.widths.append(3)


HARMLESS = [
    evaluated,
    recorded,
    copied,
    looked,
    lambda m: m.eval(),
    lambda m: m.requires_grad_(False),
]


@pytest.mark.parametrize("use", HARMLESS)
def test_what_only_looks_at_it_is_no_change(use: Callable[[Net], Any]) -> None:
    """Counters, caches and last outputs move in a forward: the model's own, in every evaluation."""
    model = Net()
    tracer = Tracer(model, (X, Y), estimators="binning", look="act", every=[1])
    tracer.snapshot(2)
    use(model)
    before = int(model.calls), model.batches, model.seen
    tracer.close()
    assert sorted(tracer.trace.frame()["epoch"].unique()) == [0, 2]
    assert before[:2] == (int(model.calls), model.batches)
    assert model.seen is before[2]


class Metric(nn.Module):
    """What a model holds and no forward runs."""

    def __init__(self) -> None:
        super().__init__()
        self.total, self.gain = torch.zeros(()), nn.Parameter(torch.ones(()))
        self.best = 0.0


def test_numbers_of_what_no_forward_runs_are_no_change_and_its_parameters_are() -> None:
    metric = Metric()
    model = Net(metric=metric)
    for change, epochs in (("total", [0, 2]), ("best", [0, 2]), ("gain", [0])):
        tracer = Tracer(model, (X, Y), estimators="binning", look="act", every=[1])
        tracer.snapshot(2)
        held = getattr(metric, change)
        setattr(metric, change, nn.Parameter(held + 1) if change == "gain" else held + 1)
        if change == "gain":
            with pytest.warns(UserWarning, match=r"have changed since \(metric.gain\)"):
                tracer.close()
        else:
            tracer.close()
        assert sorted(tracer.trace.frame()["epoch"].unique()) == epochs


DENSE = torch.eye(5)
HELD: dict[str, Callable[[], Tensor]] = {
    "coo": lambda: DENSE.to_sparse(),
    "csr": lambda: DENSE.to_sparse_csr(),
    "csc": lambda: DENSE.to_sparse_csc(),
    "meta": lambda: torch.empty(3, device="meta"),
    "expanded": lambda: torch.ones(1).expand(5),
    "conjugate": lambda: torch.ones(3, dtype=torch.cfloat).conj(),
}


@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support is in beta")
@pytest.mark.parametrize("kind", HELD)
def test_tensors_of_any_layout_are_watched_and_stop_no_close(kind: str) -> None:
    model = Net(adjacency=HELD[kind]())
    tracer = Tracer(model, (X, Y), estimators="binning", look="act", every=[1])
    tracer.snapshot(2)
    evaluated(model)
    tracer.close()
    assert sorted(tracer.trace.frame()["epoch"].unique()) == [0, 2]
    if kind in ("coo", "csr", "csc"):
        weights = Weights(model)
        model.adjacency = 2 * model.adjacency
        assert weights.changed() == ["adjacency"]


@pytest.mark.parametrize("n", [0, 1, 3, 4095, 4096, 4097, 2**20 + 5])
@pytest.mark.parametrize("kind", [torch.uint8, torch.bool, torch.half, torch.double, torch.cfloat])
def test_every_byte_counts(kind: torch.dtype, n: int) -> None:
    value = torch.zeros(n, dtype=kind)
    at = {0, n // 2, n - 1} if n else set()
    digests = {digest(value)}
    for place in at:
        value[place] = 1
        digests.add(digest(value))
        value[place] = 0
    assert len(digests) == 1 + len(at)
    assert digest(value) in digests


def traced(run: Path, model: nn.Module, seed: int, **look: Any) -> None:
    Tracer(
        model,
        (X, Y),
        estimators="binning",
        look=Look(layers="act", **look),
        keep=run,
        seed=seed,
    ).close()


def calls(text: str) -> Any:
    """A function of one name, ``call``, with other code."""
    space: dict[str, Any] = {}
    exec(f"def call(model, x):\n    return {text}", space)
    return space["call"]


def scaled(by: float) -> Callable[[Tensor], Tensor]:
    return lambda x: by * x


class Held:
    """An object whose method a model holds."""

    def one(self, x: Tensor) -> Tensor:
        return x

    def other(self, x: Tensor) -> Tensor:
        return -x


REFUSED: dict[str, tuple[Any, Any]] = {
    "torch's": (torch.tanh, torch.relu),
    "NumPy's": (np.tanh, np.sin),
    "defaults": (lambda x, g=torch.tanh: g(x), lambda x, g=torch.relu: g(x)),
    "of a name alike": (lambda x: x, lambda x: -x),
    "partial": (partial(torch.clamp, min=0), partial(torch.add, other=0)),
    "methods": (Held().one, Held().other),
    "classes": (nn.ReLU, nn.Tanh),
}


@pytest.mark.parametrize("name", REFUSED)
def test_seeds_whose_models_hold_other_functions_do_not_share_a_run(
    name: str, tmp_path: Path
) -> None:
    def net(at: int) -> nn.Module:
        return nn.Sequential(Net(f=torch.tanh, g=REFUSED[name][at]))

    look: dict[str, Any] = {"forward": lambda model, x: model(x)}
    Tracer(net(0), (X, Y), estimators="binning", look=Look("0.act", **look), keep=tmp_path)
    with pytest.raises(
        RunError, match=r"computes otherwise: 0\.g(\.default 0)? is .* in the run, .* now"
    ):
        Tracer(
            net(1), (X, Y), estimators="binning", look=Look("0.act", **look), keep=tmp_path, seed=1
        )
    Tracer(net(0), (X, Y), estimators="binning", look=Look("0.act", **look), keep=tmp_path, seed=1)


def test_nor_do_those_that_are_called_by_other_code_of_one_name(tmp_path: Path) -> None:
    traced(tmp_path, Net(), 0, forward=calls("model(x)"))
    traced(tmp_path, Net(1), 1, forward=calls("model(x)  # as ever"))
    with pytest.raises(RunError, match=r"computes otherwise: forward= is call \(code"):
        traced(tmp_path, Net(2), 2, forward=calls("model(2 * x)"))


def test_nor_those_with_another_forward_of_a_class_of_one_name(tmp_path: Path) -> None:
    traced(tmp_path, Net(), 0)
    other = type("Net", (Net,), {"forward": lambda self, x: self.last(self.act(self.first(x)))})
    other.__qualname__ = "Net"
    with pytest.raises(RunError, match=r"computes otherwise: forward\(\) is Net\.forward"):
        traced(tmp_path, other(), 1)


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "a number": ({"scale": 2.0}, "scale is 3.0 in the run, 2.0 now"),
    "a word": ({"mode": "thin"}, "mode is 'wide' in the run, 'thin' now"),
    "an item": ({"widths": [1, 5]}, r"widths\.1 is 2"),
    "further down": ({"options": SimpleNamespace(p={"gain": 2.0})}, r"options\.p\.gain is 1\.0"),
    "in a closure": ({"f": scaled(2.0)}, r"f\.by is 1\.0 in the run, 2\.0 now"),
    "a partial's": ({"f": partial(torch.mul, other=2.0)}, "computes otherwise|other"),
}


@pytest.mark.parametrize("name", VALUES)
def test_other_numbers_and_words_are_said(name: str, tmp_path: Path) -> None:
    """They may be the seed's name: the run goes on."""
    changes, match = VALUES[name]
    base: dict[str, Any] = {"f": scaled(1.0)} if "closure" in name else {}
    base |= {"f": partial(torch.mul, other=1.0)} if "partial" in name else {}
    traced(tmp_path, Net(**base), 0)
    with pytest.warns(UserWarning, match=match):
        traced(tmp_path, Net(1, **changes), 1)


def test_data_that_a_model_holds_are_not_read_through() -> None:
    model = nn.Module()
    vars(model)["data"] = [{"n": at} for at in range(100_000)]
    assert len(list(attributes(model))) == 1000
    assert told(scaled) == told(scaled)
