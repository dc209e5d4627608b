"""A configuration is checked whole before any work, and every mistake is one clear line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from ibtrace.errors import ConfigError, IbtraceError, UnknownName
from ibtrace.estimators import KDE, Binning
from ibtrace.runtime.schedule import Steps, log_spaced, schedule
from ibtrace.tracer import At
from ibtrace.training import config, configs, runner
from ibtrace.training.experiment import Split
from ibtrace.training.loop import train


def small() -> configs.Raw:
    """A configuration of the 12-bit task that trains in a moment."""
    (raw,) = list(configs.variants(configs.read("tishby")).values())[:1]
    return {**raw, "epochs": 4, "seeds": 2, "snapshots": 3, "estimators": ["binning", "exact"]}


@pytest.mark.parametrize("name", configs.shipped())
def test_every_shipped_configuration_is_sound(name: str) -> None:
    for variant in configs.variants(configs.read(name)).values():
        raw = {**variant, "seeds": 1}
        parser_only = {key: value for key, value in raw.items() if key != "data"}
        data = small()["data"]  # other data sets may need a download
        assert config.build({**parser_only, "data": data}).training.seed_list == [0]


def test_the_replication_is_the_recipe_of_the_papers_code() -> None:
    runs = {
        name: config.build(raw) for name, raw in configs.variants(configs.read("tishby")).items()
    }
    assert list(runs) == ["tanh", "relu"]
    for name, experiment in runs.items():
        training = experiment.training
        assert (training.epochs, training.batch_size, training.shuffle) == (8000, 512, False)
        assert training.split == Split(0.8, "contiguous")
        assert len(experiment.data) == 4096
        model = training.model()
        kinds = {"tanh": nn.Tanh, "relu": nn.ReLU}
        assert isinstance(model.get_submodule("hidden5"), kinds[name])
        optimizer = training.optimizer(model.parameters())
        assert optimizer.defaults["lr"] == 4e-4
        assert sum(map(experiment.instruments.every, range(8001))) == 275
        (first, *_) = experiment.instruments.estimators or []
        assert first == Binning.idnns()


def test_entries_of_the_estimators() -> None:
    entries: list[Any] = [
        "binning.idnns",
        {"name": "binning", "bins": 5, "range": [-2, 2]},
        {"name": "kde", "noise_variance": 0.1, "snapshots": 2},
    ]
    built = config.build({**small(), "estimators": entries}).instruments.estimators or []
    assert built[0] == Binning.idnns()
    assert built[1] == Binning(bins=5, range=(-2, 2))
    assert isinstance(built[2], At)
    assert built[2].instrument == KDE(noise_variance=0.1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_building_leaves_the_configuration_as_it_was() -> None:
    inner = {"class_path": "ibtrace.estimators.KDE", "init_args": {"noise": "adaptive"}}
    outer = {"class_path": "ibtrace.Subsampled", "init_args": {"estimator": inner}}
    (_, raw), *_ = configs.variants(configs.read("tishby")).items()
    raw = configs.override(raw, "estimators", [outer])
    before = copy.deepcopy(raw)
    config.build(raw)
    assert raw == before  # it is stored with the run


def test_overrides_reach_any_key_and_leave_the_original() -> None:
    raw = small()
    changed = configs.override(raw, "model.init_args.activation", "relu")
    assert changed["model"]["init_args"]["activation"] == "relu"
    assert raw["model"]["init_args"]["activation"] == "tanh"
    assert configs.assignments(["a.b=1e-3", "c=[1, 2]", "d=x"]) == {
        "a.b": 1e-3,
        "c": [1, 2],
        "d": "x",
    }


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"epoch": 3}, "epoch"),
        ({"epochs": "many"}, "epochs.*many"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"seeds": 0}, "seeds: how many must be at least 1, got 0"),
        ({"seeds": [1, 1]}, "differ"),
        ({"loss": "hinge"}, "loss.*hinge"),
        ({"split": {"how": "random"}}, "split"),
        ({"model": {"class_path": "ibtrace.models.MPL"}}, "MPL"),
        ({"model": {"class_path": "no.such.Module"}}, "no"),
        ({"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"rate": 1}}}, "rate"),
        ({"estimators": []}, "at least one"),
        ({"estimators": ["bining"]}, "'bining'; there are: binning"),
        ({"estimators": [{"name": "ksg", "kk": 3}]}, "kk.*its fields are: k"),
        ({"estimators": [{"k": 3}]}, "needs a 'name'"),
        ({"snapshots": 0}, "at least 1, got 0"),
    ],
)
def test_mistakes_are_one_line(changes: configs.Raw, match: str) -> None:
    with pytest.raises(IbtraceError, match=match) as caught:
        config.build({**small(), **changes})
    assert "\n" not in str(caught.value)


def test_unreadable_configurations_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    for text, match in (
        ("a: [1", "not readable YAML"),
        ("- 1", "must be a YAML mapping, got list"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=match):
            configs.read(path)
    with pytest.raises(UnknownName, match=r"no configuration nothing.*tishby"):
        configs.read("nothing")


@pytest.mark.parametrize(
    ("text", "match"), [("seeds", "key=value"), ("=3", "key=value"), ("a=[1", "not YAML")]
)
def test_bad_assignments(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        configs.assignments([text])


def test_an_override_cannot_pass_through_a_number() -> None:
    with pytest.raises(ConfigError, match="epochs is 4, not a mapping"):
        configs.override(small(), "epochs.late", 1)


def test_variants_are_mappings_of_changes() -> None:
    raw = {**small(), "variants": {"wide": {"model.init_args.widths": [12, 20, 2]}, "same": {}}}
    runs = configs.variants(raw)
    assert runs["wide"]["model"]["init_args"]["widths"] == [12, 20, 2]
    assert runs["same"] == small()
    for wrong, match in (([1], "mapping of names"), ({"a": 3}, r"variants\.a must be a mapping")):
        with pytest.raises(ConfigError, match=match):
            configs.variants({**small(), "variants": wrong})


def test_configurations_survive_yaml() -> None:
    raw = configs.read("tishby")
    assert yaml.safe_load(yaml.safe_dump(raw)) == raw


FUNCTIONS = """
import torch
from torch import nn
from ibtrace.datasets import Dataset

