"""Topology: loops of known length, and what the missing package says."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor

from ibtrace.errors import ConfigError, MissingDependency
from ibtrace.lenses import Topology
from ibtrace.types import Reading
from tests.layer_views import layer_view


def circle(n: int) -> Tensor:
    angles = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    return torch.stack([angles.cos(), angles.sin()], 1)


def read(t: Tensor, labels: Tensor, **fields: int) -> Reading:
    pytest.importorskip("ripser", reason="the extra 'topology' is not installed")
    view = layer_view(t, labels)
    return Topology(**fields)(view, view._probe)["H1 total persistence"]["t"]


@pytest.mark.parametrize(
    ("n", "birth", "death"), [(12, 0.517638, 1.732051), (20, 0.312869, 1.782013)]
)
def test_a_circle_has_one_loop(n: int, birth: float, death: float) -> None:
    assert birth == pytest.approx(2 * math.sin(math.pi / n), abs=1e-6)
    assert death == pytest.approx(2 * math.sin(math.pi * math.ceil(n / 3) / n), abs=1e-6)
    one = torch.zeros(n, dtype=torch.long)
    # a unit circle's coordinates have the standard deviation 1/√2; its size does not matter
    for size in (1, 50):
        reading = read(size * circle(n)[None] + 3, one)
        assert reading.value.item() == pytest.approx(math.sqrt(2) * (death - birth), rel=1e-5)


def test_classes_are_apart_and_averaged() -> None:
    line = torch.stack([torch.arange(12.0).double(), torch.zeros(12).double()], 1)
    t = torch.cat([circle(12), line])
    reading = read(t[None], torch.arange(24) // 12)
    scale = float((t - t.mean(0)).square().mean().sqrt())
    wanted = (math.sqrt(3) - 2 * math.sin(math.pi / 12)) / scale
    assert reading.diagnostics["class 0"].item() == pytest.approx(wanted, rel=1e-5)
    assert reading.diagnostics["class 1"].item() == 0
    assert reading.value.item() == pytest.approx(wanted / 2, rel=1e-5)


def test_a_dead_layer_is_undefined_and_more_samples_are_thinned() -> None:
    labels = torch.arange(40) % 2
    t = torch.stack([torch.full((40, 2), 0.1).double(), torch.randn(40, 2).double()])
    reading = read(t, labels, samples=10)
    assert reading.value.isnan().tolist() == [True, False] == reading.flags["constant"].tolist()
    assert reading.diagnostics["samples"].tolist() == [20, 20]  # of both classes
    with pytest.raises(ConfigError, match="Topology: samples"):
        Topology(samples=2)


def test_without_ripser_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ripser", None)
    view = layer_view(torch.randn(1, 9, 2))
    with pytest.raises(MissingDependency, match=r"pip install 'ibtrace\[topology\]'"):
        Topology()(view, view._probe)
