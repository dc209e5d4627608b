"""What estimators say of themselves is typed; what belongs together travels in one type."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ibtrace import Probe, estimators
from ibtrace.estimators import KSG, Binning, MixedKSG, information
from ibtrace.estimators._prepared import once
from ibtrace.types import (
    Binds,
    Estimate,
    Estimator,
    LayerContext,
    NeedsMemory,
    NeedsTrace,
    Plane,
    ProbeLike,
    bound_to,
    needs_trace,
)

PACKAGE = Path(__file__).parent.parent / "ibtrace"
ABOUT_ESTIMATORS = [
    *(PACKAGE / "estimators").glob("*.py"),
    *(PACKAGE / "types").glob("*.py"),
    *(PACKAGE / "testing").glob("*.py"),
    *(PACKAGE / "comparison").glob("*.py"),
    PACKAGE / "measure.py",
    PACKAGE / "reports" / "listing.py",
    PACKAGE / "tracer" / "_defaults.py",
    PACKAGE / "training" / "comparing_run.py",
]
LONGEST = 60


def asked_by_name(source: str) -> list[int]:
    """Lines that ask an object for an attribute that it may not have, by a name in the code."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in ("getattr", "hasattr")
        if isinstance(call.args[1], ast.Constant)
        if call.args[1].value != "__qualname__"
    ]


def test_a_question_by_name_is_seen() -> None:
    assert asked_by_name('x = getattr(estimator, "bind", None)') == [1]
    assert asked_by_name("x = getattr(self, name)") == []


@pytest.mark.parametrize("path", ABOUT_ESTIMATORS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_ability_of_an_estimator_is_asked_for_by_name(path: Path) -> None:
    assert asked_by_name(path.read_text()) == []


@pytest.mark.parametrize("name", estimators.names())
def test_estimators_share_files_of_their_own_not_a_siblings(name: str) -> None:
    """A sibling is imported as an estimator, to be a base or to be handed ids, or not at all."""
    classes = {kind.__name__ for kind in estimators.registry.values()}
    path = PACKAGE / "estimators" / f"{estimators.registry[name].__module__.split('.')[-1]}.py"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "ibtrace.estimators"
        ):
            names = {alias.name for alias in node.names}
            shared = (node.module or "").split(".")[-1].startswith("_")
            assert shared or names <= classes, f"{path.name} takes {names} from {node.module}"


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function and the lines of its code, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield node.name, sum((part.end_lineno or 0) - part.lineno + 1 for part in body)


def test_functions_of_mathematics_are_short() -> None:
    paths = [*(PACKAGE / "estimators").glob("*.py"), *(PACKAGE / "numerics").glob("*.py")]
    long = [f"{p.name}: {name}" for p in paths for name, lines in functions(p) if lines > LONGEST]
    assert long == []


def test_what_an_estimator_can_do_is_a_protocol() -> None:
    assert isinstance(KSG(), Plane)
    assert not isinstance(KSG(), Binds | NeedsTrace)
    assert isinstance(Binning(), Plane)
    assert isinstance(Binning(), Binds)
    assert isinstance(estimators.MatrixRenyi(), NeedsMemory)
    assert not needs_trace(Binning())
    assert needs_trace(Binning(range="trace"))
    assert bound_to(KSG(), LayerContext("t")) == KSG()
    assert bound_to(Binning(), LayerContext("t", (0.0, 1.0))) == Binning(range=(0.0, 1.0))


CALLS: list[tuple[int, int]] = []


def counted(probe: ProbeLike, factor: int, seed: int) -> int:
    """Something that depends on a probe, a setting and a seed."""
    CALLS.append((factor, seed))
    return probe.n * factor + seed


def a_probe() -> Probe:
    """Samples with classes."""
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    return Probe(x, torch.arange(60) % 3)


def test_what_depends_on_a_probe_is_computed_once_for_all_it_depends_on() -> None:
    CALLS.clear()
    probe = a_probe()
    settings = [(2, 0), (2, 0), (3, 0), (2, 1), (2, 0)]
    assert [once(counted, probe, *each) for each in settings] == [120, 120, 180, 121, 120]
    assert CALLS == [(2, 0), (3, 0), (2, 1)]


def test_a_function_that_may_see_more_than_its_arguments_is_refused() -> None:
    with pytest.raises(TypeError, match="no function of a module"):
        once(lambda probe: probe.n, a_probe())
    with pytest.raises(TypeError, match="no function of a module"):
        once(KSG().prepare, a_probe(), torch.device("cpu"))


def test_configurations_do_not_share_what_differs() -> None:
    """In any order on one probe, each gives what it gives on a fresh one."""
    t = torch.randn(60, 2, generator=torch.Generator().manual_seed(1))
    neighbours: list[Estimator] = [KSG(), KSG(norm="max"), KSG(scale="rank"), MixedKSG()]
    others: list[Estimator] = [
        Binning(),
        Binning(bins=3),
        estimators.MatrixRenyi(),
        estimators.Exact(),
    ]
    configurations: list[Estimator] = [*neighbours, MixedKSG(k=3), *others, estimators.Exact()]
    shared = a_probe()
    for estimator in configurations * 2:
        for ours, fresh in zip(
            information(estimator, t, shared), information(estimator, t, a_probe()), strict=True
        ):
            assert torch.equal(ours.bits, fresh.bits)


def single(bits: float, tied: bool) -> Estimate:
    """The estimate of one problem."""
    return Estimate.single(
        bits, 0.5, flags={"tied": tied}, diagnostics={"share": bits / 2}, device=torch.device("cpu")
    )


def test_single_estimates_stack_to_a_batch_and_come_back() -> None:
    batch = Estimate.stack([single(float(i), i == 2) for i in range(6)]).reshape(2, 3)
    assert batch.bits.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert batch.flags["tied"].tolist() == [[False, False, True], [False, False, False]]
    assert batch.diagnostics["share"][1, 2] == 2.5
    assert batch[0, 2].flags["tied"]
    assert batch[0, 2].bits == 2


def test_estimates_with_other_flags_do_not_stack() -> None:
    with pytest.raises(ValueError, match="not all have tied"):
        Estimate.stack([single(1.0, True), Estimate(torch.tensor(1.0))])
