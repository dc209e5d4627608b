"""Statistics that add up: the estimate of batches is that of all samples, whoever took them up."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ibtrace import estimators
from ibtrace.capture import Look
from ibtrace.capture.rounding import Rounding
from ibtrace.errors import ConstantMean, InvalidInput, NonFinite, PaddingGuessed, Unsupported
from ibtrace.estimators import Binning, Exact, SoftEntropy
from ibtrace.estimators._soft_counts import SoftCounts
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer, _screen
from ibtrace.tracer._observer import Observer
from ibtrace.tracer._screen import Screen
from ibtrace.types import AddsUp, Estimate, Estimator, adds_up
from tests.decoders import Decoder, tokens

N = 60
ADDING: list[AddsUp] = [
    SoftEntropy(points=7),
    SoftEntropy(points=5, temperature=0.3),
    Binning(width=0.5),
    Binning(bins=4, range=(-1.0, 1.0)),
    Binning(bins=4, range=(-1.0, 1.0), correction="miller_madow"),
    Binning.idnns(),
    Exact(),
    Exact(correction="chao_shen"),
]


def probe(kind: str, seed: int = 0) -> tuple[Probe, Tensor]:
    """Inputs that repeat, T a function of them or not, or that never repeat; and T."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(9, (N, 1), generator=generator)
    x = torch.arange(N)[:, None] if kind == "distinct" else x
    x[0], x[1] = 90, 91  # two inputs that are alone
    y = torch.randint(4, (N,), generator=generator)
    t = torch.randn(92, 3, generator=generator)[x[:, 0]]
    if kind == "random":
        t = t + torch.randn(N, 3, generator=generator)
    return Probe(x, y, population=kind == "population"), t.round(decimals=1)


def taken_up(
    estimator: AddsUp, data: Probe, t: Tensor, cuts: Sequence[int], ranks: int = 1
) -> dict[str, Estimate]:
    """The estimates of batches, dealt out to some processes, which come together after a pass."""
    targets = estimator.targets(data)
    edges = [0, *sorted(cuts), len(t)]
    batches = [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]
    accumulators = [estimator.accumulator(t.shape[1]) for _ in range(ranks)]
    again = True
    while again:
        for at, rows in enumerate(batches):
            accumulators[at % ranks].update(t[rows], targets.at(rows))
        others = pickle.loads(pickle.dumps(accumulators))
        for at, accumulator in enumerate(accumulators):
            for rank, other in enumerate(others):
                if rank != at:
                    accumulator.merge(other)
        (again,) = {accumulator.begin_next() for accumulator in accumulators}
    (first, *rest) = [accumulator.result() for accumulator in accumulators]
    for other in rest:
        assert {n: e.bits.item() for n, e in other.items()} == pytest.approx(
            {n: e.bits.item() for n, e in first.items()}, abs=1e-12
        )
    return first


def assert_same(adding: Estimate, whole: Estimate) -> None:
    for name in ("bits", "stderr"):
        one, other = getattr(adding, name), getattr(whole, name)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10, equal_nan=True)
    for name, figure in adding.diagnostics.items():
        other = whole.diagnostics[name].double()
        torch.testing.assert_close(figure.double(), other, rtol=0, atol=1e-10, equal_nan=True)
    for name, flag in adding.flags.items():
        assert bool(flag) == bool(whole.flags[name]), name


@pytest.mark.parametrize("estimator", ADDING, ids=repr)
@pytest.mark.parametrize("kind", ["random", "determined", "distinct", "population"])
def test_batches_give_what_all_samples_give(estimator: Any, kind: str) -> None:
    data, t = probe(kind)
    about_x, about_y = estimator.plane(t, data)
    for cuts in ([], [1], [7, 30, 31], range(N)):
        adding = taken_up(estimator, data, t, list(cuts))
        assert_same(adding["x"], about_x)
        assert_same(adding["y"], about_y)


@pytest.mark.parametrize("estimator", [SoftEntropy(points=7), Exact()], ids=repr)
@pytest.mark.parametrize(
    ("size", "of_type"),
    [
        *((size, torch.float64) for size in (1e-320, 1e-170, 1e-130, 1e170, 1e306)),
        (1, torch.float16),
        (1, torch.bfloat16),
    ],
)
def test_batches_of_any_size_and_type_give_what_all_samples_give(
    estimator: Any, size: float, of_type: torch.dtype
) -> None:
    data, t = probe("random")
    t = (t.double() * size).to(of_type)
    adding = taken_up(estimator, data, t, [7, 30])
    for name, whole in zip(("x", "y"), estimator.plane(t, data), strict=True):
        assert_same(adding[name], whole)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cuts=st.lists(st.integers(1, N - 1), max_size=6),
    ranks=st.integers(1, 4),
    estimator=st.sampled_from([ADDING[0], ADDING[3], ADDING[6]]),
    kind=st.sampled_from(["random", "determined", "distinct"]),
)
def test_processes_that_come_together_give_it_too(
    cuts: list[int], ranks: int, estimator: Any, kind: str
) -> None:
    data, t = probe(kind)
    adding = taken_up(estimator, data, t, cuts, ranks)
    for name, whole in zip(("x", "y"), estimator.plane(t, data), strict=True):
        assert_same(adding[name], whole)


