"""A configuration is checked whole before any work, and every mistake is one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from ibtrace.estimators import KDE, Binning
from ibtrace.experiments import config
from ibtrace.tracer import At
from ibtrace.types import ConfigError, IbtraceError, UnknownName


def small() -> config.Raw:
    """A configuration of the 12-bit task that trains in a moment."""
    (raw,) = list(config.variants(config.read("tishby")).values())[:1]
    return {**raw, "epochs": 4, "seeds": 2, "snapshots": 3, "estimators": ["binning", "exact"]}


@pytest.mark.parametrize("name", config.shipped())
def test_every_shipped_configuration_is_sound(name: str) -> None:
    for variant in config.variants(config.read(name)).values():
        raw = {**variant, "seeds": 1}
        parser_only = {key: value for key, value in raw.items() if key != "data"}
        data = small()["data"]  # other data sets may need a download
        assert config.build({**parser_only, "data": data}).seed_list == [0]


def test_the_replication_is_the_recipe_of_the_papers_code() -> None:
    runs = {name: config.build(raw) for name, raw in config.variants(config.read("tishby")).items()}
    assert list(runs) == ["tanh", "relu"]
    for name, experiment in runs.items():
        assert (experiment.epochs, experiment.batch_size, experiment.shuffle) == (8000, 512, False)
        assert experiment.split == config.Split(0.8, "contiguous")
        assert len(experiment.data) == 4096
        model = experiment.model()
        kinds = {"tanh": nn.Tanh, "relu": nn.ReLU}
        assert isinstance(model.get_submodule("hidden5"), kinds[name])
        optimizer = experiment.optimizer(model.parameters())
        assert optimizer.defaults["lr"] == 4e-4
        assert sum(map(experiment.every(), range(8001))) == 275
        first = experiment.build_estimators()[0]
        assert first == Binning.idnns()


def test_entries_of_the_estimators() -> None:
    entries: list[Any] = [
        "binning.idnns",
        {"name": "binning", "bins": 5, "range": [-2, 2]},
        {"name": "kde", "noise_variance": 0.1, "snapshots": 2},
    ]
    built = config.build({**small(), "estimators": entries}).build_estimators()
    assert built[0] == Binning.idnns()
    assert built[1] == Binning(bins=5, range=(-2, 2))
    assert isinstance(built[2], At)
    assert built[2].estimator == KDE(noise_variance=0.1)


def test_overrides_reach_any_key_and_leave_the_original() -> None:
    raw = small()
    changed = config.override(raw, "model.init_args.activation", "relu")
    assert changed["model"]["init_args"]["activation"] == "relu"
    assert raw["model"]["init_args"]["activation"] == "tanh"
    assert config.assignments(["a.b=1e-3", "c=[1, 2]", "d=x"]) == {
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
        ({"seeds": 0}, "at least one seed"),
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
def test_mistakes_are_one_line(changes: config.Raw, match: str) -> None:
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
            config.read(path)
    with pytest.raises(UnknownName, match=r"no configuration nothing.*tishby"):
        config.read("nothing")


@pytest.mark.parametrize(
    ("text", "match"), [("seeds", "key=value"), ("=3", "key=value"), ("a=[1", "not YAML")]
)
def test_bad_assignments(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        config.assignments([text])


def test_an_override_cannot_pass_through_a_number() -> None:
    with pytest.raises(ConfigError, match="epochs is 4, not a mapping"):
        config.override(small(), "epochs.late", 1)


def test_variants_are_mappings_of_changes() -> None:
    raw = {**small(), "variants": {"wide": {"model.init_args.widths": [12, 20, 2]}, "same": {}}}
    runs = config.variants(raw)
    assert runs["wide"]["model"]["init_args"]["widths"] == [12, 20, 2]
    assert runs["same"] == small()
    for wrong, match in (([1], "mapping of names"), ({"a": 3}, r"variants\.a must be a mapping")):
        with pytest.raises(ConfigError, match=match):
            config.variants({**small(), "variants": wrong})


def test_configurations_survive_yaml() -> None:
    raw = config.read("tishby")
    assert yaml.safe_load(yaml.safe_dump(raw)) == raw
