"""Writes `slow.txt`: the tests that together take most of the time.

    pytest -n auto --durations=0 --durations-min=0.01 > log; python -m tests.slow log --seconds 220

Kept out of it are the quickest test functions (with all their parameters), as many as together
take that many seconds. Where a fixture takes long, which of the tests of its file pays for it is a
matter of their order: the whole file is slow.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

LINE = re.compile(r"([\d.]+)s (call|setup|teardown) +(\S+?)(?:\[|$)", re.MULTILINE)
LONG = 2.0  # seconds of a fixture
HEAD = "# Test functions that are marked slow, with the seconds they took: python -m tests.slow\n"


def slow_tests(log: str, seconds: float) -> dict[str, float]:
    """The functions and files that are left when the quickest are taken out, and what each took.

    Args:
        log: What pytest printed, with ``--durations=0``.
        seconds: How long the quickest may take together.
    """
    lines = [(float(time), phase, name) for time, phase, name in LINE.findall(log)]
    files = {_file(name) for time, phase, name in lines if phase == "setup" and time >= LONG}
    took: dict[str, float] = defaultdict(float)
    for time, _, name in lines:
        took[_file(name) if _file(name) in files else name] += time
    spent, slow = 0.0, {}
    for name, time in sorted(took.items(), key=lambda item: item[1]):
        spent += time
        if spent > seconds or name in files:
            slow[name] = time
    return slow


def _file(name: str) -> str:
    return name.partition("::")[0]


def main() -> None:
    """Read a log, write the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--seconds", type=float, default=220.0)
    options = parser.parse_args()
    slow = slow_tests(options.log.read_text(), options.seconds)
    lines = [f"{name} {time:.1f}\n" for name, time in sorted(slow.items())]
    Path(__file__).with_name("slow.txt").write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
