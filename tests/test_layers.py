"""A module imports only from rooms below its own, or from its own: every import counts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ibtrace"

ROOMS = [
    ["types", "errors"],
    ["numerics", "runtime"],
    ["estimators", "problems", "datasets", "bounds"],
    ["models", "probe", "plane", "alignment", "comparison"],
    ["capture", "measure", "lenses", "checkpoints", "plots", "page", "claims", "predictions"],
    ["trace", "testing"],  # a lens is tested on views, which capture makes
    ["tracer", "ensemble"],
    ["training", "papers", "integrations"],
    ["reports"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}
HEAVY = {"matplotlib", "seaborn", "jsonargparse"}
HEAVY |= {"lightning", "transformers", "ignite", "tensorboard", "wandb", "mlflow"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part(path: Path) -> str:
    """The top-level name a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


EXPORTS = {
    alias.name: f"ibtrace.{node.module or alias.name}"
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
NAMED = re.compile(r"ibtrace(\.[A-Za-z_]\w*)+")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports or names: at the top, late, for types, in a text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if NAMED.fullmatch(node.value):  # import_module("ibtrace.tracer"), a class_path
                yield node.value
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "ibtrace" and not node.attr.startswith("__"):
                yield EXPORTS.get(node.attr, f"ibtrace.{node.attr}")
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            names = [f"ibtrace.{alias.name}" for alias in node.names]
            yield from names if module == "ibtrace" else [module]


def violations(path: Path) -> list[str]:
    """The imports of a file that do not point down, in words."""
    room, wrong = part(path), []
    for module in imports(path):
        root, _, rest = module.partition(".")
        other = rest.split(".")[0]
        if root != "ibtrace" or other == room or other in ("", "__version__"):
            continue  # another package, its own folder, the package itself
        if other not in LEVEL:
            wrong.append(f"{path.name} imports {module}, which is in no room")
        elif LEVEL[other] >= LEVEL[room]:
            wrong.append(f"{path.name} ({room}, {LEVEL[room]}) imports {module} ({LEVEL[other]})")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert not violations(path)


def test_the_rooms_are_the_tree() -> None:
    assert {part(path) for path in FILES} == set(LEVEL)


def test_importing_ibtrace_loads_nothing_heavy() -> None:
    """Measured, not read: what is heavy or optional is loaded when it is needed."""
    said = (
        "import sys, ibtrace; ibtrace.Tracer; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize(
    "line",
    [
        "from ibtrace.tracer import Tracer",
        "from ibtrace import tracer",
        "def late() -> None:\n    from ibtrace.tracer import Tracer",
        "if TYPE_CHECKING:\n    from ibtrace.tracer import Tracer",
        "import ibtrace.tracer",
        "from ibtrace.runtime import files",
        "from ibtrace.nowhere import thing",
        "def late() -> None:\n    importlib.import_module('ibtrace.tracer')",
        "def late() -> None:\n    __import__('ibtrace.tracer')",
        "import ibtrace\ndef late() -> None:\n    ibtrace.Tracer",
        "import ibtrace\ndef late() -> None:\n    ibtrace.tracer.Tracer",
    ],
)
def test_an_upward_import_is_seen(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    bad = tmp_path / "numerics.py"
    bad.write_text(f"from ibtrace.types import Row\n{line}\n")
    assert len(violations(bad)) == 1


def drawn() -> str:
    """The rooms as a graph: each row may import what stands below it."""
    rows = [f"    L{level}[{' · '.join(names)}]" for level, names in enumerate(ROOMS)][::-1]
    arrows = [f"    L{level} --> L{level - 1}" for level in range(len(ROOMS) - 1, 0, -1)]
    return "\n".join(("```mermaid", "graph TD", *rows, *arrows, "```"))


def test_the_graph_in_the_docs_is_drawn_from_the_table() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    assert drawn() in page
