"""The page of estimators: by what they ask, with a table from their tags."""

from __future__ import annotations

import api

from ibtrace import estimators
from ibtrace.types import adds_up, on_bounded

FAMILIES = {
    "information": "The information itself",
    "resolution": "At a resolution: in bins, under noise, through a kernel",
    "density": "Of densities: neighbours, copulas, critics",
}
HEAD = """# Estimators

Which to take when is [another page](../estimators.md). The tables are of each with its default
fields; `Tags` are of the instance, so that `KDE(bound="lower").tags.bound` is `"lower"`. *Takes*
says which X and Y it accepts, *adds up* that T need not be held
([more tokens than memory](../your-model.md#more-tokens-than-memory)).
"""


def page() -> str:
    """The protocol, and a section for each family."""
    lines = [HEAD, "## What an estimator is", "", *map(api.directive, api.ESTIMATORS)]
    for question, title in FAMILIES.items():
        names = [name for name in estimators.names() if _tags(name).question == question]
        lines += [f"## {title}", "", *_table(names), ""]
        lines += [api.briefly("estimators", estimators.registry[name]) for name in names]
    return "\n".join(lines)


def _tags(name: str) -> estimators.Tags:  # type: ignore[name-defined]
    return estimators.make(name).tags


def _table(names: list[str]) -> list[str]:
    rows = [
        "| name | estimates | takes | bound | bias | cost | adds up | source |",
        "|" + " --- |" * 8,
    ]
    for name in names:
        tags = _tags(name)
        takes = f"{_kinds(tags.x)}; {_kinds(tags.y)}"
        more = "yes" if adds_up(on_bounded(estimators.make(name))) else ""
        cells = [
            f"`{name}`",
            tags.estimand,
            takes,
            tags.bound,
            tags.bias,
            tags.cost,
            more,
            tags.reference,
        ]
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return rows


def _kinds(kinds: frozenset[str]) -> str:
    return "any" if len(kinds) == 2 else ", ".join(kinds)
