"""The gallery's figures are drawn by what stands beside them, here of small runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from ibtrace import cli
from ibtrace.papers import PAPERS
from ibtrace.reports import reporting
from ibtrace.trace import Trace
from ibtrace.training import runner
from tests.test_docs import ROOT
from tests.test_pages import quicker

PAGE = ROOT / "docs" / "gallery.md"
PART = re.compile(r"(?:<!-- small: (.*?) -->\n)?```(bash|python)\n(.*?)^```$", re.S | re.M)
PICTURE = re.compile(r"^!\[[^\]]{20,}\]\((.+?)\)$", re.M)
MOST_LINES = 15


def sections() -> dict[str, str]:
    """The page by its headings."""
    _, *parts = re.split(r"^## ", PAGE.read_text(), flags=re.M)
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


@pytest.fixture
def quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """Commands run in this process, and of their reports only the paper's own figures are drawn."""
    drawn: list[Figure] = []

    def one_by_one(runs: Mapping[str, Any], jobs: Mapping[str, Path], *_: Any) -> None:
        for name, run in runs.items():
            runner._train(run, jobs[name], resume=False, label=None)

    def own_figures(
        traces: Mapping[str, Trace], _folder: Path, _claims: Any, own: Mapping[str, Any], *_: Any
    ) -> str:
        drawn.extend(draw(traces) for draw in own.values())
        return ""

    monkeypatch.setattr(runner, "_side_by_side", one_by_one)
    monkeypatch.setattr(reporting, "report", own_figures)
    monkeypatch.chdir(tmp_path)
    yield drawn
    plt.close("all")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_figure_is_drawn_by_what_stands_beside_it(
    quickly: list[Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope: dict[str, Any] = {}
    for small, language, text in PART.findall(PAGE.read_text()):
        if language == "bash":
            (command,) = text.strip().splitlines()
            words = [*shlex.split(command)[1:], *shlex.split(small), "--quiet"]
            assert small
            assert cli.main(words) == 0
            if (paper := PAPERS.get(words[1])) is not None:
                assert len(quickly) == len(paper.figures)
                quickly.clear()
            continue
        if small:  # the grid of the analyses
            grid = tmp_path / "grid.yaml"
            grid.write_text(small)
            monkeypatch.setattr("ibtrace.trace.choices.DEFAULT", grid)
        scope.pop("figure", None)
        exec(compile(quicker(text), "gallery.md", "exec"), scope)
        if "figure" in text:
            assert isinstance(scope["figure"], Figure)
            assert any(axes.has_data() for axes in scope["figure"].axes)


def test_each_figure_is_there_and_has_a_command_or_a_few_lines() -> None:
    parts = sections()
    assert 8 <= len(parts) <= 12
    for title, text in parts.items():
        (picture,) = PICTURE.findall(text)
        assert (PAGE.parent / picture).stat().st_size > 10_000
        made = [code for _, _, code in PART.findall(text)]
        assert len(made) == 1, title
        assert len(made[0].splitlines()) <= MOST_LINES, title
        assert text[text.index(picture) :].count("\n*") == 1, f"{title}: no caption"
