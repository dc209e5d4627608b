"""Which tests are slow, and that a run of the rest takes all that the quick one leaves out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SLOW
from tests.slow import slow_tests

LOG = """
=== slowest durations ===
9.00s call     tests/test_a.py::test_long
2.00s call     tests/test_a.py::test_many[one two]
1.90s setup    tests/test_a.py::test_many[three]
1.00s call     tests/test_a.py::test_short
0.50s teardown tests/test_b.py::test_quick[x]
3.00s setup    tests/test_c.py::test_first
0.10s call     tests/test_c.py::test_second
"""
TESTS = """
import pytest

def test_quick(): ...

def test_slow(): ...

@pytest.mark.parametrize("at", [0, 1])
def test_of_what_is_missing(at):
    pytest.importorskip(f"no_such_package_{at}")

@pytest.mark.xfail
def test_known_to_fail():
    assert False
"""


def test_the_quickest_functions_are_left_out_up_to_so_many_seconds() -> None:
    long, many = "tests/test_a.py::test_long", "tests/test_a.py::test_many"
    file = {"tests/test_c.py": 3.1}  # whichever of its tests comes first waits for the fixture
    assert slow_tests(LOG, 1.5) == pytest.approx({long: 9, many: 3.9, **file})
    assert slow_tests(LOG, 10) == pytest.approx({long: 9, **file})
    assert slow_tests(LOG, 99) == pytest.approx(file)


def test_the_list_names_tests_that_there_are() -> None:
    lines = [line for line in SLOW.read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        file, _, name = line.split()[0].partition("::")
        if not name:
            assert (SLOW.parent.parent / file).is_file(), line
            continue
        function = re.escape(name.rpartition(".")[2])  # of a docstring's example after its module
        source = (SLOW.parent.parent / file).read_text()
        assert re.search(rf"^def {function}\(", source, re.MULTILINE), line
    assert lines


def test_the_rest_is_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    for name in ("conftest.py", "slow.py"):
        (tmp_path / "tests" / name).write_text((SLOW.parent / name).read_text())
    lines = "# a comment\ntests/test_it.py::test_slow 3.0\ntests/test_other.py 2.0\n"
    (tmp_path / "tests" / "slow.txt").write_text(lines)
    (tmp_path / "tests" / "test_other.py").write_text("def test_slow_too(): ...\n")
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: slow\n")

    def ran(*options: str) -> str:
        command = [sys.executable, "-m", "pytest", "-rA", "--no-header", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    quick = ran("-n", "2", "-m", "not slow")
    assert "1 passed, 2 skipped" in quick
    assert "1 xfailed" in quick
    rest = ran("-n", "2", "--rest")
    assert "PASSED tests/test_it.py::test_slow" in rest
    assert "PASSED tests/test_other.py::test_slow_too" in rest
    assert "2 passed, 2 skipped in" in rest
    (tmp_path / "no_such_package_0.py").write_text("")
    ran("-m", "not slow", "-n", "0")
    assert "2 passed, 1 skipped, 3 deselected" in ran("--rest")
