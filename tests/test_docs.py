"""The code in the README and the pages of docs/ runs as printed."""

from __future__ import annotations

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ibtrace
from ibtrace import cli
from ibtrace.datasets import digits
from ibtrace.trace import Choices
from tests.hub_cache import WORDS, into_cache, pythia, without_network
from tests.stored_traces import NARROW, WIDE, coded, kept_trace

pytestmark = [
    # Lightning walks data loaders with a torch function that torch has deprecated, and asks for
    # more workers and rarer logging.
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '.*' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning"),
]

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
MODEL_PAGE = ROOT / "docs" / "your-model.md"
RESOLUTION_PAGE = ROOT / "docs" / "resolution.md"
BOUND_PAGE = ROOT / "docs" / "bound.md"
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
_BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a language."""
    return [text for _, kind, text in _BLOCK.findall(page.read_text()) if kind == language]


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

    given = {"x": x, "y": y, "epochs": 3, "torch": torch, "nn": nn, "model": build_model()}
    return {**given, "build_model": build_model, "train_one_epoch": train_one_epoch}


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # where there is no accelerator
def test_the_readmes_python_blocks_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scope = names()
    Path("my_text.txt").write_text((ROOT / "docs" / "lenses.md").read_text())
    scope |= with_hugging_face()
    for block in blocks(README, "python"):
        exec(compile(block, str(README), "exec"), scope)
    said = capsys.readouterr().out
    assert "no call: 1 seed, at least 3" in said  # one seed


def with_lightning(given: dict[str, Any]) -> dict[str, Any]:
    """What a user of Lightning has."""
    lightning = pytest.importorskip("lightning")

    # mypy: imported at run time
    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = given["build_model"]()

        def forward(self, x: Tensor) -> Any:
            return self.net(x)

        def training_step(self, batch: list[Tensor], _index: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    loader = DataLoader(TensorDataset(given["x"], given["y"]), batch_size=32)
    return {"lightning": lightning, "lightning_module": Module(), "loader": loader}


def with_hugging_face() -> dict[str, Any]:
    """What a user of Hugging Face has."""
    transformers = pytest.importorskip("transformers")
    tokens = torch.randint(1, 30, (16, 6), generator=torch.Generator().manual_seed(0))
    labels = tokens[:, 0] % 2
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.BertConfig(vocab_size=30, intermediate_size=8, **sizes)
    samples = zip(tokens, labels, strict=True)
    return {
        "transformers": transformers,
        "bert": transformers.BertForSequenceClassification(config),
        "tokens": tokens,
        "mask": torch.ones_like(tokens),
        "labels": labels,
        "dataset": [{"input_ids": one, "labels": label} for one, label in samples],
        "arguments": transformers.TrainingArguments(
            "hugging_face", num_train_epochs=2, report_to=[], use_cpu=True, save_strategy="no"
        ),
    }


def with_checkpoints(model: nn.Module) -> dict[str, Any]:
    """What a training that is over has left."""
    Path("checkpoints").mkdir()
    for epoch in (1, 2):
        torch.save(model.state_dict(), f"checkpoints/net-{epoch}.pt")
    return {}


def run_page(page: Path, scope: dict[str, Any]) -> dict[str, Any]:
    """Do what a page says, in the folder of now: write its files, run its code and commands."""
    for mark, language, text in _BLOCK.findall(page.read_text()):
        if mark.startswith("file: "):
            Path(mark.removeprefix("file: ")).write_text(text)
        elif mark == "run":
            for command in text.strip().splitlines():
                assert cli.main([*shlex.split(command)[1:], "--quiet"]) == 0
        elif language == "python":
            exec(compile(text, str(page), "exec"), scope)
    return scope


def test_the_page_on_your_own_model_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    scope = {**names(), **with_hugging_face(), "ibtrace": ibtrace}
    with_revisions(tmp_path, monkeypatch)
    for mark, language, text in _BLOCK.findall(MODEL_PAGE.read_text()):
        if mark.startswith("file: "):
            Path(mark.removeprefix("file: ")).write_text(text)
        elif mark == "run":
            for command in text.strip().splitlines():
                assert cli.main([*shlex.split(command)[1:], "--quiet"]) == 0
            assert "no call: 1 seed, at least 3" in (said := capsys.readouterr().out)
            assert "T: flatten" in said
            scope |= _after_the_run()
        elif language == "python":
            exec(compile(text, str(MODEL_PAGE), "exec"), scope)
    assert scope["tracer"].trace.frame().epoch.unique().tolist() == [1, 2]
    assert scope["pythia"].trace.frame().epoch.unique().tolist() == [0, 512, 143000]


def with_revisions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user of the hub has in the cache."""
    without_network(monkeypatch, folder / "hub")
    for seed, revision in enumerate(("step0", "step512", "step143000")):
        pythia(seed).save_pretrained(folder / revision)
        into_cache(folder / "hub", "EleutherAI/pythia-70m", revision, folder / revision)


