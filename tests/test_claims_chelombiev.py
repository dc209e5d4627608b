"""Each claim of Chelombiev et al. (2019) holds, fails or stays open where its statement says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from ibtrace import papers, plots
from ibtrace.errors import ConfigError
from ibtrace.papers import chelombiev
from ibtrace.papers.chelombiev import ACTIVATIONS, BINS, NOISE, REGULARISED
from ibtrace.plane import Rule
from ibtrace.trace import Scalar, Trace
from ibtrace.training import configs
from ibtrace.types import I_XT
from tests.claim_traces import EPOCHS, Curve, Floats, falling, flat, traced

LAYERS = ("hidden4", "hidden5", "softmax")
SEEDS = 8


def run(
    last: Curve, output: Curve | None = None, *, by: str = BINS,
    accuracy: Mapping[str, Curve] | None = None,
) -> Trace:  # fmt: skip
    """A network's last hidden layer and its output, with the accuracies of each seed."""
    curves = {"hidden4": falling(5.0), "hidden5": last, "softmax": output or falling(2.0)}
    keyed = {(I_XT, by, layer): curve for layer, curve in curves.items()}
    trace = traced(LAYERS, keyed, seeds=SEEDS)
    of_seed = {"train": lambda seed: 0.99, "test": lambda seed: 0.95 + 0.001 * seed}
    scalars = [
        Scalar(seed, epoch, "", f"{part}_accuracy", float(value(seed) if epoch else 0.5))
        for part, value in (accuracy or of_seed).items()
        for seed in range(SEEDS)
        for epoch in (0, EPOCHS[-1])
    ]
    trace.append([], scalars)
    return trace


def outcome(name: str, traces: Mapping[str, Trace], **thresholds: Any) -> tuple[str, str]:
    (claim,) = (claim for claim in chelombiev.CLAIMS if claim.name == name)
    result = claim.at(**thresholds)(traces)
    return result.status, result.number


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("kind", "by"), [("bins", BINS), ("noise", NOISE)])
@pytest.mark.parametrize(
    ("curve", "status"),
    [(falling(3.0), "held"), (flat(6.0), "failed"), (falling(0.3, spread=1.0), "inconclusive")],
)
def test_compression_is_the_call_of_its_own_estimator(
    activation: str, kind: str, by: str, curve: Curve, status: str
) -> None:
    name = f"{activation}-{kind}"
    found, number = outcome(name, {activation: run(curve, by=by)})
    assert found == status
    assert number.startswith("hidden5")
    if status == "held":
        assert outcome(name, {activation: run(curve, by=by)}, rule=Rule(least_drop=4))[0] == (
            "failed"
        )


def some(fall: int) -> Curve:
    """Of the eight networks the first few fall, and the others do not."""
    return lambda seed: falling(3.0)(seed) if seed < fall else flat(8.0)(seed)


@pytest.mark.parametrize(
    ("fall", "status"),
    [(0, "failed"), (1, "inconclusive"), (3, "held"), (7, "inconclusive"), (8, "failed")],
)
def test_some_networks_and_not_others(fall: int, status: str) -> None:
    found, number = outcome("initialisations-relu", {"relu": run(some(fall))})
    assert found == status
    assert f"falls for good in {fall} of 8 networks" in number
    traces = {"relu": run(some(3))}
    assert outcome("initialisations-relu", traces, some=0.4)[0] == "inconclusive"
    assert outcome("initialisations-relu", traces, rule=Rule(least_seeds=9))[0] == "inconclusive"


def test_activations_differ_where_their_drops_do() -> None:
    apart = {name: run(falling(1.0 + at)) for at, name in enumerate(ACTIVATIONS)}
    assert outcome("activations-differ", apart)[0] == "held"
    assert outcome("activations-differ", apart, level=1e-9)[0] == "inconclusive"
    alike = dict.fromkeys(ACTIVATIONS, run(falling(2.0)))
    status, number = outcome("activations-differ", alike)
    assert status == "inconclusive"  # never failed: no proof that they are alike
    assert number.endswith("p = 1 that they are alike (Kruskal-Wallis)")


def varied(by: float) -> Curve:
    """Falls whose size is a seed's own beside what they share."""
    own = np.random.default_rng(int(1000 * by)).normal(0, 0.2, SEEDS)
    return lambda seed: falling(by + own[seed])(seed)


