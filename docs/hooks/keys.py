"""The page of the keys of a configuration, from the dataclasses and functions that take them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ibtrace.training import config, experiment

HEAD = """# Keys of a configuration

Written from the code that reads them. A configuration is a YAML file with these keys side by side
([one with comments](files/configs/tishby.yaml.md),
[how to begin](your-model.md#from-a-file-of-yours-by-its-name-in-yaml)); `--set A.B=C` sets any of
them from the command line, with all of its dots, and `ibtrace sweep --grid` tries several values.
Two more keys stand beside them: `variants` has names, and for each the keys in which it differs;
`controls` is a list of [controls](controls.md) that are trained beside each variant. Unknown keys
and wrong types are refused by name. A `class_path` names a class or function of yours or of a
package, with its `init_args`; it runs the code that it names, so load only configurations that you
trust.
"""
SECTIONS: dict[str, Callable[..., Any]] = {
    "Data and probe": experiment.Experiment,
    "Training": config._PARTS["training"],
    "How the networks are looked at": config._PARTS["look"],
    "What is measured, and when": config._PARTS["instruments"],
}
INSIDE = {"split": experiment.Split, "probe": experiment.Measured}
"""Keys whose value has keys of its own."""


class Key(NamedTuple):
    """A key as the page tells it."""

    name: str
    kind: str
    default: str
    text: str


def page() -> str:
    """Every key: type, default, what it says."""
    lines = [HEAD]
    for title, make in SECTIONS.items():
        lines += ["", f"## {title}", "", "| key | type, default | |", "| --- | --- | --- |"]
        lines += [_row(key) for key in keys(make)]
    return "\n".join([*lines, ""])


def keys(make: Callable[..., Any]) -> list[Key]:
    """The keys that a part of an experiment takes, those inside one below it."""
    elsewhere = {*config._PARTS, *({"epochs"} if make is config._PARTS["instruments"] else ())}
    found = []
    for key in _arguments(make):
        if key.name in INSIDE:
            found.append(key._replace(kind="mapping", default=""))
            inside = _arguments(INSIDE[key.name])
            found += [each._replace(name=f"{key.name}.{each.name}") for each in inside]
        elif key.name not in elsewhere:
            found.append(key)
    return found


def _arguments(make: Callable[..., Any]) -> list[Key]:
    told, hints = described(make), get_type_hints(make)
    parameters = inspect.signature(make).parameters.values()
    return [Key(p.name, _kind(hints[p.name]), _default(p), told[p.name]) for p in parameters]


def described(make: Callable[..., Any]) -> dict[str, str]:
    """The arguments of a docstring in Google's style."""
    _, _, rest = (inspect.getdoc(make) or "").partition("Args:\n")
    rest = re.split(r"\n\n\w+:\n", rest)[0]
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", rest, re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _kind(hint: Any) -> str:
    """A type as a person would say it."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(part) for part in parts))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin in (list, Sequence):
        return f"list of {_kind(parts[0])}"
    if origin is dict:
        return "mapping"
    words = {NoneType: "null", int: "int", float: "float", str: "str", bool: "bool"}
    return words.get(hint, "class_path")


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "needed"
    if value == ():
        return "none"
    words = {"None": "null", "True": "true", "False": "false"}
    return f"`{words.get(str(value), value)}`"


def _row(key: Key) -> str:
    text = key.text.replace("|", r"\|").replace("``", "`")
    what = ", ".join(filter(None, (key.kind, key.default)))
    return f"| `{key.name}` | {what} | {text} |"