def _after_the_run() -> dict[str, Any]:
    """The network of the page, and some images."""
    # mypy: the page's file, which the test writes
    from my_net import MyNet  # type: ignore[import-not-found]

    net = MyNet()
    with_checkpoints(net)
    tokens = torch.randint(3, WORDS, (16, 6), generator=torch.Generator().manual_seed(0))
    y = digits().y[:64]
    of_images = {"images": digits(flatten=False).x[:64], "y": y}
    given = {"x": names()["x"], "y": y, "build_model": lambda: nn.Linear(5, 10)}
    of_images |= with_lightning(given)
    return {"net": net, **of_images, "tokens": tokens, "labels": tokens[:, 0] % 2}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_page_on_resolution_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = {0: WIDE, 1: WIDE, 5: NARROW, 20: NARROW}
    looks = {
        epoch: [{"hidden5": layers["hidden"]} for layers in seeds]
        for epoch, seeds in coded(plan).items()
    }
    losses = [0.1 * seed for seed in range(5)]
    kept_trace(Path("runs/mine"), looks, losses=losses)
    (grid,) = blocks(RESOLUTION_PAGE, "yaml")
    assert len(Choices.read(yaml.safe_load(grid))) == (9 * 3 + 2) * 2 * 2 * 2
    assert f"{len(Choices.read(None))} analyses" in RESOLUTION_PAGE.read_text()
    small = Path("grid.yaml")  # the default's 228 verdicts take seconds
    small.write_text("families: [{estimator: binning, width: [0.5, 1.0]}]\n")
    monkeypatch.setattr("ibtrace.trace.choices.DEFAULT", small)
    scope: dict[str, Any] = {"ibtrace": ibtrace}
    for block in blocks(RESOLUTION_PAGE, "python"):
        exec(compile(block, str(RESOLUTION_PAGE), "exec"), scope)
    said = capsys.readouterr().out
    assert "hidden5: I(X;T) falls, seen in bins of width" in said
    assert "hidden5: Seen at a resolution: compresses under 100 % of 2 analyses" in said


def test_the_page_on_the_bound_runs_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    *printing, drawing = blocks(BOUND_PAGE, "python")
    for block, said in zip(printing, blocks(BOUND_PAGE, "text"), strict=True):
        exec(compile(block, str(BOUND_PAGE), "exec"), scope)
        # How many steps and points that takes hangs on the machine's rounding.
        assert re.sub(r"\d{2,},?\d* (points|steps|β)", r"\1", capsys.readouterr().out) == re.sub(
            r"\d{2,},?\d* (points|steps|β)", r"\1", said
        )
    quick = drawing.replace("range(1, 501)", "range(1, 4)")
    assert quick != drawing
    exec(compile(quick, str(BOUND_PAGE), "exec"), scope)
    assert scope["figure"].axes[0].lines


def test_the_notebook_runs_and_shows_what_is_stored_in_it() -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    stored = nbformat.read(NOTEBOOK, as_version=4)
    again = copy.deepcopy(stored)
    nbclient.NotebookClient(again, timeout=600, kernel_name="python3").execute()
    three_lines = blocks(MODEL_PAGE, "python")[0].replace('"kde"', "KDE(noise_variance=0.1)")
    assert three_lines.strip() == again.cells[3].source
    for one, other in zip(stored.cells, again.cells, strict=True):
        kinds = [
            [sorted(o.get("data", {})) for o in cell.get("outputs", [])] for cell in (one, other)
        ]
        assert kinds[0] == kinds[1]
    outputs = again.cells[3].outputs
    assert any("no call: 1 seed" in output.get("text", "") for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)


def _shown(cell: Any) -> list[list[str]]:
    """The kinds of data that each output of a cell has."""
    return [sorted(output.get("data", {})) for output in cell.get("outputs", [])]


def test_the_commands_shown_are_those_there_are() -> None:
    page = ROOT / "docs" / "shell.md"
    shown = set(re.findall(r"^ibtrace (\w+)", "".join(blocks(page, "")), re.MULTILINE))
    (commands,) = (action.choices for action in cli._parser()._actions if action.choices)
    assert commands is not None
    assert shown == set(commands)


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").rglob("*.md"))], ids=str)
def test_links_point_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
