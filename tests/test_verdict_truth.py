"""A verdict knows what is certain: what the rows of T say, and what a curve cannot show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look, snapshot
from ibtrace.datasets import Dataset, tishby
from ibtrace.ensemble import Ensemble
from ibtrace.estimators import KSG, Binning, Compressed, Sliced, Subsampled
from ibtrace.models.noise import GaussianNoise
from ibtrace.models.quantize import quantize
from ibtrace.numerics.bins import certainly_distinct
from ibtrace.numerics.partition import partition
from ibtrace.plane import Verdict, verdict
from ibtrace.plane.circumstances import count
from ibtrace.plane.drops import Array
from ibtrace.probe import Probe
from ibtrace.trace import Scalar, Trace
from ibtrace.tracer import Keep, Tracer
from ibtrace.types import DISTINCT_ROWS, EXACT_BITS, I_XT, Estimator, Row, label

NAN = float("nan")
CONVERGED = {0: 1.0, 29: 0.1, 59: 0.09}


def trace_of(
    curves: Array,
    stderr: float = NAN,
    *,
    estimators: Sequence[str] = ("KSG",),
    exact: Array | None = None,
    random: bool = False,
    **meta: object,
) -> Trace:
    """A trace of one layer: its estimates, and the exact bits of the layer (default: 12)."""
    trace = Trace.create(
        meta={
            "n": 4096,
            "questions": {"KSG": "density", "Binning": "resolution", "Exact": "information"},
            "variables": {"KSG": {"hidden": "itself"}, "Binning": {"hidden": "made"}},
            **meta,
        }
    )
    exact = np.full(curves.shape, 12.0) if exact is None else exact
    rows, scalars = [], [Scalar(0, e, "", "train_loss", loss) for e, loss in CONVERGED.items()]
    for (seed, epoch), bits in np.ndenumerate(curves):
        for estimator in estimators:
            origin = (seed, epoch, None, "hidden", I_XT, estimator, "T")
            rows.append(Row(*origin, float(bits), stderr, NAN, NAN, "", {}, 0.0))
        certain = NAN if random else float(exact[seed, epoch])
        scalars.append(Scalar(seed, epoch, "hidden", EXACT_BITS, certain))
    trace.append(rows, scalars)
    return trace


def ramp(seeds: int, start: float, end: float, noise: float = 0.02, epochs: int = 60) -> Array:
    rng = np.random.default_rng(0)
    curves: Array = np.linspace(start, end, epochs) + rng.normal(0, noise, (seeds, epochs))
    return curves


# --- a curve that shows nothing -----------------------------------------------------------------


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize(
    ("curves", "stderr", "cause"),
    [
        ((0.01, 0.01), 0.05, "0 within 2 standard errors at every look: nothing was seen"),
        ((-0.03, 0.02), 0.05, "0 within 2 standard errors"),
        ((0.0, 0.0), NAN, "0 within 2 standard errors"),  # its error is the spread over seeds
        ((3.0, -24.9), 0.1, "falls below 0, to -24.9"),
        ((3.0, -24.9), NAN, "falls below 0, to -24.9"),
        ((-1.0, 4.0), 0.1, "falls below 0, to -1.0"),
        ((-0.5, -0.5), 0.1, "falls below 0, to -0.5"),
    ],
)
def test_a_curve_that_shows_nothing_gets_no_call(
    seeds: int, curves: tuple[float, float], stderr: float, cause: str
) -> None:
    found = verdict(trace_of(ramp(seeds, *curves), stderr)).of("hidden")
    assert found.call == "inconclusive"
    assert found.cause.text.startswith(cause)


def test_exactly_zero_is_nothing() -> None:
    assert verdict(trace_of(np.zeros((5, 60)))).of("hidden").cause.kind == "nothing seen"


@pytest.mark.parametrize(
    ("curves", "stderr", "call"),
    [
        ((0.3, 0.3), 0.05, "does not compress"),
        ((0.0, 3.0), 0.05, "does not compress"),  # nothing at first only
        ((3.0, 0.0), 0.05, "compresses"),
        ((3.0, -0.05), 0.05, "compresses"),  # below 0, but not beyond its error
    ],
)
def test_a_curve_that_leaves_zero_is_judged(
    curves: tuple[float, float], stderr: float, call: str
) -> None:
    exact = ramp(5, 11, 6, 0)
    assert verdict(trace_of(ramp(5, *curves), stderr, exact=exact)).of("hidden").call == call


# --- the true I(X;T) did not change -------------------------------------------------------------


def test_a_fall_of_the_estimate_alone_is_no_compression() -> None:
    found = verdict(trace_of(ramp(5, 9, 3), estimators=["KSG", "Binning"]))
    itself, made = found.of("hidden", "KSG"), found.of("hidden", "Binning")
    assert itself.call == "inconclusive"
    assert itself.cause.text == (
        "what falls is the estimate: the true I(X;T) did not change: "
        "T tells all inputs apart at every look (12.00 bits)"
    )
    assert made.call == "compresses"
    assert {answer.question: answer.call for answer in found.layer("hidden")} == {
        **{"information": "inconclusive", "resolution": "compresses", "density": "inconclusive"},
    }


@pytest.mark.parametrize(
    ("exact", "said"),
    [
        (np.full((5, 60), 8.0), "did not change: by the distinct rows of T at every look (8.00"),
        (ramp(5, 8.0, 7.95, 0), "moved by 0.05 bit: by the distinct rows of T"),
    ],
)
def test_rows_that_repeat_alike_are_no_change_either(exact: Array, said: str) -> None:
    found = verdict(trace_of(ramp(5, 9, 3), exact=exact))
    assert found.of("hidden").call == "inconclusive"
    assert said in found.of("hidden").cause.text


@pytest.mark.parametrize("gap", ["falls", "random", "one seed falls", "a look without"])
def test_where_the_truth_moved_or_is_unknown_the_estimate_is_believed(gap: str) -> None:
    exact = np.full((5, 60), 12.0)
    if gap == "falls":
        exact = ramp(5, 12, 6, 0)
    if gap == "one seed falls":
        exact[3, 50:] = 11.0
    if gap == "a look without":
        exact[2, 7] = NAN
    found = verdict(trace_of(ramp(5, 9, 3), exact=exact, random=gap == "random"))
    assert found.of("hidden").call == "compresses"
    assert "true I(X;T)" not in str(found)


# --- all of X -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("population", "call"), [(True, "does not compress"), (False, "inconclusive")]
)
def test_log2_n_is_a_ceiling_of_samples_and_the_truth_of_a_population(
    population: bool, call: str
) -> None:
    found = verdict(trace_of(np.full((5, 60), 12.0), estimators=["Exact"], population=population))
    assert found.of("hidden").call == found.layer("hidden").information.call == call
    assert ("The probe is all of X" in str(found)) == population
    assert ("saturated at log2 N" in str(found)) == (not population)


def test_on_a_population_the_rows_speak_for_the_law() -> None:
    trace = trace_of(ramp(5, 9, 3), estimators=["Binning"], population=True)
    layer = verdict(trace).layer("hidden")
    assert [answer.call for answer in layer] == ["does not compress", "compresses"]
    flat = trace_of(ramp(5, 9, 3), population=True)  # KSG alone, whose fall is no one's
    calls = [answer.call for answer in verdict(flat).layer("hidden")]
    assert calls == ["does not compress", "inconclusive"]


def test_population_travels_with_the_data(tmp_path: Path) -> None:
    data = tishby()
    assert data.population
    probe = Probe.of(data)
    assert probe.population
    assert not Probe.of(data, 100).population
    assert not probe.take(slice(2048)).population
    assert not Probe.draw(data.x, data.y, 50).population
    assert not Probe(data.x, data.y).population
    assert not Dataset("part", data.x, data.y, 2).population
    assert Probe(data.x, data.y, population=True).to("meta").population
    model = nn.Sequential(nn.Linear(12, 2), nn.Tanh())
    estimators = ["exact"]
    with Tracer(
        model, data, estimators=estimators, keep=Keep(run=tmp_path / "all", activations=True)
    ) as tracer:
        pass
    assert tracer.trace.meta["population"] is True
    assert Trace.load(tmp_path / "all").probe().population
    assert Tracer(model, (data.x, data.y), estimators=estimators).trace.meta["population"] is False


# --- what every look counts ---------------------------------------------------------------------


def naive(t: Tensor, x: Tensor) -> tuple[int, float]:
    """Distinct rows and I(X;T), by Python's own dictionaries."""
    rows = [tuple(row) for row in t.flatten(1).tolist()]
    inputs = [tuple(row) for row in x.flatten(1).tolist()]

    def entropy(values: list[object]) -> float:
        counts = [values.count(value) for value in set(values)]
        return -sum(c / len(values) * math.log2(c / len(values)) for c in counts)

    joint = entropy(list(zip(inputs, rows, strict=True)))
    return len(set(rows)), entropy([*inputs]) + entropy([*rows]) - joint


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int8, torch.bool, torch.complex64),
    ],
)
@pytest.mark.parametrize("width", [1, 3, 300])
def test_rows_are_counted_exactly(dtype: torch.dtype, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for levels in (2, 10**6):
        t = torch.randint(0, levels, (3, 40, width), generator=generator)
        t[1, 20:] = t[1, :20].flip(0)  # whole rows repeat in one problem
        t[2, :, :-1] = 0  # and differ in a column that is not among the first compared
        t = (t if levels > 2 and width == 1 else t % 5).to(dtype)
        x = torch.arange(40)[:, None] // 2
        found = partition(t, x[:, 0])
        expected = [naive(torch.view_as_real(p) if t.is_complex() else p, x) for p in t]
        assert found.rows.tolist() == [rows for rows, _ in expected]
        assert found.bits.tolist() == pytest.approx([bits for _, bits in expected], abs=1e-9)


def test_minus_zero_is_zero_and_equal_rows_are_never_certainly_distinct() -> None:
    t = torch.tensor([[[0.0, 1.0], [-0.0, 1.0]], [[0.0, 1.0], [0.5, 1.0]]])
    assert certainly_distinct(t).tolist() == [False, True]
    assert partition(t, torch.arange(2)).rows.tolist() == [1, 2]


X = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


def counted(trace: Trace, name: str) -> dict[tuple[int, int, str], float]:
    table = trace.scalars().query("name == @name")
    keys = zip(table["seed"], table["epoch"], table["layer"], strict=True)
    return dict(zip(keys, table["value"], strict=True))


def grown(seeds: int, dtype: torch.dtype, estimators: Sequence[str], run: Path) -> Verdict:
    """One unit of an invertible LeakyReLU layer grows: I(X;T) cannot change."""
    for seed in range(seeds):
        torch.manual_seed(seed)
        linear = nn.Linear(4, 4, bias=False)
        net = nn.Sequential(linear, nn.LeakyReLU(0.5)).to(dtype)
        arguments: dict[str, Any] = {"look": ["1"], "estimators": estimators, "every": 1}
        with Tracer(net, (X.to(dtype), Y), keep=run, seed=seed, **arguments) as tracer:
            for epoch in range(1, 13):
                linear.weight.data[0] *= 1.5
                tracer.snapshot(epoch, train_loss=0.3**epoch)
    return Trace.load(run).verdict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "estimators",
    [["binning", "ksg"], ["npeet"], ["mixed_ksg", "edge"], ["kde", "adaptive_binning"]],
)
def test_an_invertible_map_of_t_does_not_compress(
    estimators: list[str], dtype: torch.dtype, tmp_path: Path
) -> None:
    found = grown(3, dtype, estimators, tmp_path / "run")
    (layer,) = found
    assert layer.information.call == "inconclusive"
    level = f"I(X;T) is {math.log2(60):.2f} bits throughout (by the distinct rows of T, on 60"
    assert layer.information.sentence.startswith(level)
    for finding in found.findings:
        if finding.question != "resolution":
            assert finding.call != "compresses"


