"""What ``ibtrace compare`` does on laws of known information: run, keep, draw, say."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ibtrace import plots
from ibtrace import problems as laws
from ibtrace.comparison import (
    FAILED,
    OFF_BITS,
    OK,
    Trial,
    named_estimators,
    named_problems,
    overall,
    suite,
    summary,
    table,
    trials,
)
from ibtrace.errors import InvalidInput
from ibtrace.problems import Problem
from ibtrace.runtime.files import make_folder, written_whole
from ibtrace.runtime.text import WIDTH, shorten
from ibtrace.types import Estimator, split_flags

_SUITES = ("small", "beyond-normal", "all")
_LEGEND = (
    "In bits. laws: those the estimator takes, of all; bias: mean over laws; spread: over seeds;",
    f"off: on how many laws the RMSE exceeds {OFF_BITS:g} bit; time: of one estimate.",
)
OTHER = (
    "* estimates another quantity than I(X;Y) (see 'ibtrace list estimators'): its bias is also",
    "  a difference of what is estimated.",
)
SIZES = (500, 2000)
SEEDS = 3


def compare(
    estimators: Sequence[str | Estimator] | None,
    problems: Sequence[Problem] | None,
    folder: Path,
    *,
    n: Sequence[int] = SIZES,
    seeds: int = SEEDS,
    jobs: int | None = None,
    progress: bool = True,
) -> tuple[pd.DataFrame, bool]:
    """Hold estimators to laws; write tables and figures into a folder.

    Args:
        estimators: Registry names or instances; None takes all.
        problems: The laws; None takes `ibtrace.comparison.suite`.
        folder: Where ``comparison.csv``, ``summary.csv`` and the figures go.
        n: Numbers of samples.
        seeds: Samples of each law and n.
        jobs: Processes; None takes as many as there are cores.
        progress: Draw a progress bar.

    Returns:
        One row for each trial (see `ibtrace.comparison.compare`), and whether all were done: at
        Ctrl-C what is done is kept, written and drawn.

    Raises:
        UnknownName: If a name does not exist.
        RunError: If the folder cannot be written.
    """
    labelled, laws_of = named_estimators(estimators), named_problems(problems)
    make_folder(folder)
    total = len(labelled) * len(laws_of) * len(n) * seeds
    jobs = jobs or max(1, min(os.cpu_count() or 1, total))
    done: list[Trial] = []
    whole = True
    with tqdm(total=total, desc="compare", disable=not progress, unit=" trials") as bar:
        try:
            for trial in trials([*labelled.values()], laws_of, n=n, seeds=seeds, jobs=jobs):
                done.append(trial)
                bar.update()
        except KeyboardInterrupt:
            whole = False
    frame = table(done)
    if done:
        write(frame, folder / "comparison.csv")
        write(summary(frame), folder / "summary.csv")
        _draw(frame, folder)
    return frame, whole


def text(frame: pd.DataFrame, folder: Path) -> str:
    """What to print of a comparison: the table over all laws, its legend, failures and files."""
    parts = [overall_text(frame)]
    failures = frame[frame["status"] == FAILED]
    for estimator, trials_ in failures.groupby("estimator", sort=False):
        where = ", ".join(trials_["problem"].unique())
        parts.append(f"{estimator} FAILED on {where}: {trials_['reason'].iloc[0]}"[:WIDTH])
    names = ("errors.png", "estimate_against_truth.png", "comparison.csv", "summary.csv")
    listed = "\n".join(f"  {folder / name}" for name in names if (folder / name).exists())
    parts.append(f"Figures (each also as PDF) and numbers:\n{listed}")
    return "\n\n".join(parts)


def overall_text(frame: pd.DataFrame) -> str:
    """The table over all laws, one line for each estimator and n; at most 110 columns."""
    head = f"{'estimator':<24}{'n':>6}{'laws':>7}{'bias':>8}{'spread':>8}{'RMSE':>8}{'off':>6}"
    lines = [f"{head}{'time':>9}  worst law (bias)", "-" * WIDTH]
    other = False
    rows = overall(frame).to_dict("records")
    for row in sorted(rows, key=lambda row: not row["of_information"]):
        marked = not row["of_information"]
        other = other or marked
        name = shorten(str(row["estimator"]), 22) + ("*" if marked else "")
        of = row["laws"] + row["declined"] + row["failed"]
        numbers = "".join(
            f"{signed(row[key]) if key == 'bias' else plain(row[key]):>8}"
            for key in ("bias", "spread", "rmse")
        )
        worst = f"{shorten(row['worst'], 22)} ({signed(row['worst_bias'])})" if row["laws"] else "-"
        counted = f"{row['laws']}/{of}"
        numbers += f"{row['off'] if row['laws'] else '-':>6}"
        line = f"{name:<24}{row['n']:>6}{counted:>7}{numbers}{duration(row['seconds']):>9}  {worst}"
        lines.append(line)
    lines += ["", *_LEGEND, *(OTHER if other else [])]
    flagged = _flags(frame)
    return "\n".join(lines + flagged)


def chosen_problems(names: Sequence[str]) -> list[Problem] | None:
    """Laws of names and suites as the command line gives them; None where none are given.

    Args:
        names: Each a law, a suite (``small``, ``beyond-normal``, ``all``, ``default``), or several
            of both with commas; a name that holds commas itself is taken whole.

    Raises:
        UnknownName: If one is neither.
    """
    problems: dict[str, Problem] = {}
    known = set(laws.names())
    for given in names:
        for name in [given] if given in known else split(given):
            if name == "default":
                problems |= suite()
            elif name in _SUITES:
                problems |= laws.suite(name)
            else:
                law = laws.make(name)
                problems[law.name] = law
    return list(problems.values()) or None


def split(given: str) -> list[str]:
    """A list with commas as the command line takes it."""
    return [part.strip() for part in given.split(",") if part.strip()]


def sizes(given: str) -> list[int]:
    """Numbers of samples as the command line takes them.

    Raises:
        InvalidInput: If one is no positive whole number.
    """
    parts = split(given)
    if not parts or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InvalidInput(f"--n takes whole numbers with commas, as 500,2000; got {given!r}")
    return [int(part) for part in parts]


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV.

    Raises:
        RunError: If it cannot be written.
    """
    with written_whole(path) as part:
        frame.to_csv(part, index=False)


def plain(value: float) -> str:
    """A number of bits, or a dash where there is none."""
    return "-" if value != value else f"{value:.2f}"


def signed(value: float) -> str:
    """A difference in bits with its sign, or a dash where there is none."""
    return "-" if value != value else f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds != seconds:
        return "-"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _draw(frame: pd.DataFrame, folder: Path) -> None:
    plots.save(plots.error_map(frame), folder / "errors")
    plots.save(plots.estimate_against_truth(frame), folder / "estimate_against_truth")


def _flags(frame: pd.DataFrame) -> list[str]:
    """One line for each estimator that raised flags: which, and how often."""
    lines = []
    for estimator, done in frame[frame["status"] == OK].groupby("estimator", sort=False):
        counts = Counter(flag for raised in done["flags"] for flag in split_flags(raised))
        if counts:
            shown = ", ".join(f"{flag} {count}" for flag, count in counts.most_common())
            lines.append(shorten(f"  {estimator}: {shown} of {len(done)}", WIDTH))
    return ["", "Flags raised:", *lines] if lines else []
