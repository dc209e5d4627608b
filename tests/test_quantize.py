"""Quantized networks: on the grid, trainable, traced under their own names, exact."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ibtrace import capture
from ibtrace.ensemble import Ensemble
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.estimators.exact import Exact
from ibtrace.models import MLP
from ibtrace.models.quantize import Quantizer, quantize, round_to_grid
from ibtrace.probe import Probe

PATTERNS = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).float()
LABELS = (PATTERNS.sum(1) > 4).long()


def net(activation: str = "tanh", output: str = "logits", seed: int = 0) -> MLP:
    generator = torch.Generator().manual_seed(seed)
    return MLP((8, 6, 4, 2), activation, output, generator=generator)


def train(model: nn.Module, steps: int = 150) -> float:
    """Training accuracy after some steps on the whole task."""
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(PATTERNS), LABELS).backward()
        optimiser.step()
    return float((model(PATTERNS).argmax(1) == LABELS).double().mean())


@settings(max_examples=60)
@given(
    bits=st.integers(2, 16),
    low=st.floats(-5, 0, width=32),
    width=st.floats(0.125, 10, width=32),
    seed=st.integers(0, 99),
)
def test_the_grid_is_the_nearest_level(bits: int, low: float, width: float, seed: int) -> None:
    values = 5 * torch.randn(64, generator=torch.Generator().manual_seed(seed)).double()
    ends = torch.tensor(low).double(), torch.tensor(low + width).double()
    found = round_to_grid(values, *ends, bits)
    levels = torch.linspace(float(ends[0]), float(ends[1]), 2**bits, dtype=torch.float64)
    distance = (values[:, None] - levels).abs().amin(1)
    torch.testing.assert_close((found - values).abs(), distance, rtol=0, atol=1e-9)
    assert torch.equal(round_to_grid(found, *ends, bits), found)


def test_gradients_go_straight_through_inside_the_range() -> None:
    values = torch.tensor([-2.0, -0.9, 0.2, 0.99, 1.5], requires_grad=True)
    round_to_grid(values, torch.tensor(-1.0), torch.tensor(1.0), 3).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 1, 0]


def test_a_range_of_no_width_has_one_level() -> None:
    zero = torch.tensor(0.0)
    assert torch.equal(round_to_grid(torch.randn(5), zero, zero, 4), torch.zeros(5))


def test_the_running_range_follows_training_batches_only() -> None:
    quantizer = Quantizer(4, momentum=0.25)
    assert (float(quantizer.low), float(quantizer.high)) == (-6, 6)
    quantizer.eval()(torch.tensor([50.0]))
    assert float(quantizer.high) == 6
    quantizer.train()(torch.tensor([-1.0, 3.0]))
    assert (float(quantizer.low), float(quantizer.high)) == (-1, 3)
    quantizer(torch.tensor([1.0, 7.0]))  # 0 stays inside the range
    assert (float(quantizer.low), float(quantizer.high)) == (-0.75, 4)
    fixed = Quantizer(4, fixed=(-1.0, 1.0))
    assert float(fixed(torch.tensor([9.0])).max()) == 1
    assert float(fixed.high) == 1


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "sigmoid", "hardtanh"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_activations_sit_on_the_grid_and_trace_under_their_names(
    activation: str, bits: int, weights: bool
) -> None:
    model = quantize(net(activation), bits, weights=weights)
    for mode in (True, False):
        seen = {}
        model.train(mode)
        with capture.capture(model) as activations:
            model(PATTERNS)
            seen.update(activations)
        assert set(seen) == {"hidden1", "hidden2", "output"}
        for name in ("hidden1", "hidden2"):
            quantizer = model.get_submodule(f"{name}.quantizer")
            assert isinstance(quantizer, Quantizer)
            assert len(seen[name].unique()) <= 2**bits
            step = (quantizer.high - quantizer.low) / (2**bits - 1)
            number = (seen[name] - quantizer.low) / step
            assert float((number - number.round()).abs().max()) < 1e-3


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_weights_take_few_values_and_zero_is_one_of_them(bits: int) -> None:
    model = quantize(net("tanh"), bits)
    layer = model.get_submodule("fc1")
    assert isinstance(layer, nn.Linear)
    effective = (layer(torch.eye(8)) - layer.bias).detach().T
    assert len(effective.mul(1e4).round().unique()) <= 2**bits - 1
    assert float((effective - layer.weight.detach()).abs().max()) <= float(
        layer.weight.detach().abs().max() / (2**bits - 2) + 1e-6
    )
    with torch.no_grad():
        layer.weight[0, 0] = 0
    zero = (layer(torch.eye(8)) - layer.bias).detach()[0, 0]
    assert abs(float(zero)) < 1e-6
    plain = quantize(net("tanh"), bits, weights=False).get_submodule("fc1")
    assert type(plain) is nn.Linear


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_convolutions_are_quantized_too(kind: type[nn.Module]) -> None:
    d = int(kind.__name__[4])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(kind(1, 3, 2), nn.ReLU())
        impulse = torch.zeros(1, 1, *[3] * d)
        impulse[(0, 0, *[1] * d)] = 1
    quantized = quantize(model, 3)
    conv = quantized.get_submodule("0")
    bias = conv.bias
    assert isinstance(bias, Tensor)
    response = conv(impulse) - bias.view(1, 3, *[1] * d)
    assert len(response.mul(1e4).round().unique()) <= 7
    conv(impulse).sum().backward()
    assert isinstance(conv.weight, nn.Parameter)
    assert conv.weight.grad is not None
    assert float(conv.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize(("activation", "bits"), [("tanh", 4), ("relu", 4), ("tanh", 8)])
def test_it_trains_and_exact_counts_its_values(activation: str, bits: int) -> None:
    model = quantize(net(activation), bits)
    assert train(model) > 0.9
    probe = Probe(PATTERNS, LABELS)
    layers = capture.snapshot(model, probe)
    information = [float(Exact().plane(t, probe)[0].bits) for t in layers.values()]
    first, second, logits = information
    assert first <= 8
    assert second <= first + 1e-9  # exact information obeys the data-processing inequality
    assert logits <= second + 1e-9
    twice = capture.snapshot(model, probe)
    assert all(torch.equal(layers[name], twice[name]) for name in layers)


def test_few_bits_hold_few_bits() -> None:
    model = quantize(MLP((8, 1, 2), "sigmoid", generator=torch.Generator().manual_seed(1)), 2)
    probe = Probe(PATTERNS, LABELS)
    t = capture.snapshot(model, probe, "hidden1")["hidden1"]
    assert float(Exact()(probe.x_ids, t).bits) <= 2


def test_the_original_the_mode_and_the_keys_stay_as_they_were() -> None:
    original = net("relu", "softmax").eval()
    before = copy.deepcopy(original.state_dict())
    model = quantize(original, 4)
    assert all(not module.training for module in model.modules())
    model.train()(PATTERNS)
    assert type(original.get_submodule("fc1")) is nn.Linear
    assert not original.get_submodule("hidden1")._forward_hooks
    assert all(torch.equal(before[name], value) for name, value in original.state_dict().items())
    assert [name for name, _ in model.named_parameters()] == list(before)
    restored = quantize(net("relu", "softmax", seed=1), 4)
    restored.load_state_dict(model.state_dict())
    assert torch.equal(restored.eval()(PATTERNS), model.eval()(PATTERNS))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(PATTERNS), model(PATTERNS))
    assert "bits=4, range=running" in repr(model)


def test_32_bits_are_the_model_itself() -> None:
    original = net()
    model = quantize(original, 32)
    assert model is not original
    assert torch.equal(model(PATTERNS), original(PATTERNS))


def test_quantized_seeds_train_together_as_they_do_alone() -> None:
    nets = Ensemble(lambda seed: quantize(net("relu", seed=seed), 4), seeds=[0, 1])
    assert not nets.fast
    nets.train()
    together = nets(PATTERNS, shared=True)
    later = nets.eval()(PATTERNS, shared=True)
    for index, seed in enumerate((0, 1)):
        alone = quantize(net("relu", seed=seed), 4)
        torch.testing.assert_close(together[index], alone(PATTERNS))
        torch.testing.assert_close(later[index], alone.eval()(PATTERNS))  # ranges were kept


def test_double_and_half_precision_stay_on_the_grid() -> None:
    double = quantize(net("tanh"), 4).double()
    assert double(PATTERNS.double()).dtype == torch.float64
    half = Quantizer(4, fixed=(-1.0, 1.0))(torch.rand(99).bfloat16())
    assert half.dtype == torch.bfloat16
    assert len(half.unique()) <= 16


def test_what_cannot_be_quantized_is_refused() -> None:
    for bits in (1, 17, 0, True, 4.0):
        with pytest.raises(ConfigError, match="bits must be 2 to 16, or 32"):
            quantize(net(), bits)  # type: ignore[arg-type]  # refused
    with pytest.raises(InvalidInput, match="no activation module"):
        quantize(nn.Linear(2, 2), 4)
    with pytest.raises(InvalidInput, match="quantized already"):
        quantize(quantize(net(), 4), 4)
    assert math.isfinite(float(quantize(net("relu"), 4)(PATTERNS).detach().sum()))


class StarReLU(nn.Module):
    """An activation with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.relu() ** 2 + self.bias


