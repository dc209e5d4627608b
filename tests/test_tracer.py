"""A tracer records on schedule what the estimators say, and the training never notices."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ibtrace.errors import ConfigError, InvalidInput, NonFinite, RunError, UnknownName
from ibtrace.estimators import AdaptiveBinning, Binning, Exact, information
from ibtrace.probe import Probe
from ibtrace.runtime.schedule import Steps, log_spaced, schedule
from ibtrace.trace import COLUMNS, Trace
from ibtrace.tracer import At, Keep, Tracer
from ibtrace.types import Estimate, LayerContext, Row, Tags, label
from tests.arguments import grouped, look_of

N, D = 96, 5


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, 2))


def linear(model: nn.Sequential, at: int) -> nn.Linear:
    module = model[at]
    assert isinstance(module, nn.Linear)
    return module


def noisy() -> nn.Module:
    return nn.Sequential(
        nn.Linear(D, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.3),
        nn.Linear(6, 6),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Linear(6, 2),
    )


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, D)),
        nn.Conv1d(1, 3, 2),
        nn.BatchNorm1d(3),
        nn.ReLU(),
        nn.Dropout1d(0.2),
        nn.Flatten(),
        nn.Linear(3 * (D - 1), 2),
    )


def fingerprint(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    """Every bit that training depends on."""
    state = [value.clone() for value in model.state_dict().values()]
    moments = [
        torch.as_tensor(value).clone()
        for entry in optimizer.state_dict()["state"].values()
        for value in entry.values()
        if value is not None
    ]
    generators = [torch.get_rng_state(), str(np.random.get_state()), str(random.getstate())]
    return [*state, *moments, *generators, [module.training for module in model.modules()]]


def train(build: Callable[[], nn.Module], *, traced: bool) -> list[Any]:
    """Three epochs of training on a shuffled loader, traced or not."""
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, y = data()
    loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    chosen = ["binning", "ksg", "kde", "npeet"]
    tracer = Tracer(model, data=(x, y), estimators=chosen, every=1) if traced else None
    for epoch in range(1, 4):
        for batch, target in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), target).backward()
            optimizer.step()
        if tracer is not None:
            tracer.snapshot(epoch)
    if tracer is not None:
        tracer.close()
        assert len(tracer.trace.frame()) > 0
    return fingerprint(model, optimizer)


@pytest.mark.parametrize("build", [mlp, noisy, convolutional])
def test_a_traced_run_is_identical_to_an_untraced_one(build: Callable[[], nn.Module]) -> None:
    for traced, bare in zip(train(build, traced=True), train(build, traced=False), strict=True):
        same = torch.equal(traced, bare) if isinstance(traced, Tensor) else traced == bare
        assert same


def test_rows_are_what_the_estimators_say_of_the_activations() -> None:
    model, (x, y) = mlp(), data()
    estimator = Binning(bins=5, range=(-1.0, 1.0))
    with Tracer(model, data=(x, y), estimators=[estimator], look="1") as tracer:
        pass
    direct = information(estimator, model[1](model[0](x)).detach(), Probe(x, y))
    frame = tracer.trace.frame()
    bits = dict(zip(frame.quantity, frame.bits, strict=True))
    assert bits == {"I(X;T)": float(direct[0].bits), "I(T;Y)": float(direct[1].bits)}
    assert set(frame.estimator) == {label(estimator)}
    assert set(frame.estimand) == {estimator.estimand}


def test_the_activation_settles_the_bin_range() -> None:
    with Tracer(mlp(), data=data(), estimators=["binning"]) as tracer:
        pass
    frame = tracer.trace.frame()
    estimands = dict(zip(frame.layer, frame.estimand, strict=True))
    assert "[-1, 1]" in estimands["1"]
    assert "[-1, 1]" not in estimands["output"]


def test_init_and_the_last_epoch_are_always_there() -> None:
    with Tracer(mlp(), data=data(), estimators=["exact"], every=[2]) as tracer:
        for epoch in range(1, 6):
            tracer.snapshot(epoch, train_loss=1 / epoch)
    assert sorted(tracer.trace.frame().epoch.unique()) == [0, 2, 5]
    scalars = tracer.trace.scalars().query("layer == ''")
    assert scalars.value.tolist() == [1 / epoch for epoch in range(1, 6)]


def test_an_estimator_may_have_a_schedule_of_its_own() -> None:
    slow = At("exact", every=3)
    with Tracer(mlp(), data=data(), estimators=["binning", slow], every=2) as tracer:
        for epoch in range(1, 8):
            tracer.snapshot(epoch)
    epochs = tracer.trace.frame().groupby("estimator").epoch.unique()
    assert {name: sorted(found) for name, found in epochs.items()} == {
        "Binning(bins=30)": [0, 2, 4, 6, 7],
        "Exact": [0, 3, 6, 7],
    }


@pytest.mark.parametrize("kind", [Binning, AdaptiveBinning])
def test_a_range_fixed_over_the_trace_is_that_of_all_snapshots(
    kind: type[Any], tmp_path: Path
) -> None:
    model, (x, y) = mlp(), data()
    wide = kind(bins=4, range="trace")
    with Tracer(model, (x, y), estimators=[wide], look="0", every=1, keep=tmp_path / "run") as t:
        with torch.no_grad():
            linear(model, 0).weight.mul_(10)
        t.snapshot(1)
    frame = t.trace.frame()
    assert sorted(frame.epoch.unique()) == [0, 1]
    assert frame.estimand.nunique() == 1
    first = frame[(frame.epoch == 0) & (frame.quantity == "I(X;T)")].bits.item()
    alone = information(kind(bins=4, range="snapshot"), t.trace.activations(0)["0"], Probe(x, y))
    if kind is Binning:  # ten times narrower than the range of the trace
        assert first < float(alone[0].bits) - 1


def test_several_seeds_share_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for seed in (0, 1):
        with Tracer(mlp(), data=data(), estimators=["exact"], keep=run, seed=seed):
            pass
    assert Trace.load(run).seeds == [0, 1]
    with pytest.raises(RunError, match="already holds seed 1"):
        Tracer(mlp(), data=data(), estimators=["exact"], keep=run, seed=1)
    with pytest.raises(RunError, match="another probe"):
        Tracer(mlp(), data=Probe(*data()[:1], data()[1].flip(0)), keep=run, seed=2)


def convolutions(width: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, D)),
        nn.Conv1d(1, width, 2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4 * width, 2),
    )


def _doubled(model: nn.Module, x: Tensor) -> Any:
    return model(2 * x)


ANOTHER_T: list[tuple[int, dict[str, Any], str]] = [
    (4, {"reduce": "flatten"}, "layer '2' is another T .*variable gap.* there, .*flatten"),
    (4, {"reduce": lambda t: t.amax(-1)}, "layer '2' is another T .*gap there, .*<lambda> here"),
    (6, {}, r"another model: 1 is Conv1d\(1, 4.* in the run, Conv1d\(1, 6.* now"),
    (4, {"max_width": 2}, "layer '2' is another T .*width 4, .*projections of 4, width 2"),
    (4, {"forward": _doubled}, "with forward= None, not '_doubled'"),
    (4, {"population": True}, "with population False, not True"),
]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(("width", "changes", "match"), ANOTHER_T)
def test_another_t_does_not_share_a_run(
    width: int, changes: dict[str, Any], match: str, resume: bool, tmp_path: Path
) -> None:
    """Its rows would be pooled with the first's, under the first's name, in one verdict."""
    layers, run = ["2"], tmp_path / "run"
    with Tracer(convolutions(), data(), look=layers, estimators="exact", keep=run) as first:
        before = first.trace.meta, first.trace.frame()
    options = dict(changes)
    probe = Probe(*data(), population=options.pop("population", False))
    with pytest.raises(RunError, match=match):
        Tracer(
            convolutions(width),
            probe,
            look=look_of(layers=layers, initial=not resume, **options),
            estimators="exact",
            keep=Keep(run=run, resume=resume),
            seed=int(not resume),
            every=1,
        ).snapshot(1)
    trace = Trace.load(run)
    assert trace.meta == before[0]
    assert trace.frame().equals(before[1])


def test_resuming_overwrites_and_never_duplicates(tmp_path: Path) -> None:
    model = mlp()
    for resume in (False, True):
        options: dict[str, Any] = {"estimators": ["exact"], "every": 1}
        keep = Keep(tmp_path / "run", resume=resume)
        with Tracer(model, data=data(), keep=keep, **options) as tracer:
            tracer.snapshot(1)
            tracer.snapshot(2)
    frame = tracer.trace.frame()
    assert not frame.duplicated(["seed", "epoch", "layer", "quantity", "estimator"]).any()
    assert sorted(frame.epoch.unique()) == [0, 1, 2]


def test_diverged_training_names_layer_and_epoch_and_keeps_the_trace() -> None:
    model = mlp()
    tracer = Tracer(model, data=data(), estimators=["exact"], every=1)
    tracer.snapshot(1)
    with torch.no_grad():
        linear(model, 2).weight.fill_(torch.nan)
    with pytest.raises(NonFinite, match=r"epoch 2: layer 'output' has 192 of 192"):
        tracer.snapshot(2)
    assert sorted(tracer.trace.frame().epoch.unique()) == [0, 1]


def test_a_constant_layer_is_zero_bits_and_flagged() -> None:
    model = mlp()
    with torch.no_grad():
        linear(model, 0).weight.zero_()
    with Tracer(model, data=data(), estimators=["binning"], look="1") as tracer:
        pass
    frame = tracer.trace.frame()
    assert frame.bits.tolist() == [0.0, 0.0]
    assert frame["flags"].str.contains("constant").all()


def test_numbers_may_come_with_their_unit() -> None:
    with Tracer(mlp(), data=data(), estimators=["exact"], every=1) as tracer:
        tracer.log(0, train_loss=(0.7, "nats"), rate=0.1)
        tracer.snapshot(1, train_loss=(torch.tensor(0.5), "nats"), rate=0.1)
    scalars = tracer.trace.scalars().query("layer == ''")
    assert scalars[["name", "value", "unit"]].values.tolist() == [
        ["rate", 0.1, ""],
        ["train_loss", 0.7, "nats"],
        ["rate", 0.1, ""],
        ["train_loss", 0.5, "nats"],
    ]


def test_sinks_get_each_snapshot() -> None:
    seen: list[Any] = []

    class Spy:
        def write(self, trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]) -> None:
            seen.append((len(trace), len(rows), dict(scalars)))

        def close(self, trace: Trace, failed: bool) -> None:
            seen.append(len(trace))

    with Tracer(
        mlp(), data=data(), estimators=["exact"], every=1, keep=Keep(sinks=Spy())
    ) as tracer:
        tracer.snapshot(1, train_loss=(0.5, "nats"))
    assert seen == [(4, 4, {}), (8, 4, {"train_loss": 0.5}), 8]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"layers": ["2", "fc9"]}, UnknownName, r"'fc9'; the layers are: 0, 1, 2, output"),
        ({"estimators": ["bining"]}, UnknownName, r"'bining'; there are: binning"),
        ({"data": (data()[0], data()[1][:9])}, InvalidInput, r"\(96, 5\) and y \(9,\)"),
        ({"every": 0}, ConfigError, "at least 1, got 0"),
        ({"every": 2.5}, ConfigError, "int, epochs or a callable"),
        ({"every": [1, 2.5]}, ConfigError, "an epoch must be a whole number, got 2.5"),
        ({"every": "12"}, ConfigError, "int, epochs or a callable"),
        ({"seed": 0.5}, ConfigError, "seed must be a whole number, got 0.5"),
        ({"estimators": 5}, ConfigError, "5 is neither a name nor an estimator"),
        ({"estimators": Binning}, ConfigError, "Binning.* is neither a name nor an estimator"),
        ({"activations": True}, ConfigError, "activations are kept on disk; say where, run=FOLDER"),
        ({"estimators": [Binning(range="trace")]}, ConfigError, "give the tracer keep=FOLDER"),
    ],
)
def test_mistakes_are_found_before_any_training(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Tracer(mlp(), **{"data": data(), **grouped(**options)})


def test_the_last_epoch_keeps_its_step_when_it_was_not_due() -> None:
    with Tracer(mlp(), data(), estimators=["exact"], every=10) as tracer:
        tracer.snapshot(3, step=12)
    frame = tracer.trace.frame()
    assert frame[frame.epoch == 3].step.eq(12).all()
    assert frame[frame.epoch == 0].step.isna().all()


def test_lazy_modules_are_drawn_with_a_warning_and_left_alone_after_a_dry_forward() -> None:
    def lazy() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.LazyLinear(4), nn.Tanh())

    with pytest.warns(UserWarning, match="forward one batch before both"):
        Tracer(lazy(), data(), estimators=["exact"])
    model, untraced = lazy(), lazy()
    for one in (model, untraced):
        torch.manual_seed(1)
        one(data()[0])
    state = torch.get_rng_state()
    Tracer(model, data(), estimators=["exact"])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(linear(model, 0).weight, linear(untraced, 0).weight)


def test_a_closed_tracer_refuses_another_snapshot() -> None:
    tracer = Tracer(mlp(), data=data(), estimators=[Exact()])
    tracer.close()
    with pytest.raises(ConfigError, match="closed"):
        tracer.snapshot(1)
    with pytest.raises(ConfigError, match="0 or more, got -1"):
        Tracer(mlp(), data=data(), estimators=[Exact()]).snapshot(-1)


@pytest.mark.parametrize(
    "kind", [int, float, np.int64, np.float32, torch.tensor, lambda n: torch.tensor(float(n))]
)
def test_epochs_and_steps_may_be_whole_numbers_of_any_library(kind: Callable[[int], Any]) -> None:
    with Tracer(mlp(), data(), estimators="exact", every=[kind(2)]) as tracer:
        tracer.snapshot(kind(1), step=kind(4))
        tracer.snapshot(kind(2), step=kind(8))
        tracer.log(kind(2), loss=1.0)
    frame = tracer.trace.frame()
    assert frame.groupby("epoch").step.max().dropna().to_dict() == {2: 8}
    assert tracer.trace.scalars().query("name == 'loss'").epoch.tolist() == [2]


@pytest.mark.parametrize(
    "epoch", [1.5, np.float32(1.5), torch.tensor(1.5), float("nan"), "1", None, [1, 2], True]
)
def test_an_epoch_that_is_no_whole_number_overwrites_nothing(epoch: Any) -> None:
    half: Any = 1.5
    with Tracer(mlp(), data(), estimators="exact", every=1) as tracer:
        tracer.snapshot(1)
        before = tracer.trace.frame()
        for call in (
            lambda: tracer.snapshot(epoch),
            lambda: tracer.log(epoch, loss=1.0),
            lambda: tracer.snapshot(2, step=half),
        ):
            with pytest.raises(ConfigError, match=r"must be a whole number, got"):
                call()
    assert tracer.trace.frame().equals(before)
    row = tracer.trace.frame().iloc[0]
    with pytest.raises(InvalidInput, match=r"epoch must be a whole number, got 0.5"):
        tracer.trace.append([as_row(row, epoch=0.5)])


def as_row(record: Any, **changes: Any) -> Row:
    """A row of a frame's record."""
    fields = {**record[[*COLUMNS]].to_dict(), "diagnostics": {}, **changes}
    return Row(instrument=fields.pop("estimator"), value=fields.pop("bits"), **fields)


