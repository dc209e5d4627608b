"""Work in other processes comes in order, and an interrupt ends it without a word or a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ibtrace.runtime.workers import results

SLOW = """
import sys, time
from pathlib import Path
from ibtrace.runtime.workers import results

def slow(folder, name):
    (folder / name).touch()
    time.sleep(600)

if __name__ == "__main__":
    try:
        list(results(slow, [(Path(sys.argv[1]), name) for name in "abc"], 2))
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_results_come_in_order_and_an_error_ends_all() -> None:
    quotients = results(divmod, [(7, 2), (9, 4), (9, 0), (1, 1)], 2)
    assert [next(quotients), next(quotients)] == [(3, 1), (2, 1)]
    with pytest.raises(ZeroDivisionError, match="zero"):
        next(quotients)
    assert list(results(divmod, [], 2)) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_is_all_that_is_said_and_no_process_stays(begun: bool, tmp_path: Path) -> None:
    """While processes are still importing, and in the midst of their tasks."""
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    marks = tmp_path / "marks"
    marks.mkdir()
    with subprocess.Popen(
        [sys.executable, str(script), str(marks)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while process.poll() is None:
                if (
                    len([*marks.iterdir()]) == 2
                    if begun
                    else _workers(process.pid, "libtorch") == 2
                ):
                    break
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to every process
            said, wrong = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert (said, wrong) == ("interrupted\n", "")
    assert _workers(process.pid) == 0


def _workers(group: int, library: str = "") -> int:
    """How many processes that were spawned are of a group, those that have loaded a library."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            command, loaded = ((folder / name).read_text() for name in ("cmdline", "maps"))
        except OSError:  # gone meanwhile
            continue
        alive = int(of_group) == group and "spawn_main" in command and state != "Z"
        found += alive and library in loaded
    return found
