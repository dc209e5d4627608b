"""Compiled, scripted, wrapped and functional models: what is captured is what they compute."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ibtrace
from ibtrace.capture import Look, capture, looks, named_layers, resolve, snapshot, undisturbed
from ibtrace.errors import InvalidInput, LeftOut, UnknownName, Unsupported
from ibtrace.probe import Probe
from ibtrace.runtime.wrappers import unwrap
from ibtrace.tracer import Tracer


class Net(nn.Module):
    """Two blocks, one of them with a called activation."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(self.block(x)) + self.block(x).sigmoid())
        return out


def probe(n: int = 20) -> Probe:
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return Probe(x, torch.arange(n) % 2)


LAYERS = ["block.0", "block.1", "head", "output"]


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


# --- torch.compile ---------------------------------------------------------------------------


def whole(model: nn.Module) -> nn.Module:
    compiled = torch.compile(model, backend="eager")
    assert isinstance(compiled, nn.Module)
    return compiled


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def part(model: nn.Module) -> nn.Module:
    assert isinstance(model, Net)
    # mypy: torch.compile gives a module for one
    model.block = torch.compile(model.block, backend="eager")  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("compiled", [whole, in_place, part])
@pytest.mark.parametrize("steps", [0, 1])
def test_compiled_models_are_seen_before_and_after_their_first_step(
    compiled: Callable[[nn.Module], nn.Module], steps: int
) -> None:
    torch.manual_seed(0)
    model = Net()
    model(torch.ones(2, 3))
    wrapped = compiled(copy.deepcopy(model))
    for _ in range(steps):
        optimizer = torch.optim.SGD(wrapped.parameters(), 0.1)
        wrapped(probe().features).square().mean().backward()
        optimizer.step()
    model.load_state_dict({k.replace("_orig_mod.", ""): v for k, v in wrapped.state_dict().items()})
    same(snapshot(wrapped, probe(), LAYERS), snapshot(model, probe(), LAYERS))
    same(snapshot(wrapped, probe()), snapshot(model, probe()))


@pytest.mark.parametrize("wrap", ["whole", "in place", "part"])
def test_a_look_neither_compiles_nor_runs_compiled_code(wrap: str) -> None:
    events = []

    def backend(graph: Any, _inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            events.append("run")
            return graph(*args)

        events.append("compile")
        return run

    model: Any = Net()
    if wrap == "in place":
        model.compile(backend=backend)
    elif wrap == "part":
        model.block = torch.compile(model.block, backend=backend)
    else:
        model = torch.compile(model, backend=backend)
    x = probe().features
    model(x)
    trained = list(events)
    assert set(trained) == {"compile", "run"}
    for layer in ("block.0", "block.1", "block.0"):
        assert list(snapshot(model, probe(), layer)) == [layer, f"{layer}:1"]
    assert events == trained
    model(x)
    assert set(events[len(trained) :]) == {"run"}


# --- torch.jit -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")
def test_scripted_layers_are_refused_with_advice() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.Tanh()))
    traced = torch.jit.trace(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.ones(2, 3))
    inside = nn.Sequential(scripted, nn.Linear(4, 2))
    for model, layers in [
        (scripted, None),
        (traced, None),
        (inside, "0"),
        (inside, "0.1"),
    ]:
        with pytest.raises(Unsupported, match=r"torch\.jit.*trace the Python module"):
            snapshot(model, probe(), layers)
    found = snapshot(inside, probe(), ["1:input", "1"])
    with torch.no_grad():
        torch.testing.assert_close(found["1:input"], scripted(probe().features))


# --- wrappers --------------------------------------------------------------------------------


def test_data_parallel_compile_and_checkpoint_wrappers_leave_the_names_alone() -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = Net()
    expected = snapshot(model, probe(), LAYERS)
    parallel = nn.DataParallel(model)
    assert unwrap(parallel) is model
    same(snapshot(parallel, probe(), LAYERS), expected)
    # mypy: torch.compile gives a module for one
    same(snapshot(torch.compile(parallel, backend="eager"), probe(), LAYERS), expected)  # type: ignore[arg-type]
    # mypy: a wrapper in a module's place
    model.block = checkpoint_wrapper(model.block)  # type: ignore[assignment]
    assert "block.1" in named_layers(model)
    same(snapshot(model, probe(), LAYERS), expected)


