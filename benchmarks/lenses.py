"""What one look of each lens costs, in time and memory.

The result is a file of the package, which ``ibtrace list lenses`` prints.

Each lens and size is a process of its own, on one thread and in double precision. The time is that
of a fresh view on which nothing is computed yet, after a warm-up on a small network; the memory is
how far the peak rises above that of the warm-up.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from timing import environment
from torch import nn

from ibtrace import datasets, lenses
from ibtrace.errors import IbtraceError
from ibtrace.lenses import COSTS
from ibtrace.models import MLP
from ibtrace.probe import Probe
from ibtrace.testing._views import Case, cases

ROUNDS, LIMIT = 3, 300
BITS, DIGITS = datasets.tishby(), datasets.digits(flatten=False)


def cnn(first: int, second: int, hidden: int) -> nn.Module:
    """Two convolutions with max pooling and two linear layers, for 8×8 digits."""
    return nn.Sequential(
        *(nn.Conv2d(1, first, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(4 * second, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
    )


def bits() -> nn.Module:
    """The 12-bit network of Shwartz-Ziv & Tishby."""
    return MLP([12, 10, 7, 5, 4, 3, 2], activation="tanh", output="logits")


PATTERNS = Probe(BITS.x.double(), BITS.y, population=True)
IMAGES = Probe(DIGITS.x.double(), DIGITS.y)
SIZES: Mapping[str, tuple[Callable[[], nn.Module], Probe, int]] = {
    "12-bit network": (bits, PATTERNS, 1),
    "10 of them": (bits, PATTERNS, 10),
    "CNN of 6,058 parameters": (lambda: cnn(8, 16, 64), IMAGES, 1),
    "CNN of 93,770 parameters": (lambda: cnn(16, 32, 640), IMAGES, 1),
}


def peak() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, size: str) -> dict[str, Any]:
    """CPU seconds and MiB of one look, or why the lens refuses the network."""
    build, probe, count = SIZES[size]
    lens = lenses.make(name)
    case = Case(size, build, probe)
    seeds = range(max(count, 2)) if lens.tags.among else range(count)
    for small in cases():
        try:
            lens(small.view(), small.probe)
        except IbtraceError:
            continue
    spent, views = [], [case.view(seeds) for _ in range(ROUNDS)]
    before = peak()
    for view in views:
        begun = time.process_time()
        try:
            lens(view, probe)
        except IbtraceError as error:
            return {"refused": str(error)}
        spent.append(time.process_time() - begun)
        view.release()
    return {"seconds": round(statistics.median(spent), 4), "MiB": round(peak() - before)}


def in_process(name: str, size: str) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, name, size]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    except subprocess.TimeoutExpired:
        return {"refused": f"takes more than {LIMIT} s"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """All lenses at all sizes."""
    rows = {}
    for name in lenses.names():
        rows[name] = {size: in_process(name, size) for size in SIZES}
        print(name, rows[name], file=sys.stderr)
    held = {"environment": environment(), "costs": rows}
    COSTS.write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()
