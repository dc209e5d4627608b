"""Inputs, labels and layers of every type of number: read at their values, or refused in a line."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import ibtrace
from ibtrace.capture import Look, looks
from ibtrace.errors import InvalidInput, LeftOut
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer


def known(*names: str) -> list[torch.dtype]:
    """Those of the types that this torch has."""
    return [getattr(torch, name) for name in names if hasattr(torch, name)]


FLOAT8 = known(
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"
)
QUANTIZED = [torch.quint8, torch.qint8, torch.qint32]
PACKED = known("uint4", "int4", "uint2", "bits8", "float4_e2m1fn_x2")

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")


def numbers(n: int = 16) -> Tensor:
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(0)) + 0.1


def cast(x: Tensor, kind: torch.dtype) -> Tensor:
    if kind in QUANTIZED:
        return torch.quantize_per_tensor(x, 0.1, 0, kind)
    if kind in PACKED:
        return x.to(torch.uint8).view(kind)
    return x.to(kind)


def plain(x: Tensor) -> Tensor:
    return x.dequantize() if x.is_quantized else x.float()


class Cast(nn.Module):
    """A step that gives numbers of another type."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return cast(x, self.kind)


class Net(nn.Module):
    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.cast, self.act, self.kind = Cast(kind), nn.Tanh(), kind

    def forward(self, x: Tensor) -> Tensor:
        given = self.cast(x)
        known = self.kind not in PACKED and not given.is_complex()
        out: Tensor = self.act(plain(given) if known else x)
        return out


@pytest.mark.parametrize("kind", [*FLOAT8, *QUANTIZED])
def test_inputs_and_labels_are_read_at_their_values(kind: torch.dtype) -> None:
    x = cast(numbers(), kind)
    probe = Probe(x, x)
    assert torch.equal(probe.x, plain(x))
    assert probe.x.dtype == probe.y.dtype == torch.float32
    assert torch.equal(probe.y, plain(x))
    tracer = Tracer(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), (x, torch.arange(16) % 2))
    assert set(tracer.trace.frame().layer) == {"1"}


@pytest.mark.parametrize("kind", [*FLOAT8, *QUANTIZED])
@pytest.mark.parametrize("n", [16, 9])
def test_layers_are_read_at_their_values(kind: torch.dtype, n: int) -> None:
    x = numbers(n)
    probe = Probe(x, torch.arange(n) % 2)
    (found,) = looks(Net(kind), probe, Look(layers=["cast"], batch_size=4))
    assert torch.equal(found["cast"].values, plain(cast(x, kind)))
    assert found["cast"].variable == str(kind).removeprefix("torch.")
    (found,) = looks(Net(kind), probe, Look(layers=["cast"], reduce=lambda output: output[:, :2]))
    assert torch.equal(found["cast"].values, plain(cast(x, kind))[:, :2])
    assert "act" in set(Tracer(Net(kind), probe).trace.frame().layer)
    assert [row.t for row in ibtrace.layers(Net(kind), probe).rows] == [3, 3, 3]


@pytest.mark.parametrize("kind", PACKED)
def test_what_torch_computes_nothing_in_is_refused(kind: torch.dtype) -> None:
    x, y = numbers(), torch.arange(16) % 2
    line = f"is {str(kind).removeprefix('torch.')}, in which torch computes nothing; "
    with pytest.raises(InvalidInput, match=f"^Probe: x {line}"):
        Probe(cast(x, kind), y)
    with pytest.raises(InvalidInput, match=f"^Probe: y {line}"):
        Probe(x, cast(y, kind))
    with pytest.raises(InvalidInput, match=f"^layer 'cast': its output {line}"):
        Tracer(Net(kind), (x, y), look=["cast"])
    with pytest.warns(LeftOut, match=f"cast: .*its output {line}"):
        found = Tracer(Net(kind), (x, y), look=["*"])
    assert set(found.trace.frame().layer) == {"act", "output"}
    assert "act" in set(Tracer(Net(kind), (x, y)).trace.frame().layer)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("kind", [torch.complex32, torch.complex64, torch.complex128])
def test_a_complex_step_is_no_activation(kind: torch.dtype) -> None:
    tracer = Tracer(Net(kind), (numbers(), torch.arange(16) % 2))
    assert set(tracer.trace.frame().layer) == {"act"}


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.quint8, PACKED[0]])
def test_estimators_refuse_what_they_cannot_compute_in(kind: torch.dtype) -> None:
    x, y = numbers(), torch.arange(16) % 2
    given = cast(x, kind)
    way_out = r"\w+; pass its values as float32"
    if given.is_quantized:
        way_out = r"quantised; give (x|y)\.dequantize\(\)"
    for name in ("ksg", "binning", "exact", "kde", "edge"):
        with pytest.raises(InvalidInput, match=f": x is {way_out}"):
            ibtrace.estimators.make(name)(given, y)
        with pytest.raises(InvalidInput, match=f": y is {way_out}"):
            ibtrace.estimators.make(name)(x, given)