def net(hidden=4, **more):
    return nn.Sequential(nn.Linear(12, hidden), nn.Tanh(), nn.Linear(hidden, 2))

def typed(hidden: int = 4) -> nn.Sequential:
    return net(hidden)

def no_net(): return 3

def fails(): raise RuntimeError("no file\\nthere")

def labelled(n=20, scale=1):
    x = torch.randn(n, 12, generator=torch.Generator().manual_seed(1))
    return Dataset("mine", scale * x, torch.arange(n) % 2)

def pair(n=20):
    return torch.randn(n, 12).double().numpy(), ["no", "yes"] * (n // 2)

def numbers():
    return torch.randn(20, 12), torch.randn(20)

def doubled(model, batch): return model(2 * batch)

class Scaled:
    def __init__(self, by: float = 1.0): self.by = by
    def __call__(self, model, batch): return model(self.by * batch)
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of functions without annotations, as users write them."""
    (tmp_path / "their_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    return "their_functions"


@pytest.mark.parametrize(
    "entry", ["net", {"class_path": "net", "init_args": {"hidden": 3}}, "typed"]
)
def test_a_function_without_annotations_makes_the_model(functions: str, entry: Any) -> None:
    if isinstance(entry, str):
        named: Any = f"{functions}.{entry}"
    else:
        named = {**entry, "class_path": f"{functions}.{entry['class_path']}"}
    model = config.build({**small(), "model": named}).training.model()
    width = 4 if isinstance(entry, str) else 3
    assert model.get_submodule("0").weight.shape == (width, 12)


@pytest.mark.parametrize(("name", "names"), [("labelled", None), ("pair", ("no", "yes"))])
def test_a_function_without_annotations_gives_the_data(
    functions: str, name: str, names: tuple[str, ...] | None
) -> None:
    named = {"class_path": f"{functions}.{name}", "init_args": {"n": 30}}
    data = config.build({**small(), "data": named}).data
    assert len(data) == 30
    assert (data.classes, data.class_names) == (2, names)


@pytest.mark.parametrize(
    ("key", "entry", "match"),
    [
        ("model", "no_net", r"no_net gave int; it must give a torch\.nn\.Module"),
        ("model", "fails", "fails failed: RuntimeError: no file there"),
        ("model", ("typed", {"hiden": 3}), r"hiden.*it takes \(hidden"),
        (
            "data",
            ("labelled", {"m": 3}),
            r"unexpected keyword argument 'm'; it takes \(n=20, scale=1\)",
        ),
        ("data", "fails", "fails failed: RuntimeError: no file there"),
        ("data", "no_net", "gave int: Probe: data must be"),
        ("data", "numbers", "class labels y"),
        ("model", {"init_args": {}}, "class_path"),
    ],
)
def test_functions_that_will_not_do_are_one_line(
    functions: str, key: str, entry: Any, match: str
) -> None:
    named: Any = entry
    if isinstance(entry, str):
        named = f"{functions}.{entry}"
    elif isinstance(entry, tuple):
        named = {"class_path": f"{functions}.{entry[0]}", "init_args": entry[1]}
    with pytest.raises(ConfigError, match=match) as caught:
        config.build({**small(), key: named}).training.model()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", ["doubled", {"class_path": "Scaled", "init_args": {"by": 2.0}}])
def test_a_configuration_says_how_the_model_is_called(
    functions: str, entry: Any, tmp_path: Path
) -> None:
    named: Any = f"{functions}.{entry}"
    if isinstance(entry, dict):
        named = {**entry, "class_path": f"{functions}.{entry['class_path']}"}
    ways = {
        "called": {"data": f"{functions}.labelled", "forward": named},
        "scaled": {"data": {"class_path": f"{functions}.labelled", "init_args": {"scale": 2}}},
        "as it is": {"data": f"{functions}.labelled"},
    }
    raw = {**small(), "model": f"{functions}.net", "seeds": 1, "estimators": ["kde"], "epochs": 2}
    raw["loss"] = "cross_entropy"  # it gives logits
    traces = {n: train(config.build({**raw, **way}), tmp_path / n) for n, way in ways.items()}
    bits = {name: trace.frame()["bits"].to_numpy() for name, trace in traces.items()}
    # the plane of called networks is that of scaled inputs, in training and in looking
    assert bits["called"] == pytest.approx(bits["scaled"], abs=1e-4)
    assert bits["called"] != pytest.approx(bits["as it is"], abs=1e-2)


def due(key: str, value: Any, until: int = 12) -> list[int]:
    """The epochs, or steps, of a schedule."""
    every = config.build({**small(), "snapshots": None, key: value, "epochs": 12}).instruments.every
    return [at for at in range(until + 1) if every(at)]


@pytest.mark.parametrize(
    ("every", "python"),
    [
        (5, 5),
        ([1, 4], [1, 4]),
        ("Steps(5)", Steps(5)),
        ("Steps([1, 4])", Steps([1, 4])),
        ("Steps(every=5)", Steps(5)),
        ("Steps()", Steps()),
        ("Steps(log_spaced(12, 3))", Steps(log_spaced(12, 3))),
        ("log_spaced(12, 3)", log_spaced(12, 3)),
        ("log_spaced(total=12, count=3)", log_spaced(12, 3)),
    ],
)
def test_every_is_spelt_as_in_python(every: Any, python: Any) -> None:
    expected = schedule(python)
    assert due("every", every) == [at for at in range(13) if expected(at)]
    built = config.build({**small(), "snapshots": None, "every": every})
    assert built.instruments.by_steps == isinstance(python, Steps)


def test_snapshots_follow_the_number_of_epochs() -> None:
    assert due("snapshots", 3) == [0, 1, 3, 12]
    assert due("snapshots", [2, 5]) == [0, 2, 5, 12]
    assert due("snapshots", None) == list(range(13))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"every": 5}, "snapshots is 3 and every is 5; give one of them"),
        ({"snapshots": None, "every": 0}, "every must be at least 1, got 0"),
        ({"snapshots": None, "every": "Steps(0)"}, "every must be at least 1, got 0"),
        ({"snapshots": None, "every": "Steps(2, 3)"}, r"or log_spaced\(.*, got 'Steps\(2, 3\)'"),
        ({"snapshots": None, "every": "print(2)"}, r"Steps\(…\) or .*, got 'print\(2\)'"),
        ({"snapshots": None, "every": "often"}, "Steps.*, got 'often'"),
        ({"estimators": [{"name": "ksg", "every": "Steps(2)"}]}, "ksg .*must count epochs"),
        ({"estimators": [{"name": "ksg", "every": 2, "snapshots": 2}]}, "give one of them"),
        (
            {
                "snapshots": None,
                "every": "Steps(2)",
                "estimators": [{"name": "ksg", "snapshots": 2}],
            },
            "ksg .*must count steps",
        ),
    ],
)
def test_schedules_that_will_not_do_are_one_line(changes: configs.Raw, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        config.build({**small(), **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("output", ["logits", "log_softmax"])
def test_a_likelihood_of_what_is_no_probability_is_refused_before_training(
    output: str, tmp_path: Path
) -> None:
    raw: dict[str, Any] = {
        "data": {"class_path": "ibtrace.datasets.tishby"},
        "model": {
            "class_path": "ibtrace.models.MLP",
            "init_args": {"widths": [12, 3, 2], "activation": "tanh", "output": output},
        },
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
        "loss": "nll",
        "epochs": 1,
        "seeds": 1,
        "estimators": ["exact"],
    }
    with pytest.raises(ConfigError, match=r"nll takes probabilities.*it is cross_entropy"):
        runner.run(raw, tmp_path / "run")
