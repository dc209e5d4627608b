"""The public surface: every name is exported on purpose, documented, and imports what it says."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import ibtrace
from ibtrace.errors import MissingDependency

PUBLIC = {
    "At",
    "BottleneckCurve",
    "Dataset",
    "Ensemble",
    "Estimate",
    "Estimator",
    "IbtraceError",
    "Keep",
    "LeftOut",
    "Lens",
    "LensTags",
    "Look",
    "Probe",
    "ReadAnew",
    "Problem",
    "Quantity",
    "Reading",
    "Recipe",
    "Row",
    "Rule",
    "Scalar",
    "Sink",
    "Steps",
    "Subsampled",
    "Sweep",
    "Tags",
    "Trace",
    "TraceLike",
    "Twins",
    "Tracer",
    "Verdict",
    "View",
    "bottleneck",
    "compare",
    "gaussian_bottleneck",
    "information",
    "layers",
    "log_spaced",
    "ngrams",
    "snapshot",
    "verdict",
}


def exported() -> set[str]:
    """Public names of the package that are no modules."""
    names = {name for name in dir(ibtrace) if not name.startswith("_")}
    return {name for name in names if not inspect.ismodule(getattr(ibtrace, name))}


def test_the_public_names_are_these() -> None:
    assert exported() == PUBLIC


def test_every_public_name_is_documented() -> None:
    for name in PUBLIC:
        assert inspect.getdoc(getattr(ibtrace, name)), name


def test_no_name_hides_a_package() -> None:
    """``ibtrace.comparison.summary`` works as it is written."""
    packages = [each.name for each in pkgutil.walk_packages(ibtrace.__path__) if each.ispkg]
    assert "comparison" in packages
    for name in packages:
        module = importlib.import_module(f"ibtrace.{name}")
        assert getattr(ibtrace, name) is module


def test_importing_ibtrace_imports_nothing_and_a_tracer_no_plotting() -> None:
    heavy = "{'matplotlib', 'seaborn', 'jsonargparse', 'numba'}"
    code = (
        "import sys, ibtrace; assert not {'torch', 'numpy', 'pandas'} & {*sys.modules}\n"
        f"ibtrace.Tracer; print(*sorted({heavy} & {{*sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("package", ["ibtrace", "ibtrace.integrations"])
def test_every_public_module_is_there_after_the_import_of_its_package(package: str) -> None:
    """Measured in a process of its own, where nothing else has imported it."""
    folder = Path(ibtrace.__file__).parent / package.removeprefix("ibtrace").lstrip(".")
    names = [each.name for each in pkgutil.iter_modules([str(folder)]) if each.name[0] != "_"]
    code = (
        f"import sys, {package}; missing = {{*{names}}} - {{*dir({package})}}\n"
        f"before = {{*sys.modules}}; had = [hasattr({package}, 'nowhere')]\n"
        f"print(missing or 'listed', had, {{*sys.modules}} - before or 'nothing imported')\n"
        f"for name in {names}:\n"
        f"    try: assert getattr({package}, name).__name__ == '{package}.' + name\n"
        "    except ImportError as error: assert 'install' in str(error), error\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "listed [False] nothing imported\n"


def _modules_that_are_whole() -> Iterator[ModuleType]:
    """All modules of the package, without those of frameworks that are not installed."""
    for each in pkgutil.walk_packages(ibtrace.__path__, "ibtrace."):
        with contextlib.suppress(MissingDependency):
            yield importlib.import_module(each.name)


def test_every_error_is_in_one_tree_and_said_to_be() -> None:
    """Whoever catches ``IbtraceError`` catches all that ibtrace raises on purpose."""
    own = {
        kind
        for module in _modules_that_are_whole()
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and issubclass(kind, BaseException)
        and kind.__module__.startswith("ibtrace.")
    }
    warned = {kind for kind in own if issubclass(kind, Warning)}
    assert own - warned == {kind for kind in own if issubclass(kind, ibtrace.IbtraceError)}
    assert all(inspect.getdoc(kind) for kind in own)
    public = {kind for kind in own if not kind.__name__.startswith("_")}
    assert {kind.__module__ for kind in public} == {"ibtrace.errors"}


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "ibtrace", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"ibtrace {ibtrace.__version__}\n"
