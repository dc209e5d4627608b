"""The time left that a progress bar says is that of the work that is left."""

from __future__ import annotations

import time

import pytest

from ibtrace.runtime.schedule import log_spaced
from ibtrace.training.bar import Bar

LOOK, EPOCH = 2.0, 0.01


@pytest.mark.parametrize("done", [0, 1, 10, 100, 999])
def test_log_spaced_looks_do_not_stretch_the_time_left(
    done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    due, epochs = log_spaced(1000, 50), 1000
    looks = sum(map(due, range(1, epochs + 1)))
    bar = Bar(epochs, looks, None)
    bar.skip(0, 0)
    for epoch in range(1, done + 1):
        now += EPOCH
        bar.did("epoch")
        if due(epoch):
            now += LOOK
            bar.did("look")
    left = (epochs - done) * EPOCH + sum(map(due, range(done + 1, epochs + 1))) * LOOK
    if done == 0:
        assert bar.seconds_left() is None
        assert bar.format_dict["left"] == "?"
    else:
        assert bar.seconds_left() == pytest.approx(left)


def test_what_an_earlier_process_did_is_neither_ahead_nor_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bar = Bar(10, 1, None)
    now = 100.0
    bar.skip(4, 1)
    now = 103.0
    bar.did("epoch")
    assert bar.seconds_left() == pytest.approx(5 * 3.0)
