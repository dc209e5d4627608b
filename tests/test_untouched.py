"""A lens of the user's that writes changes nothing: not the training, nor what others read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from ibtrace import Recipe
from ibtrace.ensemble import Ensemble
from ibtrace.errors import LensFailed
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
SIZE = Quantity("size", "1", per="network")

Write = Callable[[Any, Any, Any, Any], object]


@dataclass(frozen=True)
class Writes:
    """Does something at every look after the first, and reads one number."""

    write: Callable[[Any, Any], object]
    raises: bool = False

    tags: ClassVar[LensTags] = LensTags((SIZE,), "a test 2026", frozenset({"initial", "previous"}))

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        if view.epoch:
            self.write(view, probe)
            if self.raises:
                raise ValueError("its own error")
        return {"size": {"": Reading(torch.ones(len(view.seeds)), "1")}}


def _zero(tensors: Mapping[str, Tensor]) -> None:
    for tensor in tensors.values():
        tensor.zero_()


WRITES: dict[str, tuple[Write, str]] = {
    "parameters": (lambda v, p, m, o: _zero(v.parameters), "parameter 0.bias"),
    "parameters of the model": (lambda v, p, m, o: m[0].weight.data.zero_(), "parameter 0.weight"),
    "another memory": (
        lambda v, p, m, o: setattr(m[0].weight, "data", torch.zeros(6, 3)),
        "parameter 0.weight",
    ),
    "buffers": (lambda v, p, m, o: _zero(dict(m.named_buffers())), "buffer 1."),
    "inputs": (lambda v, p, m, o: v.inputs.zero_(), "the probe's inputs"),
    "inputs of the probe": (lambda v, p, m, o: p.x.zero_(), "the probe's inputs"),
    "labels": (lambda v, p, m, o: p.labels.zero_(), "the probe's labels"),
    "activations": (lambda v, p, m, o: _zero(v.activations), "activations 2"),
    "training samples": (lambda v, p, m, o: v.training.inputs.zero_(), "the recipe's data: inputs"),
    "test labels": (lambda v, p, m, o: v.test.labels.zero_(), "the recipe's test: labels"),
    "the first look": (lambda v, p, m, o: _zero(v.initial.parameters), "parameter 0.bias at epoch"),
    "no gradients": (lambda v, p, m, o: m.zero_grad(), "the gradient of 0.bias"),
    "gradients": (lambda v, p, m, o: m[0].weight.grad.zero_(), "the gradient of 0.weight"),
    "a frozen weight": (lambda v, p, m, o: m.requires_grad_(False), "requires_grad of 0.bias"),
    "the mode": (lambda v, p, m, o: m.eval(), "the mode of 0"),
    "hooks": (lambda v, p, m, o: m.register_forward_hook(lambda *_: None), "the hooks of the"),
    "a step": (lambda v, p, m, o: o.step(), "parameter 0.bias"),
    "its rate": (lambda v, p, m, o: o.param_groups[0].update(lr=9.0), "the optimiser"),
    "default dtype": (lambda v, p, m, o: torch.set_default_dtype(torch.float64), "default dtype"),
    "gradient mode": (lambda v, p, m, o: torch._C._set_grad_enabled(False), "gradient mode"),
}


def _trained(
    write: Write | None, *, raises: bool = False
) -> tuple[dict[str, Tensor], Any, dict[str, str]]:
    """Weights after a training, what the package's lenses read in it, and which lenses failed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    lenses: list[Any] = ["saturation", "linear_probe", "generalization", "norms"]
    if write is not None:
        of_test = write
        lenses.insert(0, Writes(lambda v, p: of_test(v, p, model, optimizer), raises))
    recipe = Recipe((X[:12], Y[:12]), (X[12:], Y[12:]), optimizer)
    given: dict[str, Any] = {"loss": "cross_entropy", "recipe": recipe, "estimators": "binning"}
    with Tracer(model, (X, Y), lenses=lenses, every=1, **given) as tracer:
        for epoch in (1, 2):
            nn.functional.cross_entropy(model(X[:12]), Y[:12]).backward()  # gradients add up
            optimizer.step()
            tracer.snapshot(epoch)
    columns = ["quantity", "layer", "epoch", "value", "stderr", "flags"]
    read = tracer.trace.readings().query("quantity != 'size'")[columns].reset_index(drop=True)
    return model.state_dict(), read, tracer.trace.meta.get("lenses_failed", {})


@pytest.fixture(scope="module")
def plain() -> tuple[dict[str, Tensor], Any, dict[str, str]]:
    """The same without a lens that writes."""
    return _trained(None)


@pytest.mark.parametrize("what", WRITES)
def test_what_a_lens_writes_is_put_back_and_named(what: str, plain: Any) -> None:
    write, named = WRITES[what]
    dtype = torch.get_default_dtype()
    with pytest.warns(LensFailed, match=r"it changed .*, which is put back"):
        weights, read, failed = _trained(write)
    assert torch.get_default_dtype() == dtype
    assert torch.is_grad_enabled()
    (reason,) = failed.values()
    assert named in reason
    for name, value in plain[0].items():
        assert torch.equal(weights[name], value), name
    assert read.equals(plain[1])


def test_a_lens_that_fails_while_it_writes_is_put_back_too(plain: Any) -> None:
    with pytest.warns(LensFailed, match="its own error"):
        weights, _, _ = _trained(WRITES["parameters"][0], raises=True)
    assert all(torch.equal(weights[name], value) for name, value in plain[0].items())


@pytest.mark.parametrize("name", ["outputs", "losses", "logits"])
def test_what_a_lens_writes_into_a_result_reaches_no_other(name: str, plain: Any) -> None:
    def write(view: Any, probe: Any, model: Any, optimizer: Any) -> None:
        for seen in (view, view.training, view.initial.test):
            getattr(seen, name).zero_()

    _, read, failed = _trained(write)
    assert not failed
    assert read.equals(plain[1])


def test_networks_trained_together_are_put_back() -> None:
    def trained(lenses: list[Any]) -> list[Tensor]:
        ensemble = Ensemble(lambda seed: nn.Linear(3, 2), seeds=[0, 1])
        for value in ensemble.named_parameters().values():
            value.data.fill_(0.3)
        with Tracer(ensemble, (X, Y), lenses=lenses, estimators="binning", every=1) as tracer:
            tracer.snapshot(1)
        return [value.detach().clone() for value in ensemble.named_parameters().values()]

    with pytest.warns(LensFailed, match="it changed parameter bias, parameter weight"):
        after = trained([Writes(lambda view, probe: _zero(view.parameters))])
    assert all(map(torch.equal, after, trained([])))


def test_a_lens_that_only_reads_is_not_held_up() -> None:
    seen: list[Any] = []

    def read(view: Any, probe: Any) -> None:
        seen.append(view.previous)
        probe.cached("mine", lambda: torch.zeros(3))
        _ = view.gradient, view.hessian_product(view.gradient), view.initial.outputs, probe.features

    _, _, failed = _trained(lambda v, p, m, o: read(v, p))
    assert not failed
    assert [view.epoch for view in seen] == [0, 1]


def test_the_probe_is_as_it_was() -> None:
    probe, model = Probe(X, Y), nn.Linear(3, 2)
    digest = Probe(X, Y).digest
    tracer = Tracer(model, probe, lenses=[Writes(lambda v, p: p.x.zero_())], every=1)
    with pytest.warns(LensFailed, match="the probe's inputs"):
        tracer.snapshot(1)
    assert probe.digest == digest
    assert torch.equal(probe.x if isinstance(probe.x, Tensor) else X[:0], X)
