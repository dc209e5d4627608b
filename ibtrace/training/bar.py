"""A progress bar for trainings whose looks take longer than their epochs."""

from __future__ import annotations

import time
from typing import Any, Literal

from tqdm import tqdm

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}<{left}]"


class Bar(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
    """Epochs done, and the time left by the work that is left.

    Looks are close together at the start of a training, where a bar that counts epochs takes each
    for as slow as the first ones. Here the mean time of an epoch and that of a look are kept
    apart:

        left = epochs left · mean epoch + looks left · mean look

    and nothing is said before there is a mean of both (or no look is left).

    Args:
        epochs: Epochs in all.
        looks: Looks in all.
        label: The bar's name; None draws none.
        place: Its line, for several side by side.
    """

    def __init__(self, epochs: int, looks: int, label: str | None, place: int = 0) -> None:
        self._left = {"epoch": epochs, "look": looks}
        self._spent = {"epoch": 0.0, "look": 0.0}
        self._done = {"epoch": 0, "look": 0}
        self._since = time.monotonic()
        super().__init__(
            total=epochs, desc=label, position=place, disable=label is None, bar_format=_FORMAT
        )

    def did(self, what: Literal["epoch", "look"]) -> None:
        """An epoch or a look has taken the time since the last call."""
        now = time.monotonic()
        self._spent[what] += now - self._since
        self._done[what] += 1
        self._left[what] -= 1
        self._since = now
        self.update(what == "epoch")

    def skip(self, epochs: int, looks: int) -> None:
        """So many were done before now, by another process perhaps; the clock starts here."""
        self._left["epoch"] -= epochs
        self._left["look"] -= looks
        self.update(epochs)
        self._since = time.monotonic()

    def seconds_left(self) -> float | None:
        """The time left, or None where it cannot be told yet."""
        ahead = [what for what, left in self._left.items() if left > 0]
        if not all(self._done[what] for what in ahead):
            return None
        return sum(self._left[what] * self._spent[what] / self._done[what] for what in ahead)

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the bar's format may use: tqdm's own, and ``left``."""
        seconds = self.seconds_left()
        left = "?" if seconds is None else self.format_interval(seconds)
        return {**super().format_dict, "left": left}
