"""Every example of every page is run: by a test of the page's own, or by the one here."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from ibtrace import cli
from ibtrace.estimators import Binning
from tests.stored_traces import NARROW, WIDE, coded, kept_trace
from tests.test_docs import ROOT, blocks

PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
}
RUN_BY = {
    "README.md": "test_docs::test_the_readmes_python_blocks_run_in_order",
    "docs/your-model.md": "test_docs::test_the_page_on_your_own_model_runs_as_printed",
    "docs/resolution.md": "test_docs::test_the_page_on_resolution_runs_as_printed",
    "docs/bound.md": "test_docs::test_the_page_on_the_bound_runs_and_prints_what_it_says",
    "docs/estimators.md": "test_compare::test_the_code_of_the_page_runs_as_printed",
    "docs/extending/estimator.md": "test_compare::test_the_code_of_the_page_runs_as_printed",
    **{
        f"docs/extending/{name}.md": "test_from_outside::scope"
        for name in ("lens", "plot", "paper", "sink", "law")
    },
    "docs/gallery.md": "test_gallery::test_every_figure_is_drawn_by_what_stands_beside_it",
    "docs/sweeps.md": "test_sweep::test_the_python_of_the_page_runs",
    "docs/targets.md": "test_named::test_the_page_runs_as_printed",
}
"""Pages whose code needs what only a test of their own prepares, and which test that is."""

OTHERS = [name for name, page in PAGES.items() if blocks(page, "python") and name not in RUN_BY]


def quicker(code: str) -> str:
    """The same example, its loops of training cut short."""
    return re.sub(r"range\(1, \d{2,}\)", "range(1, 4)", code)


def trusting() -> dict[str, Any]:
    """What a reader of the page on trust has: a run that kept its activations."""
    looks = {at: [{"hidden": t["hidden"]} for t in seeds] for at, seeds in _coded().items()}
    return {"trace": kept_trace(Path("kept"), looks), "Binning": Binning}


def _coded() -> Any:
    return coded({0: WIDE, 1: WIDE, 5: NARROW, 20: NARROW})


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {"docs/trust.md": trusting}
"""What a page takes for granted."""


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore:.*few.*:UserWarning")
def test_the_examples_of_a_page_run_in_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scope = GIVEN.get(name, dict)()
    for block in blocks(PAGES[name], "python"):
        exec(compile(quicker(block), name, "exec"), scope)
    plt.close("all")


@pytest.mark.parametrize("name", RUN_BY)
def test_a_page_with_a_test_of_its_own_has_one(name: str) -> None:
    file, test = RUN_BY[name].split("::")
    source = (ROOT / "tests" / f"{file}.py").read_text()
    functions = {each.name for each in ast.walk(ast.parse(source)) if hasattr(each, "name")}
    assert test in functions
    assert Path(name).name in source
    assert blocks(PAGES[name], "python")


COMMANDS = [
    (name, line)
    for name, page in PAGES.items()
    for language in ("", "bash", "text")
    for block in blocks(page, language)
    for line in re.findall(r"^(?:\.venv/bin/)?ibtrace (.+)$", block, re.MULTILINE)
]


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_a_command_of_a_page_is_one(name: str, command: str) -> None:
    words = shlex.split(re.sub(r"  +#.*| --[\w-]+ …| …", "", command))
    options = cli._parser().parse_args(words)
    assert callable(options.call), name


def test_there_are_commands_and_examples() -> None:
    assert len(COMMANDS) > 15
    assert {"docs/quickstart.md", "docs/verdict.md", "docs/language-models.md"} <= {*OTHERS}
