"""A look puts back every tensor: of any layout, whatever it came to share, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look, saving, snapshot
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer

pytestmark = pytest.mark.filterwarnings(
    "ignore:Sparse .* tensor support is in beta:UserWarning",
    "ignore:torch.quantize_per_tensor:UserWarning",
)


def probe() -> Probe:
    return Probe(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2)


class Net(nn.Module):
    """Does something to itself as it is called."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.layer, self.act, self.change = nn.Linear(3, 2), nn.Tanh(), change

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.layer(x))
        self.change(self)
        return out


def quantized() -> Tensor:
    return torch.quantize_per_tensor(torch.arange(4.0), 0.5, 1, torch.qint8)


TENSORS: dict[str, Callable[[], Tensor]] = {
    "strided": lambda: torch.arange(8.0)[::2],
    "column": lambda: torch.arange(6.0).reshape(3, 2)[:, 0],
    "one of a stride": lambda: torch.arange(8.0)[::8],
    "transposed": lambda: torch.arange(6.0).reshape(3, 2).T,
    "scalar": lambda: torch.tensor(2.0),
    "empty": lambda: torch.zeros(0, 3),
    "nan": lambda: torch.tensor([float("nan"), 1.0]),
    "bool": lambda: torch.tensor([True, False, True])[::2],
    "half": lambda: torch.arange(8.0).half()[::2],
    "long": lambda: torch.arange(8)[1::2],
    "complex": lambda: torch.tensor([1 + 2j, 3 + 4j]),
    "complex128": lambda: torch.tensor([1 + 2j, 3 + 4j, 5j], dtype=torch.complex128)[::2],
    "conjugate": lambda: torch.tensor([1 + 2j, 3 + 4j]).conj(),
    "negative": lambda: torch.tensor([1 + 2j, 3 + 4j]).conj().imag,
    "expanded": lambda: torch.tensor([1.0]).expand(4),
    "expanded rows": lambda: torch.arange(3.0).expand(4, 3),
    "unfolded": lambda: torch.arange(6.0).unfold(0, 3, 1),
    "channels last": lambda: torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": quantized,
}


def seen(tensor: Tensor) -> tuple[Any, ...]:
    form: tuple[Any, ...] = (
        *(tensor.dtype, tensor.shape, tensor.layout),
        *(tensor.is_conj(), tensor.is_neg()),
    )
    if tensor.layout == torch.strided:
        form = (*form, tensor.stride(), tensor.storage_offset())
    dense = tensor.detach()
    if tensor.is_quantized:
        dense = dense.dequantize()
    elif tensor.layout != torch.strided:
        dense = dense.to_dense()
    return form, str(dense.tolist())


def overwrite(model: Any) -> None:
    """Change the values of ``held`` in place, by whatever way its layout allows."""
    held = model.held.detach()
    if held.layout == torch.sparse_coo:
        held._values().add_(1)
    elif held.layout == torch.sparse_csr:
        held.values().add_(1)
    elif held.is_quantized:
        held.copy_(torch.quantize_per_tensor(torch.arange(4.0) + 1, 0.5, 1, torch.qint8))
    elif 0 in held.stride():
        held[..., 0].add_(1) if held.dim() == 1 else held[0].add_(1)
    elif held.dtype == torch.bool:
        held.logical_not_()
    else:
        held.copy_(held.clone() + 1)


def swap(model: Any) -> None:
    model.held.data = torch.zeros(5)


def nothing(model: Any) -> None:
    pass


@pytest.mark.parametrize("change", [nothing, overwrite, swap])
@pytest.mark.parametrize("way", ["buffer", "attribute", "parameter", "container"])
@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_of_any_layout_is_put_back(
    kind: str, way: str, change: Callable[[Any], None]
) -> None:
    tensor = TENSORS[kind]()
    plain = tensor.layout == torch.strided and not tensor.is_quantized
    if change is swap and not plain:
        pytest.skip("torch takes no such data")
    if way == "parameter":
        tensor = nn.Parameter(tensor, requires_grad=False)
    net: Any = Net(change)
    if way == "buffer":
        net.register_buffer("held", tensor)
    elif way == "container":
        object.__setattr__(net, "held", tensor)
        net.all = {"a": [tensor]}
    else:
        net.held = tensor
    before = seen(tensor)
    snapshot(net, probe(), Look(batch_size=4))
    assert net.held is tensor
    assert seen(tensor) == before
    if change is not nothing and tensor.numel():
        net(probe().features)
        assert seen(tensor) != before  # the forward does change it


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tracer_takes_a_model_that_holds_a_tensor_of_any_layout(kind: str) -> None:
    net: Any = Net(nothing)
    net.register_buffer("held", TENSORS[kind]())
    tracer = Tracer(net, probe(), look=["act"], estimators=["binning"])
    tracer.snapshot(1)
    assert len(tracer.trace) > 0


