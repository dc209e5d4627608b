"""What claims are made of: numbers of a layer, outcomes by interval, by call and by count."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.stats import spearmanr

from ibtrace.claims import Claim, Outcome, Status
from ibtrace.errors import InvalidInput
from ibtrace.estimators import Binning
from ibtrace.papers import PAPERS, Paper
from ibtrace.papers.measures import (
    all_of,
    by_call,
    by_count,
    curves,
    decided,
    drops,
    finite,
    hidden,
    judged,
    last_bits,
    rank_correlation,
    tracks,
)
from ibtrace.plane import Rule
from ibtrace.trace import Trace
from ibtrace.training import configs
from ibtrace.types import I_TY, I_XT, label
from tests.claim_traces import EPOCHS, Curve, Floats, Key, falling, flat, traced, wandering

BY = label(Binning())
LAYERS = ("hidden1", "hidden2", "output")


def two_layers(fall: float = 3.0) -> Trace:
    """One hidden layer that falls, and one that does not."""
    curves = {
        (I_XT, BY, "hidden1"): flat(8.0),
        (I_XT, BY, "hidden2"): falling(fall),
        (I_TY, BY, "hidden2"): flat(0.5),
    }
    return traced(LAYERS, curves)


def test_the_numbers_of_a_layer_are_those_of_its_rows() -> None:
    trace = two_layers()
    bits = curves(trace, I_XT, BY, "hidden2")
    assert bits.shape == (6, len(EPOCHS))
    for seed in range(6):
        expected = falling(3.0)(seed)
        assert bits.loc[seed].to_numpy() == pytest.approx(expected)
        assert last_bits(trace, I_XT, BY, "hidden2")[seed] == pytest.approx(expected[-1])
        assert drops(trace, BY, "hidden2")[seed] == pytest.approx(expected.max() - expected[-1])
    assert curves(trace, I_TY, BY, "hidden2").to_numpy().max() < 1
    assert hidden(trace) == ["hidden1", "hidden2"]


@pytest.mark.parametrize(
    ("layer", "wanted", "status"),
    [
        ("hidden2", "compresses", "held"),
        ("hidden2", "does not compress", "failed"),
        ("hidden1", "compresses", "failed"),
        ("hidden1", "does not compress", "held"),
    ],
)
def test_a_call_holds_where_it_is_the_one_wanted(layer: str, wanted: str, status: str) -> None:
    (finding,) = judged(two_layers(), BY, [layer])
    outcome = by_call(finding, wanted)
    assert outcome.status == status
    assert f"{layer} {finding.call}" in outcome.number
    assert outcome.number.endswith("6 of 6 seeds kept")


def test_where_there_is_no_call_there_is_no_outcome() -> None:
    trace = two_layers()
    (finding,) = judged(trace, BY, ["hidden2"], rule=Rule(least_seeds=7))
    for wanted in ("compresses", "does not compress"):
        assert by_call(finding, wanted).status == "inconclusive"
    for least, status in ((2.5, "held"), (3.5, "failed")):  # the fall is 3 bits
        (finding,) = judged(trace, BY, ["hidden2"], rule=Rule(least_drop=least))
        assert by_call(finding, "compresses").status == status


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (0.5, np.inf, "held"),
        (0.95, np.inf, "inconclusive"),
        (1.2, np.inf, "failed"),
        (0.5, 1.2, "held"),
        (0.5, 1.05, "inconclusive"),
        (0.0, 0.5, "failed"),
    ],
)
def test_bounds_are_moved_across_an_interval(low: float, high: float, status: str) -> None:
    outcome = decided([0.9, 1.0, 1.1, 1.0, 1.0], "bits", low, high)
    assert outcome.status == status
    assert outcome.number.startswith("1.00 [0.91, 1.09] bits, 5 seeds")


def test_no_number_decides_nothing() -> None:
    assert decided([], "bits", 0.0).status == "inconclusive"
    assert decided([1.0], "bits", 0.0).status == "inconclusive"
    assert decided([1.0, np.nan, 1.0], "bits", 0.0).status == "inconclusive"


def test_parts_are_as_good_as_the_worst_and_counts_as_the_half() -> None:
    open_: Status = "inconclusive"
    unmeasured: Status = "not measured"
    parts: list[tuple[list[Status], Status]] = [
        (["held"], "held"),
        (["held", open_], open_),
        (["held", unmeasured], unmeasured),
        ([open_, "failed", "held"], "failed"),
        ([], open_),
    ]
    for statuses, status in parts:
        assert all_of(statuses) == status
    assert {all_of([status]) for status in get_args(Status)} == {*get_args(Status)}
    assert [by_count(k, 4) for k in range(5)] == ["failed"] * 3 + [open_, "held"]


def test_the_rank_correlation_is_spearmans_and_0_of_a_constant() -> None:
    one, two = np.random.default_rng(0).normal(size=(2, 20))
    assert rank_correlation(one.tolist(), two.tolist()) == float(spearmanr(one, two).statistic)
    assert rank_correlation([1.0, 1.0], [1.0, 2.0]) == 0.0
    assert rank_correlation([1.0, 2.0], [1.0, 1.0]) == 0.0


def together(shared: float) -> Trace:
    """I(X;T) that falls and a number of a lens that share a part of their steps."""

    def bits(seed: int) -> Floats:
        return falling(3.0)(seed) + wandering(seed)

    def other(seed: int) -> Floats:
        return shared * bits(seed) + (1 - shared) * wandering(seed + 100)

    keyed: dict[Key, Curve] = {
        (I_XT, BY, "hidden2"): bits,
        ("spread", "Lens", "hidden2"): other,
        ("spread", "Lens", "hidden1"): lambda seed: -other(seed),
        ("spread", "Other", "hidden2"): lambda seed: -other(seed),
    }
    return traced(LAYERS, keyed, seeds=8)


@pytest.mark.parametrize("from_peak", [True, False])
def test_what_tracks_is_the_layers_own_and_the_instruments(from_peak: bool) -> None:
    def status(trace: Trace, instrument: str | None = "Lens", sign: int = 1) -> Status:
        outcome = tracks(
            trace, "hidden2", BY, "spread", instrument,
            least=0.5, sign=sign, from_peak=from_peak,
        )  # fmt: skip
        return outcome.status

    assert status(together(1.0)) == "held"
    assert status(together(1.0), "Other") == "failed"
    assert status(together(1.0), "Other", sign=-1) == "held"
    assert status(together(0.0)) == "failed"
    assert status(together(1.0), None) == "inconclusive"  # which of the two is not said
    assert status(together(1.0), "Nobody's") == "inconclusive"


def test_without_a_peak_nothing_is_tracked_from_it() -> None:
    trace = traced(LAYERS, {(I_XT, BY, "hidden2"): flat(8.0), ("spread", "L", "hidden2"): flat(1)})
    outcome = tracks(trace, "hidden2", BY, "spread", least=0.5)
    assert outcome == Outcome("inconclusive", "hidden2 has no peak in any of 6 networks")


@pytest.mark.parametrize(
    ("height", "status"), [(11.0, "held"), (11.39, "inconclusive"), (11.5, "failed")]
)
def test_finite_is_below_a_share_of_the_ceiling_with_its_error(height: float, status: str) -> None:
    trace = traced(LAYERS, {(I_XT, BY, "hidden1"): flat(height)}, error=0.03)
    assert finite(trace, "hidden1", BY, 0.95).status == status  # of 12 bits: 11.4


def test_a_claim_takes_other_thresholds_and_no_others_names() -> None:
    def test(traces: object, name: str, least: float = 1.0) -> Outcome:
        return Outcome("held" if least < 2 else "failed", name)

    claim = Claim("one", "nobody", "It is.", test)
    with pytest.raises(InvalidInput, match="claim one has no most; it has name, least"):
        claim.at(most=1)
    moved = claim.at(name="this", least=3.0)
    assert moved({}) == Outcome("failed", "this")
    assert moved.at(least=1.0)({}) == Outcome("held", "this")
    assert (moved.name, moved.source, moved.statement) == ("one", "nobody", "It is.")


def test_claims_of_a_paper_have_names_of_their_own() -> None:
    for paper in PAPERS.values():
        names = [claim.name for claim in paper.claims]
        assert len({*names}) == len(names), paper.name


@pytest.mark.parametrize("paper", PAPERS.values(), ids=list(PAPERS))
def test_the_papers_size_is_heard_by_every_variant(paper: Paper) -> None:
    raw = configs.read(paper.config or paper.name)
    asked = paper.changes({}, full=True)
    for key, value in asked.items():
        raw = configs.override(raw, key, value)
    configs.require_unset(raw, asked)  # raises where a variant sets what --full sets
