"""Each explanation of compression holds, fails or stays open where its claim says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from ibtrace.papers._explanations import EXPLANATIONS, NC1, PAPERS_BINS, RANGED_BINS, SATURATED, SNR
from ibtrace.papers.tishby import CLAIMS
from ibtrace.trace import Scalar, Trace
from ibtrace.types import I_XT, Row

NAN = float("nan")
LAYERS = ("hidden1", "hidden2", "hidden3", "output")
MODULES = ("fc1", "fc2", "fc3", "fc4")
EPOCHS = sorted({round(1.15**k) - 1 for k in range(62)})
LOG = np.log1p(np.array(EPOCHS, dtype=float))
Floats = NDArray[np.float64]
Curve = Callable[[int], Floats]
"""Values at the looks, by seed."""


def rises(to: float, until: float) -> Floats:
    """A straight line in log-epoch that reaches a height at an epoch."""
    line: Floats = to * np.minimum(1, LOG / np.log1p(until))
    return line


def hill(top: float, fall: float = 3.0) -> Floats:
    """A rise of 3 bits to a peak at an epoch, and a fall."""
    after = (LOG - np.log1p(top)) / (LOG[-1] - np.log1p(top))
    curve: Floats = 4 + rises(3.0, top) - fall * np.clip(after, 0, 1)
    return curve


def below(at: float) -> Floats:
    """A curve that crosses 1 at an epoch."""
    curve: Floats = np.exp(2 * (np.log1p(at) - LOG))
    return curve


def traced(
    curves: Mapping[tuple[str, str], Curve], *, seeds: int = 6, by: str = PAPERS_BINS
) -> Trace:
    """A trace of curves ``{(quantity, layer): f(seed)}`` with all layers and modules."""
    trace = Trace.create(meta={"n": 4096, "input_entropy": 12.0, "layers": [*LAYERS]})
    rows = [
        Row(
            *(seed, epoch, None, layer, quantity, by if quantity == I_XT else "Lens", ""),
            *(float(value), NAN, NAN, NAN, "", {}, 0.0),
            unit="bits" if quantity == I_XT else "1",
        )
        for (quantity, layer), curve in {**flat(), **curves}.items()
        for seed in range(seeds)
        for epoch, value in zip(EPOCHS, curve(seed), strict=True)
    ]
    losses = [
        Scalar(0, epoch, "", "train_loss", float(np.exp(-9 * epoch / EPOCHS[-1])))
        for epoch in EPOCHS
    ]
    trace.append(rows, losses)
    return trace


def flat() -> dict[tuple[str, str], Curve]:
    """What is in every trace: information of all layers, and a norm of all modules."""
    information = {(I_XT, layer): lambda seed: 8 + 0 * LOG for layer in LAYERS}
    return {**information, **{("norm", module): lambda seed: LOG for module in MODULES}}


def outcome(name: str, trace: Trace) -> tuple[str, str]:
    (claim,) = (claim for claim in EXPLANATIONS if claim.name == name)
    result = claim({claim.needs[0]: trace})
    return result.status, result.number


def timed(name: str, at: float, top: float = 100, seeds: int = 6) -> tuple[str, str]:
    """The outcome where an event is at one epoch and the peak at another."""
    crossing: dict[str, tuple[tuple[str, str], Curve]] = {
        "diffusion-starts-it": ((SNR, "fc3"), lambda seed: below(at + seed)),
        "saturation-starts-it": (
            (SATURATED, "hidden3"),
            lambda seed: 0.1 / below(at + seed) ** 0.5,
        ),
    }
    key, curve = crossing[name]
    return outcome(
        name, traced({(I_XT, "hidden3"): lambda seed: hill(top + seed), key: curve}, seeds=seeds)
    )


def test_the_crossing_and_the_peak_are_told_by_their_epochs() -> None:
    _, number = timed("diffusion-starts-it", 40, top=100)
    crossed, peaked = re.findall(r"at (?:epoch )?([0-9]+) \[", number)
    assert float(crossed) == pytest.approx(40, rel=0.2)
    assert float(peaked) == pytest.approx(100, rel=0.2)
    _, number = timed("diffusion-starts-it", 1e9)
    assert "at epoch never [never, never]" in number


@pytest.mark.parametrize("name", ["diffusion-starts-it", "saturation-starts-it"])
@pytest.mark.parametrize(
    ("at", "status"),
    [
        *((100, "held"), (75, "held"), (50, "inconclusive"), (200, "inconclusive")),
        *((20, "failed"), (400, "failed"), (1e9, "failed")),
    ],
)
def test_an_event_comes_with_the_peak_within_a_factor_of_two(
    name: str, at: float, status: str
) -> None:
    found, number = timed(name, at)
    assert found == status
    assert f"at {min(at / 100, np.inf):.1g}" in number or at not in (20, 400)
    assert ("inf" in number) == (at == 1e9)  # never


@pytest.mark.parametrize("name", ["diffusion-starts-it", "saturation-starts-it"])
def test_an_event_without_a_peak_does_not_come_with_it(name: str) -> None:
    assert timed(name, 100, top=1e9)[0] == "failed"
    status, number = timed(name, 1e9, top=1e9)
    assert (status, number) == ("inconclusive", "neither happened in any of 6 networks")


def test_few_networks_decide_nothing() -> None:
    assert timed("diffusion-starts-it", 100, seeds=5)[0] == "held"
    status, number = timed("diffusion-starts-it", 100, seeds=4)
    assert status == "inconclusive"
    assert number.endswith("too few networks")


def test_the_event_is_that_of_the_last_hidden_layers_own_module() -> None:
    curves: dict[tuple[str, str], Curve] = {(I_XT, "hidden3"): lambda seed: hill(100)}
    curves |= {(SNR, module): lambda seed: below(5) for module in MODULES}
    curves[(SNR, "fc3")] = lambda seed: below(100)
    assert outcome("diffusion-starts-it", traced(curves))[0] == "held"


@pytest.mark.parametrize(
    ("at", "curve", "status"),
    [
        (100, hill(100), "held"),
        (100, 8 + 0 * LOG, "failed"),
        (1e9, hill(100), "inconclusive"),
        (100, 12 + 0 * LOG, "inconclusive"),  # at the ceiling nothing can be seen
    ],
)
def test_diffusion_makes_relu_compress_or_does_not(at: float, curve: Floats, status: str) -> None:
    draw = np.random.default_rng(0)
    noisy: Curve = lambda seed: curve + (0.01 * draw.normal(size=len(LOG)) if curve[0] < 12 else 0)  # noqa: E731
    curves = {(I_XT, "hidden3"): noisy, (SNR, "fc3"): lambda seed: below(at)}
    assert outcome("diffusion-relu", traced(curves, by=RANGED_BINS))[0] == status


def walk(seed: int, number: int, shared: float) -> Floats:
    """A random walk that shares a part of its steps with all others of its seed."""
    common, own = (np.random.default_rng([seed, at]).normal(size=len(LOG)) for at in (0, number))
    steps: Floats = np.cumsum(shared * common + (1 - shared**2) ** 0.5 * own)
    return steps


@pytest.mark.parametrize(
    ("name", "quantity", "sign"),
    [("saturation-tracks", SATURATED, -1), ("clustering-tracks", NC1, 1)],
)
@pytest.mark.parametrize(
    ("shared", "way", "status"),
    [(0.98, 1, "held"), (0.0, 1, "failed"), (0.98, -1, "failed"), (0.75, 1, "inconclusive")],
)
def test_what_tracks_changes_with_information_and_not_only_rises(
    name: str, quantity: str, sign: int, shared: float, way: int, status: str
) -> None:
    # until its peak I(X;T) rises, and the other way: of the fall alone is it said
    trend = 10 * np.minimum(LOG - LOG[20], 4 * (LOG[20] - LOG))  # correlated levels are no tracking

    def other(seed: int) -> Floats:
        after: Floats = way * sign * (walk(seed, 2, shared) + trend)
        return np.where(LOG < LOG[20], -after, after)

    curves: dict[tuple[str, str], Curve] = {
        (I_XT, "hidden3"): lambda seed: walk(seed, 1, shared) + trend,
        (quantity, "hidden3"): other,
    }
    assert outcome(name, traced(curves, seeds=10))[0] == status


def test_what_never_peaks_is_tracked_by_nothing() -> None:
    curves: dict[tuple[str, str], Curve] = {(SATURATED, "hidden3"): lambda seed: LOG}
    status, number = outcome("saturation-tracks", traced(curves))
    assert (status, number) == ("inconclusive", "hidden3 has no peak in any of 6 networks")


def test_what_does_not_change_is_not_tracked() -> None:
    curves: dict[tuple[str, str], Curve] = {
        (I_XT, "hidden3"): lambda seed: hill(100),
        (SATURATED, "hidden3"): lambda seed: 0 * LOG,
    }
    status, number = outcome("saturation-tracks", traced(curves))
    assert status == "inconclusive"
    assert "no pair has five looks" in number


@pytest.mark.parametrize("name", ["saturation-layers", "clustering-layers"])
@pytest.mark.parametrize(
    ("falls", "befell", "status"),
    [
        ((0.1, 1.0, 3.0), (0.1, 0.5, 0.9), "held"),
        ((3.0, 1.0, 0.1), (0.1, 0.5, 0.9), "failed"),
        ((0.1, 1.0, 3.0), (0.0, 0.0, 0.0), "failed"),  # they compress without it
        ((0.0, 0.0, 0.0), (0.1, 0.5, 0.9), "inconclusive"),
        ((2.8, 2.9, 3.0), (0.1, 0.5, 0.9), "inconclusive"),  # all alike
    ],
)
def test_the_layers_that_lose_most_are_those_it_befalls(
    name: str, falls: tuple[float, ...], befell: tuple[float, ...], status: str
) -> None:
    curves: dict[tuple[str, str], Curve] = {}
    for layer, fall, strength in zip(LAYERS, falls, befell, strict=False):
        curves[(I_XT, layer)] = lambda seed, fall=fall: hill(100, fall)  # type: ignore[misc]
        share = rises(strength, 1000)
        curves[(SATURATED, layer)] = lambda seed, share=share: share  # type: ignore[misc]
        curves[(NC1, layer)] = lambda seed, share=share: np.exp(-share)  # type: ignore[misc]
    assert outcome(name, traced(curves))[0] == status


def test_without_the_lens_a_claim_is_not_measured_and_says_which() -> None:
    trace = traced({})
    by_name = {
        claim.name: outcome(claim.name, trace) for claim in EXPLANATIONS if "relu" not in claim.name
    }
    lenses = {
        "diffusion": "gradient_noise",
        "saturation": "saturation",
        "clustering": "neural_collapse",
    }
    for name, found in by_name.items():
        assert found == ("not measured", f"needs --lenses {lenses[name.partition('-')[0]]}")
    assert {claim.name for claim in EXPLANATIONS} <= {claim.name for claim in CLAIMS}


@pytest.mark.parametrize(
    ("name", "thresholds", "status"),
    [
        ("diffusion-starts-it", {"together": 6.0}, "held"),  # 30 against 100
        ("diffusion-starts-it", {"together": 2.5}, "failed"),
        ("diffusion-starts-it", {"together": 6.0, "seeds": 0.99}, "inconclusive"),
        ("saturation-layers", {"least": 0.9}, "held"),
        ("saturation-layers", {"margin": 3.5}, "inconclusive"),
    ],
)
def test_thresholds_are_arguments(name: str, thresholds: dict[str, float], status: str) -> None:
    curves: dict[tuple[str, str], Curve] = {
        (I_XT, layer): lambda seed, fall=fall: hill(100, fall)  # type: ignore[misc]
        for layer, fall in zip(LAYERS, (0.1, 1.0, 3.0), strict=False)
    }
    curves |= {
        (SATURATED, layer): lambda seed, share=share: rises(share, 1000)  # type: ignore[misc]
        for layer, share in zip(LAYERS, (0.1, 0.5, 0.9), strict=False)
    }
    curves[(SNR, "fc3")] = lambda seed: below(30)
    (claim,) = (claim for claim in EXPLANATIONS if claim.name == name)
    assert claim.at(**thresholds)({"tanh": traced(curves)}).status == status
