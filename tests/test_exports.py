"""The public surface: every name is exported on purpose, documented, and imports what it says."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import ibtrace

PUBLIC = {
    "At",
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
    "Problem",
    "Quantity",
    "Reading",
    "Row",
    "Rule",
    "Scalar",
    "Sink",
    "Steps",
    "Subsampled",
    "Tags",
    "Trace",
    "TraceLike",
    "Tracer",
    "Verdict",
    "View",
    "compare",
    "information",
    "layers",
    "log_spaced",
    "snapshot",
    "verdict",
}


def exported() -> set[str]:
    """Public names of the package that are no modules."""
    names = {name for name in vars(ibtrace) if not name.startswith("_")}
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


def test_importing_ibtrace_loads_no_plotting_and_no_command_line() -> None:
    heavy = "{'matplotlib', 'seaborn', 'jsonargparse'}"
    code = f"import sys, ibtrace; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_error_is_in_one_tree_and_said_to_be() -> None:
    """Whoever catches ``IbtraceError`` catches all that ibtrace raises on purpose."""
    own = {
        kind
        for each in pkgutil.walk_packages(ibtrace.__path__, "ibtrace.")
        for kind in vars(importlib.import_module(each.name)).values()
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