MADE = Binning()
WRAPPED: list[tuple[Estimator, dict[str, str]]] = [
    (KSG(), {"0": "itself", "1": "itself", "2": "itself"}),
    (MADE, {"0": "made", "1": "made", "2": "made"}),
    (Compressed(dimensions=4), {"0": "made", "1": "itself", "2": "itself"}),
    (Compressed(MADE, dimensions=4), {"0": "made", "1": "made", "2": "made"}),
    (Compressed(Sliced(k=3), dimensions=4), {"0": "made", "1": "made", "2": "itself"}),
    (Sliced(k=3), {"0": "made", "1": "made", "2": "itself"}),
    (Sliced(MADE, k=9), {"0": "made", "1": "made", "2": "made"}),
    (Subsampled(KSG(), 30), {"0": "itself", "1": "itself", "2": "itself"}),
    (Subsampled(MADE, 30), {"0": "made", "1": "made", "2": "made"}),
    (Subsampled(Sliced(k=4), 30), {"0": "made", "1": "itself", "2": "itself"}),
]


@pytest.mark.parametrize(("estimator", "variables"), WRAPPED, ids=lambda v: str(v)[:40])
def test_what_stands_for_t_is_recorded_of_each_layer(
    estimator: Estimator, variables: dict[str, str]
) -> None:
    """On layers of 5, 4 and 3 columns."""
    net = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4), nn.Linear(4, 3))
    trace = Tracer(net, (X, Y), look=["0", "1", "2"], estimators=[estimator]).trace
    assert trace.meta["variables"][label(estimator)].items() >= variables.items()


