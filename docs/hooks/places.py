"""Where a file of the repository stands on the site, and links from page to page by that.

Links in docs/ and in the README are those that GitHub follows. What lies outside docs/ and is
linked to has a page too: the README is the home page, other Markdown and text become pages, the
rest is copied as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAMED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
TEXTS = {".yaml", ".yml", ".txt", ".py", ".cff", ""}
_UNSEARCHED = "---\nsearch: {exclude: true}\n---\n"
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_FIGURE = re.compile(r"^!\[[^\]]*\]\(([^)\s]+)\)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!\w+:)([^)\s#]+)(#[^)\s]*)?\)")


def place(path: Path) -> str:
    """The site's name of a file or folder of the repository."""
    if path == DOCS:
        return NAMED["README.md"]
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        readme = path / "README.md"
        return place(readme) if readme.exists() else f"files/{name}/index.md"
    if path.suffix in TEXTS:
        return f"files/{name}.md"
    return NAMED.get(name, f"files/{name}")


def targets(text: str, folder: Path) -> Iterator[Path]:
    """The files and folders that a text, which lies in a folder of the repository, links to."""
    for match in _LINK.finditer(_FENCE.sub("", text)):
        path = Path(os.path.normpath(folder / match[1]))
        if path.exists() and path.is_relative_to(ROOT):
            yield path


def relinked(text: str, folder: Path, at: str) -> str:
    """A text of a folder with its links as they are from the page ``at``; others stay."""

    def linked(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(folder / match[1]))
        if not (path.exists() and path.is_relative_to(ROOT)):
            return match[0]
        there = os.path.relpath(place(path), os.path.dirname(at) or ".")
        return f"]({there}{match[2] or ''})"

    return outside_code(text, lambda part: _LINK.sub(linked, part))


def opened(text: str) -> str:
    """A text in which each figure leads to itself, to be seen at its full size."""
    return outside_code(text, lambda part: _FIGURE.sub(r"[\g<0>](\1)", part))


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """A text changed everywhere but in its fenced code."""
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(text[end:])])


def brought() -> dict[str, str | Path]:
    """What the site needs from outside docs/: pages as texts, other files as their paths."""
    waiting = [ROOT / name for name in NAMED]
    for page in sorted(DOCS.rglob("*.md")):
        waiting += targets(page.read_text(encoding="utf-8"), page.parent)
    found: dict[str, str | Path] = {}
    while waiting:
        path = waiting.pop()
        at = place(path)
        if at in found or path.is_relative_to(DOCS):
            continue
        if path.is_dir() and at.startswith("files/"):
            found[at] = _listing(path, at)
            waiting += _files(path)
        elif path.suffix == ".md" or path.is_dir():
            readme = path / "README.md" if path.is_dir() else path
            text = readme.read_text(encoding="utf-8")
            found[at] = relinked(text, readme.parent, at)
            waiting += targets(text, readme.parent)
        else:
            found[at] = _as_page(path) if path.suffix in TEXTS else path
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _listing(folder: Path, at: str) -> str:
    """A page that links to every file of a folder."""
    lines = [f"- [{path.name}]({path.name})" for path in _files(folder)]
    name = folder.relative_to(ROOT).as_posix()
    return relinked("\n".join([_UNSEARCHED, f"# {name}", "", *lines, ""]), folder, at)


def _as_page(path: Path) -> str:
    """A text file as a page, its name for a title."""
    language = {".yaml": "yaml", ".yml": "yaml", ".py": "python"}.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8").rstrip()
    name = path.relative_to(ROOT).as_posix()
    return f"{_UNSEARCHED}\n# {name}\n\n````{language}\n{text}\n````\n"
