"""Text as windows of tokens: by file, none across two, exact n-grams, the order of a control."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ibtrace import Dataset, Probe, Trace
from ibtrace.cli import main
from ibtrace.datasets import python_source, split
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.models import Decoder
from ibtrace.training import config, configs
from ibtrace.training.loop import train


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty files, each of one letter of its own, and one that is no text."""
    (tmp_path / "texts").mkdir()
    for number in range(40):
        name = tmp_path / "texts" / f"{number}.txt"
        name.write_bytes(bytes([65 + number]) * (7_000 + number))
    (tmp_path / "texts" / "image.png").write_bytes(b"z" * 10_000)
    return tmp_path / "texts"


def letters(x: Tensor) -> set[int]:
    return set(x.unique().tolist())


def test_no_window_spans_two_files_and_no_file_is_in_both_parts(folder: Path) -> None:
    data = python_source(folder, held_out=400, window=20)
    assert data.x.shape == (800, 20)
    train, test = split(data.y, 0.975, "contiguous")
    assert len(test) == 20
    assert not letters(data.x[train]) & letters(data.x[test])
    assert all(len(row.unique()) == 1 for row in data.x)
    assert ord("z") not in letters(data.x)
    assert torch.equal(data.x, python_source(folder, held_out=400, window=20).x)


def test_the_next_token_is_the_next_token(tmp_path: Path) -> None:
    text = "".join(f"{number} " for number in range(9000))
    (tmp_path / "a.txt").write_text(text)
    data = python_source(tmp_path / "a.txt", held_out=100, window=20, contexts=2)
    assert torch.equal(data.y[:, :-1], data.x[:, 1:])
    for row, following in zip(data.x, data.y, strict=True):
        assert bytes([*row.tolist(), int(following[-1])]).decode() in text
    second = data.targets["next2"]
    assert (second[:, -1] == -100).all()
    pairs = {}
    for i, j in [(0, 0), (3, 7), (11, 2)]:
        pairs[int(second[i, j])] = tuple(data.y[i, j : j + 2].tolist())
    for number, pair in pairs.items():
        same = (data.y[:, :-1] == pair[0]) & (data.y[:, 1:] == pair[1])
        assert torch.equal(same, second[:, :-1] == number)
    assert torch.equal(data.sources["context2"][:, 0], torch.full((len(data),), -100))


def test_shuffled_text_has_the_tokens_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{number} " for number in range(9000)))
    plain, shuffled = (
        python_source(tmp_path / "a.txt", held_out=100, window=20, shuffled=each)
        for each in (False, True)
    )
    counts = [torch.bincount(data.x.flatten(), minlength=256) for data in (plain, shuffled)]
    assert (counts[0] - counts[1]).abs().max() <= len(plain)  # but for the last tokens' next
    assert not torch.equal(plain.x, shuffled.x)
    assert plain.name != shuffled.name


def test_the_name_tells_what_was_read(folder: Path) -> None:
    data = python_source(folder, held_out=400, window=20)
    assert data.name.startswith("texts, bytes, sha256 ")
    for file in folder.glob("*.txt"):
        file.write_bytes(file.read_bytes().lower())
    assert python_source(folder, held_out=400, window=20).name != data.name


def test_the_standard_library_is_there() -> None:
    data = python_source(held_out=240, window=24)
    assert data.x.shape == (400, 24)
    text = bytes(data.x[0].tolist())
    assert text.isascii() or text


def test_byte_pairs_are_fewer_tokens(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "a.txt").write_text(
        "".join(f"the {number % 97} of them\n" for number in range(20_000))
    )
    data = python_source(tmp_path / "a.txt", held_out=100, window=20, tokens="bpe", vocabulary=300)
    assert data.classes == 300
    assert int(data.x.max()) >= 256  # merged ones


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("too short\n" * 10)
    with pytest.raises(InvalidInput, match="windows of 48 tokens training, 19500 are wanted"):
        python_source(tmp_path / "a.txt")
    with pytest.raises(ConfigError, match="tokens must be bytes or bpe, got 'words'"):
        python_source(tokens="words")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="python_source: window"):
        python_source(window=0)


