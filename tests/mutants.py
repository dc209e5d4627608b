"""Change one thing in the code at a time and see whether a test fails: ``python -m tests.mutants``.

First which test runs which line is measured, or taken from ``--coverage FILE``, made by::

    pytest -n auto -m "not slow" --cov=ibtrace --cov-branch --cov-context=test

Then mutants are drawn by a seed from all that there are of `FOLDERS`: a comparison, an operator, a
number, a truth value, a minimum that becomes a maximum, a condition that is turned round. Each is
written to a copy of the package and the tests that run its line are run until one fails. Lines of
compiled loops, which no tracer of Python sees, are those of the tests in `_COMPILED`. What no test
notices is listed: kill it by a test, or say in `EXPLAINED` why it changes nothing.

The result is ``tests/mutants.json``. It takes about 5 seconds a mutant and core.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).with_suffix(".json")
FOLDERS = ("numerics", "plane", "estimators", "measure.py")
_LIMIT = 120  # seconds: a mutant that loops for ever is one that is seen
_MEMORY = 16 * 2**20  # KiB of addresses
_TESTS = 40  # of those that run the line, the quickest to find, at most
_COMPILED = {  # modules of compiled loops, and the tests of these
    "_columns.py": ["test_column_kernels.py", "test_columns_apart.py", "test_entropy.py"],
    "_counting.py": ["test_counting.py", "test_entropy.py", "test_plugin_estimators.py"],
    "_gaussian_pairs.py": ["test_distance_estimators.py"],
    "_neighbours.py": ["test_neighbour_kernels.py", "test_entropy_knn.py"],
    "_screened.py": ["test_neighbour_kernels.py"],
}
EXPLAINED = {
    (
        "estimators/edge.py",
        'columns = _sized(columns - centre(columns), "rank" if scale == "rank" else "column")',
        ("Sub to Add"),
    ): "where a grid begins is drawn, and each column is sized about its own centre",
    ("numerics/noisy_mixtures.py", "scale = self.centres.abs().masked_fill(~live, 1)", "1 to 2"): (
        "what a dead unit adds to a volume is taken away again: its kind of pattern has it too"
    ),
    ("numerics/_screened.py", "sure0 = _u16(sure0 + _u16(value < in0))", "Lt to LtE"): (
        "a limit is rounded down to a level, and on it a distance is surely within as well"
    ),
    (
        "numerics/blahut_arimoto.py",
        "change, bend = first - log_p, second - 2 * first + log_p",
        ("Add to Sub"),
    ): "a leap that tells less than two steps is not taken: only the time it takes changes",
}
"""Changes that change nothing: the module, the line, the change, and why."""

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {
    "min": "max",
    "amin": "amax",
    "minimum": "maximum",
    "any": "all",
    "sum": "mean",
    "floor": "ceil",
    "zeros_like": "ones_like",
    "argmin": "argmax",
}
_NAMES |= {value: name for name, value in _NAMES.items()}
_SKIPPED = (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Mutant:
    """One change.

    Args:
        file: The module, relative to the package.
        line: Its line.
        what: The change, in words.
        node: The place of the changed node among all of the module's, in the order of `ast.walk`.
        way: Which of the node's changes it is.
    """

    file: str
    line: int
    what: str
    node: int
    way: int


def changes(node: ast.AST) -> list[tuple[str, ast.AST]]:
    """Every change of a node, in words and made."""
    made: list[tuple[str, ast.AST]] = []

    def other(what: str, **fields: object) -> None:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        made.append((what, new))

    if isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            new = _COMPARISONS[type(op)]
            ops = [*node.ops[:at], new(), *node.ops[at + 1 :]]
            other(f"{type(op).__name__} to {new.__name__}", ops=ops)
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
        operator = _OPERATORS[type(node.op)]
        other(f"{type(node.op).__name__} to {operator.__name__}", op=operator())
    elif isinstance(node, ast.BoolOp):
        turned = ast.Or if isinstance(node.op, ast.And) else ast.And
        other(f"{type(node.op).__name__} to {turned.__name__}", op=turned())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.Invert)):
        made.append((f"without {type(node.op).__name__}", node.operand))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        other(f"{node.value} to {not node.value}", value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        other(f"{node.value!r} to {node.value + 1!r}", value=node.value + 1)
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        other("condition turned", test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Attribute) and node.attr in _NAMES:
        other(f"{node.attr} to {_NAMES[node.attr]}", attr=_NAMES[node.attr])
    elif isinstance(node, ast.Name) and node.id in ("min", "max", "any", "all"):
        other(f"{node.id} to {_NAMES[node.id]}", id=_NAMES[node.id])
    return made


def _left_alone(tree: ast.Module) -> set[ast.AST]:
    """Nodes whose change would be none of behaviour: types, messages, decorators."""
    left: set[ast.AST] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, _SKIPPED):
            parts = [node]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            parts = [*node.decorator_list]
            if isinstance(node, ast.FunctionDef):
                every = [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]
                parts += [node.returns, *(argument.annotation for argument in every)]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.JoinedStr):
            parts = [node]
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            parts = [node]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            parts = [node]
        for part in parts:
            left.update(ast.walk(part) if part is not None else ())
    return left


def mutants() -> Iterator[Mutant]:
    """All there are."""
    package = ROOT / "ibtrace"
    for folder in FOLDERS:
        top = package / folder
        for path in [top] if top.is_file() else sorted(top.rglob("*.py")):
            tree = ast.parse(path.read_text())
            left = _left_alone(tree)
            for number, node in enumerate(ast.walk(tree)):
                if node in left:
                    continue
                for way, (what, _) in enumerate(changes(node)):
                    line = node.test.lineno if isinstance(node, ast.If) else node.lineno  # type: ignore[attr-defined]
                    yield Mutant(str(path.relative_to(package)), line, what, number, way)


class _Put(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def source(mutant: Mutant, text: str) -> str:
    """The module with the change."""
    tree = ast.parse(text)
    node = list(ast.walk(tree))[mutant.node]
    new = changes(node)[mutant.way][1]
    return ast.unparse(ast.fix_missing_locations(_Put(node, new).visit(tree)))


def excuse(mutant: Mutant) -> tuple[str, str, str]:
    """What `EXPLAINED` knows a mutant by."""
    line = (ROOT / "ibtrace" / mutant.file).read_text().splitlines()[mutant.line - 1]
    return mutant.file, line.strip(), mutant.what


class Covered:
    """Which tests run a line, by a file of coverage.py with the contexts of pytest-cov."""

    def __init__(self, path: Path) -> None:
        from coverage import CoverageData

        self._data = CoverageData(str(path))
        self._data.read()
        self._files = {name.split("/ibtrace/")[-1]: name for name in self._data.measured_files()}
        self._known: dict[str, dict[int, list[str]]] = {}

    def tests(self, file: str, line: int) -> list[str]:
        """Of a line, those that run least of the module first, as they are about it."""
        if (name := Path(file).name) in _COMPILED:
            return [f"tests/{each}" for each in _COMPILED[name]]
        if file not in self._known:
            by_line = (
                self._data.contexts_by_lineno(self._files[file]) if file in self._files else {}
            )
            self._known[file] = {n: [c for c in of if c] for n, of in by_line.items()}
        lines = self._known[file]
        width = Counter(context for of in lines.values() for context in of)
        those = lines.get(line) or [*width]  # what runs at the import alone is seen by any test
        found = {each.split("|")[0] for each in those}
        return sorted(found, key=lambda each: (width[f"{each}|run"], each))


def _spread(tests: Sequence[str], most: int) -> list[str]:
    """Some tests, of every file and function first: cases of one function see much the same."""
    by_function: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        by_function[test.split("[")[0]].append(test)
    rounds = max((len(cases) for cases in by_function.values()), default=0)
    return [of[at] for at in range(rounds) for of in by_function.values() if at < len(of)][:most]


def survives(mutant: Mutant, tests: Sequence[str], place: Path) -> bool:
    """Whether all tests pass with the change, in a copy of the package."""
    target = place / "ibtrace" / mutant.file
    before = target.read_text()
    target.write_text(source(mutant, before))
    try:
        return passes(tests, place)
    finally:
        target.write_text(before)


def passes(tests: Sequence[str], place: Path) -> bool:
    """Whether tests pass in a copy of the package, in time.

    Raises:
        RuntimeError: If pytest could not run them.
    """
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    bounded = ["sh", "-c", f'ulimit -v {_MEMORY}; exec "$@"', "sh"]  # or a mutant takes it all
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:cov"]
    child = subprocess.Popen(
        [*bounded, *pytest, *tests],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = child.communicate(timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return False
    if child.returncode > 2:
        raise RuntimeError(f"pytest ended with {child.returncode}:\n{said[-2000:]}")
    return child.returncode == 0


def _place(folder: Path) -> Path:
    """A copy of the package and its tests."""
    place = Path(tempfile.mkdtemp(dir=folder))
    for name in ("ibtrace", "tests", "configs", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, place / name)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, place / name)
    return place


def run(drawn: Sequence[Mutant], covered: Covered, jobs: int) -> Iterator[tuple[Mutant, str]]:
    """What becomes of each: killed, survived, explained, not run, or tests fail without it."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        free = [_place(Path(folder)) for _ in range(jobs)]
        checked: set[str] = set()  # tests that pass where nothing is changed

        def one(mutant: Mutant) -> tuple[Mutant, str]:
            tests = _spread(covered.tests(mutant.file, mutant.line), _TESTS)
            if not tests:
                return mutant, "not run"
            place = free.pop()
            try:
                if survives(mutant, tests, place):
                    return mutant, "explained" if excuse(mutant) in EXPLAINED else "survived"
                if not checked.issuperset(tests) and not passes(tests, place):
                    return mutant, "tests fail without it"
                checked.update(tests)
                return mutant, "killed"
            finally:
                free.append(place)

        yield from pool.map(one, drawn)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--coverage", type=Path, default=ROOT / ".coverage")
    parser.add_argument("--sample", type=int, default=300, help="how many are drawn (300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="files whose name contains this")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    every = [each for each in mutants() if options.only in each.file]
    drawn = random.Random(options.seed).sample(every, min(options.sample, len(every)))
    fates: list[tuple[Mutant, str]] = []
    for mutant, fate in run(drawn, Covered(options.coverage), options.jobs):
        fates.append((mutant, fate))
        print(time.strftime("%H:%M:%S"), fate, f"{mutant.file}:{mutant.line}", mutant.what)
        left = [{**asdict(m), "fate": f} for m, f in fates if f != "killed"]
        counts = {"of": len(every), "drawn": len(fates), "seed": options.seed}
        counts |= Counter(fate for _, fate in fates)
        options.out.write_text(json.dumps({**counts, "left": left}, indent=2) + "\n")
    print(counts)


if __name__ == "__main__":
    main()
