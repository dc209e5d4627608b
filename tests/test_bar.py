"""The time left that a progress bar says is that of the work that is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable
from pathlib import Path

import pytest

from ibtrace.runtime.schedule import log_spaced
from ibtrace.training import config, configs
from ibtrace.training.bar import Bar
from ibtrace.training.loop import _looks, train

LOOK, EPOCH = 2.0, 0.01
SLOW = 90.0  # of a look at which a slow estimator is due


@pytest.mark.parametrize("done", [0, 1, 10, 100, 999])
def test_neither_log_spaced_looks_nor_slow_ones_stretch_the_time_left(
    done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    due, slow, epochs = log_spaced(1000, 50), log_spaced(1000, 9), 1000
    looks: dict[Hashable, int] = {"fast": 0, "slow": 0}
    for epoch in filter(due, range(1, epochs + 1)):
        looks["slow" if slow(epoch) else "fast"] += 1
    bar = Bar(epochs, looks, None)
    bar.skip(0, {})
    for epoch in range(1, done + 1):
        now += EPOCH
        bar.did()
        if due(epoch):
            kind = "slow" if slow(epoch) else "fast"
            now += SLOW if kind == "slow" else LOOK
            looks[kind] -= 1
            bar.begins(kind)
            bar.did(kind)
    left = (epochs - done) * EPOCH + looks["fast"] * LOOK + looks["slow"] * SLOW
    if done <= 1:  # no fast look was made
        assert bar.seconds_left() is None
        assert bar.format_dict["left"] == "?"
    else:
        assert bar.seconds_left() == pytest.approx(left)


def test_what_an_earlier_process_did_is_neither_ahead_nor_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bar = Bar(10, {"look": 1}, None)
    now = 100.0
    bar.skip(4, {"look": 1})
    now = 103.0
    bar.did()
    assert bar.seconds_left() == pytest.approx(5 * 3.0)


def test_what_takes_long_is_named_while_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def shown() -> str:
        return capsys.readouterr().err.rpartition("\r")[2]

    with Bar(2, {"look": 2}, "tanh") as bar:
        assert "tanh:   0%" in (told := shown())
        assert "0/2 epochs, 0/2 looks [00:00<?, preparing]" in told
        bar.skip(0, {})
        bar.did()
        bar.begins("look")
        assert "1/2 epochs, 0/2 looks [00:00<?, looking]" in shown()
        now = 0.5
        bar.did("look")
        shown()
        bar.begins("look")  # it is known to be short
        assert not shown()
        now = 60.0
        bar.did()
    assert "2/2 epochs, 1/2 looks" in shown()


def test_looks_of_an_experiment_are_those_that_are_made(tmp_path: Path) -> None:
    (raw, *_) = configs.variants(configs.read("tishby")).values()
    seldom = [{"name": "binning"}, {"name": "exact", "snapshots": 4}]
    changes = {"epochs": 12, "snapshots": 5, "seeds": 2, "estimators": seldom}
    experiment = config.build({**raw, **changes})
    frame = train(experiment, tmp_path / "run").frame()
    made = {
        epoch: {*rows["estimator"].str.split("(").str[0]}
        for epoch, rows in frame[frame["epoch"] > 0].groupby("epoch")
    }
    kinds = Counter(map(frozenset, made.values()))
    looks = _looks(experiment, 12)
    assert sorted(looks.values()) == sorted(kinds.values())
    assert len(kinds) > 1
    assert sum(_looks(experiment, 0).values()) == 0
