"""No decision reads a part of a text made for people: a label, an estimand, a cause, a status.

What a decision reads is a field (`Tags.of_information`, `Cause.kind`, `Outcome.status`), compared
whole. This test reads the package's syntax trees for `startswith`, `in`, `split`, regexes and the
like on whatever is called by one of these words. Words are known by their names, so it sees what a
reader would see; a text renamed on its way is followed through one assignment or loop.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ibtrace"
FILES = sorted(PACKAGE.rglob("*.py"))

TEXTS = {"label", "estimand", "cause", "status", "reason", "remark", "measures", "call", "verdict"}
TEXTS |= {"estimator", "instrument", "lens", "law", "problem", "quantity", "tag"}
SENTENCES = {"estimand", "cause", "reason", "remark", "measures", "verdict"}  # no word to compare
MANY = {f"{text}s" for text in TEXTS - {"measures"}} | {"lenses"}
NAMED = {"estimator", "lens", "law", "problem", "instrument", "quantity"}  # whose .name is a label
PARTS = {"startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition"}
PARTS |= {"split", "rsplit", "find", "rfind", "index", "rindex", "count", "replace", "translate"}
PARTS |= {"contains", "match", "fullmatch", "search", "extract", "slice"}  # of .str
REGEX = {"match", "fullmatch", "search", "findall", "finditer", "split", "sub", "subn"}
REGEX |= {"fnmatch", "fnmatchcase"}
SAME = {
    "lower",
    "upper",
    "title",
    "strip",
    "casefold",
    "encode",
    "astype",
}  # the text, little changed
EACH = {"unique", "tolist", "dropna", "drop_duplicates", "to_numpy"}  # of a column, its texts
MAPPED = {"map", "apply", "transform", "agg"}  # by a function of each text of a column

ALLOWED = {
    ("types/traces.py", "split_flags"): "the one place where a table's entry of flags is parted",
    ("plots/_aligned.py", "_named"): "how the user's own name of a number is written on an axis",
}


class Reader(ast.NodeVisitor):
    """Finds where a part of a text is read; knows which names stand for one."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int, str]] = []
        self.function = ""
        self.aliases: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.function = (self.function, set(self.aliases)), node.name
        for statement in ast.walk(node):
            self._learn(statement)
        self.generic_visit(node)
        self.function, self.aliases = outer

    def _learn(self, node: ast.AST) -> None:
        """Names that a text, or each of several, is given to."""
        if isinstance(node, ast.Assign) and self.is_text(node.value):
            self.aliases |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.NamedExpr) and self.is_text(node.value):
            self.aliases.add(node.target.id)
        elif isinstance(node, ast.For | ast.comprehension):
            for target, source in _in_step(node.target, node.iter):
                if isinstance(target, ast.Name) and self.is_many(source):
                    self.aliases.add(target.id)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in MAPPED and self.is_text(node.func.value):
                functions = [each for each in node.args if isinstance(each, ast.Lambda)]
                self.aliases |= {each.args.args[0].arg for each in functions}

    def is_many(self, node: ast.expr) -> bool:
        """Whether it gives such texts one after the other: a column, its values, a list."""
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr not in EACH:
                break
            node = node.func.value
        return (isinstance(node, ast.Subscript) and self.is_text(node)) or word(node) in MANY

    def is_text(self, node: ast.expr) -> bool:
        """Whether an expression is a text made for people, as far as names tell."""
        if isinstance(node, ast.Name) and node.id in self.aliases:
            return True
        if isinstance(node, ast.Attribute) and node.attr in ("name", "text"):
            return word(node.value) in NAMED | {"cause"}
        if isinstance(node, ast.Attribute) and node.attr == "str":
            return self.is_text(node.value) or word(node.value) in MANY  # a column of texts
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in SAME:
                return self.is_text(node.func.value)
            if isinstance(node.func, ast.Name) and node.func.id == "str" and node.args:
                return self.is_text(node.args[0])
            if isinstance(node.func, ast.Name) and node.func.id == "repr" and node.args:
                return word(node.args[0]) in NAMED
        if isinstance(node, ast.JoinedStr):
            parts = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
            return any(map(self.is_text, parts))
        if isinstance(node, ast.Subscript) and constant(node.slice) == "flags":
            return True  # a table's entry; a mapping of flags is called by its name alone
        return word(node) in TEXTS

    def _say(self, node: ast.expr, what: str) -> None:
        self.found.append((self.function, node.lineno, what))

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Attribute):
            of_flags = word(function.value) == "flags"  # a mapping of flags has none of PARTS
            if function.attr in PARTS and (of_flags or self.is_text(function.value)):
                self._say(node, f".{function.attr} of {ast.unparse(function.value)}")
            if function.attr in REGEX and any(map(self.is_text, node.args)):
                self._say(node, f"a pattern, {ast.unparse(node)}")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for operator, right in zip(node.ops, node.comparators, strict=True):
            part = isinstance(operator, ast.In | ast.NotIn) and (
                self.is_text(right) or (constant(right) and self.is_text(node.left))
            )
            sides = (node.left, right)
            if part or (any(map(constant, sides)) and any(map(is_sentence, sides))):
                self._say(node, ast.unparse(node))
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        number = isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int)
        single = isinstance(node.value, ast.Name | ast.Call)  # a column has a [0] too
        cut = isinstance(node.slice, ast.Slice) and not isinstance(node.value, ast.JoinedStr)
        if (cut or (number and single)) and self.is_text(node.value):
            self._say(node, ast.unparse(node))
        self.generic_visit(node)


