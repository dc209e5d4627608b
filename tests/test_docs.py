"""The code in the README runs as printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


def names() -> dict[str, Any]:
    """What a reader of the snippets has already."""
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()

    def build_model() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))

    def train_one_epoch(model: nn.Module) -> None:
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    given = {"x": x, "y": y, "epochs": 3, "torch": torch, "model": build_model()}
    return {**given, "build_model": build_model, "train_one_epoch": train_one_epoch}


def test_the_python_blocks_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scope = names()
    for block in blocks("python"):
        exec(compile(block, str(README), "exec"), scope)
    said = capsys.readouterr().out
    assert "inconclusive" in said  # one seed
    assert "5/5" in said  # five seeds


def test_the_commands_shown_are_those_there_are() -> None:
    from ibtrace.cli import _parser

    shown = set(re.findall(r"^ibtrace (\w+)", "".join(blocks("")), re.MULTILINE))
    (commands,) = (action.choices for action in _parser()._actions if action.choices)
    assert commands is not None
    assert shown == set(commands)


def test_links_point_to_files() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