# --- a decoder, trained on it ---------------------------------------------------------------------


def test_a_decoder_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    net = Decoder(11, width=8, blocks=2, heads=2, context=6).eval()
    ids = torch.randint(11, (3, 6))
    other = ids.clone()
    other[:, 4] = (ids[:, 4] + 1) % 11
    with torch.no_grad():
        one, two = net(ids), net(other)
    assert torch.allclose(one[:, :4], two[:, :4], atol=1e-6)
    assert not torch.allclose(one[:, 4:], two[:, 4:], atol=1e-3)
    assert [name for name, _ in net.named_children()][:3] == ["embedding", "block1", "block2"]
    with pytest.raises(ConfigError, match="Decoder: width / heads"):
        Decoder(width=10, heads=4)


def test_labels_of_tokens_are_trained_on_and_measured(folder: Path, tmp_path: Path) -> None:
    """A loss is of all tokens; what is measured are the held-out ones that have all n-grams."""
    raw: dict[str, Any] = dict(configs.variants(configs.read("conklin"))["text"])
    raw["data"]["init_args"] |= {"path": str(folder), "held_out": 320, "window": 16}
    raw["model"]["init_args"] |= {"width": 8, "blocks": 1, "heads": 2, "context": 16}
    raw |= {"seeds": 1, "epochs": 1, "every": "Steps([4])", "layers": ["block1"]}
    trace = train(config.build(raw), tmp_path / "run", raw=raw)
    frame = trace.frame()
    assert set(frame["samples"]) == {20 * (16 - 3 - 1)}
    contexts = {f"I(context{order};T)" for order in (1, 2, 3, 4)}
    assert set(frame["quantity"]) == {"I(X;T)", "I(T;next1)", "I(T;next2)", *contexts}
    losses = trace.scalars().query("name == 'train_loss'")["value"]
    assert losses.iloc[0] == pytest.approx(math.log(256), abs=0.3)
    assert losses.iloc[-1] < losses.iloc[0]


def test_labels_of_tokens_beside_a_data_set() -> None:
    ids = torch.arange(12).reshape(3, 4) % 5
    data = Dataset("d", ids, ids.roll(-1, 1), 5, sources={"token": ids})
    assert data.of_tokens(data.y)
    with pytest.raises(InvalidInput, match=r"labels of tokens must be 0\.\.3"):
        Dataset("d", ids, ids, 4)
    with pytest.raises(InvalidInput, match="y must be one class a sample"):
        Dataset("d", ids.float(), ids, 5)
    assert [each.quantity for each in Probe.of(data).named] == ["I(token;T)"]
    rows = torch.arange(2)
    for some in (Probe.of(data, n=2), Probe.of(data).some(2), Probe.of_dataset(data, rows)):
        assert [each.quantity for each in some.named] == ["I(token;T)"]
    with pytest.raises(InvalidInput, match=r"3 inputs and 2 labels sources\[token\]"):
        Dataset("d", ids, ids, 5, sources={"token": ids[:2]})
    assert Probe.of(data).label_kind == "tokens"
    ends = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0], [1, 2, 3, 0]])  # as if 0 were padding
    assert "may hold padd" in Probe(ends, torch.arange(3)).streams[0].notice
    assert Probe.of(Dataset("d", ends, ends, 5)).streams[0].notice == ""


def test_replicate_conklin_runs_as_printed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {
        "data.init_args.path": str(folder),
        "data.init_args.held_out": 160,
        "data.init_args.window": 16,
        "model.init_args": "{width: 8, blocks: 2, heads: 2, context: 16}",
        "layers": "[block1, block2]",
        "every": "Steps([2,4])",
        "variants": "{text: {}}",
    }
    options = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    run = str(tmp_path / "run")
    command = ["replicate", "conklin", "--seeds=2", "--epochs=1", "--quiet", "--out", run]
    assert main([*command, *options]) == 0
    said = capsys.readouterr().out
    assert "11 claims:" in said
    assert "not run: shuffled" in said
    assert isinstance(Trace.load(Path(run) / "text"), Trace)
