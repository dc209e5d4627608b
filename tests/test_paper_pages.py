"""The pages of the papers have exactly the claims that there are, each with an outcome."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from ibtrace.claims import Status
from ibtrace.papers import PAPERS, Paper

DOCS = Path(__file__).parent.parent / "docs"
PAGES = DOCS / "papers"
BLOCK = re.compile(r"<!-- claims: begin -->\n(.*?)<!-- claims: end -->", re.DOTALL)


def written(page: Path) -> str:
    """What the script wrote: the text between the markers."""
    (block,) = BLOCK.findall(page.read_text())
    return str(block)


def cells(block: str) -> list[list[str]]:
    """The rows of a block's table, without its head."""
    rows = [line for line in block.splitlines() if line.startswith("| ")]
    parts = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]
    return [[cell.replace(r"\|", "|").replace(r"\*", "*") for cell in row] for row in parts]


def differences(paper: Paper, block: str) -> list[str]:
    """In what a committed table is not that of the claims there are."""
    table, found = cells(block), []
    names = [claim.name for claim in paper.claims]
    if (told := [row[0] for row in table]) != names:
        found.append(f"the claims are {names}, the page has {told}")
    for claim, row in zip(paper.claims, table, strict=False):
        if row[1] != f"{claim.statement} ({claim.source})":
            found.append(f"{claim.name}: the page states {row[1]!r}")
        if row[2] not in get_args(Status) or not row[3]:
            found.append(f"{claim.name}: outcome {row[2:]}")
    counts = {status: sum(row[2] == status for row in table) for status in get_args(Status)}
    summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    if f"\n{len(table)} claims: {summary}.\n" not in block:
        found.append(f"the summary is not {summary}")
    return found


@pytest.mark.parametrize("name", list(PAPERS))
def test_a_page_has_the_claims_there_are_the_figures_and_where_they_are_from(name: str) -> None:
    page = PAGES / f"{name}.md"
    block = written(page)
    assert not differences(PAPERS[name], block)
    figures = re.findall(r"!\[[^\]]+\]\(\.\./figures/(papers-[^)]+\.png)\)", block)
    assert figures
    assert all((DOCS / "figures" / figure).exists() for figure in figures)
    (line,) = re.findall(rf"^\*`ibtrace replicate {name}.*\*$", block, re.MULTILINE)
    assert re.search(r"\d+ seeds; ibtrace [\d.]+, torch .*; commit [0-9a-f]{10}, 20\d\d-", line)
    rest = BLOCK.sub("", page.read_text())
    assert "## Where this differs from the paper" in rest
    assert not re.search(r"^\[.*\]$", rest, re.MULTILINE), "the template's brackets are left"


def test_a_page_that_is_behind_the_claims_is_seen() -> None:
    paper = PAPERS["saxe-linear"]
    head = "| claim | statement (source) | | measured |\n| --- | --- | --- | --- |\n"
    rows = [f"| {c.name} | {c.statement} ({c.source}) | held | 1 |\n" for c in paper.claims]
    summary = f"\n{len(rows)} claims: {len(rows)} held.\n\n"
    block = summary + head + "".join(rows)
    assert differences(paper, block) == []
    other = paper.claims[0].statement[:-1] + ", always."
    breaks = {
        "the claims are": summary + head + "".join(rows[1:]),
        "the page has": summary + head + "".join(reversed(rows)),
        "the page states": block.replace(paper.claims[0].statement, other, 1),
        "outcome": block.replace("| held |", "| perhaps |", 1),
        "the summary": block.replace("| held |", "| failed |", 1),
    }
    for said, broken in breaks.items():
        assert any(said in difference for difference in differences(paper, broken)), said


def test_the_list_names_every_paper_and_links_those_with_a_page() -> None:
    listed = {row[0]: row for row in cells(written(PAGES / "README.md"))}
    assert list(listed) == [f"[{name}]({name}.md)" for name in PAPERS]
    for name in PAPERS:
        told = listed[f"[{name}]({name}.md)"][2]
        assert f" claims: {told}.\n" in written(PAGES / f"{name}.md")
    assert {page.stem for page in PAGES.glob("*.md")} == {*PAPERS, "README"}
