"""What a user names by a dotted path, and modules that are imported when they are named."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ibtrace.errors import ConfigError


def imported(path: str) -> Any:
    """What a dotted name stands for; None if it is not there.

    Args:
        path: ``my_file.name``; runs the module it names.

    Raises:
        ConfigError: If the module is there and cannot be imported.

    Example:
        >>> imported("math.pi") > 3, imported("nowhere.pi")
        (True, None)
    """
    module, _, name = path.rpartition(".")
    if not module or not all(part.isidentifier() for part in path.split(".")):
        return None
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return getattr(imported(module), name, None)
    except ImportError as error:
        message = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"{path} cannot be imported: {message}") from error


def when_named(
    package: str, *modules: str
) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose modules are imported when first named.

    Args:
        package: Its ``__name__``.
        *modules: Modules that are heavy, or need what may not be installed.
    """

    def get(name: str) -> ModuleType:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return get, lambda: sorted({*vars(sys.modules[package]), *modules})