def test_symbols_are_not_projected() -> None:
    assert [Sliced().variable(width) for width in (None, 1, 2)] == ["itself", "itself", "made"]
    assert Compressed().variable(None) == "itself"


def test_a_run_that_goes_on_by_another_estimator_knows_both(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 2))
    with Tracer(net, (X, Y), estimators="ksg", keep=tmp_path / "run"):
        pass
    with pytest.warns(UserWarning, match="goes on without KSG and with KDE as well"):
        Tracer(net, (X, Y), estimators="kde", keep=tmp_path / "run", seed=1).close()
    assert Trace.load(tmp_path / "run").meta["variables"] == {
        "KSG": {"output": "itself"},
        "KDE": {"output": "made"},
    }


@pytest.mark.parametrize("width", [4, 5])
def test_a_layer_that_is_not_compressed_is_an_estimate_of_t_itself(width: int) -> None:
    variables = {"KSG": {"hidden": Compressed(dimensions=4).variable(width)}}
    found = verdict(trace_of(ramp(5, 9, 3), variables=variables)).of("hidden")
    assert found.call == ("inconclusive" if width == 4 else "compresses")


@pytest.mark.parametrize("bits", [None, 2, 4])
@pytest.mark.parametrize("half", [False, True])
def test_every_layer_is_counted_at_every_look(bits: int | None, half: bool) -> None:
    torch.manual_seed(0)
    net: nn.Module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), nn.ReLU())
    net = net if bits is None else quantize(net, bits)
    net, x = (net.half(), X.half()) if half else (net, X)
    layers = ["0", "1", "2", "3"]
    tracer = Tracer(net, (x, Y), look=layers, estimators=["gaussian_copula"], every=2)
    tracer.snapshot(1)
    tracer.snapshot(2)
    rows, exact = counted(tracer.trace, DISTINCT_ROWS), counted(tracer.trace, EXACT_BITS)
    names = tracer.trace.layers
    assert set(rows) == set(exact) == {(0, e, layer) for e in (0, 2) for layer in names}
    for name, t in snapshot(net, tracer.probe, layers).items():
        assert (rows[0, 2, name], exact[0, 2, name]) == pytest.approx(naive(t, x), abs=1e-9)


