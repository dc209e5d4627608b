"""What a sweep leaves for a person to read: where its trace is, what is in it, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ibtrace.errors import InvalidInput
from ibtrace.runtime.text import wrap
from ibtrace.trace import Sweep


def text(sweep: Sweep, folder: Path) -> str:
    """Where the merged trace of a sweep is, what it holds, and the verdicts in a table.

    Args:
        sweep: The sweep.
        folder: Its folder, as it was given.
    """
    points = f"{len(sweep)} of {len(sweep.points)} points"
    where = (
        f"Merged into {folder / sweep.path.name}: {points}, {sum(map(len, sweep.values())):,} rows"
    )
    more = f"More: ibtrace verdict, plot or report {folder}"
    return "\n\n".join([where, *paragraphs(sweep), more])


def paragraphs(sweep: Sweep, estimators: Sequence[str] | None = None) -> list[str]:
    """The verdicts on all points in a table, after what is missing.

    Args:
        sweep: The sweep.
        estimators: Only these; None for all.
    """
    try:
        answers = str(sweep.verdict(estimators=estimators))
    except InvalidInput as error:  # lenses alone, say
        answers = f"No verdict: {error}."
    missing = []
    if failed := sweep.failed:
        missing.append(
            f"{len(failed)} jobs failed; of their networks there is what was traced before they "
            f"did: {', '.join(failed)}."
        )
    if left := len(sweep.unfinished):
        missing.append(
            f"{left} jobs were not done when it was merged, and nothing of them is here."
        )
    return [*(["\n".join(map(wrap, missing))] if missing else []), answers]
