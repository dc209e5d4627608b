"""TwoNN: closed forms, reference networks, an independent package, and what has no dimension."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ibtrace import datasets
from ibtrace.errors import ConfigError
from ibtrace.lenses import TwoNN
from ibtrace.numerics.intrinsic_dimension import two_nearest
from ibtrace.tracer import Tracer
from ibtrace.types import Reading
from tests.layer_views import layer_view
from tests.reference_networks import PROBE, Kind, network, view_of

REFERENCE = {
    "tanh": (7.711391, 5.743013, 4.825059, 3.441489, 2.964725),
    "relu": (4.685983, 2.855444, 1.123596, 1.035052, 0.999744),
}
DROPPED = {"tanh": (0, 0, 0, 0, 0), "relu": (0.0005, 0.0005, 0.3921, 0.4309, 0.4319)}
WAVES = torch.arange(1, 1501, dtype=torch.float64).square().sin().reshape(500, 3)


def read(t: Tensor, samples: int = 5000) -> Reading:
    view = layer_view(t)
    return TwoNN(samples)(view, view._probe)["intrinsic dimension"]["t"]


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_reference_networks_to_seven_digits(kind: Kind) -> None:
    readings = TwoNN(5000)(view_of(network(kind)), PROBE)["intrinsic dimension"]
    each = [readings[f"hidden{at}"] for at in range(1, 6)]
    assert [r.value.item() for r in each] == pytest.approx(REFERENCE[kind], abs=1e-6)
    dropped = [r.diagnostics["duplicates"].item() for r in each]
    assert dropped == pytest.approx(DROPPED[kind], abs=5e-5)
    assert [bool(r.flags["duplicates"]) for r in each] == [share > 0.1 for share in dropped]


def test_a_line_and_waves() -> None:
    line = torch.arange(10.0)[:, None]
    reading = read(line[None])
    assert reading.value.item() == pytest.approx(10 / (2 * math.log(2)))
    assert reading.stderr.item() == pytest.approx(reading.value.item() / math.sqrt(10))
    assert read(WAVES[None]).value.item() == pytest.approx(2.221130, abs=1e-6)
    far = read(WAVES[None].repeat(1, 1, 3) * 1e-3 + 100)  # another path of the distances
    assert far.value.item() == pytest.approx(2.221130, abs=1e-6)


@pytest.mark.parametrize(("d", "wanted"), [(1, 0.97), (2, 2.02), (5, 4.84), (10, 8.92)])
def test_cubes(d: int, wanted: float) -> None:
    cube = torch.rand(1, 4096, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert abs(read(cube).value.item() - wanted) < 5 * wanted / 64


def test_a_naive_twin_with_repeats() -> None:
    points = torch.randn(40, 5).double()
    repeated = torch.cat([points, points[:12], points[:3]])[torch.randperm(55)]
    logs = []
    for one in points[12:]:
        first, second = (repeated - one).norm(dim=1).sort().values[1:3].tolist()
        logs.append(math.log(second / first))
    reading = read(repeated[None])
    assert reading.value.item() == pytest.approx(28 / sum(logs))
    assert reading.diagnostics["duplicates"].item() == pytest.approx(27 / 55)
    assert bool(reading.flags["duplicates"])


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # theirs, of the last point
def test_an_independent_package() -> None:
    skdim = pytest.importorskip("skdim", reason="scikit-dimension is an oracle, not a dependency")
    theirs = skdim.id.TwoNN(discard_fraction=0.0, method="mle").fit(WAVES.numpy()).dimension_
    assert two_nearest(WAVES).dimension == pytest.approx(500 / 499 * theirs)  # theirs is unbiased


def test_what_has_no_dimension_says_so() -> None:
    patterns = datasets.tishby().x
    lattice = read(patterns[None])
    assert lattice.value.isinf().item()
    assert bool(lattice.flags["infinite"])
    for t in ([[1.0], [2], [1], [2]], [[1.0], [2]]):
        none = read(torch.tensor([t]))
        assert none.value.isnan().item()
        assert bool(none.flags["too_few"])
        assert not bool(none.flags["infinite"])


def test_an_infinite_dimension_reaches_the_trace() -> None:
    x = datasets.tishby().x[:64]
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(12, 2))
    with Tracer(
        model, (x, torch.arange(64) % 2), look=["0"], lenses="two_nn", estimators="exact"
    ) as t:
        pass
    frame = t.trace.readings().query("quantity == 'intrinsic dimension'")
    assert frame["value"].tolist() == [math.inf]
    assert frame["flags"].str.contains("infinite").all()


def test_more_samples_than_the_limit_are_thinned() -> None:
    reading = read(torch.randn(2, 300, 2), samples=100)
    assert reading.diagnostics["samples"].tolist() == [100, 100]
    with pytest.raises(ConfigError, match="TwoNN: samples"):
        TwoNN(2)
