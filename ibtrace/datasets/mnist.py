"""MNIST: from a folder that has it, else downloaded once and checked."""

from __future__ import annotations

import hashlib
import os
import urllib.request
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ibtrace.datasets.digits import digits
from ibtrace.datasets.idx import read_idx
from ibtrace.datasets.types import Dataset
from ibtrace.errors import DownloadError, InvalidInput
from ibtrace.runtime.files import written_whole

Part = Literal["train", "test"]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""Checksums of the gzipped files."""

_FILES: dict[Part, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

_TIMEOUT = 10.0
_NAMES = {"train": "mnist-train", "test": "mnist-t10k", "all": "mnist-all"}


def mnist(
    part: Part | Literal["all"] | None = None,
    *,
    flatten: bool = True,
    mirrors: Sequence[str] = MIRRORS,
    fallback: Literal["digits"] | None = None,
) -> Dataset:
    """Handwritten digits of 28×28 pixels (LeCun, Cortes & Burges).

    The IDX files, gzipped or not, are looked for in ``$IBTRACE_DATA`` and in its ``mnist`` folder,
    then in the user's cache folder (``$XDG_CACHE_HOME/ibtrace/mnist``); what is found nowhere is
    downloaded there and kept if its checksum is right.

    Args:
        part: ``train`` (60,000 samples), ``test`` (10,000), or ``all`` (the training samples,
            then the test samples: a contiguous split of 6/7 is MNIST's own). None takes the
            training files if a folder holds them, else the test files if a folder holds those,
            else it downloads the training files; the name of the data set says which it is.
        flatten: x as ``(n, 784)``; else as images ``(n, 1, 28, 28)``.
        mirrors: Where to download from, the first that answers.
        fallback: What to use, with a warning, where MNIST is neither found nor downloadable:
            ``digits``, scikit-learn's 1797 digits of 8×8 pixels enlarged to 28×28. None raises.

    Returns:
        x float32 in [0, 1]; 10 classes; named ``mnist-train``, ``mnist-t10k``, ``mnist-all`` or
        ``digits-28x28``.

    Raises:
        InvalidInput: If ``$IBTRACE_DATA`` is no folder, or a file there is damaged.
        DownloadError: If there is no fallback and a file can be downloaded from no mirror, or
            its checksum is wrong.
    """
    folders = _folders()
    first: Part = next(iter(held()), "train")
    wanted = part or first
    parts: tuple[Part, ...] = ("train", "test") if wanted == "all" else (wanted,)
    try:
        paths = [_find(p, folders) or _download(p, mirrors) for p in parts]
    except DownloadError:
        if fallback is None:
            raise
        data = _enlarged(digits())
        warnings.warn(
            f"{data.name}, scikit-learn's 8×8 digits enlarged, stands in for MNIST, which could "
            "not be downloaded; put its files into a folder and set IBTRACE_DATA to it",
            stacklevel=2,
        )
    else:
        read = [(read_idx(images), read_idx(labels)) for images, labels in paths]
        x = torch.cat([images for images, _ in read])[:, None].float() / 255
        y = torch.cat([labels for _, labels in read]).long()
        data = Dataset(_NAMES[wanted], x, y, classes=10)
    x = data.x.flatten(1) if flatten else data.x
    return Dataset(data.name, x, data.y, data.classes)


def held() -> dict[Part, Path]:
    """The folder of each part whose files are on this machine.

    Raises:
        InvalidInput: If ``$IBTRACE_DATA`` is no folder.
    """
    folders = _folders()
    return {part: found[0].parent for part in _FILES if (found := _find(part, folders))}


def _enlarged(data: Dataset) -> Dataset:
    """Flat 8×8 images as ``(n, 1, 28, 28)``, interpolated between the centres of their pixels."""
    small = data.x.view(-1, 1, 8, 8)
    x: Tensor = functional.interpolate(small, (28, 28), mode="bilinear", align_corners=False)
    return Dataset(f"{data.name}-28x28", x, data.y, data.classes)


def _download(part: Part, mirrors: Sequence[str]) -> list[Path]:
    return [download(name, _cache(), mirrors) for name in _FILES[part]]


def download(name: str, folder: Path, mirrors: Sequence[str] = MIRRORS) -> Path:
    """Fetch one gzipped file into a folder; it appears there whole and checked, or not at all.

    Args:
        name: The file's name without ``.gz``, a key of `SHA256`.
        folder: Where it goes; made if need be.
        mirrors: Addresses to put before the name, tried in turn.

    Raises:
        DownloadError: If no mirror gives the file with the right checksum; says what each gave.
    """
    failures = []
    for mirror in mirrors:
        url = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
                content = response.read()
        except OSError as error:
            failures.append(f"{url}: {error}")
            continue
        if hashlib.sha256(content).hexdigest() == SHA256[name]:
            file = folder / f"{name}.gz"
            with written_whole(file) as part:
                part.write_bytes(content)
            return file
        failures.append(f"{url}: damaged (wrong sha256)")
    raise DownloadError(
        f"mnist: {name}.gz could not be downloaded ({'; '.join(failures)}); "
        "try again, or put the file into a folder and set IBTRACE_DATA to it"
    )


def _folders() -> list[Path]:
    """Where to look, in order."""
    given = os.environ.get("IBTRACE_DATA")
    if not given:
        return [_cache()]
    if not Path(given).is_dir():
        raise InvalidInput(f"IBTRACE_DATA={given} is not a folder; set it to one, or unset it")
    return [Path(given), Path(given) / "mnist", _cache()]


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "ibtrace" / "mnist"


def _find(part: Part, folders: Sequence[Path]) -> list[Path]:
    """The images and labels of a part, if both are in one folder."""
    for folder in folders:
        candidates = [[folder / name, folder / f"{name}.gz"] for name in _FILES[part]]
        files = [next((p for p in pair if p.is_file()), None) for pair in candidates]
        present = [path for path in files if path]
        if len(present) == len(files):
            return present
    return []
