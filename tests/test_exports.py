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
    "Ensemble",
    "Estimate",
    "Estimator",
    "IbtraceError",
    "Keep",
    "LeftOut",
    "Look",
    "Probe",
    "Row",
    "Rule",
    "Steps",
    "Subsampled",
    "Trace",
    "Tracer",
    "Verdict",
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
