"""What a look of each lens was measured to cost: ``benchmarks/lenses.py`` writes it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

COSTS = Path(__file__).with_name("costs.json")
"""Per lens and size CPU seconds of one look on one thread and MiB above the rest of the process."""


def measured_cost(name: str) -> str:
    """What a look was measured to cost on each network, in words; empty if it was not.

    Args:
        name: A key of the registry.

    Example:
        >>> measured_cost("no such lens")
        ''
    """
    return "; ".join(f"{size}: {_words(cost)}" for size, cost in _held().get(name, {}).items())


@cache
def _held() -> dict[str, dict[str, dict[str, float | str]]]:
    costs: dict[str, dict[str, dict[str, float | str]]] = json.loads(
        COSTS.read_text(encoding="utf-8")
    )["costs"]
    return costs


def _words(cost: dict[str, float | str]) -> str:
    if "refused" in cost:
        return "refused"
    seconds, more = float(cost["seconds"]), float(cost["MiB"])
    time = f"{1000 * seconds:.2g} ms" if seconds < 0.0995 else f"{seconds:.2g} s"
    return f"{time}, {more:.0f} MiB"
