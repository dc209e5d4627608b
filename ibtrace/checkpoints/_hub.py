"""The revisions of a Hugging Face repository as checkpoints, one at a time, by the hub's client."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ibtrace.checkpoints._find import in_order
from ibtrace.checkpoints._read import few
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.runtime.arguments import several, shown, whole
from ibtrace.runtime.optional import require

_EXTRA = "huggingface"
_SAFE = ("*.json", "model*.safetensors")
_PICKLED = ("*.json", "pytorch_model*.bin")
_STEP = re.compile(r"step[-_= ]*(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Revision:
    """A revision of a repository: a checkpoint that is fetched when its path is first asked for.

    Args:
        repository: The name of a repository (``EleutherAI/pythia-70m``), or a local folder, whose
            revisions are folders in it.
        name: The revision: a branch, a tag or a commit.
        epoch: Where it stands on the axis of a trace: optimiser steps done, or what was given.
        step: Optimiser steps done, if the name says them.
    """

    repository: str
    name: str
    epoch: int
    step: int | None = None

    @cached_property
    def path(self) -> Path:
        """The folder with its files, in the client's cache.

        Raises:
            InvalidInput: If there is no such revision, or the hub cannot be reached and the cache
                does not hold it.
            MissingDependency: If the client is not installed.
        """
        root = Path(self.repository).expanduser()
        if not root.is_dir():
            return _downloaded(self.repository, self.name)
        if not (root / self.name).is_dir():
            there = sorted(path.name for path in root.iterdir() if path.is_dir())
            raise InvalidInput(
                f"{root} has no folder of the revision {self.name!r}; it has {few(there) or 'none'}"
            )
        return root / self.name


def revisions_of(
    repository: str | Path,
    names: str | Sequence[str],
    epochs: Sequence[int] | Callable[[str], int] | None = None,
) -> list[Revision]:
    """The revisions of a repository in the order of their steps; nothing is fetched.

    Args:
        repository: Its name, or a local folder with a folder for each revision.
        names: The revisions.
        epochs: Where each stands, in the order of ``names``, or a function of the name; None reads
            the number after ``step``, else the only number, in the name.

    Raises:
        ConfigError: If none is given, a name says no number, or two stand at one place.

    Example:
        >>> [(r.name, r.epoch) for r in revisions_of("EleutherAI/pythia-70m", ["step512", "step0"])]
        [('step0', 0), ('step512', 512)]
    """
    names = several(names)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(
            f"revisions= takes names of revisions such as ['step0', 'step512'], got {shown(names)}"
        )
    if epochs is None:
        steps = [_step(name) for name in names]
        given = [Revision(str(repository), n, s, s) for n, s in zip(names, steps, strict=True)]
    else:
        places = [epochs(name) for name in names] if callable(epochs) else list(epochs)
        if len(places) != len(names):
            raise ConfigError(f"epochs= gives {len(places)} for {len(names)} revisions")
        numbers = [whole(f"epochs= of {n}", p, least=0) for n, p in zip(names, places, strict=True)]
        given = [Revision(str(repository), n, p) for n, p in zip(names, numbers, strict=True)]
    return in_order(
        given, lambda a, b: f"revisions {a.name!r} and {b.name!r} are both at {a.epoch}"
    )


def network_of(revision: Revision) -> nn.Module:
    """A network of the class and the sizes that a revision's configuration says, untrained.

    Raises:
        InvalidInput: If the configuration names no class of ``transformers``.
        MissingDependency: If ``transformers`` is not installed.
    """
    transformers = require(_EXTRA, "transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(revision.path)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{revision.path} says of no model what it is ({str(error).partition(chr(10))[0]}); "
            f"build it yourself: from_checkpoints(model, {revision.repository!r}, …)"
        ) from error
    names = getattr(config, "architectures", None) or []
    of_class = getattr(transformers, names[0], None) if names else transformers.AutoModel
    if of_class is None:
        raise InvalidInput(
            f"{revision.repository} is a {names[0]}, which transformers "
            f"{transformers.__version__} does not have; build it yourself: "
            f"from_checkpoints(model, {revision.repository!r}, …)"
        )
    with torch.random.fork_rng(devices=[]):  # its weights are those of the revisions
        network: nn.Module = of_class(config) if names else of_class.from_config(config)
    return network.float().eval()


def _step(name: str) -> int:
    """The number of steps that the name of a revision says."""
    numbers = _STEP.findall(name) or _NUMBER.findall(name)
    if len(numbers) != 1:
        raise ConfigError(
            f"revision {name!r} does not say its step (such as step512); pass epochs=, one for "
            "each revision or a function of the name"
        )
    return int(numbers[0])


def _downloaded(repository: str, name: str) -> Path:
    """The folder of one revision in the client's cache, with the weights in one form."""
    hub = require(_EXTRA, "huggingface_hub")
    try:
        folder = _fetched(hub, repository, name, _SAFE)
        if folder is None or not any(folder.glob("model*.safetensors")):
            folder = _fetched(hub, repository, name, _PICKLED) or folder
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"revision {name!r} of {repository}: {type(error).__name__}: "
            f"{str(error).strip().partition(chr(10))[0]}"
        ) from error
    if folder is None:
        raise InvalidInput(
            f"revision {name!r} of {repository} is not in the cache of huggingface_hub, and the "
            f"hub is not reached; where it is: hf download {repository} --revision {name}"
        )
    return folder


def _fetched(hub: Any, repository: str, name: str, files: Sequence[str]) -> Path | None:
    """The folder after these files were fetched; None if the hub is out of reach."""
    try:
        return Path(hub.snapshot_download(repository, revision=name, allow_patterns=list(files)))
    except hub.errors.LocalEntryNotFoundError:
        return None
