"""The list of planted breaks stays true: each text is where it is said, each test exists."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ibtrace import lenses
from tests import mutants
from tests.planted_breaks import BREAKS, OTHERS, ROOT, Break, planted, run_tests


def _named(what: Break) -> str:
    return f"{what.of}: {what.source}"


@pytest.mark.parametrize("what", BREAKS, ids=_named)
def test_a_break_is_of_a_line_that_is_there_and_of_tests_that_are(what: Break) -> None:
    text = (ROOT / "ibtrace" / what.file).read_text()
    assert text.count(what.source) == 1
    ast.parse(text.replace(what.source, what.broken))  # wrong, and not a syntax error
    assert what.broken != what.source
    for test in what.tests:
        file, _, name = test.partition("::")
        assert not name or f"def {name}(" in (ROOT / "tests" / file).read_text()


def test_every_lens_has_one_and_so_have_the_others() -> None:
    assert {what.of for what in BREAKS} == {*lenses.names(), *OTHERS}
    assert len(BREAKS) >= 30


def test_a_break_that_is_noticed_is_caught_and_one_that_is_not_survives(tmp_path: Path) -> None:
    (tmp_path / "ibtrace").mkdir()
    (tmp_path / "tests").mkdir()
    code = tmp_path / "ibtrace" / "__init__.py"
    code.write_text("def half(x):\n    return x / 2\n")
    (tmp_path / "tests" / "test_half.py").write_text(
        "from ibtrace import half\n\n\ndef test_half():\n    assert half(4) == 2\n"
    )
    where = "__init__.py", "return x / 2"
    tests = ("test_half.py::test_half",)
    assert run_tests(tmp_path, tests) == 0
    with planted(tmp_path, Break("", *where, "return x / 3", tests)):
        assert run_tests(tmp_path, tests) == 1
    with planted(tmp_path, Break("", *where, "return x // 2", tests)):
        assert run_tests(tmp_path, tests) == 0
    assert code.read_text() == "def half(x):\n    return x / 2\n"
    with pytest.raises(ValueError, match=r"__init__\.py has 0 times: return y"):
        planted(tmp_path, Break("", "__init__.py", "return y", "", tests)).__enter__()
    with pytest.raises(RuntimeError, match="ended with 4"):
        run_tests(tmp_path, ("test_none.py",))


def test_what_a_mutant_is_excused_for_stands_in_the_code() -> None:
    known = {mutants.excuse(each) for each in mutants.mutants()}
    assert set(mutants.EXPLAINED) <= known


def test_a_mutant_is_one_change() -> None:
    text = "def f(a: int) -> bool:\n    return a < 1 and not a == -2\n"
    found = [what for node in ast.walk(ast.parse(text)) for what, _ in mutants.changes(node)]
    assert sorted(found) == [
        "1 to 2", "2 to 3", "And to Or", "Eq to NotEq", "Lt to LtE", "without Not", "without USub",
    ]  # fmt: skip
