"""Text that every machine has: the standard library of the running Python, as tokens."""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ibtrace.datasets.ngrams import ngrams
from ibtrace.datasets.splits import stream
from ibtrace.datasets.types import Dataset
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.runtime.arguments import flag, require_path, whole
from ibtrace.runtime.optional import require

_OTHERS = frozenset({"site-packages", "dist-packages", "__pycache__", "idlelib", "lib2to3"})
_PYTHON: frozenset[str] = frozenset({".py"})
_TEXT = frozenset({".py", ".txt", ".md"})
_PIECES = 200  # of one file, each of which counts as a file
_BYTES_OF_PAIRS = 8  # a token's at most, on average
_TRAINING = 39  # windows to train on for each that is held out: a share of 0.975

Tokens = Literal["bytes", "bpe"]


def python_source(
    path: str | os.PathLike[str] | None = None,
    *,
    tokens: Tokens = "bytes",
    vocabulary: int = 1024,
    window: int = 48,
    held_out: int = 24_000,
    contexts: int = 4,
    continuations: int = 2,
    shuffled: bool = False,
    seed: int = 0,
) -> Dataset:
    """Windows of source text, those of held-out files last, with n-grams as sources and targets.

    Files are taken in the order of a hash of their names, some to be held out, others to train on:
    no file is in both, and no window spans two. The first 97.5 % of the windows are of training
    files, which ``split: {fraction: 0.975, how: contiguous}`` takes apart again. ``x`` are tokens
    ``(n, window)``; the targets are the continuations ``next1``, the next token, which a network is
    trained on, and ``next2``, …; the sources the contexts ``context1``, … (`ngrams`). The data
    set's name has the Python version, the tokens and the first digits of the sha256 of what was
    read.

    Args:
        path: A text file, which is cut into 200 pieces, or a folder whose text files (``.py``,
            ``.txt``, ``.md``) are read; None: the standard library of the running Python.
        tokens: ``bytes``, of which there are 256; or ``bpe``, byte pairs merged on the training
            files (`tokenizers`, an optional package).
        vocabulary: How many tokens ``bpe`` makes.
        window: Tokens of a window.
        held_out: Tokens of the windows that are held out.
        contexts: The longest context.
        continuations: The longest continuation.
        shuffled: A control: the tokens of each part in a random order.
        seed: Seeds that order.

    Raises:
        ConfigError: If a number is below 1, or ``tokens`` neither.
        InvalidInput: If there is too little text.
        MissingDependency: If ``bpe`` is asked for and ``tokenizers`` is not installed.

    Example:
        >>> data = python_source(held_out=480, window=24)
        >>> tuple(data.x.shape), list(data.targets), list(data.sources)
        ((800, 24), ['next1', 'next2'], ['context1', 'context2', 'context3', 'context4'])
    """
    for name, value in (("window", window), ("contexts", contexts), ("held_out", held_out)):
        whole(f"python_source: {name}", value, least=1)
    whole("python_source: continuations", continuations, least=1)
    shuffled = flag("python_source: shuffled", shuffled)
    if tokens not in ("bytes", "bpe"):
        raise ConfigError(f"python_source: tokens must be bytes or bpe, got {tokens!r}")
    few = max(held_out // window, 1)
    many = _TRAINING * few
    files = _files(path)
    # each window holds one more token: the last one's next
    size = (window + 1) * (1 if tokens == "bytes" else _BYTES_OF_PAIRS)
    held, rest = _taken(files, few, size)
    training, _ = _taken(rest, many, size)
    encode = _bytes if tokens == "bytes" else _byte_pairs(training, vocabulary)
    parts = [_windows([encode(text) for text in texts], window + 1) for texts in (training, held)]
    for windows, wanted, what in zip(parts, (many, few), ("training", "held out"), strict=True):
        if len(windows) < wanted:
            raise InvalidInput(
                f"python_source: {len(windows)} windows of {window} tokens {what}, {wanted} are "
                "wanted; lower held_out or window, or give more text by path="
            )
    parts = [part[:size] for part, size in zip(parts, (many, few), strict=True)]
    if shuffled:
        parts = [_reordered(part, seed, name) for part, name in zip(parts, "ab", strict=True)]
    digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()
    name = f"{_called(path)}, {tokens}{', shuffled' if shuffled else ''}, sha256 {digest[:12]}"
    known = 256 if tokens == "bytes" else vocabulary
    return _dataset(name, torch.cat(parts), contexts, continuations, known)


def _dataset(
    name: str, windows: Tensor, contexts: int, continuations: int, vocabulary: int
) -> Dataset:
    x = windows[:, :-1]
    targets: dict[str, Any] = {"next1": windows[:, 1:].clone()}
    for order in range(2, continuations + 1):
        # numbered with the token after the window, whose own position is then dropped
        targets[f"next{order}"] = ngrams(windows, order, ahead=True)[:, :-1].clone()
    sources = {f"context{order}": ngrams(x, order) for order in range(1, contexts + 1)}
    return Dataset(name, x.clone(), targets, vocabulary, sources=sources)  # type: ignore[arg-type]


def _called(path: str | os.PathLike[str] | None) -> str:
    if path is None:
        return f"source of Python {platform.python_version()}"
    return Path(path).name


def _files(path: str | os.PathLike[str] | None) -> Iterator[bytes]:
    """The texts in the order of a hash of their names."""
    if path is None:
        root, endings = Path(sysconfig.get_paths()["stdlib"]), _PYTHON
    else:
        require_path("python_source: path", path)
        root, endings = Path(path), _TEXT
    if root.is_file():
        text = root.read_bytes()
        size = max(len(text) // _PIECES, 1)
        yield from (text[at : at + size] for at in range(0, len(text), size))
        return
    found: dict[str, Path] = {}
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in _OTHERS]
        files = [Path(folder, name) for name in names if Path(name).suffix in endings]
        found |= {file.relative_to(root).as_posix(): file for file in files}
    for name in sorted(found, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        yield found[name].read_bytes()


def _taken(files: Iterator[bytes], windows: int, size: int) -> tuple[list[bytes], Iterator[bytes]]:
    """Files until they hold so many windows of a size in bytes, and the files that are left."""
    texts: list[bytes] = []
    held = 0
    for text in files:
        texts.append(text)
        held += len(text) // size
        if held >= windows:
            break
    return texts, files


def _bytes(text: bytes) -> Tensor:
    return torch.tensor(list(text), dtype=torch.int64)


def _byte_pairs(texts: Sequence[bytes], vocabulary: int) -> Any:
    """What encodes by byte pairs merged on some texts."""
    whole("python_source: vocabulary", vocabulary, least=257)
    library: Any = require("text", "tokenizers")
    merged = library.Tokenizer(library.models.BPE())
    merged.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False
    )
    merged.train_from_iterator([text.decode("utf-8", "replace") for text in texts], trainer)
    return lambda text: torch.tensor(merged.encode(text.decode("utf-8", "replace")).ids)


def _windows(texts: Sequence[Tensor], length: int) -> Tensor:
    """Windows of one length, none of which spans two texts, ``(n, length)``."""
    whole_ones = [t[: len(t) // length * length].view(-1, length) for t in texts]
    return torch.cat([torch.empty(0, length, dtype=torch.int64), *whole_ones])


def _reordered(windows: Tensor, seed: int, part: str) -> Tensor:
    order = torch.randperm(windows.numel(), generator=stream(seed, f"text {part}"))
    return windows.flatten()[order].view_as(windows)
