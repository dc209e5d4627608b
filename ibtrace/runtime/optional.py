"""Optional packages, or one line that says why not."""

from __future__ import annotations

import importlib
from types import ModuleType

from ibtrace.errors import MissingDependency


def require(extra: str, *modules: str) -> ModuleType:
    """The first of the modules that can be imported.

    Args:
        extra: The extra of ibtrace that installs it.
        *modules: Full names, the preferred one first.

    Raises:
        MissingDependency: If none can; says what happened to each, and what to install.

    Example:
        >>> require("json", "no_such_module", "json").__name__
        'json'
    """
    failed = []
    for name in modules:
        try:
            return importlib.import_module(name)
        except Exception as error:  # a broken torchvision makes `import lightning` a RuntimeError
            reason = str(error).strip().partition("\n")[0]
            failed.append(f"import {name}: {type(error).__name__}: {reason}")
    raise MissingDependency(f"{'; '.join(failed)}; pip install 'ibtrace[{extra}]'")
