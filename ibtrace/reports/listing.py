"""What there is, as text: configurations, papers, estimators, lenses, problems.

What estimators, lenses, papers and laws say of themselves is collected in ``listing.json``, so that
it is listed without importing torch. ``python -m ibtrace.reports.listing`` collects it anew; a test
holds it to what they say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ibtrace.runtime.text import wrap
from ibtrace.training import configs

if TYPE_CHECKING:
    from ibtrace.types import Quantity

Kind = Literal["papers", "estimators", "lenses", "problems"]

_FILE = Path(__file__).with_name("listing.json")


def listing(what: str | None = None) -> str:
    """One section, or all of them.

    Args:
        what: ``configs``, ``papers``, ``estimators``, ``lenses`` or ``problems``; None for all.
    """
    sections = {"configs": _columns(_configs())}
    for kind, entries in _held().items():
        one_line = all(isinstance(entry, str) for entry in entries.values())
        sections[kind] = _columns(entries) if one_line else _paragraphs(entries)
    asked = sections if what is None else {what: sections[what]}
    return "\n\n".join(f"{name}\n{text}" for name, text in asked.items())


def known(kind: Kind) -> Mapping[str, Any]:
    """What there is of a kind, by name."""
    return _held()[kind]


def _held() -> dict[Kind, dict[str, Any]]:
    held: dict[Kind, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return held


def collected() -> dict[Kind, dict[str, Any]]:
    """What papers, estimators, lenses and laws say of themselves."""
    from ibtrace import estimators, lenses, papers, problems

    return {
        "papers": {paper.name: paper.title for paper in papers.PAPERS.values()},
        "estimators": {name: _of_estimator(name) for name in estimators.names()},
        "lenses": {name: _of_lens(name) for name in lenses.names()},
        "problems": {
            law.name: f"{law.bits:.4g} bits; {law.source}" for law in problems.all_problems()
        },
    }


def _configs() -> dict[str, str]:
    """The first comment of each configuration."""
    return {
        name: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        for name, path in configs.shipped().items()
    }


def _of_estimator(name: str) -> dict[str, str]:
    from ibtrace import estimators

    tags = estimators.make(name).tags
    return {
        "estimand": tags.estimand,
        "asks": tags.question,
        "takes": f"x {_kinds(tags.x)}; y {_kinds(tags.y)}",
        "bound": tags.bound,
        "bias": tags.bias,
        "cost": tags.cost,
        "source": tags.reference,
    }


def _of_lens(name: str) -> dict[str, str]:
    """What its tags say, and what a look was measured to cost."""
    from ibtrace import lenses

    tags = lenses.make(name).tags
    return {
        "reads": "; ".join(map(_quantity, tags.quantities)),
        "needs": ", ".join(sorted(tags.needs)),
        "cost": tags.cost,
        "measured": lenses.measured_cost(name),
        "caveats": tags.caveats,
        "source": tags.reference,
    }


def _quantity(quantity: Quantity) -> str:
    unit = "no unit" if quantity.unit == "1" else f"in {quantity.unit}"
    return f"{quantity.name}, {unit}, of each {quantity.per}"


def _paragraphs(entries: Mapping[str, Mapping[str, str]]) -> str:
    return "\n".join(_paragraph(name, facts) for name, facts in entries.items())


def _paragraph(name: str, facts: Mapping[str, str]) -> str:
    lines = [_entry(fact, text, "    ", 10) for fact, text in facts.items() if text]
    return "\n".join([f"  {name}", *lines])


def _kinds(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds))


def _columns(entries: Mapping[str, str]) -> str:
    width = max(map(len, entries))
    return "\n".join(_entry(name, text, "  ", width) for name, text in entries.items())


def _entry(name: str, text: str, indent: str, width: int) -> str:
    return wrap(text, first=f"{indent}{name:{width}}  ", rest=" " * (len(indent) + width + 2))


if __name__ == "__main__":
    text = json.dumps(collected(), indent=1, ensure_ascii=False)
    _FILE.write_text(text + "\n", encoding="utf-8")