@pytest.mark.parametrize("estimator", ADDING[::3], ids=repr)
def test_a_sample_that_is_missing_or_there_twice_is_refused(estimator: AddsUp) -> None:
    data, t = probe("random")
    targets = estimator.targets(data)
    accumulator = estimator.accumulator(3)
    accumulator.update(t[:40], targets.at(slice(40)))
    with pytest.raises(InvalidInput, match=r"40 samples were taken up, and the targets are of 60"):
        accumulator.result()
    accumulator.update(t[40:], targets.at(slice(40, None)))
    accumulator.result()
    other = estimator.accumulator(3)
    other.update(t[:1], targets.at(slice(1)))
    accumulator.merge(other)
    with pytest.raises(InvalidInput, match=r"61 samples were taken up, .* merge each process once"):
        accumulator.result()


def test_what_is_malformed_is_refused() -> None:
    data, _ = probe("random")
    for estimator in (ADDING[0], ADDING[3]):
        batch = estimator.targets(data).at(slice(2))
        with pytest.raises(NonFinite, match="1 NaN or infinite values"):
            estimator.accumulator(3).update(torch.tensor([[torch.nan, 0, 0], [0, 0, 0]]), batch)
    with pytest.raises(Unsupported, match="got ids"):
        ADDING[0].accumulator(3).update(torch.arange(2), ADDING[0].targets(data).at(slice(2)))


def test_a_tag_says_which_can() -> None:
    assert all(adds_up(estimator) for estimator in ADDING)
    others = [estimators.make(name) for name in ("ksg", "kde", "gaussian_copula", "binning")]
    others += [
        Exact(weights=(1.0, 2.0)),
        Binning(range="trace"),
        estimators.make("adaptive_binning"),
    ]
    assert not any(adds_up(estimator) for estimator in others)
    for estimator in others[3:]:
        assert isinstance(estimator, AddsUp)
        with pytest.raises(Unsupported, match="all samples at once"):
            estimator.accumulator(3)
    named = [name for name in estimators.names() if estimators.make(name).tags.adds_up]
    assert named == ["exact", "soft_entropy"]


def test_targets_that_are_no_classes_are_left_out() -> None:
    x, t = torch.arange(N)[:, None], torch.randn(N, 3)
    for y in (None, torch.randn(N)):
        data = Probe(x, y)
        assert [*taken_up(SoftEntropy(points=5), data, t, [9])] == ["x"]
        assert [*taken_up(Exact(), data, t, [9])] == ["x"]
    assert [*taken_up(Binning(width=0.5), Probe(x, torch.randn(N)), t, [9])] == ["x", "y"]


def test_the_standard_error_of_soft_entropy_waits_for_the_second_pass() -> None:
    data, t = probe("random")
    estimator = SoftEntropy(points=7)
    accumulator = estimator.accumulator(3)
    accumulator.update(t, estimator.targets(data))
    first = accumulator.result()["y"]
    assert first.stderr.isnan()
    assert first.bits == pytest.approx(estimator.plane(t, data)[1].bits)


# --- a trace ----------------------------------------------------------------------------------


def traced(max_bytes: int | None, **arguments: Any) -> Tracer:
    torch.manual_seed(0)
    layers = arguments.pop("layers", None)
    probe = arguments.pop("probe", tokens())
    look = Look(layers, reduce="tokens", batch_size=7, max_bytes=max_bytes)
    estimator = arguments.pop("estimators", [SoftEntropy(points=6), Exact(), Binning(width=0.3)])
    return Tracer(Decoder(), probe, estimators=estimator, look=look, **arguments)


def flags(frame: pd.DataFrame) -> list[set[str]]:
    return [{*row.split(",")} for row in frame["flags"]]


def test_a_trace_of_layers_that_do_not_fit_has_the_rows_of_one_that_holds_them() -> None:
    held, adding = traced(None), traced(1000)
    assert adding.trace.meta["captured"] == held.trace.meta["captured"]
    assert adding.trace.layers == ["embedding", "block0", "block1"]
    left, right = held.trace.frame(), adding.trace.frame()
    for column in ("layer", "quantity", "estimator", "estimand", "variable", "samples"):
        assert left[column].tolist() == right[column].tolist()
    assert flags(left) == flags(right)
    for column in ("bits", "stderr", "null_bits", "ceiling", "occupied_bins"):
        pd.testing.assert_series_equal(
            left[column], right[column], check_exact=False, rtol=0, atol=1e-10
        )