def test_an_ensemble_counts_what_its_networks_alone_count() -> None:
    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 2), nn.ReLU())

    seeds = [3, 5]
    together = Tracer(Ensemble(build, seeds), (X, Y), estimators=["binning"]).trace
    for seed in seeds:
        alone = Tracer(build(seed), (X, Y), estimators=["binning"], seed=seed).trace
        for name in (DISTINCT_ROWS, EXACT_BITS):
            assert counted(alone, name).items() <= counted(together, name).items()


def test_checkpoints_count_what_the_live_run_counted(tmp_path: Path) -> None:
    linear = nn.Linear(4, 2)
    net = nn.Sequential(linear, nn.ReLU())
    live = Tracer(net, (X, Y), estimators=["binning"], every=1)
    for epoch in (0, 1, 2):
        if epoch:
            linear.bias.data -= 0.5
            live.snapshot(epoch)
        torch.save(net.state_dict(), tmp_path / f"epoch={epoch}.pt")
    after = Tracer.from_checkpoints(net, f"{tmp_path}/*.pt", (X, Y), estimators=["binning"])
    for name in (DISTINCT_ROWS, EXACT_BITS):
        assert len(counted(live.trace, name)) == 3
        assert counted(after.trace, name) == counted(live.trace, name)


def test_tokens_are_counted_against_their_own_inputs() -> None:
    tokens = torch.randint(0, 5, (30, 6), generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Embedding(9, 3), nn.Tanh())
    trace = Tracer(
        net, (tokens, Y[:30]), look=Look(layers=["1"], reduce="tokens"), estimators=["binning"]
    ).trace
    assert counted(trace, DISTINCT_ROWS) == {(0, 0, "1"): len(tokens.unique())}
    entropy = naive(tokens.reshape(-1, 1), tokens.reshape(-1, 1))[1]
    assert counted(trace, EXACT_BITS) == pytest.approx({(0, 0, "1"): entropy})


