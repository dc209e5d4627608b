"""PACBayes: closed forms, reference networks, coverage, what has no bound, and what is printed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from ibtrace.capture import Recipe
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.recipe import Part
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import PACBayes, statements
from ibtrace.lenses.pac_bayes import STATEMENT
from ibtrace.numerics.pac_bayes import binary_kl, gaussian_kl, kl_inverse, maurer, sampled
from ibtrace.probe import Probe
from ibtrace.reports.quantities import quantities
from ibtrace.tracer import Tracer
from ibtrace.types import Reading
from tests.reference_networks import BITS, PROBE, Kind, after_descent, network, view_of

GIBBS = {  # σ: Gibbs error, 64 draws
    "tanh": {0.02: 0.4206809998, 0.05: 0.4219741821, 0.1: 0.4315757751},
    "relu": {0.02: 0.5170898438, 0.05: 0.5170898438, 0.1: 0.5146217346},
}
DESCENDED = {  # σ: Gibbs error, KL to the start with λ = σ, Maurer's bound without draws
    "tanh": {
        0.05: (0.1555671692, 598.1832609, 0.4061242330),
        0.1: (0.2306022644, 149.5458152, 0.3590387479),
    },
    "relu": {
        0.05: (0.2717437744, 198.5047468, 0.4247389005),
        0.1: (0.3213958740, 49.6261868, 0.4024332336),
    },
}
DATA = PROBE.x, PROBE.labels


def buffers(module: nn.Module, mean: float) -> dict[str, torch.Tensor]:
    held = {f"1.{name}": value[None].double() for name, value in module.named_buffers()}
    return {**held, "1.running_mean": held["1.running_mean"] + mean}


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def read(
    view: NetworkView, start: NetworkView | None = None, seed: int = 0, **fields: Any
) -> dict[str, Reading]:
    view.remember(lambda when: start or view)
    return {n: of[""] for n, of in PACBayes(**fields)(view, view._probe, seed=seed).items()}


def test_closed_forms() -> None:
    assert kl_inverse(number(0.1), number(0.05)).item() == pytest.approx(0.2200786, abs=1e-7)
    for nats in (0.0, 0.01, 1.0, 30.0):
        wanted = 1 - torch.exp(-number(nats))
        assert kl_inverse(number(0), number(nats)).item() == pytest.approx(wanted.item())
    assert kl_inverse(number(1), number(0.1)).item() == 1
    assert kl_inverse(number(torch.nan), number(0.1)).isnan()
    assert maurer(number(0.03), number(5), 1000, 0.05).item() == pytest.approx(0.06446206, abs=1e-8)
    divergence = gaussian_kl(number(5**0.5), 2, number(0.5), number(1.0))
    assert divergence.item() == pytest.approx(3.136294, abs=1e-6)
    for error, nats, bound in (
        (0.1287314570, 599.8170078, 0.3717107),
        (0.1534640112, 66.6463342, 0.2301410),
        (0.2766352877, 5.9981701, 0.3143661),
    ):
        got = maurer(number(error), number(nats), 4096, 0.05)
        assert got.item() == pytest.approx(bound, abs=1e-7)


def test_the_inverse_is_never_below_the_truth() -> None:
    q = torch.linspace(0, 1, 101).double()[:, None]
    nats = torch.logspace(-8, 1, 40).double()
    p = kl_inverse(q, nats)
    inner = (p < 1) & (q < 1)
    assert (binary_kl(q, p)[inner] >= nats.expand_as(p)[inner] * (1 - 1e-6)).all()


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_gibbs_errors_of_the_reference_networks(kind: Kind) -> None:
    for sigma, wanted in GIBBS[kind].items():
        readings = read(view_of(network(kind), data=DATA), scales=(sigma,), draws=64)
        assert readings["Gibbs error"].value.item() == pytest.approx(wanted, abs=1e-10)
        assert readings["KL to the prior"].value.item() == 0
    view = view_of(after_descent(kind), data=DATA)
    for sigma, (gibbs, kl, bound) in DESCENDED[kind].items():
        readings = read(view, view_of(network(kind)), scales=(sigma,), draws=64)
        got = readings["Gibbs error"].value[0], readings["KL to the prior"].value[0]
        assert [value.item() for value in got] == pytest.approx([gibbs, kl], rel=1e-8)
        assert maurer(*got, 4096, 0.05).item() == pytest.approx(bound, abs=1e-9)
        upper = sampled(got[0], 64, 0.01)
        wanted = maurer(upper, got[1], 4096, 0.04).item()
        assert readings["PAC-Bayes bound"].value.item() == pytest.approx(wanted)
        assert wanted > bound


def linear() -> nn.Module:
    """Two logits whose difference is Σ (1 + .1 sin j²) sⱼ + .5, s = 2x - 1."""
    model = nn.Linear(13, 2, bias=False).double()
    j = torch.arange(1.0, 13).double()
    w = torch.cat([1 + 0.1 * j.square().sin(), number(0.5)[None]])
    with torch.no_grad():
        model.weight.copy_(torch.stack([-w / 2, w / 2]))
    return model


@pytest.mark.parametrize(("sigma", "wanted"), [(0.1, 0.1287314570), (0.3, 0.1534640112), (1, None)])
def test_the_gibbs_error_of_a_linear_classifier(sigma: float, wanted: float | None) -> None:
    s = torch.cat([2 * BITS.x.double() - 1, torch.ones(4096, 1).double()], 1)
    model = linear()
    labels = (s[:, :12].sum(1) > 0).long() if wanted is None else BITS.y
    view = NetworkView(
        Stacked.of_module(model),
        Probe(s, labels),
        Setting("cross_entropy", recipe=Recipe((s, labels))),
    )
    logits = model(s).detach()
    margin = (logits[:, 1] - logits[:, 0]) * (2 * labels - 1)
    exact = torch.special.ndtr(-margin / (sigma * 13**0.5)).mean().item()
    assert wanted is None or exact == pytest.approx(wanted, rel=1e-9)
    readings = read(view, scales=(sigma / 2**0.5,), draws=400)  # noise on both logits
    gibbs = readings["Gibbs error"]
    assert abs(gibbs.value - exact) < 4 * gibbs.stderr
    assert gibbs.stderr < 0.01


def test_scales_are_paid_for_and_chosen() -> None:
    view, start = view_of(after_descent("tanh"), data=DATA), view_of(network("tanh"))
    readings = read(view, start)
    bound = readings["PAC-Bayes bound"]
    sigma, kl = (readings[name].value[0] for name in ("posterior scale", "KL to the prior"))
    prior = bound.diagnostics["prior scale"][0]
    distance = number(1.729426583)
    assert kl.item() == pytest.approx(gaussian_kl(distance, 294, sigma, prior).item(), rel=1e-8)
    others = [gaussian_kl(distance, 294, sigma, number(each)) for each in PACBayes().scales]
    assert kl.item() == pytest.approx(min(others).item())
    upper = sampled(readings["Gibbs error"].value, 500, 0.01)
    wanted = maurer(upper, kl, 4096, 0.04, priors=7)
    assert bound.value.item() == pytest.approx(wanted.item())
    assert bound.value < 0.4


def test_a_bound_at_the_majoritys_error_is_vacuous() -> None:
    readings = read(view_of(network("relu"), data=DATA), scales=(1.0,), draws=20)
    bound = readings["PAC-Bayes bound"]
    assert bound.diagnostics["majority"].item() == pytest.approx(0.482910156)
    assert bound.value > 0.4829
    assert bound.flags["vacuous"].all()
    tight = read(view_of(after_descent("tanh"), data=DATA), view_of(network("tanh")))
    assert not tight["PAC-Bayes bound"].flags["vacuous"].any()


def test_no_bound_without_a_random_sample_or_a_start() -> None:
    model = network("tanh")
    with pytest.raises(Unsupported, match="training samples are not known"):
        read(view_of(model))
    with pytest.raises(Unsupported, match=r"not drawn at random .*Recipe\(random=False\)"):
        read(view_of(model, data=DATA, random=False))
    late = view_of(model)
    late.epoch = 3
    with pytest.raises(Unsupported, match="the first look was after 3 epochs"):
        read(view_of(model, data=DATA), late)
    with pytest.raises(Unsupported, match="one logit for each class"):
        read(view_of(model, data=(PROBE.x, torch.arange(4096) % 3)))
    layers = nn.Linear(12, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)
    view = view_of(nn.Sequential(*layers).double(), data=DATA)
    view = NetworkView(
        dataclasses.replace(view.networks, buffers=buffers(layers[1], 1.0)), PROBE, view._setting
    )
    before = NetworkView(
        dataclasses.replace(view.networks, buffers=buffers(layers[1], 0.0)), PROBE, view._setting
    )
    with pytest.raises(Unsupported, match="learned more than the weights"):
        read(view, before)
    assert read(before, before, draws=2, scales=(0.1,))
    for scales in ((), (0.1, 0.1), (0.0,), 0.1, ("a",), (float("nan"),)):
        with pytest.raises(ConfigError, match="PACBayes: scales"):
            PACBayes(scales=scales)  # type: ignore[arg-type]  # refused


def test_the_bound_holds_over_training_sets() -> None:
    """Of 200 training sets of a linear classifier none has an error above its bound."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2000, 3, generator=draw, dtype=torch.float64)
    y = (x[:, 0] + 0.5 * torch.randn(2000, generator=draw, dtype=torch.float64) > 0).long()
    sets = 200
    rows = torch.stack([torch.randperm(2000, generator=draw)[:500] for _ in range(sets)])
    ids = torch.stack([2 * y - 1 for _ in range(sets)]).gather(1, rows).double()
    means = (x[rows] * ids[..., None]).mean(1)  # a classifier that is fitted to its set
    weights = torch.stack([-means, means], 1)
    probe = Probe(x, y)
    view = NetworkView(
        Stacked(nn.Linear(3, 2, bias=False).double(), {"weight": weights}, {}, range(sets)),
        probe,
        Setting("cross_entropy", recipe=Recipe(Part(probe, rows))),
    )
    start = view.at({"weight": torch.zeros_like(weights)})
    readings = read(view, start, draws=300)
    sigma = readings["posterior scale"].value
    margin = ((x @ (weights[:, 1] - weights[:, 0]).mT).mT) * (2 * y - 1)
    error = torch.special.ndtr(-margin / (sigma[:, None] * 2**0.5 * x.norm(dim=1))).mean(1)
    assert (error < readings["PAC-Bayes bound"].value).all()
    assert readings["PAC-Bayes bound"].value.mean() < 0.5


def test_the_statement_is_printed_with_the_bound() -> None:
    assert statements() == {"PAC-Bayes bound": STATEMENT}
    model = network("tanh").float()
    data = BITS.x, BITS.y
    with Tracer(
        model, data, estimators="exact", lenses="pac_bayes", recipe=Recipe(data),
        loss="cross_entropy",
    ) as tracer:  # fmt: skip
        pass
    text = " ".join(quantities(tracer.trace).split())
    assert text.count(" ".join(STATEMENT.split())) == 1
