"""What a user names by a dotted path."""

from __future__ import annotations

import importlib
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
    if not module:
        return None
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return getattr(imported(module), name, None)
    except ImportError as error:
        said = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"{path} cannot be imported: {said}") from error
