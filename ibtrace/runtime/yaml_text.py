"""YAML as configurations are written in it."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number: PyYAML follows YAML 1.1, which wants 1.0e-3."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def parsed(text: str) -> Any:
    """What a text says.

    Args:
        text: YAML.

    Raises:
        ValueError: If it is not YAML, or a value is not of the type that its tag says; one line.

    Example:
        >>> parsed("{rate: 1e-3, layers: [a, b]}")
        {'rate': 0.001, 'layers': ['a', 'b']}
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # of a value that is not of its tag: whatever its type raises
        raise ValueError(" ".join(str(error).split())) from error
