"""What there is, as text: configurations, papers, estimators, lenses, problems."""

from __future__ import annotations

from collections.abc import Callable

from ibtrace import estimators, lenses, papers, problems
from ibtrace.runtime.text import wrap
from ibtrace.training import config
from ibtrace.types import Quantity


def listing(what: str | None = None) -> str:
    """One section, or all of them.

    Args:
        what: ``configs``, ``papers``, ``estimators``, ``lenses`` or ``problems``; None for all.
    """
    sections = _SECTIONS if what is None else {what: _SECTIONS[what]}
    return "\n\n".join(f"{name}\n{section()}" for name, section in sections.items())


def _configs() -> str:
    entries = []
    for name, path in config.shipped().items():
        comments = [line.lstrip("# ") for line in path.read_text().splitlines()]
        entries.append((name, comments[0]))
    return _columns(entries)


def _papers() -> str:
    return _columns([(paper.name, paper.title) for paper in papers.PAPERS.values()])


def _estimators() -> str:
    """One paragraph for each estimator: what its tags say."""
    parts = []
    for name in estimators.names():
        tags = estimators.make(name).tags
        facts = {
            "estimand": tags.estimand,
            "asks": tags.question,
            "takes": f"x {_kinds(tags.x)}; y {_kinds(tags.y)}",
            "bound": tags.bound,
            "bias": tags.bias,
            "cost": tags.cost,
            "source": tags.reference,
        }
        parts.append(_paragraph(name, facts))
    return "\n".join(parts)


def _lenses() -> str:
    """One paragraph for each lens: what its tags say, and what a look was measured to cost."""
    parts = []
    for name in lenses.names():
        tags = lenses.make(name).tags
        facts = {
            "reads": "; ".join(map(_quantity, tags.quantities)),
            "needs": ", ".join(sorted(tags.needs)),
            "cost": tags.cost,
            "measured": lenses.measured_cost(name),
            "caveats": tags.caveats,
            "source": tags.reference,
        }
        parts.append(_paragraph(name, facts))
    return "\n".join(parts)


def _quantity(quantity: Quantity) -> str:
    unit = "no unit" if quantity.unit == "1" else f"in {quantity.unit}"
    return f"{quantity.name}, {unit}, of each {quantity.per}"


def _paragraph(name: str, facts: dict[str, str]) -> str:
    lines = [_entry(fact, text, "    ", 10) for fact, text in facts.items() if text]
    return "\n".join([f"  {name}", *lines])


def _problems() -> str:
    return _columns([(p.name, f"{p.bits:.4g} bits; {p.source}") for p in problems.all_problems()])


def _kinds(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds))


def _columns(entries: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in entries)
    return "\n".join(_entry(name, text, "  ", width) for name, text in entries)


def _entry(name: str, text: str, indent: str, width: int) -> str:
    return wrap(text, first=f"{indent}{name:{width}}  ", rest=" " * (len(indent) + width + 2))


_SECTIONS: dict[str, Callable[[], str]] = {
    "configs": _configs,
    "papers": _papers,
    "estimators": _estimators,
    "lenses": _lenses,
    "problems": _problems,
}
