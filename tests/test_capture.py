"""Activations are what the network computes, and looking leaves no mark on it."""

from __future__ import annotations

import copy
import io
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look, capture, resolve, snapshot, undisturbed
from ibtrace.errors import InvalidInput, NonFinite, UnknownName
from ibtrace.probe import Probe


class Block(nn.Module):
    """A module that is used twice, an in-place activation, and a functional one."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 4), nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(4)
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())  # called by nobody

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.fc1(x))
        hidden = self.drop(self.act(self.fc2(hidden)))
        out: Tensor = self.norm(torch.sigmoid(hidden))
        return out


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        states, _ = self.lstm(x[:, None])
        return {"logits": self.head(states[:, -1]), "states": states}


def probe(n: int = 20, d: int = 3) -> Probe:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    return Probe(x, torch.arange(n) % 2)


def test_activations_are_those_of_a_plain_forward() -> None:
    model = Block().eval()
    data = probe()
    found = snapshot(
        model, data, Look(layers=["fc1:input", "act", "drop", "norm", "output"], batch_size=7)
    )
    with torch.no_grad():
        first = model.fc1(data.x).relu()
        second = model.fc2(first).relu()
        last = model.norm(second.sigmoid())
    assert torch.equal(found["fc1:input"], data.features)
    for name, value in {"act": first, "act:1": second, "drop": second, "norm": last}.items():
        torch.testing.assert_close(found[name], value)
    assert torch.equal(found["norm"], found["output"])


def test_in_place_activations_do_not_overwrite_what_was_captured() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    with capture(model, ["0", "1"]) as live, torch.no_grad():
        model(probe().features)
    for found in (snapshot(model, probe(), ["0", "1"]), live):
        assert bool((found["0"] < 0).any())
        assert torch.equal(found["0"].relu(), found["1"])


def test_default_layers_are_the_activations_and_an_output_that_is_not_one() -> None:
    logits = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    softmax = nn.Sequential(*logits, nn.Softmax(-1))
    assert list(snapshot(logits, probe())) == ["1", "output"]
    assert list(snapshot(softmax, probe())) == ["1", "3"]


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("fc1", ["fc1"]),
        ("fc*", ["fc1", "fc2"]),
        (nn.Linear, ["fc1", "fc2", "inner.0"]),
        (lambda name, module: name == "norm", ["norm"]),
        (["norm", nn.ReLU], ["norm", "act"]),
        ("fc?:input", ["fc1:input", "fc2:input"]),
        (["inner.*", "inner.0.nothing"], ["inner.0", "inner.1", "inner.0.nothing"]),
        ("output", ["output"]),
    ],
)
def test_layers_by_name_glob_type_callable_and_input(layers: Any, names: list[str]) -> None:
    assert [target.name for target in resolve(Block(), layers)] == names


def test_structured_outputs_give_the_first_tensor_or_the_chosen_one() -> None:
    model, data = Recurrent(), probe()
    found = snapshot(model, data, ["lstm", "lstm[0]", "output.states", "output"])
    assert torch.equal(found["lstm"], found["lstm[0]"])
    assert torch.equal(found["output.states"], found["lstm"])
    assert found["output"].shape == (20, 2)


def test_a_part_that_is_not_there_is_an_error_that_names_the_type() -> None:
    with pytest.raises(InvalidInput, match=r"'output.nothing'.*dict"):
        snapshot(Recurrent(), probe(), "output.nothing")


def test_unknown_and_silent_layers_are_errors_that_list_the_others() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.used(x)
            return out

    with pytest.raises(
        UnknownName, match=r"'fc3'.*fc1, fc2, act, drop, norm, inner, inner.0, inner.1, output"
    ):
        resolve(Block(), ["fc3"])
    with pytest.raises(UnknownName, match=r"unused were not called.*called: used"):
        snapshot(Idle(), probe(), ["used", "unused"])


def test_an_output_without_the_samples_first_is_an_error() -> None:
    class Summed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(0)

    with pytest.raises(InvalidInput, match=r"'output': it gave shape \(3,\) for 20 samples"):
        snapshot(Summed(), probe())


def test_diverged_activations_name_the_layer() -> None:
    model = Block()
    with torch.no_grad():
        model.fc2.weight[0, 0] = torch.inf
    with pytest.raises(NonFinite, match=r"'fc2' has 20 of 80"):
        snapshot(model, probe(), ["fc1", "fc2"])


def test_lazy_modules_get_their_shapes_from_the_first_snapshot() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyBatchNorm1d())
    assert snapshot(model, probe(), ["1"])["1"].shape == (20, 4)


def leaves_no_mark(model: nn.Module, look: Callable[[], object]) -> None:
    """Assert that ``look()`` changes neither the model nor any generator."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    python_state = random.getstate()
    try:
        look()
    finally:
        for name, value in model.state_dict().items():
            assert torch.equal(value, state[name]), name
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert str(np.random.get_state()) == str(numpy_state)
        assert random.getstate() == python_state
        for module in model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
        assert all(parameter.grad is None for parameter in model.parameters())


def test_a_snapshot_leaves_no_mark() -> None:
    model = Block().train()
    model.norm.eval()  # a frozen BatchNorm stays frozen, the rest stays in training mode
    leaves_no_mark(model, lambda: snapshot(model, probe()))


def test_an_error_inside_the_forward_leaves_no_mark() -> None:
    class Breaks(Block):
        def forward(self, x: Tensor) -> Tensor:
            self.norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]  # tracked here
            torch.rand(1)
            np.random.rand()
            random.random()
            super().forward(x)
            raise RuntimeError("broken on purpose")

    model = Breaks().train()

    def look() -> None:
        with pytest.raises(InvalidInput, match="broken on purpose"):
            snapshot(model, probe())

    leaves_no_mark(model, look)


def test_gradients_flow_through_the_model_after_a_snapshot() -> None:
    model, data = Block(), probe()
    loss = model(data.x).square().mean()
    found = snapshot(model, data)
    loss.backward()
    with capture(model) as live:
        model(data.x)
    assert not any(value.requires_grad for value in [*found.values(), *live.values()])
    assert model.fc1.weight.grad is not None


def test_the_model_still_pickles_copies_and_saves() -> None:
    model = Block()
    snapshot(model, probe())
    pickle.loads(pickle.dumps(model))
    copy.deepcopy(model)
    torch.save(model, io.BytesIO())


def test_hooks_go_when_the_context_ends_in_an_error() -> None:
    model = Block()
    with pytest.raises(ValueError, match="stop"), capture(model):
        raise ValueError("stop")
    assert all(not module._forward_hooks for module in model.modules())


def test_undisturbed_keeps_autocast_and_gradients_out() -> None:
    model = nn.Linear(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16), undisturbed(model):
        out = model(torch.ones(2, 3))
    assert out.dtype == torch.float32
    assert not out.requires_grad
    assert not out.is_inference()  # those could not be saved for a later backward


@pytest.mark.parametrize("kind", [dict, lambda items: tuple(items.values())])
def test_an_output_is_what_was_made_not_what_was_handed_on(kind: Any) -> None:
    class Hands(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 3)

        def forward(self, tokens: Tensor) -> Any:
            made = self.embed(tokens)
            return kind({"loss": made.mean(), "tokens": tokens, "mask": tokens > 2, "made": made})

    tokens = torch.arange(8).view(4, 2)
    net = Hands()
    with capture(net) as activations:
        net(tokens)
    assert torch.equal(activations["output"], net.embed(tokens))
