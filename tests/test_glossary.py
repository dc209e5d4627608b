"""The glossary explains every flag, check and cause that there is, and none that there is not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from ibtrace.plane import CHECKS, CauseKind

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "glossary.md").read_text()
SOURCES = [
    path
    for room in ("estimators", "lenses", "numerics")
    for path in sorted((ROOT / "ibtrace" / room).glob("*.py"))
]


def explained(section: str) -> dict[str, str]:
    """The names of a section's table, and what it says of each."""
    (part,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    return dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", part, re.M))


def raised(tree: ast.AST) -> Iterator[str]:
    """Flags that a module names where it makes a number: ``flags={…}``, ``.flagged(…)``."""
    tables = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value, ast.Dict)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            value = keyword.value
            value = tables.get(value.id, value) if isinstance(value, ast.Name) else value
            if keyword.arg == "flags" and isinstance(value, ast.Dict):
                yield from (str(key.value) for key in value.keys if isinstance(key, ast.Constant))
            elif (
                isinstance(node.func, ast.Attribute) and node.func.attr == "flagged" and keyword.arg
            ):
                yield keyword.arg


def test_every_flag_that_is_raised_is_explained() -> None:
    there = {flag for path in SOURCES for flag in raised(ast.parse(path.read_text()))}
    assert len(there) > 40
    assert there - {*explained("Flags of estimators"), *explained("Flags of lenses")} == set()


@pytest.mark.parametrize("section", ["Flags of estimators", "Flags of lenses"])
def test_every_flag_that_is_explained_is_there(section: str) -> None:
    text = "\n".join(path.read_text() for path in SOURCES)
    for flag in explained(section):
        assert re.search(rf"[\"']{flag}[\"']|\b{flag}=", text), flag


def test_checks_and_causes_are_those_there_are() -> None:
    assert list(explained("Checks of points")) == list(CHECKS)
    assert list(explained("Causes of calls")) == list(get_args(CauseKind))


@pytest.mark.parametrize(
    "section",
    ["Flags of estimators", "Flags of lenses", "Checks of points", "Causes of calls"],
)
def test_each_has_two_sentences(section: str) -> None:
    for name, text in explained(section).items():
        assert len(re.findall(r"[.:] [A-Z`]|\.$", text)) >= 2, (name, text)
        assert text.endswith(".")