class OwnNoise(nn.Module):
    """Draws from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, t: Tensor) -> Tensor:
        return t + torch.randn(t.shape, generator=self.generator)


@pytest.mark.parametrize(
    ("noise", "ensemble"),
    [
        (GaussianNoise(0.1, in_eval=True), False),
        (GaussianNoise(0.1, in_eval=True), True),
        (OwnNoise(), False),
    ],
)
def test_a_random_layer_has_no_exact_information(noise: nn.Module, ensemble: bool) -> None:
    def build(seed: int = 0) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), noise, nn.Linear(3, 2), nn.ReLU())

    model = Ensemble(build, [0]) if ensemble else build()
    trace = Tracer(model, (X, Y), look=["1", "4"], estimators=["binning"]).trace
    exact = counted(trace, EXACT_BITS)
    assert math.isnan(exact[0, 0, "4"])
    # what comes before the noise is a function of x; networks in one pass are not told apart
    assert math.isnan(exact[0, 0, "1"]) == ensemble
    assert counted(trace, DISTINCT_ROWS)[0, 0, "1"] == 60


def test_a_truth_that_differs_between_seeds_alone_did_not_move() -> None:
    key = [("h", seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    rows = pd.DataFrame(key, columns=["layer", "seed", "epoch"])
    scalars = rows.assign(name=EXACT_BITS, value=[3.0, 3.0, 5.0, 5.0])
    assert count(rows, scalars).truths({"h": 5.0})["h"].moved == 0
