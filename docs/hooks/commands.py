"""The page of the command line, from its parser."""

from __future__ import annotations

import argparse

from ibtrace import cli

HEAD = """# The command line

Written from the parser: what `ibtrace --help` and `ibtrace COMMAND --help` say. A mistake is one
line and exit status 2; an interrupted command exits with 130 and says how to go on.
"""


def page() -> str:
    """Every command with its usage and its arguments."""
    return "\n".join([HEAD, *(_section(name, each) for name, each in parsers().items())])


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (choices,) = (action.choices for action in cli._parser()._actions if action.choices)
    assert isinstance(choices, dict)
    return choices


def arguments(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """What a command takes, as it is written, and what it does."""
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = "" if action.nargs == 0 else f" {_value(action)}"
        names = [f"{name}{value}" for name in action.option_strings] or [_value(action)]
        rows.append((", ".join(f"`{name}`" for name in names), action.help or ""))
    return rows


def _value(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    name = str(action.metavar or action.dest.upper())
    many = {"+": f"{name} …", "?": f"[{name}]", "*": f"[{name} …]"}
    return many.get(str(action.nargs), name)


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    """A command: what it does, and a row for each argument."""
    rows = [f"| {given} | {_cell(text)} |" for given, text in arguments(parser)]
    table = ["| argument | |", "| --- | --- |", *rows, ""] if rows else []
    return "\n".join([f"## ibtrace {name}", "", parser.description or "", "", *table])


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")
