"""What all nearest-neighbour estimators share: their fields, and what they do to ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.numerics.distances import Space
from ibtrace.numerics.knn import tied_share

_Counts = TypeVar("_Counts")


def break_ties(
    name: str,
    jitter: float,
    spaces: Sequence[Space],
    k: int,
    count: Callable[[bool], _Counts | None],
) -> tuple[_Counts, float]:
    """Counts of neighbours among the samples as they are or, if tied, jittered.

    With them comes the share of tied samples, 0 if the samples were taken as they are. It is
    that of the variable with more ties, by `tied_share`; of ties that only the count has met,
    one pair is certain.

    Args:
        name: The estimator's label, for the message.
        jitter: Its jitter.
        spaces: The continuous variables, looked at first, since most ties show at once.
        k: The number of neighbours.
        count: Counts, of jittered samples if its argument is true; None if stopped by a tie.

    Raises:
        InvalidInput: If there are ties and ``jitter`` is 0.
    """
    share = max(tied_share(space, k) for space in spaces)
    counts = count(False) if share == 0 else None
    if counts is not None:
        return counts, 0.0
    counts = count(True) if jitter else None
    if counts is None:
        raise InvalidInput(
            f"{name}: samples repeat or neighbours tie, where this estimator is undefined; "
            "set jitter > 0, or give a discrete variable as ids"
        )
    return counts, max(share, 2 / len(spaces[0].points))


def check_fields(name: str, k: int, norm: str, jitter: float) -> None:
    """Raise unless the configuration of a nearest-neighbour estimator is possible.

    Raises:
        ConfigError: If k, the norm or the jitter is impossible.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ConfigError(f"{name}: k must be a whole number of at least 1, got {k!r}")
    if norm not in ("euclidean", "max"):
        raise ConfigError(f"{name}: norm must be 'euclidean' or 'max', got {norm!r}")
    if not 0 <= jitter < 1e-3:
        raise ConfigError(f"{name}: jitter must lie in [0, 0.001), got {jitter!r}")
