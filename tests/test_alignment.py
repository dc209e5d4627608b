"""What happens when, which comes first, what changes together: against truth by construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from numpy.typing import NDArray
from scipy.stats import binom

from ibtrace import plots
from ibtrace.alignment import EVENTS, Event, Events, apart, coincidence, events, order
from ibtrace.alignment.events import median_interval
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.trace import Trace
from ibtrace.types import I_XT, Row

EPOCHS = [0, *sorted({round(10 ** (k / 12)) for k in range(42)})]
Curve = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
_NONE = float("nan")


def traced(curves: Mapping[tuple[str, str], Curve], seeds: Sequence[int] = range(5)) -> Trace:
    """A trace of curves ``{(quantity, layer): f(epochs, seed)}``."""
    trace = Trace.create(meta={"n": 8})
    at = np.array(EPOCHS, dtype=float)
    for seed in seeds:
        rows = [
            Row(
                seed=seed,
                epoch=epoch,
                step=None,
                layer=layer,
                quantity=quantity,
                instrument="Exact" if quantity == I_XT else "Lens",
                estimand="",
                value=float(value),
                stderr=_NONE,
                lower=_NONE,
                upper=_NONE,
                flags="",
                diagnostics={},
                seconds=0.0,
                unit="bits" if quantity == I_XT else "1",
            )
            for (quantity, layer), curve in curves.items()
            for epoch, value in zip(EPOCHS, curve(at, seed), strict=True)
            if not np.isnan(value)  # of a look at which the lens did not look, there is no row
        ]
        trace.append(rows)
    return trace


def hill(top: float) -> Curve:
    return lambda epochs, seed: 5 - np.log((epochs + 1) / (top + seed + 1)) ** 2


RISING: Curve = lambda epochs, seed: np.log1p(epochs)  # noqa: E731  # one of a table of curves
LOOKED_FOR = [
    Event("peak of I(X;T)", I_XT, "peak", margin=0.1),
    Event("half", "share", "above", line=0.5),
    Event("gone", "share", "below", line=-1.0),
]


def share(epochs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    return epochs / (100.0 + seed)


def test_events_are_where_the_curves_have_them() -> None:
    trace = traced({(I_XT, "a"): hill(30), (I_XT, "b"): RISING, ("share", ""): share})
    happened = events(trace, LOOKED_FOR)
    peaks = happened.frame.query("event == 'peak of I(X;T)' and layer == 'a'").set_index("seed")
    for seed in range(5):
        nearest = min(EPOCHS, key=lambda epoch: abs(np.log((epoch + 1) / (31 + seed))))
        assert peaks["at"][seed] == nearest
    risen = happened.frame.query("event == 'half'").set_index("seed")
    for seed in range(5):
        assert risen["at"][seed] == next(e for e in EPOCHS if e > (100 + seed) / 2)
    never = happened.table().query("layer == 'b' or event == 'gone'")
    assert never["happened"].tolist() == [0, 0]
    assert np.isinf(never["median"]).all()
    assert "did not happen" in str(happened)
    assert "The intervals of so few seeds cover 94 %, not 95 %." in str(happened)


def test_one_look_beyond_the_line_is_no_crossing_but_at_the_end() -> None:
    event = Event("late", "loss", "below", line=1.0)
    assert event.place(np.array([2.0, 0.5, 2.0, 2.0])) is None
    assert event.place(np.array([2.0, 2.0, 2.0, 0.5])) == 3
    assert event.place(np.array([0.5, 0.4, 2.0, 2.0])) == 0


def test_a_peak_that_is_not_left_by_the_margin_is_none() -> None:
    event = Event("peak", I_XT, "peak", margin=0.5)
    assert event.place(np.array([0.0, 2.0, 1.6])) is None
    assert event.place(np.array([0.0, 2.0, 1.5])) == 1
    assert event.place(np.array([1.0, 1.0])) is None
    lowest = Event("lowest", "loss", "lowest", margin=0.5)
    assert lowest.place(np.array([3.0, 1.0, 1.6])) == 1


def test_an_event_lies_between_the_looks_beside_it() -> None:
    trace = traced({(I_XT, "a"): hill(30), ("share", ""): share, (I_XT, "b"): RISING}, seeds=[0])
    rows = events(trace, LOOKED_FOR).frame

    def when(event: str, layer: str) -> list[float]:
        row = rows[(rows["event"] == event) & (rows["layer"] == layer)]
        return [float(row[name].item()) for name in ("at", "earliest", "latest")]

    at, *ends = when("peak of I(X;T)", "a")
    place = EPOCHS.index(int(at))
    assert ends == [EPOCHS[place - 1], EPOCHS[place + 1]]
    at, *ends = when("half", "")
    place = EPOCHS.index(int(at))
    assert ends == [EPOCHS[place - 1], EPOCHS[place]]
    assert when("gone", "") == [np.inf] * 3
    first = events(traced({("share", ""): RISING}, [0]), [Event("on", "share", "above", line=-1)])
    assert first.frame[["at", "earliest", "latest"]].values.tolist() == [[0, 0, 0]]


def turning(speed: Curve, every: Sequence[int]) -> Trace:
    """A kernel that turns in a plane, at a speed of each log-epoch, read at some looks."""
    fine = np.linspace(0, np.log1p(EPOCHS[-1]), 4000)
    angle = np.cumsum(speed(np.expm1(fine), 0)) * fine[1]
    at = np.array(EPOCHS, dtype=float)
    seen = np.interp(np.log1p(at), fine, angle)
    before = np.array([every[max(0, int(np.searchsorted(every, e)) - 1)] for e in EPOCHS])
    turned = 1 - np.cos(seen - np.interp(np.log1p(before), fine, angle))
    turned[~np.isin(EPOCHS, every)] = np.nan
    turned[0] = np.nan  # no look before the first
    curves: dict[tuple[str, str], Curve] = {("NTK velocity", ""): lambda epochs, seed: turned}
    curves[("NTK trace per logit", "")] = lambda epochs, seed: np.where(
        np.isin(epochs, every), 1, np.nan
    )
    return traced(curves, seeds=[0])


@pytest.mark.parametrize(("top", "gap"), [(20, (100, 2000)), (300, (0, 40))])
def test_a_kernel_is_fastest_by_log_epoch_and_not_where_looks_are_far_apart(
    top: int, gap: tuple[int, int]
) -> None:
    def hump(epochs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        speed: NDArray[np.float64] = np.exp(-((np.log1p(epochs) - np.log1p(top)) ** 2))
        return 0.2 + 0.8 * speed

    trace = turning(hump, [epoch for epoch in EPOCHS if not gap[0] < epoch < gap[1]])
    velocity = trace.readings().query("quantity == 'NTK velocity'").set_index("epoch")["value"]
    largest = float(velocity.index[int(velocity.argmax())])  # what is not offered
    assert not top / 2 < largest < 2 * top
    found = events(trace, EVENTS).frame.set_index("event").loc["kernel velocity peak"]
    assert found["earliest"] <= top * 1.2
    assert found["latest"] >= top / 1.2
    assert found["at"] == pytest.approx(top, rel=0.5)


def test_a_kernel_that_hardly_turns_has_no_velocity_peak() -> None:
    def lazy(epochs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        speed: NDArray[np.float64] = np.exp(-((np.log1p(epochs) - 4) ** 2))
        return 0.05 * speed

    found = events(turning(lazy, EPOCHS), EVENTS).table().set_index("event")
    assert found.loc["kernel velocity peak", "happened"] == 0


def test_how_far_apart_two_events_are() -> None:
    trace = traced({(I_XT, "a"): hill(30), ("share", ""): share, ("loss", ""): share}, range(9))
    happened = events(trace, [*LOOKED_FOR, Event("never", "loss", "below", line=-1.0)])
    found = apart(happened, "half", ("peak of I(X;T)", "a"))
    frame = happened.frame.set_index("seed")
    half, peak = (frame[frame["event"] == name] for name in ("half", "peak of I(X;T)"))
    ratios = (1 + half["at"]) / (1 + peak["at"])
    assert found.median == pytest.approx(ratios.median())
    assert found.lower == pytest.approx(
        ((1 + half["earliest"]) / (1 + peak["latest"])).sort_values().iloc[1]
    )
    assert found.upper == pytest.approx(
        ((1 + half["latest"]) / (1 + peak["earliest"])).sort_values().iloc[7]
    )
    assert found.lower < found.median < found.upper
    assert (found.seeds, found.both) == (9, 9)
    assert found.coverage == pytest.approx(1 - 20 / 512)
    back = apart(happened, ("peak of I(X;T)", "a"), "half")
    assert [back.lower, back.upper] == pytest.approx([1 / found.upper, 1 / found.lower])
    never = apart(happened, "never", "half")
    assert (never.median, never.seeds, never.both) == (np.inf, 9, 0)
    assert apart(happened, "half", "never").median == 0
    neither = apart(happened, "never", "gone")
    assert (neither.seeds, neither.coverage) == (0, 0)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9, 17, 30])
def test_the_interval_of_order_statistics_covers_the_median_as_it_says(n: int) -> None:
    draws = np.sort(np.random.default_rng(n).normal(size=(4000, n)), axis=1)
    covered, said = 0, 0.0
    for row in draws:
        lower, upper, said = median_interval(row)
        covered += lower <= 0 <= upper
    assert covered / len(draws) == pytest.approx(said, abs=0.02)
    if n >= 6:
        assert said >= 0.95
        inner = int(np.searchsorted(draws[0], median_interval(draws[0])[0])) + 1
        assert 1 - 2 * binom.cdf(inner, n, 0.5) < 0.95  # the next pair would not do
    else:
        assert said == pytest.approx(max(0.0, 1 - 2.0 ** (1 - n)))


def test_which_comes_first_is_counted_and_tested_exactly() -> None:
    trace = traced({(I_XT, "a"): hill(10), ("share", ""): share}, seeds=range(8))
    found = order(events(trace, LOOKED_FOR), ("peak of I(X;T)", "a"), "half")
    assert (found.before, found.after, found.together) == (8, 0, 0)
    assert found.p_value == pytest.approx(2 / 2**8)
    back = trace.order("half", "peak of I(X;T)", LOOKED_FOR)
    assert (back.before, back.after, back.p_value) == (0, 8, found.p_value)
    none = order(events(trace, LOOKED_FOR), "gone", "half")
    assert (none.before, none.after) == (0, 8)  # what never happens is later than what does
    same = order(events(trace, LOOKED_FOR), "half", "half")
    assert (same.together, same.p_value) == (8, 1.0)


@pytest.mark.parametrize(
    ("ends", "others", "expected"),
    [
        ((7, 8), (0, 20), "together"),  # of one curve, read at two schedules
        ((0, 20), (7, 8), "together"),
        ((7, 8), (8, 20), "before"),
        ((8, 20), (7, 8), "after"),
        ((0, 0), (0, 1), "before"),
        ((0, 0), (0, 0), "together"),
        ((5, 9), (7, 8), "together"),
        ((7, 8), (np.inf, np.inf), "before"),
        ((np.inf, np.inf), (np.inf, np.inf), "together"),
    ],
)
def test_events_whose_intervals_overlap_have_no_order(
    ends: tuple[float, float], others: tuple[float, float], expected: str
) -> None:
    rows = [
        (name, "", "", seed, latest, earliest, latest, 1.0)
        for name, (earliest, latest) in (("a", ends), ("b", others))
        for seed in range(8)
    ]
    columns = ["event", "layer", "instrument", "seed", "at", "earliest", "latest", "value"]
    found = order(Events(pd.DataFrame(rows, columns=columns), "epoch"), "a", "b")
    counts = {"before": found.before, "after": found.after, "together": found.together}
    assert counts == {name: 8 * (name == expected) for name in counts}
    assert found.p_value == (1.0 if expected == "together" else 2 / 2**8)


def test_one_event_that_is_read_at_two_schedules_does_not_come_before_itself() -> None:
    def seldom(epochs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        rare = np.isin(np.arange(len(epochs)), range(0, len(epochs), 5))
        return np.where(rare, share(epochs, 10 * seed), np.nan)

    curves = {("share", "a"): lambda e, seed: share(e, 10 * seed), ("share", "b"): seldom}
    trace = traced(curves, seeds=range(8))
    found = order(events(trace, LOOKED_FOR), ("half", "a"), ("half", "b"))
    assert (found.before, found.after, found.together) == (0, 0, 8)


def test_a_seed_in_which_one_of_both_has_no_curve_is_not_counted() -> None:
    whole = traced({(I_XT, "a"): hill(10), ("share", ""): share}, seeds=range(5))
    part = traced({(I_XT, "a"): hill(10)}, seeds=[7, 8])
    happened = [events(trace, LOOKED_FOR) for trace in (whole, part)]
    both = Events(pd.concat([each.frame for each in happened], ignore_index=True), "epoch")
    for pair in (("half", "peak of I(X;T)"), ("peak of I(X;T)", "half")):
        found = order(both, *pair)
        assert found.before + found.after + found.together == 5


def test_a_median_of_an_even_number_of_seeds_is_an_epoch_at_which_it_happened() -> None:
    def step(epochs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        return np.where(epochs >= [1, 300][seed], 1.0, 0.0)

    trace = traced({("share", ""): step}, range(2))
    happened = events(trace, [Event("on", "share", "above", line=0.5)])
    assert happened.table()["median"].item() == happened.frame["at"].min() == 1


@pytest.mark.parametrize("names", [["test_loss"], ["test loss"], ["test_loss", "test loss"]])
def test_the_lowest_test_loss_is_found_by_either_name_and_once(names: list[str]) -> None:
    def valley(epochs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        squared: NDArray[np.float64] = np.log((epochs + 1) / 31) ** 2
        return squared

    trace = traced({(name, ""): valley for name in names})
    found = trace.events().table().set_index("event")
    assert found.loc["lowest test loss", "happened"] == 5
    assert found.loc["lowest test loss", "median"] == min(EPOCHS, key=lambda e: abs(e - 30))
    assert trace.order("lowest test loss", "lowest test loss").together == 5
    figure = plots.aligned(trace)
    assert "lowest test loss" in " ".join(text.get_text() for text in figure.findobj(Text))


def test_an_event_that_is_not_one_is_refused_with_those_there_are() -> None:
    trace = traced({(I_XT, "a"): hill(10), (I_XT, "b"): hill(20)})
    happened = events(trace, LOOKED_FOR)
    with pytest.raises(InvalidInput, match=r"2 events \('peak of I\(X;T\)',\).*'a'.*'b'"):
        order(happened, "peak of I(X;T)", ("peak of I(X;T)", "a"))
    with pytest.raises(InvalidInput, match=r"no event \('summer',\)"):
        order(happened, "summer", ("peak of I(X;T)", "a"))


def walks(correlation: float, *, quantities: int = 3, key: int = 0) -> dict[tuple[str, str], Curve]:
    """Random walks in log-epoch that share a part of their steps with I(X;T)'s."""

    def walk(number: int) -> Curve:
        def curve(epochs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
            shared = np.random.default_rng([key, seed]).normal(size=len(epochs))
            own = np.random.default_rng([key, seed, number]).normal(size=len(epochs))
            return np.cumsum(correlation * shared + (1 - correlation**2) ** 0.5 * own)

        return curve

    names = [(I_XT, "a"), *((f"q{at}", "") for at in range(1, quantities))]
    return {name: walk(at) for at, name in enumerate(names)}


def test_what_changes_together_is_seen_and_what_does_not_is_not() -> None:
    together = coincidence(traced(walks(0.95)))
    assert (together["lower"] > 0).all()
    assert len(together) == 2
    wrong = [
        bool((table["lower"] > 0).any() or (table["upper"] < 0).any())
        for table in (coincidence(traced(walks(0.0, key=key)), draws=200) for key in range(40))
    ]
    assert np.mean(wrong) <= 0.05


def test_two_curves_that_only_rise_do_not_coincide() -> None:
    def rising(number: int) -> Curve:
        def curve(epochs: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
            steps = np.random.default_rng([seed, number]).exponential(size=len(epochs))
            return np.cumsum(steps)

        return curve

    curves = {(I_XT, "a"): rising(0), ("share", ""): rising(1)}
    trace = traced(curves)
    frame = trace.readings().pivot_table(
        index=["seed", "epoch"], columns="quantity", values="value"
    )
    raw = frame.corr(method="spearman").to_numpy()[0, 1]
    assert raw > 0.9  # what is not offered
    table = coincidence(trace)
    assert table["lower"].iloc[0] < 0 < table["upper"].iloc[0]


def test_more_pairs_make_the_intervals_wider() -> None:
    trace = traced(walks(0.0, quantities=9))
    alone = coincidence(trace, with_=["q1"])
    among = coincidence(trace)
    width = (among["upper"] - among["lower"])[among["other"] == "q1"]
    assert width.item() > 1.2 * (alone["upper"] - alone["lower"]).item()


def test_pairs_are_of_the_layers_and_from_the_look_that_are_asked_for() -> None:
    curves = walks(0.5)
    curves |= {(I_XT, "b"): RISING, ("q1", "a"): share, ("q1", "b"): share}
    trace = traced(curves)
    of_a = coincidence(trace, layers=["a"], instrument="Exact")
    pairs = set(of_a[["layer", "other", "other_layer"]].itertuples(index=False, name=None))
    assert pairs == {("a", "q1", "a"), ("a", "q1", ""), ("a", "q2", "")}
    with pytest.raises(InvalidInput, match="nothing to compare"):
        coincidence(trace, instrument="Lens")
    late = coincidence(trace, layers=["a"], since={0: 1000, 2: 0, 3: np.inf})
    assert set(late["seeds"]) == {2}  # 0 and 2: one is asked for in no look, two not at all
    short = traced(curves, seeds=[0, 1])
    assert set(coincidence(short, layers=["a"], since={0: 100, 1: 100})["points"]) == {
        sum(epoch >= 100 for epoch in EPOCHS) - 1
    }


def test_of_one_seed_there_is_no_interval_and_it_is_said_why() -> None:
    with pytest.raises(InvalidInput, match="one seed alone has the looks, and of one there is no"):
        coincidence(traced(walks(0.0), seeds=[0]))
    curves = walks(0.5)
    whole = curves["q2", ""]
    curves["q2", ""] = lambda epochs, seed: whole(epochs, seed) if seed == 1 else epochs * np.nan
    assert set(coincidence(traced(curves, seeds=[0, 1]))["other"]) == {"q1"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"level": 1.5}, "level must lie between 0 and 1, got 1.5"),
        ({"level": 0}, "level must lie between 0 and 1, got 0"),
        ({"level": "a"}, "level must lie between 0 and 1, got 'a'"),
        ({"draws": 1}, "draws must be at least 100, got 1"),
        ({"points": 2}, "points must be at least 4, got 2"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"of": 3}, "of must be one or more names, got 3"),
        ({"of": []}, r"of must be one or more names, got \[\]"),
        ({"with_": [None]}, r"with_ must be one or more names, got \[None\]"),
        ({"layers": 3}, "layers must be one or more names, got 3"),
    ],
)
def test_what_coincidence_cannot_take_is_refused_by_name(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"coincidence: {message}"):
        traced(walks(0.5)).coincidence(**given)