@pytest.mark.parametrize("estimators", ["exact", Exact(), At("exact", every=1), iter(["exact"])])
def test_one_estimator_needs_no_list(estimators: Any) -> None:
    with Tracer(mlp(), data(), estimators=estimators) as tracer:
        pass
    assert tracer.trace.estimators == ["Exact"]


# --- a block that raises ------------------------------------------------------------------------


class Closing:
    """A sink that may fail when it is closed."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.written, self.closed = fails, 0, 0
        self.failed: bool | None = None

    def write(self, trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]) -> None:
        self.written += len(rows)

    def close(self, trace: Trace, failed: bool) -> None:
        self.closed += 1
        self.failed = failed
        if self.fails:
            raise OSError("the service is away")


def raise_in(tracer: Tracer, error: type[BaseException]) -> None:
    with tracer:
        tracer.snapshot(1)
        tracer.snapshot(2)
        raise error("a mistake of the user's")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_closes_every_sink_once_and_keeps_its_rows(
    error: type[BaseException], fails: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sinks = [Closing(fails), Closing()]
    tracer = Tracer(
        mlp(), data(), estimators="exact", every=[1], keep=Keep(tmp_path / "run", sinks=sinks)
    )
    with pytest.raises(error, match="a mistake of the user's"):
        raise_in(tracer, error)  # epoch 2 is not due, and not measured then: who knows its state
    tracer.close()
    assert [(sink.closed, sink.failed) for sink in sinks] == [(1, True), (1, True)]
    assert sorted(Trace.load(tmp_path / "run").frame().epoch.unique()) == [0, 1]
    assert ("the service is away" in caplog.text) == fails


def test_a_look_that_fails_closes_the_sinks_wherever_it_is() -> None:
    def broken() -> nn.Sequential:
        model = mlp()
        linear(model, 0).weight.data.fill_(torch.nan)
        return model

    sink = Closing()
    with pytest.raises(NonFinite, match="epoch 0"):
        Tracer(broken(), data(), estimators="exact", keep=Keep(sinks=sink))
    assert (sink.closed, sink.failed) == (1, True)
    model, sink = mlp(), Closing()
    tracer = Tracer(model, data(), estimators="exact", every=[1], keep=Keep(sinks=sink))
    linear(model, 0).weight.data.fill_(torch.nan)
    tracer.snapshot(2)
    with pytest.raises(NonFinite, match="epoch 2"):
        tracer.close()
    assert (sink.closed, sink.failed) == (1, True)
    sink = Closing()
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Tracer(mlp(), data(), every=0, keep=Keep(sinks=sink))
    assert (sink.closed, sink.failed) == (1, True)


def test_after_a_training_that_ended_a_sink_that_fails_is_told_when_all_are_closed() -> None:
    sinks = [Closing(fails=True), Closing()]
    with (
        pytest.raises(OSError, match="the service is away"),
        Tracer(mlp(), data(), estimators="exact", keep=Keep(sinks=sinks)),
    ):
        pass
    assert [(sink.closed, sink.failed) for sink in sinks] == [(1, False), (1, False)]


def test_what_needs_the_whole_trace_is_measured_and_sent_though_the_block_raises(
    tmp_path: Path,
) -> None:
    sink, pooling = Closing(), Binning(bins=4, range="trace")
    tracer = Tracer(
        mlp(), data(), estimators=pooling, every=[1], keep=Keep(tmp_path / "run", sinks=sink)
    )
    with pytest.raises(ValueError, match="a mistake of the user's"):
        raise_in(tracer, ValueError)
    assert sorted(tracer.trace.frame().epoch.unique()) == [0, 1]
    assert sink.written == len(tracer.trace)


def test_schedules() -> None:
    def due(every: Any) -> list[int]:
        return [epoch for epoch in range(21) if schedule(every)(epoch)]

    assert due(7) == [0, 7, 14]
    assert due([3, 9]) == [0, 3, 9]
    assert due(lambda epoch: epoch == 4) == [4]
    assert due(log_spaced(20, 5)) == [0, 1, 2, 4, 9, 20]
    endless = log_spaced(count=10)
    decade = [sum(endless(epoch) for epoch in range(10**k, 10 ** (k + 1))) for k in (1, 2, 3)]
    assert decade == [10, 10, 10]
    assert endless(0)
    assert endless(1)


def test_a_run_that_keeps_activations_keeps_its_probe(tmp_path: Path) -> None:
    model, (x, y) = mlp(), data()
    with Tracer(
        model, (x, y), estimators=["binning"], keep=Keep(run=tmp_path, activations=True)
    ) as t:
        pass
    kept = t.trace.probe()
    assert torch.equal(kept.features, x)
    assert torch.equal(kept.y, y)
    assert kept.digest == t.trace.meta["probe_digest"]
    assert not list(tmp_path.glob("*.part"))
    t.trace.save_probe(Probe(x + 1, y))
    with pytest.raises(RunError, match="not the probe of this trace"):
        t.trace.probe()
    (tmp_path / "probe.safetensors").write_bytes(b"torn")
    with pytest.raises(RunError, match=r"unreadable probe .* run again"):
        t.trace.probe()
    (tmp_path / "probe.safetensors").unlink()
    with pytest.raises(RunError, match="activations=True"):
        t.trace.probe()


# --- mistakes cost no look ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "scalars", "match"),
    [
        (1, {"n": None}, "n must be a number, got None"),
        (1, {"name": "a"}, "name must be a number, got 'a'"),
        (1, {"name": torch.ones(3)}, r"name must be a number, got tensor\(\[1., 1., 1.\]\)"),
        (2**70, {}, r"must be below 2\*\*63, got 1180591620717411303424"),
        (10**400, {}, "must be a whole number"),
        (0, {}, "epoch 0 is the network before training.*call snapshot with 1"),
    ],
)
def test_a_mistaken_call_is_refused_before_the_look(
    epoch: int, scalars: dict[str, Any], match: str
) -> None:
    calls: list[int] = []
    model = mlp()
    model.register_forward_hook(lambda *_: calls.append(1))
    tracer = Tracer(model, data(), estimators="exact", every=1)
    calls.clear()
    with pytest.raises(ConfigError, match=match) as error:
        tracer.snapshot(epoch, **scalars)
    assert "\n" not in str(error.value)
    assert not calls
    assert tracer.trace.frame().epoch.unique().tolist() == [0]


@pytest.mark.parametrize("sinks", [object(), [Closing(), object()], Closing, "tensorboard"])
def test_what_is_no_sink_is_refused_at_once(sinks: Any) -> None:
    with pytest.raises(ConfigError, match=r"sinks: .* is no sink"):
        Tracer(mlp(), data(), estimators="exact", keep=Keep(sinks=sinks))


@pytest.mark.parametrize(
    "mistake", [{"look": ["nope"]}, {"estimators": "nope"}, {"lenses": "nope"}]
)
def test_a_tracer_that_cannot_be_made_closes_its_sinks(mistake: dict[str, Any]) -> None:
    sink = Closing()
    with pytest.raises(UnknownName):
        Tracer(mlp(), data(), keep=Keep(sinks=sink), **mistake)
    assert sink.closed == 1


class Refusing(Closing):
    def write(self, trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]) -> None:
        super().write(trace, rows, scalars)
        raise OSError("nothing is taken here")


def test_a_sink_that_refuses_a_snapshot_does_not_keep_it_from_the_others() -> None:
    first, last = Refusing(), Closing()
    with pytest.raises(OSError, match="nothing is taken here"):
        Tracer(mlp(), data(), estimators="exact", keep=Keep(sinks=[first, last]))
    assert first.written == last.written > 0
    assert (first.closed, last.closed) == (1, 1)


@pytest.mark.parametrize("every", [[-1, 3], {2: "a"}, [], range(0)])
def test_a_schedule_that_cannot_be_meant_is_refused(every: Any) -> None:
    with pytest.raises(ConfigError, match="every must be an int, epochs"):
        schedule(every)
    with pytest.raises(ConfigError, match="every must be at least 1, got 0"):
        Steps(0)


def test_after_an_interrupt_nothing_more_is_measured(tmp_path: Path) -> None:
    """The user wants to stop: what needs the whole trace would take its time."""
    adaptive = AdaptiveBinning(bins=4, range="trace")
    with (
        pytest.raises(KeyboardInterrupt),
        Tracer(mlp(), data(), estimators=[adaptive], keep=tmp_path / "run"),
    ):
        raise KeyboardInterrupt
    assert not len(Trace.load(tmp_path / "run"))


@dataclass(frozen=True)
class Reach:
    """Reads off the range that the layer settled for it, in a field that its repr leaves out."""

    reach: Any = field(default=0.0, repr=False)
    hashed: bool = True
    tags: ClassVar[Tags] = Tags("the layer's reach", "nobody", "resolution", of_information=False)
    estimand: ClassVar[str] = "T"

    def bind(self, context: LayerContext) -> Reach:
        low, high = context.activation_range or (0.0, 0.0)
        reach = high - low if self.hashed else [high - low]  # a list has no hash
        return dataclasses.replace(self, reach=reach)

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        shape = torch.broadcast_shapes(*(v.shape[: -1 - v.is_floating_point()] for v in (x, y)))
        return Estimate(torch.full(shape, self.reach if self.hashed else self.reach[0]))


@pytest.mark.parametrize("hashed", [True, False])
def test_layers_are_measured_alike_only_if_the_estimators_are_equal(hashed: bool) -> None:
    """Two layers of one width, bound to two ranges: what a repr shows of them is the same."""
    model = nn.Sequential(nn.Linear(D, 3), nn.Tanh(), nn.Linear(3, 3), nn.Sigmoid())
    with Tracer(model, data=data(), look=["1", "3"], estimators=[Reach(hashed=hashed)]) as tracer:
        pass
    bits = tracer.trace.frame().groupby("layer")["bits"].unique()
    assert {layer: values.tolist() for layer, values in bits.items()} == {"1": [2.0], "3": [1.0]}
