"""A lens reads its quantities in their units at the looks of a trace, and disturbs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture.networks import Stacked
from ibtrace.capture.view import NetworkView
from ibtrace.ensemble import Ensemble
from ibtrace.errors import ConfigError, InvalidInput, LensFailed, UnknownName
from ibtrace.lenses import Saturation, make
from ibtrace.models import MLP
from ibtrace.probe import Probe
from ibtrace.runtime.schedule import Every, Steps
from ibtrace.trace import READING_COLUMNS, Trace
from ibtrace.tracer import At, Keep, Tracer
from ibtrace.tracer._lenses import Lenses
from ibtrace.tracer._schedules import scheduled_lenses
from ibtrace.types import I_XT, LensTags, ProbeLike, Quantity, Reading, Row, View
from tests.arguments import grouped

N = 24
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
Found = Mapping[str, Mapping[str, Reading]]


def net(activation: Callable[[], nn.Module] = nn.Tanh, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), activation(), nn.Linear(5, 2))


def images() -> tuple[Tensor, nn.Module]:
    torch.manual_seed(0)
    x = torch.randn(N, 1, 6, 6)
    layers = nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2)
    return x, nn.Sequential(*layers)


def train(model: nn.Module, *, epochs: int = 3, tracer: Tracer | None = None) -> list[Tensor]:
    """A training whose batches and dropout come from the global generator; its losses."""
    optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)
    lost = []
    for epoch in range(1, epochs + 1):
        rows = torch.randperm(N)[:16]
        loss = nn.functional.cross_entropy(model(X[rows]), Y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lost.append(loss.detach())
        if tracer is not None:
            tracer.snapshot(epoch)
    return lost


def traced(lens: Any, model: nn.Module | None = None, **arguments: Any) -> Trace:
    model = net() if model is None else model
    given: dict[str, Any] = {"estimators": "exact", "every": 1, **arguments}
    with Tracer(model, data=(X, Y), lenses=lens, **grouped(**given)) as tracer:
        train(model, tracer=tracer)
    return tracer.trace


def values(trace: Trace, quantity: str) -> dict[tuple[int, int, str], float]:
    """``{(seed, epoch, layer): value}`` of one quantity."""
    frame = trace.readings().query("quantity == @quantity")
    keys = zip(frame["seed"], frame["epoch"], frame["layer"], strict=True)
    return dict(zip(keys, frame["value"], strict=True))


# --- saturation ---------------------------------------------------------------------------------


def view_of(t: Tensor, ends: tuple[float, float] | None) -> NetworkView:
    """A view with one layer ``t``, ``(s, n, ...)``, of this range."""
    none = {name: torch.zeros(len(t), 1) for name in ("weight",)}
    template = nn.Module()
    template.weight = nn.Parameter(torch.zeros(1))
    return NetworkView(
        Stacked(template, none, {}, range(len(t))),
        Probe(X, Y),
        activations={"t": t},
        activation_ranges={"t": ends},
    )


def saturation(t: Tensor, ends: tuple[float, float] | None, share: float = 0.9) -> Found:
    return Saturation(share)(view_of(t, ends), Probe(X, Y))


def test_saturation_by_hand() -> None:
    t = torch.tensor([[[0.95, 0.0], [-0.95, 0.0], [0.5, 0.0], [0.91, 0.0]]])
    found = saturation(t, (-1.0, 1.0))
    share = found["saturated share"]["t"]
    assert share.value.tolist() == [3 / 8]
    # the samples' own shares are 1/2, 1/2, 0, 1/2: their spread is 1/4, over the root of 4
    assert share.stderr.tolist() == pytest.approx([1 / 8])
    assert found["dead share"]["t"].value.tolist() == [1 / 2]
    assert share.unit == found["dead share"]["t"].unit == "1"


@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.0, 1.0), (-2.0, 6.0)])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("shape", [(2, 7, 5), (1, 9), (3, 4, 2, 3, 3)])
def test_saturation_against_its_naive_twin(
    ends: tuple[float, float], share: float, shape: tuple[int, ...]
) -> None:
    low, high = ends
    t = low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(1))
    t.reshape(*shape[:2], -1)[:, :, 0] = low
    found = saturation(t, ends, share)
    for s, network in enumerate(t):
        near, dead = [], []
        for unit in network.reshape(shape[1], -1).T.tolist():
            near += [min(v - low, high - v) < (1 - share) * (high - low) / 2 for v in unit]
            dead.append(len(set(unit)) == 1)
        assert float(found["saturated share"]["t"].value[s]) == pytest.approx(np.mean(near))
        assert float(found["dead share"]["t"].value[s]) == pytest.approx(np.mean(dead))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"Saturation: share must .*, got"):
        Saturation(share)


@pytest.mark.parametrize(
    ("activation", "ends"),
    [(nn.Tanh, (-1, 1)), (nn.Sigmoid, (0, 1)), (nn.Hardtanh, (-1, 1)), (nn.ReLU, None)],
)
def test_what_is_traced_is_the_layers_own(
    activation: Callable[[], nn.Module], ends: tuple[float, float] | None
) -> None:
    model = net(activation)
    trace = traced(Saturation(0.3), model)
    with torch.no_grad():
        t = model[1](model[0](X)).double()
    layer = trace.layers[0]
    dead = (t == t[:1]).all(0).double().mean()
    assert values(trace, "dead share")[0, 3, layer] == pytest.approx(float(dead))
    shares = values(trace, "saturated share")
    if ends is None:
        assert not [key for key in shares if key[2] == layer]
    else:
        middle, half = sum(ends) / 2, (ends[1] - ends[0]) / 2
        near = ((t - middle).abs() > 0.3 * half).double().mean()
        assert shares[0, 3, layer] == pytest.approx(float(near))


def test_a_dead_unit_is_seen() -> None:
    model = net(nn.ReLU)
    with torch.no_grad():
        next(model.children()).get_parameter("bias")[:3] = -100.0
    with Tracer(model, data=(X, Y), lenses="saturation", estimators="exact") as tracer:
        pass
    assert values(tracer.trace, "dead share")[0, 0, tracer.trace.layers[0]] == 3 / 5


def test_units_of_a_convolution_are_those_of_t() -> None:
    x, model = images()
    conv, tanh = model.get_submodule("0"), model.get_submodule("1")
    with Tracer(model, (x, Y), lenses=Saturation(0.3), estimators="exact") as tracer:
        pass
    with torch.no_grad():
        t = tanh(conv(x))
    layer = tracer.trace.layers[0]
    pooled = (t.mean((2, 3)).abs() > 0.3).double().mean()  # T is averaged over positions by default
    share = values(tracer.trace, "saturated share")
    assert share[0, 0, layer] == pytest.approx(float(pooled))
    assert abs(float(pooled) - float((t.abs() > 0.3).double().mean())) > 0.1


def test_an_ensemble_has_the_numbers_of_each_network() -> None:
    def build(seed: int) -> nn.Module:
        return MLP((3, 6, 4, 2), "tanh", generator=torch.Generator().manual_seed(seed))

    networks = Ensemble(build, seeds=[4, 2])
    with Tracer(networks, (X, Y), lenses=Saturation(0.3), estimators="exact") as together:
        pass
    for seed in (4, 2):
        with Tracer(
            build(seed), (X, Y), lenses=Saturation(0.3), estimators="exact", seed=seed
        ) as alone:
            pass
        for quantity in ("saturated share", "dead share"):
            of_all = {k: v for k, v in values(together.trace, quantity).items() if k[0] == seed}
            assert of_all == pytest.approx(values(alone.trace, quantity))
            assert of_all


# --- lenses of one's own ------------------------------------------------------------------------

NORM = Quantity("gradient norm", "nats", "network")
HEIGHT = Quantity("largest value", "V")


@dataclass(frozen=True)
class Own:
    """Something of every layer in volts, by a function that a test gives.

    Args:
        read: What it returns.
        name: Tells several apart.
    """

    read: Callable[[View], Any]
    name: str = "own"

    tags: ClassVar[LensTags] = LensTags((HEIGHT, NORM), "a test", frozenset({"activations"}))

    @property
    def label(self) -> str:
        return f"Own({self.name})"

    def __call__(self, view: View, probe: ProbeLike, *, seed: int = 0) -> Any:
        return self.read(view)


@dataclass(frozen=True)
class Everything:
    """Asks for whatever a view has, and draws from the global generator."""

    tags: ClassVar[LensTags] = LensTags(
        (NORM, Quantity("curvature", "nats", "network")),
        "a test",
        frozenset({"loss", "gradient", "jacobian", "hessian"}),
    )

    def __call__(self, view: View, probe: ProbeLike, *, seed: int = 0) -> Found:
        torch.rand(3)
        np.random.rand(3)
        _ = view.losses, view.sample_gradients, view.jacobian, view.outputs
        gradient = view.gradient
        product = view.hessian_product(gradient)
        curvature = sum((gradient[n] * product[n]).flatten(1).sum(1) for n in gradient)
        norm = sum(value.square().flatten(1).sum(1) for value in gradient.values())
        assert isinstance(norm, Tensor)
        assert isinstance(curvature, Tensor)
        return {
            "gradient norm": {"": Reading(norm.sqrt(), "nats")},
            "curvature": {"": Reading(curvature, "nats")},
        }


def heights(view: View) -> Found:
    of_layers = {n: Reading(t.flatten(1).amax(1), "V") for n, t in view.activations.items()}
    return {"largest value": of_layers}


def test_a_quantity_of_ones_own_has_its_unit_through_the_trace(tmp_path: Path) -> None:
    trace = traced([Own(heights)], run=tmp_path)
    frame = Trace.load(tmp_path).readings()
    assert frame.columns.tolist() == [*READING_COLUMNS]
    found = frame.query("quantity == 'largest value'")
    assert set(found["unit"]) == {"V"}
    assert set(found["instrument"]) == {"Own(own)"} == set(trace.lenses)
    assert found["layer"].unique().tolist() == trace.layers
    assert found["epoch"].unique().tolist() == [0, 1, 2, 3]
    assert set(frame.query("instrument == 'Exact'")["unit"]) == {"bits"}


def test_lenses_add_no_row_to_the_information() -> None:
    plain, seen = traced(()), traced(["saturation", Everything()], loss="cross_entropy")
    columns = plain.frame().columns.drop("seconds")
    assert plain.frame()[columns].equals(seen.frame()[columns])
    assert seen.estimators == ["Exact"]
    assert seen.lenses == ["Saturation", "Everything"]
    assert len(seen.readings()) > len(plain.readings())


BAD: list[tuple[str, Callable[[View], Any], str]] = [
    ("raises", lambda view: 1 / 0, "ZeroDivisionError: division by zero"),
    ("unknown", lambda view: {"x": {"": _reading(view)}}, "it reads 'x', which its tags do not"),
    ("unit", lambda view: {"largest value": {"1": _reading(view, "m")}}, "is in 'V', and was 'm'"),
    (
        "shape",
        lambda view: {"largest value": {"1": Reading(torch.zeros(7), "V")}},
        "largest value must be one number a network, got shape (7,)",
    ),
    (
        "network for a layer",
        lambda view: {"gradient norm": {"1": _reading(view, "nats")}},
        "gradient norm is per network, and was read of '1'",
    ),
    (
        "layer for a network",
        lambda view: {"largest value": {"": _reading(view)}},
        "largest value is per layer, and was read of ''",
    ),
    (
        "no layer",
        lambda view: {"largest value": {"nowhere": _reading(view)}},
        "largest value was read of 'nowhere', no layer that is traced",
    ),
    ("no mapping", lambda view: 3.0, "got 3.0"),
    ("no reading", lambda view: {"largest value": {"1": 3.0}}, "got 3.0"),
]


def _reading(view: View, unit: str = "V") -> Reading:
    return Reading(torch.zeros(len(view.seeds)), unit)


@pytest.mark.parametrize(("name", "read", "reason"), BAD, ids=[name for name, *_ in BAD])
def test_a_lens_that_fails_says_why_once_and_stops_nothing(
    name: str, read: Callable[[View], Any], reason: str
) -> None:
    with pytest.warns(LensFailed) as said:
        trace = traced([Own(read, name), "saturation"])
    assert len(said) == 1
    assert reason in str(said[0].message)
    assert f"Own({name})" in str(said[0].message)
    assert reason in trace.meta["lenses_failed"][f"Own({name})"]
    assert trace.lenses == ["Saturation"]
    assert set(trace.readings()["epoch"]) == {0, 1, 2, 3}
    assert set(trace.frame()["epoch"]) == {0, 1, 2, 3}


def test_a_loss_that_nobody_gave_is_asked_for() -> None:
    with pytest.warns(LensFailed, match=r'Everything gives nothing: .* loss="cross_entropy"'):
        traced([Everything()])


def test_one_look_that_fails_leaves_the_others() -> None:
    def at_two(view: View) -> Found:
        if view.epoch == 2:
            raise ValueError("two")
        return heights(view)

    with pytest.warns(LensFailed, match="two"):
        trace = traced([Own(at_two)])
    assert set(trace.readings().query("quantity == 'largest value'")["epoch"]) == {0, 1, 3}


def test_a_number_that_is_none_is_kept_as_what_it_is() -> None:
    def nothing(view: View) -> Found:
        return {"largest value": {"1": Reading(torch.full((1,), torch.nan), "V")}}

    found = values(traced([Own(nothing)]), "largest value")
    assert len(found) == 4
    assert all(np.isnan(value) for value in found.values())


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (["saturation", Saturation()], InvalidInput, "two are called Saturation; drop one"),
        ("saturate", UnknownName, "no lens is called 'saturate'; there are: .*saturation"),
        ([Saturation], ConfigError, "neither a name nor a lens"),
        (["binning"], UnknownName, "no lens is called 'binning'"),
        ([At("saturation", every=Steps(2))], ConfigError, "the trace counts epochs"),
    ],
)
def test_what_is_no_lens_is_refused(given: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Tracer(net(), (X, Y), lenses=given)


def test_two_lenses_that_mean_different_things_by_one_name_are_refused() -> None:
    @dataclass(frozen=True)
    class Metres(Everything):
        tags: ClassVar[LensTags] = LensTags((Quantity("largest value", "m"),), "a test")

    with pytest.raises(InvalidInput, match=r"Own\(a\) and Metres both read largest value, as "):
        Tracer(net(), (X, Y), lenses=[Own(heights, "a"), Metres()])
    # two of one kind mean the same
    Tracer(net(), (X, Y), lenses=[Saturation(0.9), Saturation(0.5)], estimators="exact")


def test_a_lens_of_information_is_refused() -> None:
    @dataclass(frozen=True)
    class Informer(Everything):
        tags: ClassVar[LensTags] = LensTags((Quantity(I_XT, "bits"),), "a test")

    with pytest.raises(InvalidInput, match=r"Informer reads I\(X;T\), which is what estimators"):
        Tracer(net(), (X, Y), lenses=Informer())


def test_diagnostics_follow_the_readings_where_they_are_asked_for() -> None:
    def with_samples(view: View) -> Found:
        counted = torch.tensor(view.samples)
        seen = Reading(torch.ones(len(view.seeds)), "V", diagnostics={"samples": counted})
        return {"largest value": dict.fromkeys(view.activations, seen)}

    trace = traced([Own(with_samples)])
    assert trace.readings().columns.tolist() == [*READING_COLUMNS]
    frame = trace.readings(diagnostics=True)
    assert frame.columns.tolist()[: len(READING_COLUMNS)] == [*READING_COLUMNS]
    read = frame["quantity"] == "largest value"
    assert set(frame.loc[read, "samples"]) == {float(trace.meta["n"])}
    logged = trace.readings()["instrument"] == ""
    assert frame.loc[logged, "samples"].isna().all()


# --- when ---------------------------------------------------------------------------------------


def test_a_lens_may_have_a_schedule_of_its_own() -> None:
    trace = traced([At("saturation", every=[2]), Own(heights)])
    frame = trace.readings()
    # the last epoch is measured in any case
    assert set(frame.query("quantity == 'dead share'")["epoch"]) == {0, 2, 3}
    assert set(frame.query("quantity == 'largest value'")["epoch"]) == {0, 1, 2, 3}


def test_a_lens_alone_is_due_where_no_estimator_is() -> None:
    trace = traced([At("saturation", every=[2])], every=[3])
    assert set(trace.readings().query("quantity == 'dead share'")["epoch"]) == {0, 2, 3}
    assert set(trace.frame()["epoch"]) == {0, 3}


def test_steps_count_for_lenses_too() -> None:
    model = net()
    with Tracer(model, (X, Y), lenses="saturation", estimators="exact", every=Steps(2)) as tracer:
        for step in range(1, 6):
            tracer.snapshot(0, step=step)
    frame = tracer.trace.readings().query("quantity == 'dead share'")
    assert frame["step"].unique().tolist() == [0, 2, 4, 5]


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    model = net()
    given: dict[str, Any] = {"lenses": "saturation", "estimators": "exact", "every": 1}
    with Tracer(model, (X, Y), keep=tmp_path, **given) as tracer:
        tracer.snapshot(1)
    with Tracer(model, (X, Y), keep=Keep(run=tmp_path, resume=True), **given) as tracer:
        tracer.snapshot(1)
        tracer.snapshot(2)
    epochs = [epoch for _, epoch, _ in values(tracer.trace, "dead share")]
    assert epochs == [0, 0, 1, 1, 2, 2]
    assert tracer.trace.lenses == ["Saturation"]


def test_sinks_take_readings() -> None:
    class Kept:
        def __init__(self) -> None:
            self.rows: list[Row] = []

        def write(self, trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]) -> None:
            self.rows += rows

        def close(self, trace: Trace, failed: bool) -> None:
            """Nothing."""

    sink = Kept()
    trace = traced([Own(heights)], sinks=sink)
    taken = [(row.epoch, row.layer, row.value, row.unit) for row in sink.rows if row.unit == "V"]
    frame = trace.readings().query("quantity == 'largest value'")
    assert taken == list(
        zip(frame["epoch"], frame["layer"], frame["value"], frame["unit"], strict=True)
    )
    assert taken


# --- nothing is disturbed -----------------------------------------------------------------------


class Stateful(nn.Sequential):
    """Dropout draws, normalisation counts, a hook and a gradient are there to be disturbed."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 2)
        super().__init__(*layers)


