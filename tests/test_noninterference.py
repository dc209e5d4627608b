"""A traced training is the untraced one, bit for bit, whatever the model does in its forward."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from ibtrace import lenses
from ibtrace.capture import Recipe, snapshot
from ibtrace.errors import LeftOut, LensFailed
from ibtrace.estimators import Binning
from ibtrace.probe import Probe
from ibtrace.runtime.wrappers import unwrap
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Tracer
from ibtrace.types import Estimate, Estimator, Row, Tags
from tests import zoo
from tests.arguments import grouped
from tests.zoo import ZOO, Case, Run

N = 24
SCRIPTED = {
    *("mlp", "resnet", "lstm", "encoder", "dropouts", "frozen norm", "bounded embedding"),
    *("loader", "autocast", "channels last", "shrinking unroll", "growing unroll"),
    *("channels-last blocks", "two masks", "experts", "functional", "vae"),
}
COPIED = set(ZOO) - {"spectral norm", "locked dict"}

every_model = pytest.mark.parametrize("name", ZOO)
pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.*` is deprecated:DeprecationWarning",
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",  # workers, from Python 3.12 on
)


@dataclass
class Watch:
    """Traces the training that it is given to: a snapshot of the fresh model, one after each step.

    Args:
        case: Gives the probe.
        arguments: Further arguments of the tracer.
    """

    case: Case
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tracer: Tracer = field(init=False)
    optimizer: torch.optim.Optimizer | None = None

    def begun(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def __call__(self, model: nn.Module, step: int) -> None:
        data = zoo.loader(self.case, N) if self.case.loader else self.case.data(N)
        with unmarked(model), warnings.catch_warnings(record=True) as said:
            for kind in (LeftOut, LensFailed):
                warnings.simplefilter("always", kind)
            if step:
                self.tracer.snapshot(step)
            else:
                given = {"layers": self.case.layers, "every": 1, "batch_size": N // 2}
                given |= {"estimators": ["binning", "ksg"], **self.arguments}
                if self.optimizer is not None:
                    given["recipe"] = Recipe(data, data, self.optimizer, batch_size=4)
                self.tracer = Tracer(model, data, **grouped(**given))
        left_out = " ".join(str(w.message) for w in said if issubclass(w.category, LeftOut))
        assert bool(left_out) == (bool(self.case.left_out) and not step)
        assert all(name in left_out for name in self.case.left_out if not step)


@contextmanager
def unmarked(model: nn.Module) -> Iterator[None]:
    """Assert that what happens inside, an error included, changes nothing that can be seen."""

    def seen() -> tuple[Any, ...]:
        return zoo.marks(model), zoo.generators(), zoo.settings()

    before = seen()
    try:
        yield
    finally:
        for was, now in zip(before, seen(), strict=True):
            assert now == was


@cache
def untraced(name: str) -> Run:
    return zoo.train(ZOO[name])


@cache
def traced(name: str) -> tuple[Run, Trace]:
    watch = Watch(ZOO[name])
    run = zoo.train(ZOO[name], watch)
    return run, watch.tracer.trace


@every_model
def test_training_is_the_same_with_and_without_a_tracer(name: str) -> None:
    run, trace = traced(name)
    assert zoo.differences(run, untraced(name)) == set()
    frame = trace.frame()
    assert set(frame.epoch) == {0, 1, 2, 3}
    assert frame.estimator.nunique() == 2
    assert frame.bits.notna().all()


@every_model
def test_what_is_compared_repeats_and_is_moved_by_training(name: str) -> None:
    run = zoo.train(ZOO[name])
    assert zoo.differences(run, untraced(name)) == set()
    assert zoo.marks(ZOO[name].model()) != zoo.marks(run.model)
    assert len(set(run.losses)) == 3


@pytest.mark.slow
@every_model
def test_training_is_the_same_with_every_lens(name: str) -> None:
    arguments = {"estimators": "binning", "lenses": lenses.names(), "loss": "cross_entropy"}
    watch = Watch(ZOO[name], arguments)
    run = zoo.train(ZOO[name], watch, watch.begun)
    assert zoo.differences(run, untraced(name)) == set()
    trace = watch.tracer.trace
    failed = trace.meta["lenses_failed"]
    if find_spec("ripser") is None:  # the extra 'topology' is not installed
        assert failed.pop("Topology").startswith("MissingDependency: ")
    assert [reason for reason in failed.values() if not reason.startswith("Unsupported: ")] == []
    assert len(failed) < len(lenses.names()) / 2


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("dropouts", "generators"),
        ("noisy", "generators"),
        ("noisy", "/generator"),
        ("bookkeeping", "/calls"),
        ("bookkeeping", "/history"),
        ("bookkeeping", "/sums"),
        ("bookkeeping", "/total"),
        ("bookkeeping", "/_buffers"),
        ("spectral norm", "fc1/weight"),
        ("lora", "0/_parameters"),
        ("bounded embedding", "words/_parameters"),
    ],
)
def test_a_look_as_people_write_it_by_hand_leaves_this_mark(name: str, mark: str) -> None:
    def look(model: nn.Module, _step: int) -> None:
        model.eval()
        with torch.no_grad():
            zoo.logits(model, ZOO[name].inputs(N))
        model.train()

    assert mark in zoo.differences(zoo.train(ZOO[name], look), untraced(name))


@pytest.mark.parametrize("name", ["resnet", "lstm", "bert", "dropouts", "frozen norm"])
def test_a_model_in_training_is_seen_in_eval_mode(name: str) -> None:
    case = ZOO[name]
    training, evaluated = case.model(), case.model().eval()
    probe = Probe(*case.data(N))
    found, expected = (snapshot(m, probe, case.layers) for m in (training, evaluated))
    assert training.training
    assert zoo.plain(found) == zoo.plain(expected)


def _pickled(model: nn.Module) -> nn.Module:
    copied: nn.Module = pickle.loads(pickle.dumps(model))
    return copied


def _scripted(model: nn.Module) -> nn.Module:
    script: nn.Module = torch.jit.script(copy.deepcopy(model))  # it marks what it is given
    return script


@every_model
@pytest.mark.parametrize(
    ("again", "able"),
    [(_pickled, COPIED), (copy.deepcopy, COPIED), (_scripted, SCRIPTED)],
    ids=["pickle", "deepcopy", "script"],
)
def test_a_model_still_pickles_copies_and_scripts_if_it_did(
    name: str, again: Callable[[nn.Module], nn.Module], able: set[str]
) -> None:
    (run, _), plain = traced(name), untraced(name)
    if again is _scripted and isinstance(run.model, zoo.Siamese):
        pytest.skip("torch.jit gives another error each time")
    if name not in able:
        with pytest.raises(Exception, match=r".") as refused:
            again(plain.model)
        with pytest.raises(type(refused.value)):
            again(run.model)
        return
    state = zoo.plain(again(run.model).state_dict())
    assert state == zoo.plain(again(plain.model).state_dict()) == zoo.plain(run.model.state_dict())


@every_model
def test_no_graph_and_no_activation_outlives_a_snapshot(name: str) -> None:
    case = ZOO[name]
    with case.around():
        watch, model = Watch(case), case.model()
        watch(model, 0)
        gc.freeze()  # what is there already is passed over
        try:
            watch(model, 1)
            gc.collect()
            new = [tuple(thing.shape) for thing in gc.get_objects() if isinstance(thing, Tensor)]
        finally:
            gc.unfreeze()
    assert new == []
    assert all(parameter.grad is None for parameter in model.parameters())


# --- torch.compile ---------------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [False, True])
def test_snapshots_compile_nothing(in_place: bool) -> None:
    from torch._dynamo.testing import CompileCounter

    def graphs(after: Callable[[Case], Callable[[nn.Module, int], None]]) -> int:
        counter: Any = CompileCounter()
        case = replace(ZOO["resnet"], build=partial(zoo.compiled, counter, zoo.ResNet, in_place))
        zoo.train(case, after(case))
        return int(counter.frame_count)

    assert graphs(Watch) == graphs(lambda _: lambda *_: None) > 0


def test_a_model_may_be_compiled_in_place_between_snapshots() -> None:
    case = ZOO["resnet"]

    def compiling(look: Callable[[nn.Module, int], None]) -> Run:
        def after(model: nn.Module, step: int) -> None:
            if step == 1:
                model.compile(backend="eager")
            look(model, step)

        torch._dynamo.reset()
        return zoo.train(case, after)

    watch = Watch(case)
    assert zoo.differences(compiling(watch), compiling(lambda *_: None)) == set()
    assert set(watch.tracer.trace.frame().epoch) == {0, 1, 2, 3}


def test_training_with_a_compiled_backward_is_the_same() -> None:
    case = replace(ZOO["resnet"], build=partial(zoo.compiled, "aot_eager", zoo.ResNet))
    watch = Watch(case)
    assert zoo.differences(zoo.train(case, watch), zoo.train(case)) == set()
    assert set(watch.tracer.trace.frame().epoch) == {0, 1, 2, 3}


# --- errors ----------------------------------------------------------------------------------


class BrokenOnPurpose(Exception):
    """What the tests raise."""


class Trap:
    """Raises when it is armed, as a forward hook, an estimator or a sink of the user."""

    tags: ClassVar[Tags] = Binning().tags
    estimand = "none"

    def __init__(self) -> None:
        self.armed = False

    def spring(self) -> None:
        if self.armed:
            raise BrokenOnPurpose

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # untyped in torch
    def hook(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self.spring()

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        self.spring()
        return Binning()(x, y, seed=seed)

    def write(self, trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]) -> None:
        self.spring()

    def close(self, trace: Trace, failed: bool) -> None:
        self.spring()


def springing(case: Case, trap: Trap, run: Path, **arguments: Any) -> Run:
    """A training whose snapshot after the second step ends in the trap's error."""
    watch = Watch(case, {"run": run, **arguments})

    def after(model: nn.Module, step: int) -> None:
        trap.armed = step == 2
        if not trap.armed:
            watch(model, step)
            return
        with pytest.raises(BrokenOnPurpose):
            watch(model, step)
        trap.armed = False

    return zoo.train(case, after)