class Twice(nn.Linear):
    """A linear layer that does something of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


CONTINUOUS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "activation with parameters": (StarReLU, "StarReLU may be an activation"),
    "LSTM": (lambda: nn.LSTM(4, 4), "values inside LSTM would stay"),
    "GRU cell": (lambda: nn.GRUCell(4, 4), "values inside GRUCell would stay"),
    "attention": (lambda: nn.MultiheadAttention(4, 2), "inside MultiheadAttention would stay"),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(4, 2, 8), "MultiheadAttention would stay"),
    "subclass": (lambda: Twice(4, 4), "weights of Twice would stay"),
    "transposed": (lambda: nn.ConvTranspose2d(1, 1, 2), "weights of ConvTranspose2d would stay"),
    "bilinear": (lambda: nn.Bilinear(4, 4, 4), "weights of Bilinear would stay"),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        "weights of ParametrizedLinear would stay",
    ),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_what_would_stay_continuous_is_refused_by_name(name: str) -> None:
    make, match = CONTINUOUS[name]
    module = make()
    with pytest.raises(InvalidInput, match=match):
        quantize(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), module), 4)
    kinds = [type(part) for part in module.modules()]
    assert quantize(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), module), 4, leave=kinds)


def test_norms_and_embeddings_are_left_as_they_are() -> None:
    net = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU())
    assert quantize(net, 4)(torch.arange(9)).unique().numel() <= 16
