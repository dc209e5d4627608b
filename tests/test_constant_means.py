"""A mean that normalisation makes the same for every sample has no bits, whatever its rounding.

And of rows that a user's function makes, or that have nothing to be made of.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ibtrace
from ibtrace.capture import looks, snapshot
from ibtrace.capture.reduce import Axes, choose
from ibtrace.ensemble import Ensemble
from ibtrace.errors import ConstantMean, InvalidInput
from ibtrace.estimators import Exact, make
from ibtrace.types import I_XT

N, TOKENS = 128, 16
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(N, TOKENS, 4, generator=DRAW) + 3.0
Y = (X.mean((1, 2)) > 3).long()
LOOK = ibtrace.Look(layers=["layer"], reduce="gap:first")
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


class Named(nn.Module):
    """One layer called ``layer`` on images or tokens, and a head."""

    def __init__(self, layer: nn.Module, before: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.layer, self.before, self.head = layer, before, nn.Linear(TOKENS * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(self.before(x))
        self.head(x.flatten(1).to(self.head.weight.dtype))
        return output


def attention(x: Tensor) -> Tensor:
    """Scores of two heads, ``(n, 2, tokens, tokens)``."""
    heads = x.view(len(x), TOKENS, 2, 2).transpose(1, 2)
    return heads @ heads.mT


def channels_first(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def images(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(len(x), 4, 4, 4)


CONSTANT: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
    "attention": (nn.Softmax(-1), attention),
    "softmax over positions": (nn.Softmax(-1), channels_first),
    "instance norm": (nn.InstanceNorm1d(4), channels_first),
    "instance norm of images": (nn.InstanceNorm2d(4), images),
    "affine instance norm": (nn.InstanceNorm1d(4, affine=True), channels_first),
    "group norm": (nn.GroupNorm(4, 4), images),
}


def bits(model: nn.Module, estimator: Any, x: Tensor = X, **arguments: Any) -> tuple[float, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantMean)
        look = ibtrace.Look(layers=["layer"], **{"reduce": "gap:first", **arguments})
        with ibtrace.Tracer(model, (x, Y), estimators=[estimator], look=look) as tracer:
            pass
    row = tracer.trace.frame().query(f"quantity == {I_XT!r}").iloc[0]
    return float(row["bits"]), str(row["flags"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONSTANT)
def test_the_mean_of_what_is_normalised_is_a_constant(name: str, dtype: torch.dtype) -> None:
    layer, before = CONSTANT[name]
    for estimator in ("exact", "binning"):
        value, flags = bits(Named(layer, before).to(dtype), estimator, X.to(dtype))
        assert value == 0
        assert "constant" in flags


@pytest.mark.parametrize("name", ["ksg", "kde", "matrix_renyi", "adaptive_binning"])
def test_no_estimator_takes_its_rounding_for_information(name: str) -> None:
    value, flags = bits(Named(*CONSTANT["instance norm"]), make(name))
    assert "constant" in flags
    assert not value > 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_mean_that_does_differ_is_left_as_it_is(dtype: torch.dtype, scale: float) -> None:
    x = (scale * X).to(dtype)
    for layer in (nn.Identity(), nn.LayerNorm(4), nn.ReLU()):
        model = Named(layer).to(dtype)
        probe, look = ibtrace.Probe(x, Y), ibtrace.Look(["layer"], reduce="gap:last")
        (seen,) = looks(model, probe, look)
        whole = snapshot(model, probe, ["layer"])["layer"]
        kind = torch.promote_types(dtype, torch.float32)
        mean = whole.double().mean(1).to(kind)
        if whole.dtype == torch.float64:  # whose sum has an order of its own
            torch.testing.assert_close(seen["layer"].values, mean, rtol=1e-14, atol=1e-16)
        else:
            assert torch.equal(seen["layer"].values, mean)


BAGS = torch.tensor([*itertools.product(range(3), repeat=5)])
"""All sequences of five tokens; their mean knows the bag alone, of which there are 21."""


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("channels", ["gap", "gap:first", "token:mean"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mean_of_the_same_values_in_another_order_is_the_same(
    dtype: torch.dtype, channels: str, masked: bool
) -> None:
    values = torch.tanh(torch.randn(3, 7, generator=torch.Generator().manual_seed(0))).to(dtype)
    tokens = values[BAGS]
    first = channels == "gap:first"
    reduction = choose(
        channels,
        "layer",
        (len(BAGS), 7, 5) if first else tokens.shape,
        Axes(channels=frozenset({1 if first else 2})),
    )
    mask = torch.ones(len(BAGS), 5, dtype=torch.bool) if masked else None
    t = reduction(tokens.mT if first else tokens, mask)
    assert len(t.unique(dim=0)) == 21


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [None, 2])
def test_means_and_projections_of_half_precision_do_not_merge(
    dtype: torch.dtype, width: int | None
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = (3 + torch.randn(500, TOKENS, 4, generator=draw)).to(dtype)
    if width:
        x = x.flatten(1)
    look = ibtrace.Look(["layer"], reduce=None if width else "gap:last", max_width=width)
    model = Named(nn.ReLU()).to(dtype)
    (seen,) = looks(model, ibtrace.Probe(x, torch.arange(500) % 2), look)
    assert len(seen["layer"].values.unique(dim=0)) == len(x.unique(dim=0))


def test_one_position_that_differs_in_one_sample_is_seen() -> None:
    for positions in (16, 1024, 16384):
        x = torch.zeros(8, 1, positions)
        x[:, :, ::2] = 1.0
        x[3, 0, 0] = 0.5
        model = nn.Sequential(nn.Identity())
        look = ibtrace.Look(layers=["0"], reduce="gap:first")
        with ibtrace.Tracer(model, x, estimators="exact", look=look) as tracer:
            pass
        assert tracer.trace.frame()["bits"].iloc[0] == pytest.approx(0.5435644)  # H(1/8)


def test_a_small_signal_on_a_large_offset_is_left() -> None:
    x = 1e4 + torch.randn(N, TOKENS, 4, generator=DRAW)
    value, _ = bits(Named(nn.Identity()), Exact(), x)
    assert value > 5


def test_it_is_said_once_with_the_way_out() -> None:
    model = Named(*CONSTANT["attention"])
    with pytest.warns(ConstantMean, match=r"T of layer is the same.*reduce=\{'layer': 'flatten'\}"):
        tracer = ibtrace.Tracer(model, (X, Y), estimators="exact", look=LOOK, every=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracer.snapshot(1)
        tracer.close()
    assert bits(model, "exact", reduce="flatten")[0] == 7.0


def test_projections_and_ensembles_have_it_too() -> None:
    wide = Named(nn.InstanceNorm1d(40), lambda x: channels_first(x).repeat(1, 10, 1))
    assert bits(wide, "exact", max_width=5)[0] == 0
    networks = Ensemble(lambda seed: Named(nn.Softmax(-1), attention), seeds=[0, 1], fast=False)
    with (
        pytest.warns(ConstantMean),
        ibtrace.Tracer(networks, (X, Y), estimators="exact", look=LOOK) as tracer,
    ):
        pass
    assert (tracer.trace.frame().query(f"quantity == {I_XT!r}")["bits"] == 0).all()


# --- rows that a user's function makes ------------------------------------------------------------

WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": lambda t: t.flip(0).flatten(1),
    "less the batch's mean": lambda t: (t - t.mean(0)).flatten(1),
    "sorted": lambda t: t.flatten(1).sort(0).values,
    "rolled": lambda t: t.roll(1, 0).flatten(1),
    "unfolded the wrong way": lambda t: t.transpose(0, 1).reshape(len(t), -1),
    "cumulated": lambda t: t.cumsum(0).flatten(1),
}
RIGHT: dict[str, Callable[[Tensor], Tensor]] = {
    "flatten": lambda t: t.flatten(1),
    "max": lambda t: t.amax(1),
    "sorted within a sample": lambda t: t.sort(1).values.flatten(1),
    "one value": lambda t: t[:, 0, 0],
}


@pytest.mark.parametrize("name", WRONG)
def test_rows_of_a_function_that_mixes_samples_are_refused(name: str) -> None:
    look = ibtrace.Look(layers=["layer"], reduce=WRONG[name])
    with pytest.raises(InvalidInput, match=r"layer 'layer': reduce=.* not one sample's each"):
        ibtrace.Tracer(Named(nn.Tanh()), (X, Y), estimators="exact", look=look)


@pytest.mark.parametrize("name", RIGHT)
def test_rows_of_a_function_that_keeps_samples_apart_are_taken(name: str) -> None:
    value, _ = bits(Named(nn.Identity()), "exact", reduce=RIGHT[name])
    assert value > 5


# --- nothing to make T of -------------------------------------------------------------------------


class Masked(nn.Module):
    """Tokens with a mask that the model is given."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act = nn.Embedding(10, 4), nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        h = self.act(self.embed(input_ids))
        weights = attention_mask[..., None].to(h.dtype)
        pooled: Tensor = (h * weights).sum(1) / weights.sum(1).clamp(min=1)
        return pooled


