"""The experiments' networks have readable layers and the initial laws of the recipes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import kstest, norm, truncnorm, uniform
from torch import nn

from ibtrace.capture import capture
from ibtrace.errors import ConfigError, UnknownName
from ibtrace.models import CNN, MLP, Init


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(net: nn.Module) -> list[nn.Linear]:
    return [m for m in net.modules() if isinstance(m, nn.Linear)]


def test_layers_read_well() -> None:
    names = [name for name, _ in MLP((12, 10, 7, 2)).named_children()]
    assert names == ["fc1", "hidden1", "fc2", "hidden2", "fc3", "softmax"]
    names = [name for name, _ in MLP((4, 3, 2), "relu", "logits").named_children()]
    assert names == ["fc1", "hidden1", "fc2"]


@pytest.mark.parametrize("init", ["idnns", "ibsgd"])
def test_weights_follow_a_normal_law_cut_at_two_sigma(init: Init) -> None:
    layer = linear(MLP((300, 200), init=init, generator=seeded()))[0].requires_grad_(False)
    sigma = (300 if init == "idnns" else 200) ** -0.5
    assert float(layer.weight.abs().max()) <= 2 * sigma
    assert not layer.bias.any()
    law = truncnorm(-2, 2, scale=sigma)
    assert kstest(layer.weight.flatten().numpy()[::7], law.cdf).pvalue > 0.01


@pytest.mark.parametrize(("init", "variance"), [("xavier", 2 / 500), ("he", 2 / 300)])
def test_weights_follow_a_normal_law(init: Init, variance: float) -> None:
    layer = linear(MLP((300, 200), init=init, generator=seeded()))[0].requires_grad_(False)
    assert not layer.bias.any()
    assert kstest(layer.weight.flatten().numpy()[::7], norm(scale=variance**0.5).cdf).pvalue > 0.01


def test_default_is_torchs_own() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = [nn.Linear(6, 4), nn.Linear(4, 3)]
    for mine, other in zip(linear(MLP((6, 4, 3), generator=seeded(5))), theirs, strict=True):
        torch.testing.assert_close(mine.weight, other.weight)
        torch.testing.assert_close(mine.bias, other.bias)
    bound = 1 / math.sqrt(200)
    wide = linear(MLP((200, 300), generator=seeded()))[0].weight.detach().flatten().numpy()[::7]
    assert kstest(wide, uniform(-bound, 2 * bound).cdf).pvalue > 0.01


def test_layers_may_have_no_biases() -> None:
    net = MLP((3, 4, 2), "linear", "logits", bias=False)
    assert [name for name, _ in net.named_parameters()] == ["fc1.weight", "fc2.weight"]


@pytest.mark.parametrize("init", ["idnns", "ibsgd", "xavier", "he", "default"])
def test_a_generator_is_all_the_randomness(init: Init) -> None:
    state = torch.get_rng_state()
    first, again, other = (MLP(init=init, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [linear(net)[0].weight for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_without_a_generator_torchs_global_one_is_used() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        mine = MLP(init="idnns")
    other = MLP(init="idnns", generator=seeded(3))
    assert torch.equal(linear(mine)[2].weight, linear(other)[2].weight)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("softmax", lambda z: z.softmax(-1)),
        ("log_softmax", lambda z: z.log_softmax(-1)),
        ("sigmoid", torch.sigmoid),
        ("logits", lambda z: z),
    ],
)
def test_outputs(output: str, expected: nn.Module) -> None:
    net = MLP((3, 4, 2), "relu", output, generator=seeded())
    x = torch.randn(5, 3, generator=seeded())
    first, second = linear(net)
    torch.testing.assert_close(net(x), expected(second(first(x).relu())))


def test_errors_list_what_there_is() -> None:
    with pytest.raises(UnknownName, match="no activation 'swish'; choose one of: tanh, relu"):
        MLP(activation="swish")
    with pytest.raises(UnknownName, match="no output 'argmax'; choose one of: logits, softmax"):
        MLP(output="argmax")
    with pytest.raises(UnknownName, match="no init 'orthogonal'; choose one of: idnns, ibsgd, x"):
        MLP(init="orthogonal")  # type: ignore[arg-type]  # refused
    with pytest.raises(ConfigError, match=r"two or more of at least 1, got \[12\]"):
        MLP([12])
    with pytest.raises(ConfigError, match="two or more of at least 1"):
        MLP([12, 0, 2])


# --- the convolutional network --------------------------------------------------------------


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d)]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_the_default_cnn_has_a_million_parameters_and_readable_layers() -> None:
    net = CNN(hidden=(640, 64), generator=seeded())
    # 3x3 kernels of 1-16-32 maps, then 32 maps of 7x7 to 640-64-10, all with biases
    kernels = (9 * 1 + 1) * 16 + (9 * 16 + 1) * 32
    assert parameters(net) == kernels + (1568 + 1) * 640 + 641 * 64 + 65 * 10
    assert parameters(CNN()) >= 1_000_000
    with capture(net) as seen:
        net(torch.rand(3, 1, 28, 28, generator=seeded()))
    shapes = {name: tuple(value.shape[1:]) for name, value in seen.items()}
    assert shapes == {
        "maps1": (16, 28, 28),
        "maps2": (32, 14, 14),
        "hidden1": (640,),
        "hidden2": (64,),
        "output": (10,),
    }


@pytest.mark.parametrize(("activation", "kind"), [("tanh", nn.Tanh), ("gelu", nn.GELU)])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_cnn_is_the_chain_that_it_says(
    activation: str, kind: type[nn.Module], batch_norm: bool
) -> None:
    net = CNN((2, 9, 6), (3, 4), (5,), 7, activation, batch_norm, generator=seeded())
    x = torch.randn(8, 2, 9, 6, generator=seeded())
    h, act = x, kind()
    for conv in convolutions(net):
        h = nn.functional.conv2d(h, conv.weight, conv.bias, padding=1)
        if batch_norm:
            h = nn.functional.batch_norm(h, None, None, training=True)
        h = nn.functional.max_pool2d(act(h), 2)
    first, second = linear(net)
    expected = second(act(first(h.flatten(1))))
    torch.testing.assert_close(net(x), expected)
    assert expected.shape == (8, 7)
    names = {name.rstrip("12") for name, _ in net.named_children()}
    assert ("norm" in names) == batch_norm
    # normalisation takes the mean out: a bias before it would be a parameter without effect
    assert all((conv.bias is None) == batch_norm for conv in convolutions(net))


def test_a_cnn_starts_from_torchs_own_law() -> None:
    mine = convolutions(CNN(generator=seeded(5)))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = [nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3)]
    for conv, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(conv.weight, other.weight)
        torch.testing.assert_close(conv.bias, other.bias)
    state = torch.get_rng_state()
    CNN(batch_norm=True, generator=seeded())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_impossible_cnn_is_one_clear_error() -> None:
    with pytest.raises(UnknownName, match="CNN: no activation 'swish'; choose one of: tanh, relu"):
        CNN(activation="swish")
    with pytest.raises(ConfigError, match=r"nothing is left .* channels \[4, 4, 4, 4, 4\]"):
        CNN(channels=[4] * 5)
    wrong: list[dict[str, Any]]
    wrong = [{"image": (28, 28)}, {"channels": ()}, {"hidden": (0,)}, {"classes": 0}]
    for sizes in wrong:
        with pytest.raises(ConfigError, match="all sizes must be at least 1"):
            CNN(**sizes)
