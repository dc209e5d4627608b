"""Slice: reference lines, filter normalisation, a bowl, and the line from the start."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError
from ibtrace.lenses import Slice
from ibtrace.numerics.landscape import barrier, filter_normalised
from ibtrace.types import Reading
from tests.reference_networks import Kind, after_descent, network, view_of

LINE = {  # L at -.5, -.1, .1, .5, 1 in the direction of the cos weights
    "tanh": (1.07073992, 0.85497303, 0.89784912, 1.20264886, 1.26441961),
    "relu": (0.71498562, 0.71432286, 0.72595312, 0.78353334, 1.11633903),
}
BUMP = {"tanh": 0.02441426223, "relu": 0.01645861156}


def read(view: NetworkView, start: NetworkView, seed: int = 0, **fields: Any) -> dict[str, Reading]:
    view.remember(lambda when: start)
    return {n: of[""] for n, of in Slice(**fields)(view, view._probe, seed=seed).items()}


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_the_line_in_the_direction_of_the_cos_weights(kind: Kind) -> None:
    view, cos = view_of(network(kind)), view_of(network(kind, torch.cos))
    direction = {
        n: filter_normalised(cos.parameters[n][0], v[0]) for n, v in view.parameters.items()
    }
    at = (-0.5, -0.1, 0.1, 0.5, 1)
    moved = {
        n: torch.stack([value[0] + a * direction[n] for a in at])
        for n, value in view.parameters.items()
    }
    losses = view.at(moved, [0] * len(at)).loss
    assert losses.tolist() == pytest.approx(LINE[kind], abs=1e-8)


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_the_bump_on_the_line_from_the_start(kind: Kind) -> None:
    readings = read(view_of(after_descent(kind)), view_of(network(kind)))
    bump = readings["barrier from the start"]
    assert bump.value.item() == pytest.approx(BUMP[kind], rel=1e-9)
    assert 0 < bump.diagnostics["alpha"].item() < 1
    still = read(view_of(network(kind)), view_of(network(kind)))["barrier from the start"]
    assert still.value.item() == pytest.approx(0, abs=1e-15)


def test_the_rise_by_a_naive_twin() -> None:
    view = view_of(network("tanh"), network("tanh", torch.cos))
    readings = read(view, view, seed=4, directions=2, radius=0.3)
    draw = torch.Generator().manual_seed(4)
    rises, lows = [], []
    for _ in range(2):
        moved: dict[float, dict[str, torch.Tensor]] = {0.3: {}, -0.3: {}, -0.6: {}}
        for name, value in view.parameters.items():
            direction = torch.randn(value.shape[1:], generator=draw, dtype=torch.float64)
            for a in moved:
                step = torch.zeros_like(value)
                for s in range(2):
                    for row in range(value.shape[1] if value.dim() == 3 else 0):
                        d = direction[row]
                        step[s, row] = a * d / d.norm() * value[s, row].norm()
                moved[a][name] = value + step
        loss = {a: view.at(parameters).loss for a, parameters in moved.items()}
        rises.append((loss[0.3] + loss[-0.3]) / 2 - view.loss)
        lows.append(loss[-0.6])
    rise = readings["slice rise"]
    torch.testing.assert_close(rise.value, torch.stack(rises).mean(0))
    torch.testing.assert_close(rise.stderr, (rises[0] - rises[1]).abs() / 2)
    torch.testing.assert_close(rise.diagnostics["loss at -0.6"], torch.stack(lows).mean(0))


def test_a_network_that_computes_the_same_with_larger_weights_is_no_flatter() -> None:
    scaled = network("relu")
    layers = [m for m in scaled.modules() if isinstance(m, torch.nn.Linear)]
    with torch.no_grad():
        for value in layers[0].parameters():
            value.mul_(10)
        layers[1].weight.div_(10)
    plain = view_of(network("relu"))
    values = [read(view, view)["slice rise"].value.item() for view in (plain, view_of(scaled))]
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_a_barrier_is_over_the_line_between_the_ends() -> None:
    falling = torch.linspace(2.0, 1.0, 5)
    height, _ = barrier(falling)
    assert height.item() == pytest.approx(0, abs=1e-7)
    height, alpha = barrier(torch.tensor([[0.0, 1.0], [0.2, 2.0], [2.0, 1.0]]))
    assert height.tolist() == pytest.approx([0, 1])
    assert alpha.tolist() == [0, 0.5]


def test_wrong_fields_are_refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"radius": 0}, {"radius": True}, {"radius": "1"}, {"directions": 1}, {"points": 2},
    ]  # fmt: skip
    for fields in wrong:
        with pytest.raises(ConfigError, match=f"Slice: {next(iter(fields))}"):
            Slice(**fields)
