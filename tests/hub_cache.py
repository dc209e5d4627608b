"""A cache of the hub's client, laid out as the client lays it, and no network."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = 24
SIZES = {"vocab_size": WORDS, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "bos_token_id": 1, "eos_token_id": 2}


def pythia(seed: int) -> Any:
    """A small network of Pythia's architecture."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SIZES))


def into_cache(cache: Path, repository: str, revision: str, files: Path) -> None:
    """Files as the hub's client lays them: blobs by digest, links to them, and a reference."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    commit = hashlib.sha1(revision.encode()).hexdigest()
    for part in ("blobs", "refs", f"snapshots/{commit}"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(commit)
    for file in files.iterdir():
        blob = folder / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        link = folder / "snapshots" / commit / file.name
        link.symlink_to(os.path.relpath(blob, link.parent))


def without_network(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let the client look into this cache, and nowhere else."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
