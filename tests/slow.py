"""Writes `slow.txt`: the tests that together take most of the time.

    pytest -n auto --durations=0 --durations-min=0.01 > log; python -m tests.slow log --seconds 250

Kept out of it are the quickest test functions (with all their parameters), as many as together
take that many seconds.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

LINE = re.compile(r"([\d.]+)s (?:call|setup|teardown) +(\S+?)(?:\[|$)", re.MULTILINE)
HEAD = "# Test functions that are marked slow, with the seconds they took: python -m tests.slow\n"


def slow_tests(log: str, seconds: float) -> dict[str, float]:
    """The test functions that are left when the quickest are taken out, and what each took.

    Args:
        log: What pytest printed, with ``--durations=0``.
        seconds: How long the quickest may take together.
    """
    took: dict[str, float] = defaultdict(float)
    for time, name in LINE.findall(log):
        took[name] += float(time)
    spent, slow = 0.0, {}
    for name, time in sorted(took.items(), key=lambda item: item[1]):
        spent += time
        if spent > seconds:
            slow[name] = time
    return slow


def main() -> None:
    """Read a log, write the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--seconds", type=float, default=250.0)
    options = parser.parse_args()
    slow = slow_tests(options.log.read_text(), options.seconds)
    lines = [f"{name} {time:.1f}\n" for name, time in sorted(slow.items())]
    Path(__file__).with_name("slow.txt").write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