class Odd(nn.Module):
    """Values as a network gone wrong has them: times a factor, and more."""

    def __init__(self, factor: Sequence[float], offset: float) -> None:
        super().__init__()
        self.factor, self.offset = nn.Parameter(torch.tensor(factor)), offset

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.factor + self.offset).relu()


@pytest.mark.parametrize(
    ("factor", "offset", "flag"),
    [
        ((1.0, 1.0, 1.0), 0.0, ""),
        ((1e33, 1e33, 1e33), 0.0, "extreme_values"),
        ((1.0, 1.0, 1.0), 3e6, "rounded"),
        ((1.0, 1.0, 1e3), 5.0, "scales_apart"),
        ((1e-3, 1e-3, 1e-3), 5.0, "crowded"),
    ],
)
def test_what_is_odd_in_t_is_flagged_also_where_no_t_is_held(
    factor: Sequence[float], offset: float, flag: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(N, 3, generator=generator), torch.arange(N) % 4
    frames = []
    for size in (None, 40):
        look = Look(["0"], batch_size=7, max_bytes=size)
        estimators: list[Estimator] = [SoftEntropy(points=6), Exact(), Binning(width=0.5)]
        net = nn.Sequential(Odd(factor, offset), nn.Linear(3, 2))
        frames.append(Tracer(net, (x, y), estimators=estimators, look=look).trace.frame())
    held, adding = frames
    assert flags(held) == flags(adding)
    assert not flag or any(flag in row for row in flags(held))


class Half(nn.Module):
    """Normalises some channels over positions."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([nn.functional.instance_norm(x[:, :4]), x[:, 4:]], 1)


@pytest.mark.parametrize("layer", [nn.InstanceNorm1d(8), Half(), nn.Conv1d(8, 8, 1)], ids=repr)
def test_a_mean_that_differs_by_rounding_alone_is_made_constant_held_or_not(
    layer: nn.Module,
) -> None:
    x, y = torch.randn(N, 8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(N) % 4
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(40, 2))
    frames = []
    for size in (None, 100):
        look = Look(["0"], reduce="gap:first", batch_size=7, max_bytes=size)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConstantMean)
            tracer = Tracer(net, (x, y), estimators=[SoftEntropy(points=6), Exact()], look=look)
        assert bool(told) == isinstance(layer, nn.InstanceNorm1d)
        assert all("differs by rounding alone" in str(each.message) for each in told)
        frames.append(tracer.trace.frame())
    held, adding = frames
    assert flags(held) == flags(adding)
    for column in ("bits", "stderr", "null_bits"):
        pd.testing.assert_series_equal(
            held[column], adding[column], check_exact=False, rtol=0, atol=1e-10
        )
    still = (adding["bits"] < 1e-10).all()
    assert bool(still) == isinstance(layer, nn.InstanceNorm1d)


def test_processes_find_the_same_columns_constant_by_the_first_rows_of_all() -> None:
    t = torch.tensor([[1.0, 0.0], [1.0 + 1e-7, 0.5], [1.0, 0.25], [1.0 - 1e-7, 0.75]])
    bounds = [Rounding(torch.full((2,), b).double(), torch.tensor([True, True])) for b in (1e-6, 1)]
    told = []
    for order in ((0, 1), (1, 0)):
        screens = [Screen(4), Screen(4)]
        for rank in (0, 1):
            screens[rank].update(t[2 * rank :][:2], 2 * rank, bounds[rank])
        screens[order[0]].merge(screens[order[1]])
        told.append(screens[order[0]].settled())
    for settled in told:
        assert settled is not None
        assert settled.columns.tolist() == [True, False]
        assert not settled.whole
        assert torch.equal(settled(t)[:, 0], torch.ones(4))
        assert torch.equal(settled(t)[:, 1], t[:, 1])


def test_padding_that_is_guessed_is_said_where_no_t_is_held() -> None:
    whole = tokens(sequences=60).x
    whole[::3, 4:] = whole[1::3, 3:] = 0
    for size in (None, 1000):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", PaddingGuessed)
            traced(size, probe=Probe(whole))
        words = " ".join(str(each.message) for each in told)
        assert "leaves out padding: 0 stands at the end" in words
        assert all(name in words for name in ("blocks.0:input", "blocks.0", "blocks.1"))


def test_rows_that_are_seen_are_the_same_whatever_the_batches_and_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_screen, "ROWS", 9)
    data, t = probe("random")
    told = []
    for cuts, ranks in (([], 1), ([7, 30, 31], 1), ([7, 30, 31], 2), (range(1, N), 3)):
        edges = [0, *cuts, N]
        screens = [Screen(N) for _ in range(ranks)]
        for at, (first, last) in enumerate(itertools.pairwise(edges)):
            screens[at % ranks].update(t[first:last], first, None)
        for other in screens[1:]:
            screens[0].merge(other)
        told.append([e.bits.item() for e in screens[0].informations(Exact(), data, 0)])
    part = torch.arange(0, N, 7)
    whole = Exact().plane(t[part], data.take(part))
    assert told == [[e.bits.item() for e in whole]] * 4


def test_layers_whose_statistics_do_not_fit_together_have_passes_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes: list[frozenset[str]] = []
    stream = Observer.stream

    def watched(self: Observer, take: Any, names: Any) -> Any:
        passes.append(frozenset(names))
        return stream(self, take, names)

    monkeypatch.setattr(Observer, "stream", watched)
    together = traced(5000, estimators=[Exact(), SoftEntropy(points=3)]).trace.frame()
    apart = traced(1000, estimators=[Exact(), SoftEntropy(points=3)]).trace.frame()
    names = {"blocks.0:input", "blocks.0", "blocks.1"}
    assert frozenset.union(*passes) == names
    assert passes[:2] == [passes[0]] * 2  # the second is for standard errors
    assert len(passes) > 4
    assert {len(part) for part in passes[-6:]} == {1}
    assert together.bits.tolist() == apart.bits.tolist()


def test_named_variables_add_up_too() -> None:
    x = torch.randint(1, 12, (20, 6), generator=torch.Generator().manual_seed(0))
    named = {"next": x.roll(-1, 1) % 5, "even": (x % 2).masked_fill(x > 9, -100)}
    probe = Probe(x, named, sources={"pair": x * 12 + x.roll(1, 1)}, padding=None)
    held, adding = (traced(size, probe=probe).trace.frame() for size in (None, 1000))
    assert held.quantity.tolist() == adding.quantity.tolist()
    assert set(held.quantity) == {"I(X;T)", "I(T;next)", "I(T;even)", "I(pair;T)"}
    for column in ("bits", "stderr", "null_bits"):
        pd.testing.assert_series_equal(
            held[column], adding[column], check_exact=False, rtol=0, atol=1e-10
        )


def test_every_look_streams_and_the_weights_stay() -> None:
    tracer = traced(1000, every=1, layers=["block1"])
    assert isinstance(tracer.model, Decoder)
    before = copy.deepcopy(tracer.model.state_dict())
    assert len(tracer.snapshot(1)) == 6
    assert all(torch.equal(before[n], v) for n, v in tracer.model.state_dict().items())
    frame = tracer.trace.frame()
    one, other = (frame[frame.epoch == epoch].bits.tolist() for epoch in (0, 1))
    assert one == other


@pytest.mark.parametrize(
    ("estimators", "match"),
    [
        (
            ["ksg"],
            r"needs 5,\d+ bytes .* add up over batches \(binning, exact, soft_entropy\)",
        ),
        (["exact", "ksg"], r"max_bytes is 1,000; reduce it .* estimators alone that add up"),
        (
            ["binning"],
            r"Binning\(bins=30\) all of it at once: .* \(Binning of a fixed range",
        ),
    ],
)
def test_estimators_that_do_not_add_up_are_refused(estimators: list[str], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        traced(1000, layers=["blocks.1"], estimators=estimators)


def test_the_memory_of_a_look_does_not_grow_with_the_activations() -> None:
    """Of 40 MB of T in all no more than a few batches are held at a time."""
    torch.manual_seed(0)
    width, blocks, n, length = 256, 3, 640, 16
    probe = Probe(torch.randint(1, 12, (n, length)), torch.arange(n) % 4, padding=None)
    held: list[int] = []
    update = SoftCounts.update

    def watched(self: SoftCounts, t: Tensor, targets: Any) -> None:
        gc.collect()
        tensors = {
            o.untyped_storage().data_ptr(): o.untyped_storage().nbytes()
            for o in gc.get_objects()
            if type(o) is Tensor
        }
        held.append(sum(tensors.values()))
        update(self, t, targets)

    look = Look(reduce="tokens", batch_size=64, max_bytes=2**20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SoftCounts, "update", watched)
        estimators = [SoftEntropy(points=10)]
        gc.collect()
        gc.freeze()  # what other tests of this process have left may go at any time: not counted
        try:
            Tracer(Decoder(width, blocks), probe, estimators=estimators, look=look)
        finally:
            gc.unfreeze()
    everything = (blocks + 1) * n * length * width * 4
    assert len(held) == 2 * 10 * (blocks + 1)
    assert max(held) - min(held) < everything / 8
