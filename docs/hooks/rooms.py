"""The page of rooms and imports, drawn from the table of the layer test; and named files."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from xml.sax.saxutils import escape

from places import ROOT

_MERMAID = re.compile(r"^```mermaid\ngraph TD\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"^<!-- file: (\S+) -->\n```(\w+)$", re.MULTILINE)
_HEIGHT, _WIDTH, _GAP = 34, 680, 18
HEAD = """# Rooms and their imports

Drawn from the table in `tests/test_layers.py` and from the import statements themselves: a module
imports from rooms below its own, or from its own. [How ibtrace is built](architecture.md) says what
the rooms are for.
"""


def page() -> str:
    """The rooms as rows, the uppermost first, with what each imports."""
    lines = [HEAD, ladder([" · ".join(row) for row in table()[::-1]]), ""]
    lines += ["| room | row | imports |", "| --- | --- | --- |"]
    for level, names in reversed([*enumerate(table())]):
        for name in names:
            used = ", ".join(f"`{each}`" for each in imports(name)) or "nothing of ibtrace"
            lines.append(f"| `{name}` | {level} | {used} |")
    return "\n".join([*lines, ""])


def table() -> list[list[str]]:
    """The rows of rooms, the lowest first, as the layer test has them."""
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS":
            rows: list[list[str]] = ast.literal_eval(node.value)
            return rows
    raise LookupError("tests/test_layers.py has no ROOMS")


def imports(room: str) -> list[str]:
    """The other rooms whose names a room's import statements give, in the order of the table."""
    at = ROOT / "ibtrace" / room
    files = sorted(at.rglob("*.py")) if at.is_dir() else [at.with_suffix(".py")]
    used = {name for path in files for name in _imported(path)}
    return [name for row in table()[::-1] for name in row if name in used - {room}]


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "ibtrace":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ibtrace."):
            found.add((node.module or "").split(".")[1])
    return found


def ladder(rows: list[str]) -> str:
    """Boxes one above the other, an arrow from each to the next: an SVG in the page's colours."""
    step = _HEIGHT + _GAP
    parts = []
    for k, text in enumerate(rows):
        y = k * step
        parts.append(
            f'<rect x="1" y="{y + 1}" width="{_WIDTH - 2}" height="{_HEIGHT - 2}" rx="4"/>'
        )
        parts.append(f'<text x="{_WIDTH / 2}" y="{y + _HEIGHT / 2 + 5}">{escape(text)}</text>')
        if k + 1 < len(rows):
            x, top = _WIDTH / 2, y + _HEIGHT
            parts.append(f'<path d="M{x} {top}v{_GAP - 2}m-4 -5l4 5l4 -5"/>')
    box = f"0 0 {_WIDTH} {step * len(rows) - _GAP}"
    told = "Rooms, each of which imports only from those below it"
    drawing = f'<svg viewBox="{box}" role="img" aria-label="{told}">{"".join(parts)}</svg>'
    return f'<div class="ladder">{drawing}</div>'  # a block, so that no letter in it is Markdown


def drawn(markdown: str) -> str:
    """The page's graph of rooms, which GitHub draws by a script of its own, as a ladder."""

    def rows(match: re.Match[str]) -> str:
        return ladder(re.findall(r"\[(.*?)\]", match[1]))

    return _MERMAID.sub(rows, markdown)


def named(markdown: str) -> str:
    """Code that a page says to put into a file, under the file's name."""
    return _FILE.sub(r'```\2 title="\1"', markdown)