def test_one_name_stands_for_a_list_of_one() -> None:
    trace = traced(walks(0.5))
    assert trace.coincidence("q1", with_="q2", layers="").equals(
        trace.coincidence(["q1"], with_=["q2"], layers=[""])
    )
    half = LOOKED_FOR[1]
    assert len(traced({("share", ""): share}).events(half).table()) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rule": "nope"}, "rule must be one of .*got 'nope'"),
        ({"rule": "above"}, "'above' is of a line that is crossed; give line="),
        ({"rule": "below", "line": _NONE}, "line must be a finite number or None, got nan"),
        ({"rule": "peak", "margin": -1.0}, "margin must be 0 or more"),
        ({"rule": "peak", "margin": "a"}, "margin must be a finite number, got 'a'"),
        ({"rule": "peak", "quantity": 3}, "quantity must be text, got 3"),
    ],
)
def test_an_event_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"Event: {message}"):
        Event(**{"name": "a", "quantity": I_XT, **given})


def test_what_is_no_event_is_refused() -> None:
    trace = traced({(I_XT, "a"): hill(10)})
    with pytest.raises(ConfigError, match=r"events: each must be an Event.*, got 'peak'"):
        trace.events("peak")  # type: ignore[arg-type]  # as one might
    for pair in ((3, "x"), (None, None), ((), "x"), (("a", 1), "x")):
        with pytest.raises(ConfigError, match="order: an event must be its name, or a tuple"):
            trace.order(*pair)


def test_nothing_to_compare_is_said() -> None:
    trace = traced({(I_XT, "a"): RISING})
    with pytest.raises(InvalidInput, match=r"nothing to compare; the trace has 'I\(X;T\)'"):
        coincidence(trace)
    flat = traced({(I_XT, "a"): RISING, ("share", ""): lambda epochs, seed: 0 * epochs})
    with pytest.raises(InvalidInput, match=r"no pair has five looks in common"):
        coincidence(flat)


def test_layers_are_those_that_are_traced_and_modules_come_beside() -> None:
    trace = traced({(I_XT, "act1"): hill(9), ("share", "act1"): share, ("norm", "fc1"): share})
    assert (trace.layers, trace.modules) == (["act1"], ["fc1"])
    assert [layer.layer for layer in trace.verdict().layers] == ["act1"]


def test_the_interval_is_symmetric_in_the_pair() -> None:
    trace = traced(walks(0.5))
    one = coincidence(trace, of=[I_XT], with_=["q1"])["correlation"].item()
    other = coincidence(trace, of=["q1"], with_=[I_XT])["correlation"].item()
    assert one == pytest.approx(other)
