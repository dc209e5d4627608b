"""Which layers a trace has: where a forward branches, unrolls or ends early, and by what names."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ibtrace
from ibtrace.capture import looks, snapshot
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer
from ibtrace.types import InvalidInput, LeftOut

N = 100


def vectors() -> Tensor:
    return torch.randn(N, 6, generator=torch.Generator().manual_seed(0))


def labels() -> Tensor:
    return torch.arange(N) % 2


def parts(model: nn.Module, probe: Probe, layers: Any = None, **how: Any) -> dict[str, Tensor]:
    """Every layer of every part of a look."""
    seen = looks(model, probe, layers, **how)
    return {name: layer.values for part in seen for name, layer in part.items()}


# --- forwards that branch, end early or unroll -----------------------------------------------


class Branches(nn.Module):
    """Ends in one activation or the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.r, self.t = nn.Linear(6, 4), nn.ReLU(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x)
        out: Tensor = self.r(hidden) if x.mean() > 0 else self.t(hidden)
        return out


class EndsEarly(nn.Module):
    """Passes over its last activation where the batch is below 0."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.acts = nn.Linear(6, 6), nn.ModuleList(nn.ReLU() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.a(x)
        for place, act in enumerate(self.acts):
            out = act(out)
            if place == 1 and x.mean() < 0:
                break
        return out


@pytest.mark.parametrize("model", [Branches, EndsEarly])
@pytest.mark.parametrize("max_bytes", [2**31, N * 6 * 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_output_is_traced_where_no_other_layer_gives_all_of_it(
    model: type[nn.Module], max_bytes: int, sign: int
) -> None:
    net = model()
    shift = torch.tensor([1.0] * 50 + [-1.0] * 50)[:, None] * sign
    probe = Probe(vectors() + shift, labels())
    with torch.no_grad():
        expected = torch.cat([net(probe.x[:50]), net(probe.x[50:])])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = parts(net, probe, batch_size=50, max_bytes=max_bytes)
        torch.testing.assert_close(found["output"], expected)
        torch.testing.assert_close(snapshot(net, probe, batch_size=50)["output"], expected)
        tracer = Tracer(net, probe, batch_size=50, estimators=["binning"])
    assert "output" in tracer.trace.layers
    assert len(said) == (0 if isinstance(net, EndsEarly) and sign < 0 else 3)
    assert all("it ran for 50 of 100 rows" in str(warning.message) for warning in said)
    once = parts(net, probe, batch_size=N)
    assert "output" not in once  # one activation gives all of it


def test_a_branch_that_training_takes_later_leaves_the_output() -> None:
    class Turns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.r, self.t = nn.Linear(6, 4), nn.ReLU(), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = (self.r if self.a.bias[0] > 0 else self.t)(self.a(x))
            return out

    net, probe = Turns(), Probe(vectors(), labels())
    nn.init.ones_(net.a.bias)
    evidence = ibtrace.capture.read_layers(net, probe)
    assert list(parts(net, probe, evidence=evidence)) == ["r"]
    nn.init.constant_(net.a.bias, -1.0)
    with pytest.warns(LeftOut, match="r: it ran on the first samples, but not always; choose"):
        found = parts(net, probe, evidence=evidence)
    assert list(found) == ["output"]
    nn.init.ones_(net.a.bias)
    assert list(parts(net, probe, evidence=evidence)) == ["r"]


class Unrolls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l, self.a, self.head = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        for _ in range(int(steps.max())):
            x = self.a(self.l(x))
        out: Tensor = self.head(x)
        return out


def test_calls_that_a_few_samples_do_not_make_are_settled_by_the_first_batch() -> None:
    steps = torch.tensor([2] * 50 + [4] * 50)
    probe = Probe({"x": vectors(), "steps": steps}, labels())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(parts(Unrolls(), probe)) == ["a", "a:1", "a:2", "a:3", "output"]
        assert len(parts(Unrolls(), probe, ["l:input"])) == 4
        rows = {row.layer: row for row in ibtrace.layers(Unrolls(), probe).rows}
    assert (rows["a"].calls, rows["l"].calls) == (4, 4)
    with pytest.raises(InvalidInput, match="layer 'l:input:2': it did not run in the first batch"):
        parts(Unrolls(), probe, ["l:input"], batch_size=50)


# --- what is said of the choice --------------------------------------------------------------


def test_an_activation_that_is_the_output_counts_as_one() -> None:
    data = (vectors(), labels())
    last = Tracer(nn.Sequential(nn.Linear(6, 3), nn.Tanh()), data, estimators=["binning"])
    assert last.trace.layers == ["1"]
    assert "Only the output is traced" not in str(last.verdict())
    alone = Tracer(nn.Sequential(nn.Linear(6, 3)), data, estimators=["binning"])
    assert "Only the output is traced" in str(alone.verdict())


class Wraps(nn.Module):
    """Hands on what its one part gives."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x)
        return out


def test_a_module_that_hands_on_an_activations_tensor_is_not_one_itself() -> None:
    model = nn.Sequential(nn.Linear(6, 4), Wraps(), nn.Linear(4, 2))
    assert list(snapshot(model, Probe(vectors(), labels()))) == ["1.act", "output"]
