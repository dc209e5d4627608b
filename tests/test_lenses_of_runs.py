"""Lenses in configurations and on the command line, the package's and the user's own."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from ibtrace import lenses
from ibtrace.cli import main
from ibtrace.errors import ConfigError, LensFailed, UnknownName
from ibtrace.lenses import Saturation
from ibtrace.runtime.schedule import Every
from ibtrace.trace import Trace
from ibtrace.tracer import At
from ibtrace.training import config, configs
from ibtrace.training.parts import probe_of
from tests.test_train import raw

MINE = '''
from dataclasses import dataclass
from typing import ClassVar

from ibtrace.estimators import Binning
from ibtrace.types import LensTags, Quantity, Reading

HEIGHT = Quantity("largest value", "V")
NORM = Quantity("loss gradient", "nats", "network")


@dataclass(frozen=True)
class Height:
    """The largest activation of each layer, in volts, and the gradient's norm."""

    gain: float = 1.0
    tags: ClassVar[LensTags] = LensTags(
        (HEIGHT, NORM), "nobody", needs=frozenset({"activations", "gradient"})
    )

    def __call__(self, view, probe, *, seed=0):
        tops = {name: t.flatten(1).amax(1) for name, t in view.activations.items()}
        squares = sum(g.square().flatten(1).sum(1) for g in view.gradient.values())
        return {
            "largest value": {name: Reading(self.gain * top, "V") for name, top in tops.items()},
            "loss gradient": {"": Reading(squares.sqrt(), "nats")},
        }


class MyBins(Binning):
    """Bins of one's own."""
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, with a file of a lens and an estimator, forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_lenses", raising=False)
    Path("my_lenses.py").write_text(MINE)
    yield tmp_path
    sys.modules.pop("my_lenses", None)


def small(**changes: Any) -> configs.Raw:
    return raw(epochs=2, seeds=2, **changes)