def test_training_is_the_same_bit_for_bit() -> None:
    plain, seen = Stateful(), Stateful()
    torch.manual_seed(7)
    lost = train(plain)
    state = torch.get_rng_state()
    torch.manual_seed(7)
    given: dict[str, Any] = {"lenses": [Everything(), "saturation"], "loss": "cross_entropy"}
    with Tracer(seen, (X, Y), every=1, estimators="exact", **given) as tracer:
        assert all(map(torch.equal, lost, train(seen, tracer=tracer)))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in seen.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name
    for one, other in zip(seen.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)
    assert seen.training
    assert not seen._forward_hooks
    assert len(values(tracer.trace, "curvature")) == 4


def test_what_is_read_is_the_gradients_own_norm() -> None:
    model = net()
    with Tracer(
        model, (X, Y), lenses=Everything(), loss="cross_entropy", estimators="exact"
    ) as tracer:
        pass
    nn.functional.cross_entropy(model(X), Y).backward()
    norm = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
    assert values(tracer.trace, "gradient norm") == {(0, 0, ""): pytest.approx(norm**0.5)}


def test_a_dear_lens_is_foreseen_at_the_looks_that_it_takes() -> None:
    every = Every(2)
    scheduled = Lenses(scheduled_lenses(["saturation", "curvature"], every)).schedules()
    assert [turn for _, turn in scheduled.values()] == [1, make("curvature").tags.looks]
    assert all(when is every for when, _ in scheduled.values())
