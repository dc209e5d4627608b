"""The pages of the papers: each claim tested on a run of the paper's default, and the figures.

    python benchmarks/papers.py saxe chelombiev
    python benchmarks/papers.py --runs runs saxe
    python benchmarks/papers.py --lenses tishby
    python benchmarks/papers.py --list

The first trains what `ibtrace replicate NAME` trains, minutes each; with ``--runs`` a paper whose
run is in that folder (``runs/NAME``) is read from there, and others are trained into it. Written
are the block between the markers of ``docs/papers/NAME.md`` (a new page has what is left to be
told by a person in brackets), the figures in ``docs/figures``, and the list of all papers in
``docs/papers/README.md``, which alone the last one writes.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from timing import marked

from ibtrace import papers, plots
from ibtrace.claims import claims_table
from ibtrace.papers import Paper
from ibtrace.reports.controls import subjects
from ibtrace.trace import Trace
from ibtrace.training import configs, folders, runner

DOCS = Path(__file__).parent.parent / "docs"
PACKAGES = ("ibtrace", "torch", "numpy", "python")
STATUSES = ("held", "failed", "inconclusive", "not measured")

Traces = Mapping[str, Trace]

PAGE = """# `ibtrace replicate {name}`

{title}.

[What is run, and what it shows.]

<!-- claims: begin -->
<!-- claims: end -->
## Where this differs from the paper

[What is smaller, and what contradicts it.]
"""


def run(paper: Paper, folder: Path, lenses: bool) -> Traces:
    """The paper's default run: that of the folder, or else trained into it."""
    if (folder / folders.CONFIG).is_file():
        return subjects(runner.load(folder))  # a run with --controls has theirs too
    raw = configs.read(paper.config or paper.name)
    if lenses:
        read = [lens for claim in paper.claims for lens in claim.reads.values()]
        raw = configs.override(raw, "lenses", [*dict.fromkeys(read)])
    return runner.run(raw, folder)


def figures(paper: Paper, traces: Traces) -> Mapping[str, Figure]:
    """The paper's own figures by name; the information planes of one that has none."""
    if paper.figures:
        return {name: draw(traces) for name, draw in paper.figures.items()}
    titled = {name or paper.name: trace for name, trace in traces.items()}
    return {"planes": plots.information_planes(titled, next(iter(traces.values())).estimators[0])}


def provenance(paper: Paper, traces: Traces) -> str:
    """What the run was, in a line."""
    first = next(iter(traces.values()))
    seeds = sorted({len(trace.meta["seeds"]) for trace in traces.values()})
    versions = ", ".join(f"{name} {first.meta['packages'][name]}" for name in PACKAGES)
    revision = str(first.meta.get("git_revision") or "unknown")[:10]
    lenses = "".join(
        f" --lenses {','.join(dict.fromkeys(names))}"
        for names in [[lens for claim in paper.claims for lens in claim.reads.values()]]
        if names and first.meta["lenses"] and not _own_lenses(paper)
    )
    return (
        f"*`ibtrace replicate {paper.name}{lenses}`, {' or '.join(map(str, seeds))} seeds; "
        f"{versions}; commit {revision}, {first.meta['created'][:10]}.*"
    )


def _own_lenses(paper: Paper) -> bool:
    """Whether the paper's configuration has the lenses itself."""
    return bool(configs.read(paper.config or paper.name).get("lenses"))


def block(paper: Paper, table: pd.DataFrame, traces: Traces, drawn: Mapping[str, Path]) -> str:
    """What stands between the markers of a page."""
    pictures = [f"![{paper.name}: {name}](../figures/{path.name})" for name, path in drawn.items()]
    counts = table["status"].value_counts()
    summary = ", ".join(f"{counts[s]} {s}" for s in STATUSES if s in counts)
    rows = [
        f"| {row.name} | {cell(row.statement)} ({cell(row.source)}) | {row.status} | "
        f"{cell(row.number)} |"
        for row in table.itertuples(index=False)
    ]
    head = ["| claim | statement (source) | | measured |", "| --- | --- | --- | --- |"]
    lines = [*pictures, "", f"{len(table)} claims: {summary}.", "", *head, *rows, ""]
    return "\n".join([*lines, provenance(paper, traces)]) + "\n"


def cell(text: str) -> str:
    """A text in a table's cell."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def write(paper: Paper, traces: Traces) -> None:
    """Write a paper's figures and its page."""
    drawn = {}
    every = figures(paper, traces)
    for name, figure in every.items():
        stem = f"papers-{paper.name}" + (f"-{name}" if len(every) > 1 else "")
        drawn[name] = DOCS / "figures" / f"{stem}.png"
        figure.savefig(drawn[name], dpi=150)
    page = DOCS / "papers" / f"{paper.name}.md"
    new = PAGE.format(name=paper.name, title=paper.title)
    text = page.read_text() if page.exists() else new
    table = claims_table(paper.claims, traces)
    content = block(paper, table, traces, drawn)
    page.write_text(marked(text, "claims", content))
    print(f"{page.name}: {table['status'].value_counts().to_dict()}")


def write_index() -> None:
    """List the papers and what came of their claims."""
    rows = []
    for paper in papers.PAPERS.values():
        page = DOCS / "papers" / f"{paper.name}.md"
        named, told = paper.name, "no page yet"
        if page.exists():
            named = f"[{paper.name}]({page.name})"
            told = "".join(re.findall(r"^\d+ claims: (.*)\.$", page.read_text(), re.MULTILINE)[:1])
        rows.append(f"| {named} | {cell(paper.title)} | {told} |")
    table = "\n".join(["| name | paper | claims |", "| --- | --- | --- |", *rows])
    index = DOCS / "papers" / "README.md"
    index.write_text(marked(index.read_text(), "claims", f"{table}\n"))


def main() -> None:
    """Write the pages of the papers that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="which papers (default: all)")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where their runs are or go")
    parser.add_argument("--lenses", action="store_true", help="read what the claims need of lenses")
    parser.add_argument("--list", action="store_true", help="train nothing, list the papers")
    options = parser.parse_args()
    names = [] if options.list else options.names or [*papers.PAPERS]
    with tempfile.TemporaryDirectory() as aside:
        for name in names:
            paper = papers.find(name)
            write(paper, run(paper, (options.runs or Path(aside)) / name, options.lenses))
    write_index()


if __name__ == "__main__":
    main()
