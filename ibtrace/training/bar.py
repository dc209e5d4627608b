"""A progress bar for trainings whose looks take longer than their epochs."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from typing import Any

from tqdm import tqdm

EPOCH = "epoch"
"""The work of an epoch; all other kinds are looks."""

_FORMAT = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} epochs, {looks} looks"
    " [{elapsed}<{left}{doing}]"
)
_LONG = 1.0  # seconds: what takes longer is named while it goes on


class Bar(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
    """Epochs done, and the time left by the work that is left.

    Looks are close together at the start of a training, where a bar that counts epochs takes each
    for as slow as the first ones; and the looks of an estimator that is seldom due take many times
    as long as the others. Here the mean time of each kind of work is kept apart:

        left = epochs left · mean epoch + Σ looks of a kind left · mean look of the kind

    and nothing is said before there is a mean of each kind that is left.

    Args:
        epochs: Epochs in all.
        looks: How many looks of each kind, in all.
        label: The bar's name; None draws none.
        place: Its line, for several side by side.
    """

    def __init__(
        self, epochs: int, looks: Mapping[Hashable, int], label: str | None, place: int = 0
    ) -> None:
        self._ahead: Counter[Hashable] = Counter({EPOCH: epochs, **looks})
        self._spent: defaultdict[Hashable, float] = defaultdict(float)
        self._done: Counter[Hashable] = Counter()
        self._looks = sum(looks.values())
        self._looked = 0
        self._doing = "preparing"
        self._since = time.monotonic()
        super().__init__(
            total=epochs, desc=label, position=place, disable=label is None, bar_format=_FORMAT
        )

    def begins(self, look: Hashable) -> None:
        """A look of a kind begins; it is named if it may take long."""
        known = self._done[look]
        if not known or self._spent[look] > _LONG * known:
            self._doing = "looking"
            self.refresh()

    def did(self, what: Hashable = EPOCH) -> None:
        """An epoch, or a look of a kind, has taken the time since the last call."""
        now = time.monotonic()
        self._spent[what] += now - self._since
        self._done[what] += 1
        self._ahead[what] -= 1
        self._looked += what != EPOCH
        self._since, self._doing = now, ""
        self.update(what == EPOCH)

    def skip(self, epochs: int, looks: Mapping[Hashable, int]) -> None:
        """So many were done before now, by another process perhaps; the clock starts here."""
        self._ahead.subtract({EPOCH: epochs, **looks})
        self._looked += sum(looks.values())
        self._doing = ""
        self.update(epochs)
        self._since = time.monotonic()

    def seconds_left(self) -> float | None:
        """The time left, or None where it cannot be told yet."""
        ahead = {what: left for what, left in self._ahead.items() if left > 0}
        if not all(self._done[what] for what in ahead):
            return None
        return sum(left * self._spent[what] / self._done[what] for what, left in ahead.items())

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the bar's format may use: tqdm's own, and ``left``, ``looks`` and ``doing``."""
        seconds = self.seconds_left()
        return {
            **super().format_dict,
            "left": "?" if seconds is None else self.format_interval(seconds),
            "looks": f"{self._looked}/{self._looks}",
            "doing": f", {self._doing}" if self._doing else "",
        }


# tqdm's own lock is a semaphore of the system, which a process that is killed leaves behind
Bar.set_lock(threading.RLock())