def test_a_configuration_names_lenses_with_fields_and_schedules() -> None:
    entries = ["saturation", {"name": "saturation", "share": 0.5, "every": 2}]
    built = config.build(small(lenses=entries)).instruments.lenses
    assert built == [Saturation(), At(Saturation(0.5), Every(2))]
    assert config.build(small(lenses="saturation")).instruments.lenses == [Saturation()]
    assert config.build(small()).instruments.lenses == []
    assert config.build(small(lenses=entries)).tracing()["lenses"] == built


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("saturate", "no lens is called 'saturate'; there are: .*saturation"),
        ({"name": "saturation", "shares": 1}, "shares.*its fields are: share"),
        ({"share": 0.5}, "lenses: an entry needs a 'name'"),
        ({"name": "saturation", "share": 2}, "share must lie between 0 and 1"),
        ({"name": "saturation", "every": "Steps(2)"}, "lenses: saturation has a schedule of its"),
        ({"class_path": "nowhere.Lens"}, "lenses: 'nowhere.Lens' cannot be imported"),
        ({"class_path": "my_lenses.Height", "init_args": {"gin": 1}}, "unexpected keyword .*gin"),
        ({"class_path": "my_lenses.Height", "gain": 1}, "gain is unknown; .* into init_args"),
        ({"class_path": "my_lenses.Height", "init_args": {"gain": 1}, "every": 0}, "every"),
    ],
)
def test_a_wrong_entry_is_one_line(
    entry: Any, match: str, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(mine)
    with pytest.raises((ConfigError, UnknownName), match=match) as caught:
        config.build(small(lenses=[entry]))
    assert "\n" not in str(caught.value)


def test_a_lens_and_an_estimator_in_a_users_file_go_all_the_way(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    height = {"class_path": "my_lenses.Height", "init_args": {"gain": 2.0}}
    bins = {"class_path": "my_lenses.MyBins", "init_args": {"bins": 7}}
    Path("mine.yaml").write_text(
        yaml.safe_dump(small(lenses=[height, "saturation"], estimators=[bins, "exact"]))
    )
    assert main(["run", "mine.yaml", "--quiet"]) == 0
    said = capsys.readouterr()
    trace = Trace.load("runs/mine")
    assert trace.lenses == ["Height(gain=2.0)", "Saturation"]
    assert trace.estimators == ["MyBins(bins=7)", "Exact"]
    frame = trace.readings().query("quantity == 'largest value'")
    assert set(frame["unit"]) == {"V"}
    assert set(frame["seed"]) == {0, 1}
    stored = Path("runs/mine/report.txt").read_text()
    for text in (said.out, stored):
        assert "largest value in V by Height(gain=2.0), epoch 0 → 2; mean over 2 seeds" in text
        assert "loss gradient in nats by Height(gain=2.0)" in text
    for name in ("largest_value", "loss_gradient", "saturated_share", "dead_share"):
        assert Path(f"runs/mine/readings-{name}.png").stat().st_size > 10_000
    assert main(["run", "mine.yaml", "--quiet", "--resume"]) == 0


def test_the_loss_is_the_one_that_is_trained_on(mine: Path) -> None:
    height = {"class_path": "my_lenses.Height"}
    Path("mine.yaml").write_text(yaml.safe_dump(small(lenses=[height])))
    assert main(["run", "mine.yaml", "--quiet"]) == 0
    experiment = config.build(configs.read("mine.yaml"))
    torch.manual_seed(0)
    model, probe = experiment.training.model(), probe_of(experiment)
    assert experiment.training.loss == "nll"
    nn.functional.nll_loss(model(probe.x).log(), probe.labels).backward()
    norm = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
    frame = Trace.load("runs/mine").readings()
    at_start = frame.query("quantity == 'loss gradient' and seed == 0 and epoch == 0")["value"]
    assert at_start.tolist() == pytest.approx([norm**0.5], rel=1e-4)


@pytest.mark.parametrize("given", ["all", "saturation"])
def test_the_command_line_chooses_lenses(mine: Path, given: str) -> None:
    Path("small.yaml").write_text(yaml.safe_dump(small()))
    with warnings.catch_warnings():  # not every lens has a meaning on this network
        warnings.simplefilter("ignore", LensFailed)
        assert main(["run", "small.yaml", "--quiet", "--lenses", given]) == 0
    names = lenses.names() if given == "all" else [given]
    trace = Trace.load("runs/small")
    read = {*trace.lenses, *trace.meta.get("lenses_failed", {})}
    assert read == {type(lenses.make(name)).__name__ for name in names}
    assert "Saturation" in trace.lenses
    assert configs.read("runs/small/config.yaml")["lenses"] == names


def test_a_replication_takes_lenses(mine: Path) -> None:
    options = ["--seeds=1", "--epochs=2", "--quiet", "--set=estimators=[exact]"]
    small = ["--set=probe={samples: 60}", "--out", "run", "--lenses", "saturation"]
    assert main(["replicate", "tishby", "--activation", "tanh", *options, *small]) == 0
    assert Trace.load("run/tanh").lenses == ["Saturation"]


def test_an_unknown_lens_is_one_line(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("small.yaml").write_text(yaml.safe_dump(small()))
    assert main(["run", "small.yaml", "--lenses", "saturation,glare"]) == 2
    said = capsys.readouterr().err
    there = ", ".join(lenses.names())
    assert said == f"ibtrace: no lens is called 'glare'; there are: {there}\n"
    assert not Path("runs/small").exists()


def test_the_list_says_what_each_lens_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "lenses"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name in lenses.names():
        tags = lenses.make(name).tags
        assert name in said
        assert tags.cost in said
        assert tags.reference in said
        for quantity in tags.quantities:
            assert quantity.name in said
            unit = "no unit" if quantity.unit == "1" else f"in {quantity.unit}"
            assert f"{quantity.name}, {unit}, of each {quantity.per}" in said
        assert all(need in said for need in tags.needs)


@pytest.mark.parametrize("name", lenses.names())
def test_what_a_look_of_each_lens_costs_is_measured(name: str) -> None:
    said = lenses.measured_cost(name)
    assert re.search(r"12-bit network: (refused|[\d.e+]+ m?s, \d+ MiB)", said)
    assert "10 of them: " in said
