"""Folders of ``transformers`` by its own loader: it knows what tensors were called before."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn


def load_by_its_own_loader(model: nn.Module, folder: Path) -> bool:
    """Load a folder into a network of ``transformers``, if it is one of its class, whole.

    Args:
        model: Changed in place, where it was loaded.
        folder: A folder that ``save_pretrained`` wrote.

    Returns:
        Whether it was loaded: not if a tensor is missing, which the loader would draw at random.
    """
    transformers = sys.modules.get("transformers")  # whose network it is has imported it
    if transformers is None or not isinstance(model, transformers.PreTrainedModel):
        return False
    if not (folder / "config.json").is_file():
        return False
    with torch.random.fork_rng(devices=[]):
        loaded, told = type(model).from_pretrained(
            folder,
            config=model.config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            output_loading_info=True,
        )
    state = loaded.state_dict()
    own = {name: value.shape for name, value in model.state_dict().items()}
    same = own == {name: value.shape for name, value in state.items()}
    if told["missing_keys"] or told["mismatched_keys"] or not same:
        return False
    model.load_state_dict(state)
    return True
