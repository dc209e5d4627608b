"""Time two ways of doing the same work by turns, and keep the result with its environment."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("ibtrace", "torch", "numpy", "scipy", "scikit-learn")


def by_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Wall and CPU seconds of each way, one run of each per round after a warm-up round."""
    found: dict[str, dict[str, list[float]]] = {n: {"wall": [], "cpu": []} for n in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            if turn:
                found[name]["wall"].append(time.perf_counter() - wall)
                found[name]["cpu"].append(time.process_time() - cpu)
    return found


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds of one way."""
    return statistics.median(by_turns({"": work}, rounds)[""]["cpu"])


def exponent(ratio: float, times: float) -> float:
    """The power of what is so many times as much, if that takes so many times as long."""
    return round(math.log(ratio) / math.log(times), 2)


def ratios(found: Mapping[str, Mapping[str, list[float]]], slow: str, fast: str) -> dict[str, Any]:
    """Median seconds of two ways, and the median, lowest and highest of the ratio per round."""
    pairs = [a / b for a, b in zip(found[slow]["cpu"], found[fast]["cpu"], strict=True)]
    return {
        f"{slow} (CPU s)": round(statistics.median(found[slow]["cpu"]), 3),
        f"{fast} (CPU s)": round(statistics.median(found[fast]["cpu"]), 3),
        "ratio": round(statistics.median(pairs), 2),
        "lowest": round(min(pairs), 2),
        "highest": round(max(pairs), 2),
    }


def environment(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Machine and versions of what is installed, without anything that names a place."""
    import torch

    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "packages": dict(_versions([*PACKAGES, *packages])),
        "date": time.strftime("%Y-%m-%d"),
    }


def _versions(packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def keep(name: str, rows: Mapping[str, Any]) -> None:
    """Print a result and write it to ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"environment": environment(), "results": rows}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


def marked(page: str, name: str, text: str) -> str:
    """A page with other text between its marks of a name.

    Raises:
        ValueError: If the page has no such marks.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, _, rest = page.partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"the page has no marks {begin.strip()} … {end}")
    return f"{before}{begin}{text}{end}{after}"