@pytest.mark.parametrize("how", ["token:mean", "token:cls", "token:last"])
def test_a_sample_without_a_real_token_is_refused_with_their_number(how: str) -> None:
    ids = torch.randint(10, (40, 6), generator=DRAW)
    mask = (torch.arange(6) < torch.randint(1, 7, (40, 1), generator=DRAW)).long()
    x = {"input_ids": ids, "attention_mask": mask}
    look = ibtrace.Look(layers=["act"], reduce=how)
    y = torch.arange(40) % 2
    with ibtrace.Tracer(Masked(), (x, y), estimators="exact", look=look):
        pass
    mask[[3, 17]] = 0
    with pytest.raises(InvalidInput, match=r"layer 'act': 2 of 40 samples have no real token"):
        ibtrace.Tracer(Masked(), (x, y), estimators="exact", look=look)


def test_means_of_half_precision_that_lie_far_from_0_are_no_constant() -> None:
    """They are rounded as single precision is: what differs by a half stays apart around 100."""
    draw = torch.Generator().manual_seed(0)
    x = (100 + 0.5 * torch.randint(0, 2, (N, TOKENS, 4), generator=draw)).bfloat16()
    look = ibtrace.Look(["layer"], reduce="gap:last")
    model = Named(nn.Identity()).to(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConstantMean)
        (seen,) = looks(model, ibtrace.Probe(x, torch.arange(N) % 2), look)
    assert len(seen["layer"].values.unique(dim=0)) == len(x.double().mean(1).unique(dim=0))