@pytest.mark.parametrize("activation", REGULARISED)
@pytest.mark.parametrize(
    ("decayed", "status"), [(3.0, "held"), (2.01, "inconclusive"), (1.0, "failed")]
)
def test_l2_is_held_against_the_same_networks_without(
    activation: str, decayed: float, status: str
) -> None:
    traces = {activation: run(varied(2.0)), f"{activation}-l2": run(varied(decayed))}
    found, number = outcome(f"l2-{activation}", traces)
    assert found == status
    assert float(number.split()[0]) == pytest.approx(decayed - 2, abs=0.3)
    for least in (decayed - 3, decayed - 1):  # across the difference
        moved = outcome(f"l2-{activation}", traces, least=least)[0]
        assert moved == ("held" if least < decayed - 2 else "failed")


@pytest.mark.parametrize(
    ("test", "status"), [(0.97, "held"), (0.951, "inconclusive"), (0.93, "failed")]
)
def test_overfitting_is_the_gap_in_accuracy(test: float, status: str) -> None:
    def accuracies(height: float, draw: int) -> dict[str, Curve]:
        own = np.random.default_rng(draw).normal(0, 0.004, SEEDS)
        own -= own.mean()
        return {
            "train": lambda seed: np.asarray(0.99),
            "test": lambda seed: np.asarray(height + own[seed]),
        }

    traces = {
        "relu": run(flat(8.0), accuracy=accuracies(0.95, 0)),
        "relu-l2": run(flat(8.0), accuracy=accuracies(test, 1)),
    }
    found, number = outcome("l2-overfitting-relu", traces)
    assert found == status
    assert float(number.split()[0]) == pytest.approx(100 * (test - 0.95), abs=0.4)
    if status == "held":
        assert outcome("l2-overfitting-relu", traces, least=5.0)[0] == "failed"


def generalising(sign: int) -> dict[str, Trace]:
    """Networks whose output layer drops by the more the better (or the worse) they generalise."""
    traces = {}
    for at, name in enumerate(ACTIVATIONS):
        own = np.random.default_rng([at, 1]).normal(size=SEEDS)
        other = np.random.default_rng([at, 2]).normal(size=SEEDS)
        drawn = own if sign else other
        accuracy: dict[str, Curve] = {
            "train": lambda seed: np.asarray(0.99),
            # between activations the order is the other way
            "test": lambda seed, at=at, d=drawn: np.asarray(0.8 - 0.1 * at + 0.01 * d[seed]),  # type: ignore[misc]
        }

        def output(seed: int, at: int = at, own: Floats = own) -> Floats:
            return falling(2.0 + at + 0.3 * (sign or 1) * own[seed], spread=0.0)(seed)

        traces[name] = run(flat(8.0), output, accuracy=accuracy)
    return traces


@pytest.mark.parametrize(("sign", "status"), [(1, "held"), (0, "inconclusive"), (-1, "failed")])
def test_generalising_is_compared_within_an_activation(sign: int, status: str) -> None:
    found, number = outcome("output-generalises", generalising(sign))
    assert found == status
    assert "over 32 networks" in number


def test_how_closely_is_an_argument() -> None:
    traces = generalising(1)
    assert outcome("output-generalises", traces, least=0.5)[0] == "held"
    assert outcome("output-generalises", traces, least=0.99999999)[0] == "failed"


def test_the_interval_of_a_correlation_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        x, noise = rng.normal(size=(2, 30))
        r = float(np.corrcoef(x, 0.5 * x + 0.75**0.5 * noise)[0, 1])
        lower, upper = chelombiev._fisher(r, 30 - 1, 0.95)
        covered += lower < 0.5 < upper
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
    lower, upper = chelombiev._fisher(0.0, 29, 0.95)
    assert upper == -lower == pytest.approx(np.tanh(norm.ppf(0.975) / 27**0.5))
    assert np.isnan(chelombiev._fisher(0.5, 2, 0.95)).all()


def test_the_configuration_has_the_variants_of_the_module() -> None:
    raw = configs.read("chelombiev")
    asked: dict[str, Any] = {}
    for activation in ACTIVATIONS:
        asked |= chelombiev.variants(activation)
    assert raw["variants"] == asked
    assert {run for claim in chelombiev.CLAIMS for run in claim.needs} == asked.keys()
    only = papers.find("chelombiev").changes({}, activations=["relu"])["variants"]
    assert [*only] == ["relu", "relu-l2"]
    with pytest.raises(ConfigError, match="tanh and relu and elu and softplus networks alone"):
        papers.find("chelombiev").changes({}, activations=["linear"])


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    trace = traced(LAYERS, {(I_XT, by, n): falling(2.0) for by in (BINS, NOISE) for n in LAYERS})
    drawn = chelombiev.figure({"relu": trace, "relu-l2": trace})
    assert [axes.get_title(loc="left") for axes in drawn.axes[:2]] == ["relu", "relu with L2"]
    assert plots.save(drawn, tmp_path / "adaptive")[0].stat().st_size > 10_000
