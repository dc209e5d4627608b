"""What a lens returns and what names one: refused in a line that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from ibtrace import lenses
from ibtrace.cli import main
from ibtrace.errors import ConfigError, IbtraceError, LensFailed
from ibtrace.runtime.schedule import schedule
from ibtrace.tracer import At, Tracer
from ibtrace.tracer._schedules import scheduled_lenses
from ibtrace.training import config
from ibtrace.types import LensTags, Quantity, Reading, View, label

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
ONE = torch.ones(1)


@dataclass(frozen=True)
class Returns:
    """Returns what a test gives."""

    make: Callable[[], Any]

    tags: ClassVar[LensTags] = LensTags((Quantity("size", "1", "network"),), "a test 2026")

    def __call__(self, view: View, probe: Any, *, seed: int = 0) -> Any:
        return self.make()


def _size(**fields: Any) -> Callable[[], Any]:
    return lambda: {"size": {"": Reading(**{"value": ONE, "unit": "1", **fields})}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, r"it must be read as \{quantity: \{layer: Reading\}\}, got None"),
        (lambda: {"size": 0.5}, r"size must be read as \{layer: Reading\}.*got 0.5"),
        (lambda: {"size": {"": 0.5}}, r"size of '' must be a Reading\(value, unit\), got 0.5"),
        (_size(stderr=torch.ones(3)), r"a reading's stderr has shape \(3,\), and its value \(1,\)"),
        (_size(stderr=-ONE), r"size has a standard error below 0: \[-1.0\]"),
        (_size(value=ONE + 1j), "a reading's value is complex"),
        (_size(lower=ONE + 1j), "a reading's lower is complex"),
        (_size(flags={"odd": "yes"}), "a reading's flag 'odd' must be numbers, got 'yes'"),
        (_size(flags={"odd": ONE / 2}), r"a reading's flag 'odd' must be true or false, got \[0.5"),
        (_size(diagnostics={"many": torch.ones(2)}), "a reading's diagnostic 'many' has shape"),
    ],
)
def test_what_is_no_reading_is_refused_by_name(make: Callable[[], Any], message: str) -> None:
    with pytest.warns(LensFailed, match=message):
        Tracer(nn.Linear(3, 2), X, estimators="binning", lenses=Returns(make))


def test_all_names_every_lens_once() -> None:
    every = schedule(1)
    wanted = [label(lenses.make(name)) for name in lenses.names()]
    for given in ("all", ["all"]):
        assert [label(item.lens) for item in scheduled_lenses(given, every)] == wanted
    apart = scheduled_lenses(At("all", 7), every)
    assert [label(item.lens) for item in apart] == wanted
    assert all(item.every(7) and not item.every(8) for item in apart)


def _configuration(given: Any) -> dict[str, Any]:
    return {
        "data": {"class_path": "ibtrace.datasets.tishby"},
        "model": {"class_path": "ibtrace.models.MLP", "init_args": {"widths": [12, 3, 2]}},
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
        "epochs": 2,
        "batch_size": 512,
        "lenses": given,
    }


@pytest.mark.parametrize("given", ["all", ["all"]])
def test_a_configuration_may_name_all(given: Any) -> None:
    built = config.build(_configuration(given)).instruments.lenses
    assert len(built) == len(lenses.names())


def test_all_may_have_a_schedule_of_their_own_in_a_configuration() -> None:
    given = ["saturation", {"name": "all", "every": [2]}]
    alone, *rest = config.build(_configuration(given)).instruments.lenses
    together = [item for item in rest if isinstance(item, At)]
    assert label(alone) == "Saturation"
    assert [label(item.instrument) for item in together] == [
        label(lenses.make(name)) for name in lenses.names()
    ]
    assert all(schedule(item.every)(2) and not schedule(item.every)(1) for item in together)
    with pytest.raises(ConfigError, match="lens geometry cannot be made of share"):
        config.build(_configuration([{"name": "all", "share": 0.9}]))


@pytest.mark.parametrize("given", [[3], [None], {"ntk": 3}, 3, [["ntk"]]])
def test_an_entry_that_is_no_lens_is_refused_in_one_line(given: Any) -> None:
    with pytest.raises(IbtraceError, match=r"lenses(: an entry is| must be) a name") as error:
        config.build(_configuration(given))
    assert "\n" not in str(error.value)
    assert isinstance(error.value, ConfigError)


@pytest.mark.parametrize("given", ["", " , "])
def test_an_option_that_names_no_lens_is_refused(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replicate", "tishby", "--lenses", given]) != 0
    assert "--lenses names none" in capsys.readouterr().err
