"""A module imports only from layers below its own, or from its own folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ibtrace"

LAYERS = [
    ["types"],
    ["activations", "distributed", "numerics", "patterns", "rng", "schedule", "storage"],
    ["estimators", "problems", "datasets", "models"],
    ["probe", "reduce", "trace", "lenses", "noise", "quantize", "wrappers"],
    ["capture", "checkpoints", "measure", "plane", "claims", "comparison", "testing"],
    ["tracer", "ensemble", "plots"],
    ["experiments", "integrations", "report"],
    ["cli", "__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = {"matplotlib", "seaborn", "jsonargparse", "tqdm"}
HEAVY |= {"lightning", "transformers", "ignite", "tensorboard", "wandb", "mlflow"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part(path: Path) -> str:
    """The top-level name a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module of a file, and whether the import is at the top of the module."""
    tree = ast.parse(path.read_text())
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "ibtrace":
                for alias in node.names:
                    yield f"ibtrace.{alias.name}", node in top
            else:
                yield module, node in top


def violations(path: Path) -> list[str]:
    mine = part(path)
    found = []
    for module, at_top in imports(path):
        root, _, rest = module.partition(".")
        if root == "ibtrace" and at_top:
            other = rest.split(".")[0]
            if other.startswith("__") or not other:
                continue  # the package itself: its version, its path
            if other != mine and LEVEL[other] >= LEVEL[mine]:
                found.append(f"{path.name} (layer {LEVEL[mine]}) imports {module}")
        if root in HEAVY and at_top and LEVEL[mine] < 5:
            found.append(f"{path.name} (layer {LEVEL[mine]}) imports {root}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert not violations(path)


def test_every_module_has_a_layer() -> None:
    assert {part(path) for path in FILES} <= set(LEVEL)


def test_an_upward_import_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    bad = tmp_path / "types.py"
    bad.write_text("from ibtrace.tracer import Tracer\nimport seaborn\n")
    assert len(violations(bad)) == 2