@every_model
def test_an_error_in_the_users_forward_leaves_model_and_trace_as_they_were(
    name: str, tmp_path: Path
) -> None:
    trap = Trap()

    def build() -> nn.Module:
        model = ZOO[name].build()
        unwrap(model).register_forward_hook(trap.hook)
        return model

    case = replace(ZOO[name], build=build)
    run = springing(case, trap, tmp_path)
    assert zoo.differences(run, zoo.train(case)) == set()
    assert set(Trace.load(tmp_path).frame().epoch) == {0, 1, 3}


@pytest.mark.parametrize("name", ["dropouts", "bookkeeping", "gpt2"])
@pytest.mark.parametrize("place", ["estimator", "sink"])
def test_an_error_in_an_estimator_or_a_sink_leaves_model_and_trace_as_they_were(
    name: str, place: str, tmp_path: Path
) -> None:
    trap = Trap()
    estimators: list[str | Estimator] = ["binning", trap]
    given = {"estimators": estimators} if place == "estimator" else {"keep": Keep(sinks=[trap])}
    run = springing(ZOO[name], trap, tmp_path, **given)
    assert zoo.differences(run, untraced(name)) == set()
    frame = Trace.load(tmp_path).frame()
    written = {0, 1, 3} if place == "estimator" else {0, 1, 2, 3}  # sinks come after the trace
    assert set(frame.epoch) == written
    assert frame.groupby("epoch").size().nunique() == 1