def share_data(model: Any) -> None:
    model.target.weight.data = model.online.weight.data


def share_and_write(model: Any) -> None:
    model.target.weight.data = model.online.weight.data
    model.target.weight.data.mul_(2)


def share_by_set(model: Any) -> None:
    with torch.no_grad():
        model.a.set_(model.b)
        model.a.add_(1)


def share_view(model: Any) -> None:
    model.a.set_(model.matrix[0])
    model.a.zero_()


def swap_two(model: Any) -> None:
    model.a.data, model.b.data = model.b.data, model.a.data
    model.a.add_(1)


def restride(model: Any) -> None:
    model.matrix.data = model.matrix.data.t()
    model.matrix.add_(1)


def resize(model: Any) -> None:
    model.b.resize_(50).fill_(3)


def grow_storage(model: Any) -> None:
    model.base.resize_(50).fill_(3)


def free_storage(model: Any) -> None:
    model.base.untyped_storage().resize_(0)


def lose_graph(model: Any) -> None:
    with torch.enable_grad():
        model.a.add_(model.online.weight[0])


SHARING = [share_data, share_and_write, share_by_set, share_view, swap_two, restride, resize]
SHARING += [grow_storage, free_storage, lose_graph]


@pytest.mark.parametrize("bound", [saving.PARAMETER_BYTES, 0])
@pytest.mark.parametrize("change", SHARING)
def test_what_comes_to_share_memory_is_parted_again_and_nothing_overwritten(
    change: Callable[[Any], None], bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bound == 0 and change is share_and_write:
        pytest.skip("of a large model the values of parameters are not saved")
    monkeypatch.setattr(saving, "PARAMETER_BYTES", bound)
    net: Any = Net(change)
    net.online, net.target = nn.Linear(3, 3), nn.Linear(3, 3)
    for name in ("a", "b"):
        net.register_buffer(name, torch.randn(3))
    net.register_buffer("matrix", torch.arange(6.0).reshape(2, 3))
    net.register_buffer("base", torch.randn(6))
    net.register_buffer("part", net.base[2:4])
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    before = {name: (seen(t), t.data_ptr(), t.is_leaf) for name, t in tensors.items()}
    snapshot(net, probe(), Look(batch_size=4))
    assert all(net.get_parameter(n) is t for n, t in tensors.items() if isinstance(t, nn.Parameter))
    for name, tensor in tensors.items():
        was, pointer, leaf = before[name]
        assert (seen(tensor), tensor.is_leaf) == (was, leaf)
        if change not in (grow_storage, free_storage, resize):
            assert tensor.data_ptr() == pointer
    net.base.fill_(9)
    assert net.part.tolist() == [9, 9]  # still the same memory


def backward(model: Any) -> None:
    with torch.enable_grad():
        model.layer.weight.square().sum().backward()
        model.layer.bias.sum().backward()


def lose(model: Any) -> None:
    model.zero_grad()


def zero(model: Any) -> None:
    model.zero_grad(set_to_none=False)


def other(model: Any) -> None:
    model.layer.weight.grad = torch.ones(2, 3)


@pytest.mark.parametrize("change", [backward, lose, zero, other])
@pytest.mark.parametrize("held", [(), ("weight",), ("weight", "bias")])
def test_gradients_are_those_of_the_user(change: Callable[[Any], None], held: Any) -> None:
    net: Any = Net(change)
    for name in held:
        parameter = getattr(net.layer, name)
        parameter.grad = torch.randn_like(parameter)
    grads = {name: p.grad for name, p in net.layer.named_parameters()}
    values = {name: grad.clone() for name, grad in grads.items() if grad is not None}
    snapshot(net, probe(), Look(batch_size=4))
    for name, parameter in net.layer.named_parameters():
        assert parameter.grad is grads[name]
        assert name not in values or torch.equal(parameter.grad, values[name])