def _in_step(target: ast.expr, source: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What a loop gives to each name: of ``zip`` and ``enumerate`` the one that goes with it."""
    pairs = isinstance(source, ast.Call) and word(source.func) in ("zip", "enumerate")
    if isinstance(source, ast.Call) and pairs and isinstance(target, ast.Tuple):
        targets = target.elts[word(source.func) == "enumerate" :]
        for pair in zip(targets, source.args, strict=False):
            yield from _in_step(*pair)
    else:
        yield target, source


def is_sentence(node: ast.expr) -> bool:
    """Whether it is written for people alone, so that even the whole of it decides nothing."""
    if isinstance(node, ast.Attribute) and node.attr == "text":
        return word(node.value) in SENTENCES
    return word(node) in SENTENCES


def constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def word(node: ast.expr) -> str:
    """The last word of what an expression is called: ``"label"`` of ``row["own_label"]``."""
    name = ""
    if isinstance(node, ast.Name):
        name = node.id
    elif isinstance(node, ast.Attribute):
        name = node.attr
    elif isinstance(node, ast.Subscript):
        name = constant(node.slice)
    elif isinstance(node, ast.Call):
        return word(node.func)
    return name.rsplit("_", 1)[-1].lower()


def parts_read(source: str) -> list[tuple[str, int, str]]:
    """Function, line and expression of each place where a part of a text is read."""
    reader = Reader()
    reader.visit(ast.parse(source))
    return reader.found


def decisions() -> Iterator[tuple[str, str, int, str]]:
    for path in FILES:
        name = str(path.relative_to(PACKAGE))
        for function, line, what in parts_read(path.read_text()):
            yield name, function, line, what


def test_no_decision_reads_a_part_of_a_text() -> None:
    read = [
        f"{name}:{line} in {function or 'the module'}: {what}"
        for name, function, line, what in decisions()
        if (name, function) not in ALLOWED
    ]
    assert not read, "\n".join(["compare a field, whole:", *read])


def test_the_exceptions_are_still_there() -> None:
    there = {(name, function) for name, function, _, _ in decisions()}
    assert set(ALLOWED) <= there


@pytest.mark.parametrize(
    "line",
    [
        'v.cause.startswith("saturated")',
        'v.cause.text.startswith("saturated")',
        'str(v.cause).startswith("saturated")',
        '"Binning" in label(estimator)',
        '"Binning" not in row["estimator"]',
        "text in cause",
        'estimator.tags.estimand.replace(" ", "") == "I(X;Y)"',
        'frame["status"].str.startswith("failed")',
        'cell["status"].startswith("failed")',
        'calibration["problem"].str.startswith(quantity)',
        "law.name.startswith(quantity)",
        'rows["flags"].str.contains("undefined")',
        'row["flags"].split(",")',
        'estimand.partition("; T: ")',
        're.match("Exact", estimator)',
        "PATTERN.search(row.estimand)",
        'own_label[:5] == "Exact"',
        '[name for name in trace.estimators if name.endswith("*")]',
        'estimator.label.lower().startswith("exact")',
        'any(tag.endswith("*") for tag in tags)',
        'said = v.cause; said.startswith("saturated")',
        'tags.estimand == "I(X;Y)"',
        'row["measures"] != "I(X;Y)"',
        'v.cause.text == "one snapshot"',
        'flags.split(",")',
        '[each for each in frame["flags"] if "undefined" in each]',
        '(said := v.reason) and "fall" in said',
        'label(estimator)[0] == "E"',
        'label.index("Exact")',
        'f"{label}, {n}".startswith("Exact")',
        'label.lower() in "exact, binning"',
        'fnmatch.fnmatch(label, "Exact*")',
        'repr(estimator).startswith("KSG")',
        'frame["estimator"].map(lambda n: n.startswith("B"))',
        '[n for n in frame["estimator"].unique() if "Bin" in n]',
        '[n for at, n in zip(places, trace.estimators) if n.startswith("E")]',
        '[n for at, n in enumerate(trace.estimators) if n.startswith("E")]',
    ],
)
def test_a_part_of_a_text_is_seen(line: str) -> None:
    assert parts_read(f"def decide():\n    {line}\n")


@pytest.mark.parametrize(
    "line",
    [
        'v.cause.kind == "saturated"',
        'row["status"] == FAILED',
        '"undefined" in estimate.flags',
        "estimator in known_estimators",
        '"constant" in split_flags(row["flags"])',
        'name.startswith("conv")',
        'v.call == "compresses"',
        "label(estimator) == PAPERS_BINS",
        '", ".join(labels)',
    ],
)
def test_a_whole_word_is_not(line: str) -> None:
    assert not parts_read(f"def decide():\n    {line}\n")
