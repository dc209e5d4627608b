"""One table of activations: complete, true to its ranges, and read by all who need one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibtrace import capture
from ibtrace.ensemble.chain import Chain
from ibtrace.errors import InvalidInput
from ibtrace.models import MLP, activations
from ibtrace.models.activations import BY_NAME, BY_TYPE, TABLE, Activation
from ibtrace.models.quantize import Quantizer, quantize

VALUES = 4 * torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
SETTINGS: dict[type[nn.Module], tuple[Any, ...]] = {
    nn.Threshold: (0.1, 0.5),
    nn.Softmax: (-1,),
    nn.Softmin: (-1,),
    nn.LogSoftmax: (-1,),
    nn.Softmax2d: (),
    nn.Hardtanh: (-2.0, 3.0),
    nn.ELU: (1.7,),
    nn.CELU: (2.5,),
}


def build(kind: type[nn.Module]) -> nn.Module:
    return kind(*SETTINGS.get(kind, ()))


def inputs(kind: type[nn.Module]) -> Tensor:
    return VALUES.reshape(-1, 4, 1, 1) if kind is nn.Softmax2d else VALUES


kinds = pytest.mark.parametrize("kind", BY_TYPE, ids=lambda kind: kind.__name__)


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


class Shifted(nn.Tanh):
    def forward(self, x: Tensor) -> Tensor:
        return 5 + super().forward(x)


def test_every_activation_of_torch_is_in_the_table() -> None:
    names = set(nn.modules.activation.__all__) - {"MultiheadAttention"}
    assert names == {kind.__name__ for kind in BY_TYPE}


@kinds
def test_values_lie_in_the_range(kind: type[nn.Module]) -> None:
    module = build(kind)
    low, high = activations.ends(module)
    values = module(10 * inputs(kind)).detach()
    assert low is None or float(values.min()) >= low - 1e-6
    assert high is None or float(values.max()) <= high + 1e-6


@kinds
@pytest.mark.parametrize("mode", [True, False])
def test_a_quantized_activation_takes_few_values(kind: type[nn.Module], mode: bool) -> None:
    model = nn.Sequential(nn.Identity(), build(kind))
    if kind is nn.LogSoftmax:  # documented: the one that stays as it is
        with pytest.raises(InvalidInput, match="no activation module"):
            quantize(model, 3)
        return
    values = quantize(model.train(mode), 3)(inputs(kind))
    assert len(values.unique()) <= 8


@kinds
def test_a_default_look_finds_it_and_its_range(kind: type[nn.Module]) -> None:
    module = build(kind)
    assert capture.is_activation(module)
    target, *_ = capture.resolve(nn.Sequential(module))
    assert target.activation_range == activations.closed_range(module)


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.name)
def test_a_called_activation_has_the_name_of_the_table(entry: Activation) -> None:
    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            function = getattr(F, entry.name)
            extra: dict[str, tuple[Any, ...]] = {
                "threshold": (0.1, 0.5),
                "prelu": (torch.tensor([0.25]),),
            }
            dims = {"dim": -1} if "softm" in entry.name else {}
            result: Tensor = function(x, *extra.get(entry.name, ()), **dims)
            return result

    model = Calls()
    with capture.capture(model, functional=True) as seen:
        model(VALUES)
    assert entry.name in seen


@pytest.mark.parametrize("name", [entry.name for entry in TABLE if entry.plain])
def test_a_network_takes_every_plain_activation_by_name(name: str) -> None:
    assert type(MLP((3, 2, 2), name)[1]) is BY_NAME[name].modules[0]


def test_a_subclass_with_its_own_forward_has_no_known_range() -> None:
    assert activations.closed_range(Shifted()) is None
    # mypy: a Sequential
    quantizer = quantize(nn.Sequential(Shifted()), 4)[0].quantizer  # type: ignore[index]
    assert isinstance(quantizer, Quantizer)
    assert quantizer.fixed is None


def test_what_may_be_an_activation_is_refused_until_it_is_said() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Swish(), nn.Tanh())
    with pytest.raises(InvalidInput, match=r"Swish may be an activation.*ranges=\{Swish: .*leave="):
        quantize(model, 3)
    said = quantize(model, 3, ranges={Swish: None})
    assert len(said[:2](VALUES).unique()) <= 8  # type: ignore[index]  # a Sequential
    left = quantize(model, 3, leave=[Swish])
    assert len(left[:2](VALUES).unique()) > 8  # type: ignore[index]  # a Sequential


@pytest.mark.parametrize("kind", [nn.Softmax, nn.LogSoftmax])
@pytest.mark.parametrize("dim", [0, -2, 2, None])
def test_a_chain_takes_a_softmax_over_units_only(kind: type[nn.Module], dim: int | None) -> None:
    def chain(over: int | None) -> Chain | None:
        net = nn.Sequential(nn.Linear(4, 3), kind(dim=over))
        return Chain.of(net, {n: p.detach()[None] for n, p in net.named_parameters()})

    assert chain(dim) is None
    for over in (-1, 1):
        assert chain(over) is not None
