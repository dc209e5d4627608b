"""A deep linear network learns as its closed form says, and each claim on it holds or fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ibtrace import papers
from ibtrace.claims import Outcome
from ibtrace.errors import ConfigError
from ibtrace.numerics import deep_linear
from ibtrace.papers import saxe_linear
from ibtrace.papers.saxe_linear import contrasts, half_times, learned, network, tree
from ibtrace.predictions import predictions_table
from ibtrace.trace import Trace
from ibtrace.training import config, configs
from ibtrace.training.loop import train
from ibtrace.types import Row

S = np.array([3.0, 1.5, 0.5])
START = 1e-3
NAN = float("nan")


def descent(step: float, time: float = 12.0) -> tuple[Any, Any]:
    """Strengths of the modes under steps of descent, ``(steps, 3)``, and the times."""
    root = np.full(3, START**0.5)
    strengths = [root**2]
    for _ in range(round(time / step)):
        root = root + step * root * (S - root**2)
        strengths.append(root**2)
    return np.array(strengths), step * np.arange(len(strengths))


def test_half_times_of_the_closed_form() -> None:
    times = deep_linear.half_time(S, np.full(3, START))
    assert times == pytest.approx([1.334339, 2.437518, 6.212606], abs=1e-6)
    assert deep_linear.mode(times, S, np.full(3, START)) == pytest.approx(S / 2)


@pytest.mark.parametrize(("step", "largest"), [(1e-2, 0.0671), (1e-3, 0.00671)])
def test_descent_differs_by_the_first_order_in_the_step(step: float, largest: float) -> None:
    strengths, times = descent(step)
    closed = deep_linear.mode(times[:, None], S, np.full(3, START))
    assert np.abs(strengths - closed).max() == pytest.approx(largest, abs=1e-4)
    for k, s in enumerate(S):
        after = int((strengths[:, k] >= s / 2).argmax())
        odds = np.log(strengths[:, k] / (s - strengths[:, k]))[after - 1 : after + 1]
        half = times[after - 1] - odds[0] * step / (odds[1] - odds[0])
        late = half - deep_linear.half_time(s, START)
        first = deep_linear.delay(s / 2, s, START, step)
        assert abs(late - first) < 0.1 * step * s * first


def test_the_tree_is_white_and_has_its_strengths_in_both_halves() -> None:
    data = tree((0.8, 0.4, 0.2), features=5, samples=32, seed=3)
    for half in (slice(0, 32), slice(32, 64)):
        x, y = data.x[half], torch.nn.functional.one_hot(data.y[half], 4).double()
        assert torch.allclose(x.T @ x / 32, torch.eye(5).double(), atol=1e-12)
        values = torch.linalg.svdvals(y.T @ x / 32)
        assert values[:3].tolist() == pytest.approx([0.4, 0.2, 0.1])
        assert float(values[3]) == pytest.approx(0, abs=1e-12)
    assert not torch.allclose(data.x[:32], data.x[32:])


def test_a_balanced_start_is_one_and_has_its_strength_in_each_mode() -> None:
    torch.manual_seed(0)
    first, last = network(scale=0.01).parameters()
    assert torch.allclose(first @ first.T, last.T @ last, atol=1e-12)
    along = contrasts() / 2 @ (last @ first)[:, :3]
    assert torch.allclose(along, 0.01 * torch.eye(3).double(), atol=1e-12)
    other, _ = network(scale=0.01).parameters()
    assert not torch.allclose(first, other)
    aligned = [
        ((first[:, 0] + last.T @ contrasts()[0] / 2).square().sum() / 4).item()
        for first, last in (network(start="random", scale=0.01).parameters() for _ in range(300))
    ]
    assert np.mean(aligned) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tree((1.0, 0.5, 0.1)), "three between 0 and 1"),
        (lambda: tree((0.5, 0.1)), "three between 0 and 1"),
        (lambda: tree(samples=30), "samples in fours"),
        (lambda: network(start="small"), "start is balanced or random"),
        (lambda: network(scale=0.0), "scale above 0"),
        (lambda: saxe_linear.PAPER.changes({}, activations=["tanh"]), "leave --activation tanh"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    """The configuration with steps of a tenth and three seeds: seconds."""
    folder = tmp_path_factory.mktemp("saxe")
    raw = configs.read("saxe-linear")
    changes = {"epochs": 1300, "seeds": 3, "snapshots": 100, "estimators": "exact"}
    for key, value in changes.items():
        raw = configs.override(raw, key, value)
    runs = configs.variants(raw)
    runs["random"] = configs.override(runs["random"], "optimizer.init_args.lr", 0.125)
    return {
        name: train(config.build(runs[name]), folder / name, raw=runs[name])
        for name in ("balanced-coarse", "random")
    }


def outcome(name: str, traces: dict[str, Trace]) -> Outcome:
    (claim,) = (claim for claim in papers.find("saxe-linear").claims if claim.name == name)
    return claim(traces)


def test_training_follows_the_closed_form_and_its_first_order(traces: dict[str, Trace]) -> None:
    table = learned(traces["balanced-coarse"])
    assert set(table["mode"]) == {"1", "2", "3"}
    strengths = table.groupby("mode")["strength"].first().to_numpy()
    assert strengths == pytest.approx([0.45, 0.225, 0.075])
    residual = table["share"] - table["closed"]
    assert 0.02 < residual.abs().max() < 0.0225  # that of 3, 1.5, .5 at a step of .01: .0671 / 3
    assert (residual - table["order"]).abs().max() < 1e-3
    times = half_times(traces["balanced-coarse"])
    closed = times.groupby("mode")["closed"].mean() * 0.0625 * 0.15  # of S and START
    assert closed.tolist() == pytest.approx([1.334339, 2.437518, 6.212606], abs=1e-6)


def test_predictions_are_inside_of_balanced_starts_alone(traces: dict[str, Trace]) -> None:
    table = predictions_table(papers.find("saxe-linear").predictions, traces).set_index("trace")
    assert table["predictions"].tolist() == [9, 9]
    assert table["inside"].to_dict() == {"balanced-coarse": 9, "random": 0}


def test_the_claims_hold_of_a_short_run(traces: dict[str, Trace]) -> None:
    for name in ("larger-first-random", "first-order-balanced-coarse", "balance-random"):
        assert outcome(name, traces).status == "held", name
    assert outcome("first-order-balanced", traces).number == "not run: balanced"


def made(share: Any, *, drift: float = 0.0) -> Trace:
    """A run of 9 looks whose modes have these shares, ``(modes, looks)`` for each of 3 seeds."""
    configured = configs.variants(configs.read("saxe-linear"))["random"]
    trace = Trace.create(meta={"n": 64, "config": configured})
    rows = []
    for seed in range(3):
        for mode, curve in enumerate(share):
            for look, value in enumerate(curve):
                quantity = f"learned share of mode {mode + 1}"
                said = {"strength": 0.45 / (mode + 1)}
                rows.append(row(seed, look, quantity, float(value), said))
        rows.append(row(seed, 0, "mean drift of the balance", drift, {}))
    trace.append(rows)
    return trace


def row(seed: int, look: int, quantity: str, value: float, said: dict[str, float]) -> Row:
    return Row(
        *(seed, look, look * 100, "", quantity, "Modes", ""),
        *(value, NAN, NAN, NAN, "", said, 0.0),
        unit="1",
    )


EARLY, LATE = [np.linspace(0.01, 0.99, 9) ** power for power in (0.7, 2)]


def test_claims_fail_and_stay_open() -> None:
    backwards = {"random": made([LATE, EARLY])}
    assert outcome("larger-first-random", backwards).status == "failed"
    assert outcome("larger-first-random", {"random": made([EARLY, LATE])}).status == "held"
    unlearned = {"random": made([EARLY, LATE * 0.3])}
    assert outcome("larger-first-random", unlearned).status == "inconclusive"
    assert outcome("random-follows", {"random": made([EARLY])}).status == "failed"
    assert outcome("first-order-balanced", {"balanced": made([EARLY])}).status == "failed"
    assert outcome("balance-random", {"random": made([EARLY], drift=0.1)}).status == "failed"
    assert outcome("balance-random", {"random": made([EARLY], drift=1e-6)}).status == "held"
    nothing = {"random": made([EARLY * 0.01])}
    assert outcome("random-follows", nothing).status == "inconclusive"


def test_the_figure_is_drawn(traces: dict[str, Trace], tmp_path: Path) -> None:
    from ibtrace import plots

    drawn = saxe_linear.figure(traces)
    labels = [text.get_text() for legend in drawn.legends for text in legend.get_texts()]
    assert {"mode 1, closed form", "mode 3, training", "first order in η"} <= {*labels}
    assert plots.save(drawn, tmp_path / "modes")[0].stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "thresholds", "status"),
    [
        ("first-order-balanced-coarse", {"off": 1e-6}, "failed"),
        ("random-follows", {"off": 1e-7}, "failed"),
        ("balance-random", {"most": 1e-12}, "failed"),
    ],
)
def test_thresholds_are_arguments(
    traces: dict[str, Trace], name: str, thresholds: dict[str, float], status: str
) -> None:
    (claim,) = (claim for claim in papers.find("saxe-linear").claims if claim.name == name)
    assert claim(traces).status == "held"
    assert claim.at(**thresholds)(traces).status == status
