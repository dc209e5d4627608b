"""A wrong value is refused at once by the name of its argument, and by no foreign error.

A table of every argument: what it takes, so that all other values of `VALUES` have to be refused.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ibtrace
from ibtrace import At, Dataset, Ensemble, Keep, Look, Probe, Recipe, Rule, Subsampled, Tracer
from ibtrace.errors import ConfigError, IbtraceError, InvalidInput, UnknownName
from ibtrace.runtime.schedule import schedule
from ibtrace.training.config import build
from ibtrace.training.configs import KEYS

X, Y = torch.randn(16, 3, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh())


VALUES: dict[str, Any] = {
    "None": None,
    "True": True,
    "0": 0,
    "3": 3,
    "-3": -3,
    "2.5": 2.5,
    "2**70": 2**70,
    "nan": float("nan"),
    "text": "yes",
    "bytes": b"yes",
    "list": [],
    "mapping": {},
    "mapping of numbers": {1: 2},
    "mixed": [object(), 2.5],
    "object": object(),
    "class": nn.Linear,
    "tensor": torch.ones(3),
    "array": np.ones((2, 2)),
}
FLAG, COUNT, SEED = {"True"}, {"3"}, {"0", "3"}
LARGE = COUNT | {"2**70"}

TABLE: dict[Any, dict[str, tuple[set[str], str]]] = {
    Look: {
        "layers": ({"None", "text", "class"}, "layers"),
        "exclude": ({"text", "class", "list"}, "exclude"),
        "reduce": ({"None", "mapping"}, "reduc"),
        "functional": (FLAG | {"text", "list"}, "functional"),
        "forward": ({"None"}, "forward"),
        "batch_size": (LARGE, "batch_size"),
        "max_bytes": (LARGE | {"None"}, "max_bytes"),
        "max_width": (LARGE | {"None"}, "max_width"),
        "initial": (FLAG, "initial"),
        "sharded": (FLAG, "sharded"),
    },
    Keep: {
        "run": ({"None", "text"}, "keep: run"),
        "activations": (FLAG, "keep: activations"),
        "resume": (FLAG, "keep: resume"),
        "meta": ({"mapping"}, "keep: meta"),
        "sinks": ({"list"}, "keep: sinks"),
    },
    Tracer: {
        "model": (set(), "model"),
        "data": ({"tensor"}, "Probe|probe"),
        "estimators": ({"None", "list"}, "estimator"),
        "lenses": ({"list"}, "lens"),
        "every": (LARGE | {"None", "tensor"}, "every"),
        "look": ({"None", "class"}, "layer"),
        "keep": ({"None", "text"}, "keep"),
        "loss": ({"None"}, "loss"),
        "recipe": ({"None"}, "recipe"),
        "seed": (SEED, "seed"),
    },
    Recipe: {
        "data": ({"None", "tensor", "array"}, "Probe"),
        "test": ({"None", "tensor", "array"}, "Probe"),
        "optimizer": ({"None"}, "optimizer"),
        "batch_size": (LARGE | {"None"}, "batch_size"),
        "random": (FLAG, "random"),
        "twins": ({"None"}, "twins"),
    },
    Probe: {
        "x": (set(), "Probe: x"),
        "y": ({"None"}, "Probe: .*y"),
        "classes": ({"None", "0", "3", "2**70", "mixed"}, "classes"),
        "whole": ({"list"}, "whole"),
        "population": (FLAG, "population"),
        "padding": ({"None", "mapping"}, "padding"),
        "sources": ({"None"}, "source"),
    },
    Probe.of: {"data": ({"tensor", "array"}, "Probe"), "n": ({"None", "3"}, "n must|lower n")},
    Probe.draw: {
        "x": (set(), "Probe: x"),
        "y": ({"None"}, "Probe: .*y"),
        "n": (COUNT, "n must|lower n"),
        "seed": (SEED, "seed"),
        "classes": ({"None", "0", "3", "2**70", "mixed"}, "classes"),
    },
    Dataset: {
        "name": ({"text"}, "name"),
        "x": (set(), "Dataset mine: x"),
        "y": (set(), "Dataset mine: .*y"),
        "classes": ({"None", "0", "3", "2**70"}, "classes"),
        "class_names": ({"None", "mixed"}, "class"),
        "population": (FLAG, "population"),
        "clean": ({"None"}, "clean labels"),
        "targets": ({"mapping"}, "targets"),
        "sources": ({"mapping"}, "sources"),
    },
    Ensemble: {
        "build": ({"class"}, "build"),  # which may take a seed
        "seeds": (set(), "seeds"),
        "fast": (FLAG, "fast"),
    },
    Subsampled: {
        "estimator": (set(), "estimator"),
        "samples": (LARGE, "samples"),
        "seed": (SEED, "seed"),
    },
    At: {"instrument": ({"text"}, "instrument"), "every": (LARGE | {"tensor"}, "every")},
    ibtrace.Steps: {"every": (LARGE | {"None", "tensor"}, "every")},
    ibtrace.log_spaced: {
        "total": (COUNT | {"None"}, "total"),
        "count": (COUNT | {"None"}, "count"),
    },
    Rule: {
        field.name: ({"0", "3", "2.5", "2**70"}, field.name)
        if field.name in ("least_drop", "errors")
        else (LARGE if field.name == "least_seeds" else {"0"}, field.name)
        for field in dataclasses.fields(Rule)
    },
    ibtrace.information: {
        "estimator": (set(), "estimator"),
        "t": (set(), "information"),
        "probe": (set(), "probe"),
        "seed": (SEED, "seed"),
    },
    ibtrace.compare: {
        "estimators": ({"None"}, "estimators?"),
        "problems": ({"None"}, "problems?"),
        "n": (LARGE, "compare: n"),
        "seeds": (COUNT, "compare: seeds"),
        "jobs": (LARGE, "compare: jobs"),
        "progress": ({"None"}, "compare: progress"),
        "on_row": ({"None"}, "compare: on_row"),
    },
    ibtrace.layers: {
        "model": (set(), "model"),
        "data": ({"tensor"}, "Probe|probe"),
        "look": ({"None", "text", "class"}, "layer"),
    },
    ibtrace.snapshot: {
        "model": (set(), "model"),
        "probe": (set(), "probe"),
        "look": ({"None", "class"}, "layer"),
    },
    ibtrace.verdict: {"trace": (set(), "trace"), "rule": ({"None"}, "rule")},
    ibtrace.Trace.load: {"run": (set(), "run|trace.sqlite")},
    ibtrace.Trace.create: {
        "run_dir": ({"None", "text"}, "run_dir"),
        "meta": ({"None", "mapping"}, "meta"),
    },
    ibtrace.estimators.make: {"name": (set(), "estimator")},
    ibtrace.lenses.make: {"name": (set(), "lens")},
    ibtrace.problems.make: {"name": (set(), "problem")},
    Tracer.from_checkpoints: {
        "model": (set(), "model|checkpoint"),
        "paths": (set(), "checkpoint"),
    },
}
RIGHT: dict[Any, Callable[[], dict[str, Any]]] = {
    Keep: lambda: {"run": "anywhere"},
    Tracer: lambda: {"model": network(), "data": (X, Y), "estimators": "exact"},
    Probe: lambda: {"x": X, "y": Y},
    Probe.of: lambda: {"data": (X, Y)},
    Probe.draw: lambda: {"x": X, "y": Y, "n": 4},
    Dataset: lambda: {"name": "mine", "x": X, "y": Y},
    Ensemble: lambda: {"build": lambda seed: network(), "seeds": [0]},
    At: lambda: {"instrument": "exact", "every": 1},
    ibtrace.information: lambda: {
        "estimator": ibtrace.estimators.make("exact"),
        "t": X,
        "probe": Probe(X, Y),
    },
    ibtrace.compare: lambda: {
        "estimators": ["exact"],
        "problems": ["1v1-normal-0.75"],
        "n": 20,
        "seeds": 1,
    },
    ibtrace.layers: lambda: {"model": network(), "data": X},
    ibtrace.snapshot: lambda: {"model": network(), "probe": Probe(X, Y)},
    ibtrace.verdict: lambda: {"trace": Tracer(network(), (X, Y), estimators="exact").trace},
    Tracer.from_checkpoints: lambda: {"model": network(), "paths": "no/*.pt", "data": (X, Y)},
}
CASES = [
    pytest.param(who, argument, value, id=f"{who.__qualname__}-{argument}-{value}")
    for who, arguments in TABLE.items()
    for argument, (taken, _) in arguments.items()
    for value in VALUES
    if value not in taken
]


@pytest.mark.parametrize(("who", "argument", "value"), CASES)
def test_a_wrong_value_is_refused_by_the_name_of_its_argument(
    who: Any, argument: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = RIGHT.get(who, dict)()
    with pytest.raises(IbtraceError, match=TABLE[who][argument][1]) as error:
        who(**{**given, argument: VALUES[value]})
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "who", [Look, Keep, Tracer, Recipe, Probe, Dataset, Ensemble, Subsampled, At]
)
def test_no_argument_is_missing_from_the_table(who: Any) -> None:
    assert TABLE[who].keys() == inspect.signature(who).parameters.keys()


def test_numbers_and_flags_may_be_of_numpy() -> None:
    # mypy: numbers of NumPy are taken
    assert Tracer(network(), (X, Y), estimators="exact", seed=np.int64(3)).seeds == [3]  # type: ignore[arg-type]
    assert Probe(X, Y, population=np.bool_(True)).population is True  # type: ignore[arg-type]
    assert Look(batch_size=np.int32(4), initial=np.bool_(False)).batch_size == 4  # type: ignore[arg-type]
    assert Probe.of((X, Y), n=np.int64(5)).n == 5  # type: ignore[arg-type]
    assert Ensemble(lambda seed: network(), np.arange(2)).seeds == (0, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [-3, 0, 1, 2.5, True])
def test_a_probe_has_two_samples_at_least_and_says_so_before_it_reads(n: Any) -> None:
    class Counted(TensorDataset):
        reads = 0

        def __getitem__(self, index: int) -> tuple[Tensor, ...]:
            self.reads += 1
            return X[index], Y[index]

    data = Counted(X, Y)
    with pytest.raises(ConfigError, match="Probe: n must be"):
        Probe.of(DataLoader(data, 4), n=n)
    assert data.reads == 0


def nothing(epoch: int) -> Any:
    return None


@pytest.mark.parametrize(
    ("every", "said"),
    [
        (nothing, "every: nothing must return True or False, got None at 1"),
        (lambda epoch: epoch % 5, "every: <lambda> must return True or False, got 1 at 1"),
        (lambda epoch: "no", "True or False, got 'no'"),
        (lambda: True, r"every: <lambda> failed at 1 \(TypeError: .*\); mend it"),
        (ibtrace.Steps, "no class, got <class"),
    ],
)
def test_a_schedule_that_does_not_say_yes_or_no_is_refused_before_the_training(
    every: Any, said: str
) -> None:
    for make in (
        lambda: schedule(every),
        lambda: ibtrace.Steps(every),
        lambda: At("exact", every),
        lambda: Tracer(network(), (X, Y), estimators="exact", every=every),
    ):
        with pytest.raises(ConfigError, match=said):
            make()


def test_a_schedule_that_ceases_to_say_is_refused_where_it_does() -> None:
    tracer = Tracer(
        network(), (X, Y), estimators="exact", every=lambda at: True if at < 2 else nothing(at)
    )
    assert tracer.snapshot(1)
    with pytest.raises(ConfigError, match="True or False, got None at 2"):
        tracer.snapshot(2)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Tanh, r"model must be a network, got the class Tanh; give Tanh\(…\)"),
        (lambda x: x, "model must be a network, a torch.nn.Module, got <function"),
        (network().state_dict(), "model must be a network"),
    ],
)
def test_what_is_no_network_is_refused(model: Any, said: str) -> None:
    for see in (
        lambda: Tracer(model, (X, Y)),
        lambda: ibtrace.layers(model, X),
        lambda: ibtrace.snapshot(model, Probe(X, Y)),
    ):
        with pytest.raises(ConfigError, match=said):
            see()


NO_CHOICE: Any = lambda: True  # noqa: E731  # a schedule is given as people do


@pytest.mark.parametrize(
    ("look", "error", "said"),
    [
        ([], ConfigError, "layers: an empty choice means no layer"),
        (Look(exclude=["**"]), ConfigError, "exclude leaves nothing of what stands out: .*output"),
        (Look(["1"], exclude=["1"]), ConfigError, "leaves nothing of the layers chosen: 1;"),
        (Look(NO_CHOICE), ConfigError, r"layers: <lambda> failed on '0' \(TypeError.*f\(name, mod"),
        (Look(exclude=NO_CHOICE), ConfigError, "exclude: <lambda> failed on "),
    ],
)
def test_a_choice_that_leaves_nothing_says_so(look: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Tracer(network(), (X, Y), estimators="exact", look=look)


def test_what_is_called_is_left_where_all_modules_are_excluded() -> None:
    class Called(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    look = Look(exclude="output", functional=True)
    assert Tracer(Called(3, 2), (X, Y), estimators="exact", look=look).trace.layers == ["relu"]


@pytest.mark.parametrize("forward", [lambda model: model, lambda model, x: model(x["ids"])])
def test_an_error_in_the_users_forward_is_said_to_be_there(forward: Any) -> None:
    with pytest.raises(InvalidInput, match=r"your forward= \(<lambda>\) failed .*forward\(model"):
        Tracer(network(), (X, Y), estimators="exact", look=Look(forward=forward))


def test_a_loss_that_does_not_exist_is_no_matter_of_a_lens() -> None:
    with pytest.raises(ConfigError, match="loss: 'ce' is none of nll, cross_entropy, mse; give"):
        Tracer(network(), (X, Y), estimators="exact", loss="ce")


@pytest.mark.parametrize("room", [ibtrace.estimators, ibtrace.lenses, ibtrace.problems])
def test_no_foreign_error_comes_of_the_field_of_an_instrument_or_a_law(room: Any) -> None:
    for name, kind in room.registry.items():
        for field in dataclasses.fields(kind):
            for value in ("tensor", "array", "mapping", "object", "text"):
                with suppress(IbtraceError):
                    room.make(name, **{field.name: VALUES[value]})


def test_what_an_instrument_cannot_be_made_of_is_said_with_its_fields() -> None:
    with pytest.raises(ConfigError, match=r"ksg .* of neighbours=array\(.*its fields are: k,"):
        ibtrace.estimators.make("ksg", neighbours=np.ones(2))


# --- configurations -----------------------------------------------------------------------------

RAW: dict[str, Any] = {
    "model": {"class_path": "tests.test_wrong_arguments.network"},
    "data": {"class_path": "ibtrace.datasets.tishby"},
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
    "epochs": 2,
}
# of a text the parser makes a flag: yes is true
CONFIG: dict[str, set[str]] = {
    "model": set(),
    "data": set(),
    "optimizer": set(),
    "scheduler": {"None"},
    "epochs": LARGE,
    "seeds": COUNT,
    "together": FLAG | {"text"},
    "control": {"None"},
    "loss": set(),
    "batch_size": LARGE,
    "shuffle": FLAG | {"text"},
    "split": {"mapping"},
    "probe": {"mapping"},
    "layers": {"None", "text"},
    "exclude": {"text", "list"},
    "reduce": {"None", "mapping"},
    "functional": FLAG | {"text", "list"},
    "max_bytes": LARGE | {"None"},
    "max_width": LARGE | {"None"},
    "estimators": {"None"},
    "lenses": {"list"},
    "snapshots": COUNT | {"None", "list"},
    "every": LARGE | {"None"},
    "store_activations": FLAG | {"text"},
    "device": set(),
    "forward": {"None"},
}
IN_YAML = ["None", "True", "0", "3", "-3", "2.5", "2**70", "nan", "text", "list", "mapping"]
CALLED = {"reduce": "reduc", "lenses": "lens", "estimators": "estimator"}


def wrong(fields: dict[str, set[str]], values: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, value) for name in fields for value in values if value not in fields[name]]


def test_every_field_of_a_configuration_is_in_the_table() -> None:
    assert CONFIG.keys() == KEYS
    assert build(RAW).training.epochs == 2


@pytest.mark.parametrize(("field", "value"), wrong(CONFIG, IN_YAML))
def test_a_wrong_value_of_a_configuration_is_refused_by_its_key(field: str, value: str) -> None:
    with pytest.raises(IbtraceError, match=CALLED.get(field, field)):
        build({**RAW, field: VALUES[value]})


def test_an_unknown_name_stays_one() -> None:
    with pytest.raises(UnknownName, match="yes"):
        build({**RAW, "estimators": "yes"})
