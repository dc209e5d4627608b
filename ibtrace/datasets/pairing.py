"""Whether what pandas labels belongs together row by row: nothing here is put into order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any

from ibtrace.errors import InvalidInput


def require_one_order(values: Mapping[str, Any], who: str) -> None:
    """Raise if two data frames or series name their rows, and not by the same names in one order.

    Samples are paired by position. A default index (0, 1, …) is one that nobody chose: it is taken
    for positions beside other names, but not where the other holds just these numbers in another
    order, as after ``frame.sample(frac=1)``. What has no index is paired by position.

    Args:
        values: What holds the samples first, by what it is called.
        who: Who asks, for the error.

    Raises:
        InvalidInput: If the names differ; says how to pair.
    """
    indexed = {name: value for name, value in values.items() if _is_indexed(value)}
    for (first, left), (second, right) in combinations(indexed.items(), 2):
        if len(left) != len(right) or left.index.equals(right.index):
            continue  # of unequal lengths, whoever asks says so
        same = _same_names(left.index, right.index)
        if not same and (_is_default(left.index) or _is_default(right.index)):
            continue
        what = "the same row names in another order" if same else "other row names (index)"
        means = f"{second}.loc[{first}.index], or " if same and left.index.is_unique else ""
        raise InvalidInput(
            f"{who}: {second} has {what} than {first}; give {means}{second}.to_numpy() to pair "
            "them by position"
        )


def _is_indexed(value: Any) -> bool:
    """Whether this is a data frame or a series of pandas, or of what works like it."""
    index = getattr(value, "index", None)
    return hasattr(value, "to_numpy") and hasattr(index, "equals") and hasattr(index, "is_unique")


def _is_default(index: Any) -> bool:
    return all(getattr(index, name, None) == at for name, at in (("start", 0), ("step", 1)))


def _same_names(left: Any, right: Any) -> bool:
    """Whether two indexes hold the same names, each as often."""
    return Counter(left) == Counter(right)