def test_fabric_models_are_unwrapped() -> None:
    fabric = pytest.importorskip("lightning.fabric").Fabric(
        accelerator="cpu", precision="bf16-mixed"
    )
    model = Net()
    expected = snapshot(model, probe(), LAYERS)
    same(snapshot(fabric.setup(model), probe(), LAYERS), expected)


def test_a_module_named_module_is_no_wrapper() -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = -self.module(x)
            return out

    model = Holds()
    found = snapshot(model, probe(), ["module", "output"])
    assert torch.equal(found["output"], -found["module"])


# --- called activations ----------------------------------------------------------------------


def test_called_activations_have_the_name_of_their_caller() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.act = Net(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.act(torch.tanh(self.net(x)).relu_())
            return out

    model = Outer()
    found = snapshot(model, probe(), Look(layers="net.block.1", functional=True))
    with torch.no_grad():
        hidden = model.net.block(probe().features)
        out = torch.tanh(model.net(probe().features))
    same(
        found,
        {
            "net.block.1": hidden,
            "net.relu": hidden.relu(),
            "net.block.1:1": hidden,
            "net.sigmoid": hidden.sigmoid(),
            "tanh": out,
            "relu": out.relu(),
        },
    )
    only = snapshot(model, probe(), Look(layers="net.head", functional=["net.*"]))
    assert list(only) == ["net.relu", "net.sigmoid", "net.head"]
    assert {"net.relu", "net.sigmoid"} <= set(snapshot(model, probe()))


def test_nothing_is_left_of_watching_called_activations() -> None:
    model = Net()
    with pytest.raises(InvalidInput, match="mat1"):
        snapshot(
            model,
            Probe(torch.ones(4, 7), torch.zeros(4).long()),
            Look(layers="head", functional=True),
        )
    assert not torch.overrides._get_current_function_mode_stack()
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._forward_hooks_always_called


# --- structured outputs, fused layers, precision ---------------------------------------------


class Pair(NamedTuple):
    states: Tensor
    logits: Tensor


@dataclass
class Output:
    name: str
    logits: Tensor
    states: tuple[Tensor, Pair]


class Structured(nn.Module):
    def forward(self, x: Tensor) -> Output:
        return Output("ours", 2 * x, (3 * x, Pair(4 * x, 5 * x)))


def test_dataclass_outputs_and_paths_into_them() -> None:
    paths = ["output", "output.states[0]", "output.states[1].logits", "output.states[1][0]"]
    found = snapshot(Structured(), probe(), paths)
    for name, factor in zip(paths, (2, 3, 5, 4), strict=True):
        assert torch.equal(found[name], factor * probe().features)
    with pytest.raises(InvalidInput, match="no tensor there in its output of type Output"):
        snapshot(Structured(), probe(), "output.states")


def test_inputs_given_by_keyword_are_captured() -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(input=2 * x)
            return out

    found = snapshot(Keywords(), probe(), ["fc:input"])
    assert torch.equal(found["fc:input"], 2 * probe().features)


def test_fused_transformer_layers_take_the_path_that_training_takes() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    data = Probe(torch.randn(6, 5, 8), torch.zeros(6).long())
    assert torch.backends.mha.get_fastpath_enabled()
    found = snapshot(model, data, ["layers.*.linear1", "layers.*.self_attn[0]"])
    assert torch.backends.mha.get_fastpath_enabled()
    assert len(found) == 4
    seen = []
    with undisturbed(model):
        model.layers[0].register_forward_hook(lambda *_: seen.append(_fused()))
        model(data.x)
    assert seen == [False]


def _fused() -> bool:
    return torch.backends.mha.get_fastpath_enabled()


def test_channels_last_is_captured_like_any_other_layout() -> None:
    images = Probe(torch.randn(6, 3, 5, 5), torch.zeros(6).long())
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    expected = snapshot(model, images, ["0", "1"])
    # mypy: missing from torch's stubs
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    last = Probe(images.inputs[""].to(memory_format=torch.channels_last), images.y)
    same(snapshot(model, last, ["0", "1"]), expected)
    for reduce in ("flatten", "gap"):
        plain, permuted = (
            next(looks(model, data, Look(layers=["0", "1"], reduce=reduce)))
            for data in (images, last)
        )
        for name, layer in plain.items():
            torch.testing.assert_close(permuted[name].values, layer.values)


class Tied(nn.Module):
    """Two modules, each under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.act = nn.Linear(3, 3), nn.Tanh()
        self.other = nn.ModuleDict({"lin": self.one, "act": self.act, "own": nn.ReLU()})

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.other["own"](self.act(self.one(x)))
        out: Tensor = self.other["act"](self.other["lin"](hidden))
        return out


TIED = [
    ("other.lin", "layer 'other.lin': it is the module 'one' under another name; .* 'one:1'"),
    (["one", "other.lin"], "layer 'other.lin': .*; choose 'one'$"),
    ("other.lin:input", "layer 'other.lin:input': .*; choose 'one:input'$"),
    ("other.lin[0]", r"layer 'other.lin\[0\]': .*; choose 'one\[0\]'$"),
    ("other.[la]*", "layer 'other.lin': .*; choose 'one'$"),
    (lambda name, module: name == "other.act", "layer 'other.act': .*; choose 'act'$"),
]


@pytest.mark.parametrize(("layers", "message"), TIED)
def test_a_tied_module_is_asked_for_by_its_first_name(layers: Any, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        resolve(Tied(), layers)
    with pytest.raises(UnknownName, match=message):
        snapshot(Tied(), probe(), layers)


def test_a_tied_module_is_left_out_by_its_first_name() -> None:
    for exclude in ("other.act", ["other.[a]*"], lambda name, module: name == "other.act"):
        with pytest.raises(UnknownName, match=r"exclude: layer 'other.act': .*; say 'act'$"):
            Tracer(Tied(), probe(), estimators=["binning"], look=Look(exclude=exclude))
    traced = Tracer(Tied(), probe(), estimators=["binning"], look=Look(exclude="act")).trace.frame()
    assert set(traced.layer) == {"other.own", "output"}


def test_the_calls_of_a_tied_module_are_traced_once() -> None:
    for layers in ([nn.Linear, nn.Tanh], ["one", "*act", "**.act"]):
        assert sorted(snapshot(Tied(), probe(), layers)) == ["act", "act:1", "one", "one:1"]
    assert sorted(snapshot(Tied(), probe())) == ["act", "act:1", "other.own", "output"]
    with pytest.warns(LeftOut, match="left out of the trace: other.lin: it is the module 'one'"):
        assert sorted(snapshot(Tied(), probe(), ["act", "other.*"])) == [
            "act",
            "act:1",
            "other.own",
        ]
    why_not = {row.layer: row.why_not for row in ibtrace.layers(Tied(), probe()).rows}
    assert why_not["other.act"].startswith("it is the module 'act' under another name")
    assert not why_not["act"]


def test_autocast_around_the_call_does_not_reach_the_probe() -> None:
    model = Net()
    expected = snapshot(model, probe(), LAYERS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = snapshot(model, probe(), LAYERS)
    same(found, expected)
    assert found["head"].dtype == torch.float32


def test_accelerates_autocast_does_not_reach_the_probe(request: pytest.FixtureRequest) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(True)  # one precision in a process
    request.addfinalizer(lambda: accelerate.state.AcceleratorState._reset_state(True))
    model = Net()
    expected = snapshot(model, probe(), LAYERS)
    prepared = accelerate.Accelerator(cpu=True, mixed_precision="bf16").prepare(model)
    forward = prepared.forward
    same(snapshot(prepared, probe(), LAYERS), expected)
    assert prepared.forward is forward
    with capture(prepared, "head") as live:
        prepared(probe().features)
    assert live["head"].dtype == torch.bfloat16  # as it trains


def test_attention_projections_that_never_fire_are_an_error() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.attention(x[:, None], x[:, None], x[:, None])[0][:, 0]
            return out

    with pytest.raises(LookupError, match=r"attention.out_proj were not called.*attention"):
        snapshot(Attends(), probe(), ["attention", "attention.out_proj"])


def test_a_hook_replaces_nothing() -> None:
    model = Net()
    expected = model(probe().features)
    with capture(model, LAYERS), torch.no_grad():
        assert torch.equal(model(probe().features), expected)


def test_hugging_face_activations_are_found_by_default() -> None:
    activations = pytest.importorskip("transformers.activations")
    model = nn.Sequential(nn.Linear(3, 2), activations.GELUActivation())
    assert [target.name for target in resolve(model)] == ["1", "output"]
