"""A verdict calls compression what falls, not what noise, a ceiling or two seeds make up."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ibtrace.claims import Claim, Outcome, claims_table, claims_text
from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.plane import (
    Cause,
    Rule,
    Verdict,
    coordinates,
    half_width,
    held_out_drops,
    interval,
    judge,
    lasting_drops,
    mean_coordinates,
    peak_to_final_drops,
    phases,
    verdict,
    windowed,
)
from ibtrace.plane.drops import Array
from ibtrace.trace import Scalar, Trace
from ibtrace.types import I_TY, I_XT, Row, TraceLike

NAN = float("nan")
RULE = Rule()
CURVES = arrays(
    np.float64,
    st.tuples(st.integers(2, 6), st.integers(2, 12)),
    elements=st.floats(-50, 50, width=32),
)


def make_row(
    seed: int,
    epoch: int,
    bits: float,
    *,
    layer: str = "hidden",
    quantity: str = I_XT,
    estimator: str = "Binning",
    flags: str = "",
) -> Row:
    origin = (seed, epoch, None, layer, quantity, estimator, "T in 30 bins")
    return Row(*origin, bits, NAN, NAN, NAN, flags, {}, 0.0)


def rows_of(
    curves: Array | Sequence[Sequence[float]],
    *,
    layer: str = "hidden",
    quantity: str = I_XT,
    estimator: str = "Binning",
    flags: str = "",
) -> list[Row]:
    return [
        make_row(
            seed, epoch, float(b), layer=layer, quantity=quantity, estimator=estimator, flags=flags
        )
        for seed, curve in enumerate(curves)
        for epoch, b in enumerate(curve)
    ]


def trace_of(*parts: list[Row], n: int = 4096, losses: Mapping[int, float] | None = None) -> Trace:
    trace = Trace.create(meta={"n": n})
    scalars = [Scalar(0, epoch, "", "train_loss", loss) for epoch, loss in (losses or {}).items()]
    trace.append([row for part in parts for row in part], scalars)
    return trace


def judged(*parts: list[Row], losses: Mapping[int, float] | None = None) -> Verdict:
    return verdict(trace_of(*parts, losses=losses), RULE)


def falling(
    seeds: int, bits: float = 4.0, noise: float = 0.1, epochs: int = 60, seed: int = 1
) -> Array:
    """Curves that rise by 2 bits and fall again, each seed with noise and an offset."""
    rng = np.random.default_rng(seed)
    u = np.linspace(0, 1, epochs)
    trend = 4 + 2 * np.minimum(1, u / 0.3) - bits * np.clip((u - 0.5) / 0.4, 0, 1)
    curves: Array = trend + rng.normal(0, 0.5, (seeds, 1)) + rng.normal(0, noise, (seeds, epochs))
    return curves


CONVERGED = {0: 1.0, 29: 0.1, 59: 0.09}
STILL_FALLING = {0: 1.0, 29: 0.6, 59: 0.2}


# --- drops and intervals --------------------------------------------------------------------


@given(CURVES)
def test_no_held_out_drop_exceeds_the_peak_to_final_drop(curves: Array) -> None:
    drops = peak_to_final_drops(curves)
    assert (drops >= 0).all()
    assert (held_out_drops(curves) <= drops).all()


@given(CURVES)
def test_held_out_drops_equal_a_plain_loop(curves: Array) -> None:
    for seed, drop in enumerate(held_out_drops(curves)):
        others = np.delete(curves, seed, axis=0).mean(axis=0)
        # Rounding may choose between epochs at which the others tie.
        peaks = np.flatnonzero(others >= others.max() - 1e-9)
        assert any(np.isclose(drop, curves[seed, peaks] - curves[seed, -1], atol=1e-9))


@given(CURVES, st.floats(-10, 10), st.permutations(range(6)))
def test_drops_do_not_depend_on_level_or_order_of_seeds(
    curves: Array, shift: float, order: list[int]
) -> None:
    drops = peak_to_final_drops(curves)
    assert np.allclose(peak_to_final_drops(curves + shift), drops, atol=1e-9)
    order = [seed for seed in order if seed < len(curves)]
    assert np.array_equal(peak_to_final_drops(curves[order]), drops[order])


def test_drops_of_one_seed_have_no_peers() -> None:
    assert np.isnan(held_out_drops(np.ones((1, 4)))).all()
    assert len(held_out_drops(np.ones((0, 4)))) == 0


@given(arrays(np.float64, st.integers(2, 12), elements=st.floats(-100, 100)))
def test_an_interval_is_students(values: Array) -> None:
    mean, lower, upper = interval(values)
    n, error = len(values), values.std(ddof=1) / np.sqrt(len(values))
    half = scipy.stats.t(n - 1).ppf(0.975) * error
    assert [mean, upper - lower] == pytest.approx([values.mean(), 2 * half], abs=1e-9)
    # Nadeau & Bengio 2003: 1/n + n_test/n_train times the variance, one seed against n - 1
    stretched = float(half_width(values, held_out=True))
    assert stretched == pytest.approx(half * np.sqrt(1 + n / (n - 1)), abs=1e-9)


def test_an_interval_ends_where_its_numbers_must() -> None:
    ranks = np.array([1.0, 1.0, 0.8, 0.9, 1.0])
    assert interval(ranks).upper > 1
    told = interval(ranks, between=(-1, 1))
    assert (told.mean, told.lower) == (interval(ranks).mean, interval(ranks).lower)
    assert told.upper == 1
    assert np.isnan(interval(ranks[:1], between=(-1, 1)).upper)


def test_an_interval_is_a_point_where_all_seeds_agree_and_unknown_for_one() -> None:
    assert interval(np.full(5, 2.0)) == (2.0, 2.0, 2.0)
    assert np.isnan(interval(np.array([2.0]))[1:]).all()
    assert np.isnan(interval(np.array([]))).all()
    assert half_width(np.ones((4, 1))).shape == (4,)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_an_interval_covers_the_mean_as_often_as_it_says(n: int) -> None:
    values = np.random.default_rng(0).normal(size=(4000, n))
    covered = np.abs(values.mean(-1)) <= half_width(values)
    assert 0.94 < covered.mean() < 0.96


@given(CURVES, st.floats(0.01, 1))
def test_a_window_is_a_mean_of_successive_snapshots(curves: Array, share: float) -> None:
    width = max(1, round(share * curves.shape[1]))
    plain = [curves[:, at : at + width].mean(axis=1) for at in range(curves.shape[1] - width + 1)]
    assert np.allclose(windowed(curves, share), np.stack(plain, axis=1), atol=1e-9)


def draw_noise(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    noise: Array = rng.standard_t(2.5, shape) if kind == "student" else rng.normal(size=shape)
    return noise.cumsum(axis=-1) if kind == "wandering" else noise


def held_out_ends(curves: Array, rule: Rule = RULE) -> tuple[Array, Array]:
    """The ends of the interval that decides, for many runs at once: ``(400, seeds, epochs)``."""
    falls = held_out_drops(windowed(curves, rule.window_share))
    half = half_width(falls, rule.confidence, held_out=True)
    return falls.mean(-1) - half, falls.mean(-1) + half


NOISES = list(itertools.product(("white", "wandering", "student"), (0.1, 0.3, 0.5, 1.0, 3.0)))


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [12, 60, 200])
@pytest.mark.parametrize("seeds", [3, 4, 5, 6, 7, 8, 10, 15, 20, 50])
def test_flat_curves_are_not_said_to_fall(seeds: int, epochs: int) -> None:
    assert seeds >= Rule().least_seeds
    rng = np.random.default_rng(seeds)
    shares = {}
    for kind, bits in NOISES:
        noise = bits * draw_noise(kind, (400, seeds, epochs), rng)
        offsets = rng.normal(0, 0.5, (400, seeds, 1))
        lower, _ = held_out_ends(5 + offsets + noise)
        shares[kind, bits] = float((lower > Rule().least_drop).mean())
    assert max(shares.values()) <= 0.05, shares
    assert np.mean([*shares.values()]) <= 0.03


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "least"), [(3, 0.94), (5, 0.97), (10, 0.99)])
def test_a_fall_of_half_a_bit_is_seen(seeds: int, least: float) -> None:
    curves = np.stack([falling(seeds, 0.5, 0.1, seed=run) for run in range(2000)])
    lower, upper = held_out_ends(curves)
    assert (lower > Rule().least_drop).mean() >= least
    assert (upper < Rule().least_drop).mean() == 0


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("noise", [0.1, 0.5, 2.0])
def test_a_fall_is_not_denied(seeds: int, noise: float) -> None:
    curves = np.stack([falling(seeds, 0.3, noise, seed=run) for run in range(2000)])
    assert (held_out_ends(curves)[1] < Rule().least_drop).mean() <= 0.025


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_judge_decides_by_the_interval_that_was_simulated(seeds: int) -> None:
    rng = np.random.default_rng(0)
    for run in range(12):
        curves = falling(seeds, 0.05 * run, 0.1, seed=run) + rng.normal(0, 0.5, (seeds, 1))
        lower, upper = held_out_ends(curves)
        found = judged(rows_of(curves), losses=CONVERGED).of("hidden")
        assert found.evidence.held_out[1:] == pytest.approx((lower, upper))
        assert (found.call == "compresses") == (lower > 0.1)


# --- coordinates and phases -----------------------------------------------------------------


def test_coordinates_pair_both_informations_in_the_networks_order() -> None:
    parts = []
    for layer in ("tanh2", "tanh10", "output"):
        parts += rows_of([[3.0, 4.0], [5.0, 6.0]], layer=layer)
        parts += rows_of([[0.1, 0.2], [0.3, 0.4]], layer=layer, quantity=I_TY)
    points = coordinates(trace_of(parts).frame())
    assert points.columns.tolist() == ["seed", "epoch", "layer", "estimator", I_XT, I_TY]
    assert points["layer"].tolist() == ["tanh2", "tanh10", "output"] * 4
    assert points.query("seed == 1 and epoch == 0")[I_TY].tolist() == [0.3] * 3
    means = mean_coordinates(trace_of(parts).frame())
    assert means[means.layer == "output"][[I_XT, I_TY]].to_numpy() == pytest.approx(
        np.array([[4.0, 0.2], [5.0, 0.3]])
    )


def test_means_leave_out_epochs_that_some_seeds_did_not_reach() -> None:
    rows = rows_of([[1.0, 2.0, 3.0], [1.0, 2.0]])
    means = mean_coordinates(trace_of(rows).frame())
    assert means["epoch"].tolist() == [0, 1]
    assert means["seeds"].tolist() == [2, 2]
    assert means[I_TY].isna().all()


def test_phases_find_the_onsets() -> None:
    fitting = [0.0, 0.05, 0.5, 0.95, 1.0, 1.0]
    compressing = [3.0, 5.0, 4.95, 4.7, 2.0, 1.0]
    frame = trace_of(rows_of([compressing]), rows_of([fitting], quantity=I_TY)).frame()
    (found,) = phases(frame).to_dict("records")
    assert found == {
        **{"seed": 0, "layer": "hidden", "estimator": "Binning"},
        **{"fitting_bits": 1.0, "fitting_onset": 2.0, "fitting_end": 3.0},
        **{"peak_epoch": 1.0, "peak_bits": 5.0},
        **{"compression_bits": 4.0, "compression_onset": 4.0},
    }


def test_phases_of_a_flat_or_missing_curve_have_no_onset() -> None:
    (found,) = phases(trace_of(rows_of([[2.0, 2.0, 3.0]])).frame()).to_dict("records")
    assert found["compression_bits"] == 0.0
    assert np.isnan([found["compression_onset"], found["fitting_bits"]]).all()


def test_a_table_that_is_no_trace_is_refused() -> None:
    frame = trace_of(rows_of([[1.0, 2.0]])).frame()
    with pytest.raises(InvalidInput, match=r"lacks the columns \['epoch'\]; pass trace.frame"):
        coordinates(frame.drop(columns="epoch"))
    with pytest.raises(InvalidInput, match="a number twice; judge one run at a time"):
        judge(pd.concat([frame, frame]))
    with pytest.raises(InvalidInput, match=r"there is no I\(X;T\) to judge"):
        judge(frame.assign(quantity=I_TY))


# --- the verdict ----------------------------------------------------------------------------


def test_a_fall_in_all_seeds_compresses() -> None:
    found = judged(rows_of(falling(5)), losses=CONVERGED).of("hidden")
    assert (found.call, found.evidence.seeds.falling) == ("compresses", (0, 1, 2, 3, 4))
    assert found.evidence.drop.lower <= 4.2 <= found.evidence.drop.mean + 0.3
    assert (found.evidence.drop.lower, found.evidence.seeds.share) > (3.5, 0.9)
    assert "held-out fall above 0.1 bit" in found.reason


def test_a_rise_does_not_compress() -> None:
    found = judged(rows_of(np.linspace(1, 5, 60) + falling(5, 0, 0.01)), losses=CONVERGED)
    assert found.of("hidden").call == "does not compress"
    assert found.of("hidden").evidence.peak.epoch == 59


@pytest.mark.parametrize("kind", ["white", "wandering"])
def test_noise_alone_is_not_called_compression(kind: str) -> None:
    rng = np.random.default_rng(0)
    calls, drops = [], []
    for _ in range(30):
        noise = rng.normal(size=(8, 100))
        curves = 5 + (0.1 * noise if kind == "white" else 0.05 * noise.cumsum(axis=1))
        found = judge(trace_of(rows_of(curves)).frame(), rule=RULE).of("hidden")
        calls.append(found.call)
        drops.append(found.evidence.drop.mean)
    assert np.mean(drops) > 0.2  # what the largest of noisy values feigns
    assert calls.count("compresses") <= 1
    assert calls.count("does not compress") >= (4 if kind == "white" else 0)


def test_seeds_that_fall_at_epochs_of_their_own_are_not_called_flat() -> None:
    epochs = np.arange(100)
    centres = np.array([25, 35, 45, 55, 65, 75])[:, None]
    found = judged(rows_of(5 + np.exp(-(((epochs - centres) / 4) ** 2)))).of("hidden")
    assert found.call == "inconclusive"
    assert found.cause.text == "6 of 6 seeds fall for good, by up to 1.00 bits, but not together"


def test_one_seed_that_falls_does_not_hide_among_others_that_rise() -> None:
    rising = np.linspace(1, 5, 60) + falling(5, 0, 0.01)
    one = np.vstack([rising[:4], falling(1, 3.0, 0.01)])
    assert judged(rows_of(rising)).of("hidden").call == "does not compress"
    found = judged(rows_of(one)).of("hidden")
    assert (found.call, found.evidence.seeds.falling) == ("inconclusive", (4,))
    assert "1 of 5 seeds falls for good, by up to 2.3" in found.cause.text


@given(CURVES, st.floats(0.05, 1))
def test_a_lasting_drop_is_part_of_the_peak_to_final_drop(curves: Array, share: float) -> None:
    lasting = lasting_drops(curves, share)
    assert (lasting >= 0).all()
    assert (lasting <= peak_to_final_drops(curves)).all()
    assert (lasting_drops(curves, 1.0) == 0).all()


@pytest.mark.parametrize(
    ("seeds", "cause"),
    [(1, "1 seed, at least 3 are needed"), (2, "2 seeds, at least 3 are needed")],
)
def test_too_few_seeds_are_inconclusive(seeds: int, cause: str) -> None:
    found = judged(rows_of(falling(seeds))).of("hidden")
    assert (found.call, found.cause.text) == ("inconclusive", cause)
    assert found.evidence.drop.mean > 3


def test_few_seeds_are_said_to_be_few() -> None:
    assert "3 seeds are few" in str(judged(rows_of(falling(3))))
    assert "are few" not in str(judged(rows_of(falling(5))))


def test_near_the_ceiling_nothing_can_be_seen() -> None:
    curves = np.full((5, 60), 11.9) + 0.01 * falling(5, 0)
    assert judged(rows_of(curves)).of("hidden").cause.text == "saturated at log2 N"
    fallen = curves - np.linspace(0, 0.4, 60)
    assert judged(rows_of(fallen)).of("hidden").call == "compresses"


def test_an_estimators_own_ceiling_counts() -> None:
    trace = trace_of(
        [
            dataclasses.replace(row, diagnostics={"ceiling": 6.0})
            for row in rows_of(np.full((3, 5), 5.9))
        ]
    )
    found = verdict(trace, RULE).of("hidden")
    assert found.cause.text == "saturated at the estimator's ceiling, 6.00 bits"


def test_the_highest_of_an_estimators_ceilings_counts() -> None:
    rows = rows_of(np.full((3, 5), 5.9))
    ceilings = {0: 6.0, 1: 9.0, 2: 7.0}  # they may differ between networks
    own = [dataclasses.replace(row, diagnostics={"ceiling": ceilings[row.seed]}) for row in rows]
    assert verdict(trace_of(own), RULE).of("hidden").call == "does not compress"


def test_training_that_had_not_converged_is_said_and_forbids_a_negative_call() -> None:
    flat, fallen = rows_of(falling(5, 0, 0.01)), rows_of(falling(5), layer="last")
    before = judged(flat, fallen, losses=CONVERGED)
    after = judged(flat, fallen, losses=STILL_FALLING)
    assert (before.of("hidden").call, before.of("last").call) == ("does not compress", "compresses")
    assert (after.of("hidden").call, after.of("last").call) == ("inconclusive", "compresses")
    assert after.of("hidden").cause.text == "training had not converged"
    assert "training had not converged" in after.of("last").reason
    assert "Training had not converged: 50 % of the fall" in str(after)
    assert "Training had converged: 1 % of the fall" in str(before)
    assert "No train_loss was recorded" in str(judged(flat))
    assert "Training loss did not fall" in str(judged(flat, losses={0: 1.0, 1: 0.5, 2: 1.0}))


def test_seeds_run_and_kept_are_shown() -> None:
    curves = falling(6)
    curves[4, -1] = NAN
    rows = [row for row in rows_of(curves) if not (row.seed == 5 and row.epoch > 30)]
    trace = trace_of(rows)
    trace.update_meta({"seeds": list(range(7))})
    found = verdict(trace, RULE).of("hidden")
    assert (found.evidence.seeds.run, found.evidence.seeds.kept) == (tuple(range(7)), (0, 1, 2, 3))
    assert "3 of 7 seeds lack the last epoch (4, 5, 6)" in found.reason
    assert "4/4/7" in str(verdict(trace, RULE))


def test_a_number_missing_midway_costs_its_epoch_only() -> None:
    curves = falling(5)
    curves[2, 30] = np.inf
    found = judged(rows_of(curves)).of("hidden")
    assert (len(found.evidence.seeds.kept), found.call) == (5, "compresses")


def test_without_any_last_number_there_is_no_call() -> None:
    curves = np.ones((4, 6))
    curves[:, -1] = NAN
    found = judged(rows_of(curves)).of("hidden")
    assert (found.call, found.cause.text) == (
        "inconclusive",
        "no seed has a number at the last epoch",
    )


def test_flags_that_matter_are_named() -> None:
    out = rows_of(falling(5), flags="out_of_range,all_distinct")
    assert "flagged out_of_range in all numbers" in judged(out).of("hidden").reason
    some = [dataclasses.replace(r, flags="" if r.seed else "dead") for r in rows_of(falling(5))]
    assert "flagged dead in some numbers" in judged(some).of("hidden").reason
    constant = judged(rows_of(np.zeros((5, 9)), flags="constant")).of("hidden")
    assert (constant.call, constant.cause.text) == ("inconclusive", "the layer is constant")


@pytest.mark.parametrize(
    ("second", "call"),
    [
        (falling(5), "compresses"),
        (falling(5, 0, 0.01), "hangs on the resolution"),
        (np.full((5, 60), 12.0), "compresses"),  # saturated: it could not have seen a fall
        (falling(5, 0.3, 0.3), "inconclusive"),
    ],
)
def test_estimators_agree_or_the_answer_hangs_on_them(second: Array, call: str) -> None:
    found = judged(rows_of(falling(5)), rows_of(second, estimator="KDE"))
    answer = found.layer("hidden").resolution
    assert answer is not None
    assert (answer.question, answer.call) == ("resolution", call)
    assert found.table()["answer"].tolist() == [call, call]
    assert ("hangs on the resolution" in answer.sentence) == (call == "hangs on the resolution")


def test_the_text_fits_a_terminal_and_names_everything() -> None:
    long = "encoder.blocks.10.attention.output.dense"
    parts = [
        rows_of(falling(5), layer=layer, estimator=estimator, flags="out_of_range")
        for layer in ("hidden1", "hidden2", long)
        for estimator in ("Binning", "KDE(noise_variance=0.001, bound='upper')")
    ]
    found = judged(*parts, losses=STILL_FALLING)
    text = found.details()
    assert max(map(len, text.splitlines())) <= 110
    for word in ("hidden2", "Binning: T in 30 bins", "KDE(noise", "compresses", "5/5/5", "out_of"):
        assert word in text
    assert found.table().shape[0] == len(found.findings) == 6
    assert [layer.layer for layer in found] == ["hidden1", "hidden2", long]
    assert long in found.summary()
    with pytest.raises(UnknownName, match=r"no verdict on a layer 'hidden9'; on hidden1, hidden2"):
        found.layer("hidden9")
    with pytest.raises(InvalidInput, match=r"hidden1 was judged by Binning, KDE\(.*: name one"):
        found.of("hidden1")
    with pytest.raises(UnknownName, match=r"no verdict on 'hidden9' by any estimator; on hidden1"):
        found.of("hidden9")


def test_the_same_trace_gives_the_same_verdict() -> None:
    trace = trace_of(rows_of(falling(5)))
    assert str(trace.verdict()) == str(trace.verdict())
    assert trace.verdict(RULE).table().equals(verdict(trace, RULE).table())


# --- claims ---------------------------------------------------------------------------------


def test_claims_are_tested_and_tabled() -> None:
    def compresses(traces: Mapping[str, TraceLike]) -> Outcome:
        found = verdict(traces["tanh"], RULE).of("hidden")
        held = found.call == "compresses"
        return Outcome("held" if held else "failed", f"{found.evidence.drop.mean:.1f} bits")

    claims = [
        Claim("fall", "Author 2017", "The layer compresses.", compresses, needs=("tanh",)),
        Claim("other", "Author 2018", "A long statement " * 10, compresses, needs=("relu",)),
        Claim("lens", "Author 2019", "Noise.", compresses, ("tanh",), reads={"SNR": "noise"}),
        Claim("rate", "Author 2019", "Loss.", compresses, ("tanh",), reads={"rate": "noise"}),
    ]
    trace = trace_of(rows_of(falling(5)))
    table = claims_table(claims, {"tanh": trace})
    assert table["status"].tolist() == ["held", *["not measured"] * 3]
    assert table["number"].tolist() == ["4.1 bits", "not run: relu", *["needs --lenses noise"] * 2]
    text = claims_text(table)
    assert "4 claims: 1 held, 0 failed, 0 inconclusive, 3 not measured" in text
    assert "\nnot measured  lens, rate: needs --lenses noise" in text
    assert "not measured" not in claims_text(table[:1])
    assert max(map(len, text.splitlines())) <= 110


# --- the text of a verdict ----------------------------------------------------------------------


def test_a_long_verdict_begins_with_a_summary_that_fits_a_screen() -> None:
    names = [f"features.{i}.conv.{j}.activation" for i in range(20) for j in range(7)]
    rng = np.random.default_rng(0)
    parts = []
    for number, layer in enumerate(names):
        for estimator in ("Binning", "KSG"):
            falls = 4.0 if number % 7 == 0 else rng.uniform(0, 0.3)
            parts.append(rows_of(falling(3, falls), layer=layer, estimator=estimator))
    found = judged(*parts, losses=CONVERGED)
    text, lines = str(found), str(found).splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 110
    answers = [answer for layer in found for answer in layer]
    for question in ("information", "resolution"):
        calls = [answer.call for answer in answers if answer.question == question]
        assert len(calls) == 140
        for call in set(calls):
            start = f"{calls.count(call):5}  {call}"
            assert any(line.startswith(start) for line in lines), start
    assert "140 layers, a question at a time:" in text
    assert "Seen at a resolution:" in lines
    assert "features.0.conv.0.activation" in text
    assert "more" in text
    assert "held-out fall above 0.1 bit" in text
    assert "Training had converged" in text
    assert "verdict.details()" in text
    details = found.details()
    assert all(f"{layer}  " in details for layer in names)
    short = judged(rows_of(falling(5)))
    assert str(short) == short.details()
    assert short.details().startswith(short.layers[0].layer)


# --- what a small change of the rule would break ------------------------------------------------


@pytest.mark.parametrize(("falls", "flat"), [(1, 1), (1, 9), (9, 1)])
def test_no_number_of_estimators_outvotes_another(falls: int, flat: int) -> None:
    parts = [rows_of(falling(5), estimator=f"falls{i}") for i in range(falls)]
    parts += [rows_of(falling(5, 0, 0.01), estimator=f"flat{i}") for i in range(flat)]
    (layer,) = judged(*parts)
    assert layer.resolution is not None
    assert layer.resolution.call == "hangs on the resolution"


@pytest.mark.parametrize("place", ["peak", "end", "elsewhere"])
def test_flags_count_at_the_peak_and_at_the_end(place: str) -> None:
    curves = falling(5)
    peak = int(curves.mean(axis=0).argmax())
    at = {"peak": peak, "end": 59, "elsewhere": 45}[place]
    rows = [
        dataclasses.replace(row, flags="dead" if row.epoch == at else "") for row in rows_of(curves)
    ]
    reason = judged(rows).of("hidden").reason
    assert ("flagged dead in some numbers at peak and end" in reason) == (place != "elsewhere")


def test_a_layer_constant_at_one_end_only_is_judged() -> None:
    rows = [
        dataclasses.replace(row, flags="constant" if row.epoch == 59 else "")
        for row in rows_of(falling(5))
    ]
    found = judged(rows).of("hidden")
    assert found.call == "compresses"
    assert "flagged constant in some numbers" in found.reason


@pytest.mark.parametrize(
    ("half", "last", "converged"), [(0.19, 0.11, True), (0.22, 0.11, False), (0.111, 0.011, False)]
)
def test_training_had_converged_if_a_tenth_of_its_fall_was_left(
    half: float, last: float, converged: bool
) -> None:
    # the share is of the fall, not of the loss: 1 to 0.11 leaves 0.089 for the last half
    said = str(judged(rows_of(falling(5)), losses={0: 1.0, 29: half, 59: last}))
    assert ("Training had converged" in said) == converged


@pytest.mark.parametrize(("late", "call"), [(0.05, "does not compress"), (0.15, "inconclusive")])
def test_a_lasting_drop_is_measured_against_the_last_fifth(late: float, call: str) -> None:
    curves = np.full((5, 60), 5.0)
    curves[:, :45] += 0.0
    curves[np.arange(5), 5 * np.arange(5) + 3] += late  # peaks of their own, never reached again
    assert judged(rows_of(curves), losses=CONVERGED).of("hidden").call == call
    curves[:, 50] += late  # but all are within the last fifth
    assert judged(rows_of(curves), losses=CONVERGED).of("hidden").call == "does not compress"


def test_an_estimator_that_was_not_measured_to_the_end_is_not_judged_by_its_own_last_look() -> None:
    """As after resuming with others: what it saw fall may have risen again."""
    seeds = 0.01 * np.arange(4)[:, None]
    falling = np.concatenate([np.linspace(1, 5, 10), np.linspace(5, 1, 10)]) + seeds
    longer = np.linspace(1, 3, 40) + seeds
    found = judged(rows_of(falling, estimator="Short"), rows_of(longer, estimator="Long"))
    short = found.of("hidden", "Short")
    assert (short.call, short.cause.kind) == ("inconclusive", "not to the end")
    assert found.of("hidden", "Long").cause.kind != "not to the end"
    assert judged(rows_of(falling)).of("hidden").call == "compresses"
    (layer,) = found
    assert layer.resolution is not None
    assert layer.resolution.call == found.of("hidden", "Long").call  # the other has no say


def test_a_network_that_was_run_twice_is_one_network() -> None:
    """Three equal curves have an interval of no width, and are one seed."""
    one = np.concatenate([np.linspace(1, 5, 10), np.linspace(5, 1, 30)])
    same = judged(rows_of(np.tile(one, (3, 1))))
    assert [finding.call for finding in same.findings] == ["inconclusive"]
    assert same.of("hidden").evidence.seeds.kept == (0,)
    assert any("Seed 2 is seed 0 over again" in note for note in same.notes)
    curves = np.stack([one, one, one + 0.01])
    curves[:2, 5] = np.nan  # what is missing in both hides nothing
    with_gap = judged(rows_of(curves))
    assert with_gap.of("hidden").evidence.seeds.kept == (0, 2)
    assert any("Seed 1 is seed 0 over again" in note for note in with_gap.notes)
    apart = judged(rows_of(one + 0.01 * np.arange(3)[:, None]))
    assert apart.of("hidden").call == "compresses"
    assert not any("over again" in note for note in apart.notes)
    still = judged(rows_of(np.full((3, 40), 12.0)))  # may be three networks
    assert not any("over again" in note for note in still.notes)
    two_still = np.full((3, 40), 12.0)
    two_still[1, :5] = 11.9  # the other two may be two networks yet
    assert not any("over again" in note for note in judged(rows_of(two_still)).notes)
    levels = judged(rows_of(np.repeat([[5.0], [5.0], [4.9]], 40, axis=1)))
    assert not any("over again" in note for note in levels.notes)


def test_an_estimator_without_any_i_xt_has_no_say_and_is_said_to_give_none() -> None:
    """A class-wise estimator of distinct X: nothing was lost, there was nothing to lose."""
    flat = np.linspace(1, 2, 40) + 0.001 * np.arange(4)[:, None]
    silent = [
        rows_of(np.full((4, 40), NAN), estimator=name, flags="undefined,not_finite")
        for name in ("Ross", "Other")
    ]
    found = judged(rows_of(flat), *silent, losses={e: 2.0**-e for e in range(40)})
    assert found.of("hidden", "Ross").cause == Cause("no I(X;T)", "gives no I(X;T) here")
    assert found.of("hidden", "Ross").remarks == ()
    (layer,) = found
    assert layer.resolution is not None
    assert layer.resolution.call == "does not compress"
    assert "Ross" not in layer.sentence
    assert "No I(X;T) is given by Ross, Other." in found.notes
    assert "last epoch" not in found.of("hidden", "Ross").reason
    assert "Ross: T in 30 bins" in found.details()
    (alone,) = judged(silent[0])
    assert alone.resolution is not None
    assert (alone.resolution.call, alone.resolution.sentence) == ("inconclusive", "")
    assert alone.sentence == alone.information.sentence


def test_a_run_that_was_stopped_is_said_to_be() -> None:
    trace = trace_of(rows_of(falling(5)))  # 60 epochs
    last = trace.frame().epoch.max()
    trace.update_meta({"config": {"epochs": 3000}, "seeds": [0, 1, 2, 3, 4]})
    assert f"Training stopped at epoch {last} of 3000." in str(verdict(trace, RULE))
    trace.update_meta({"config": {"epochs": int(last)}})
    assert "stopped" not in str(verdict(trace, RULE))
    trace.truncate(20, [2])
    assert f"Seed 2 stopped at epoch 20 of {last}." in verdict(trace, RULE).notes
    trace.truncate(30, [3])
    trace.update_meta({"seeds": [0, 1, 2, 3, 4, 7]})
    said = f"Training stopped before epoch {last}: seed 2 at epoch 20, seed 3 at epoch 30."
    assert said in verdict(trace, RULE).notes
    assert "Not begun: seed 7 of 6 seeds." in verdict(trace, RULE).notes


def test_how_t_was_made_is_told_beside_what_stands_for_it() -> None:
    """The words are made of pairs; a table of elsewhere, without the column, has T as it is."""
    curves = np.tile(np.linspace(1, 2, 40), (4, 1))
    rows = [dataclasses.replace(row, variable="gap") for row in rows_of(curves, layer="maps")]
    frame = trace_of(rows_of(curves), rows).frame()
    told = judge(frame)
    assert told.of("maps").estimands == (("T in 30 bins", "gap"),)
    assert told.of("maps").estimand == "T in 30 bins; T: gap"
    assert "Binning: T in 30 bins; T: as it is or gap\n" in told.details()
    assert judge(frame.drop(columns="variable")).of("maps").estimand == "T in 30 bins"


def test_an_estimator_that_the_trace_lacks_is_named_with_those_it_has() -> None:
    trace = Trace.create(meta={"layers": ["a"]})
    trace.append(
        Row(0, epoch, None, "a", I_XT, "Exact", "T", 2.0, NAN, NAN, NAN, "", {}, 0.0)
        for epoch in range(3)
    )
    assert verdict(trace, estimators="Exact").findings  # a label alone
    with pytest.raises(UnknownName, match="no estimator KSG in the trace; it has Exact"):
        verdict(trace, estimators=["KSG", "Exact"])
