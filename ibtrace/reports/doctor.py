"""What this machine has and lacks for ibtrace, as text: ``ibtrace doctor``."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ibtrace import __version__
from ibtrace.errors import IbtraceError

_REQUIRED = re.compile(r"^([A-Za-z0-9._-]+)[^;]*$")
_MODULES = {"scikit-learn": "sklearn", "pyyaml": "yaml"}
"""Where a module has another name than its package."""

EXTRAS: Mapping[str, tuple[str, str]] = {
    "lightning": ("lightning", "the callback of ibtrace.integrations.lightning"),
    "huggingface": ("transformers", "the callback of ibtrace.integrations.huggingface"),
    "ignite": ("ignite", "ibtrace.integrations.ignite"),
    "tensorboard": ("tensorboard", "the sink of ibtrace.integrations.tensorboard"),
    "wandb": ("wandb", "the sink of ibtrace.integrations.wandb"),
    "mlflow": ("mlflow", "the sink of ibtrace.integrations.mlflow"),
    "topology": ("ripser", "the lens topology"),
    "text": ("tokenizers", "python_source(tokens='bpe')"),
    "dask": ("distributed", "ibtrace sweep --engine dask"),
    "ray": ("ray", "ibtrace sweep --engine ray"),
}
"""The module that each extra brings, and what needs it."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        name: What it is about.
        told: What there is.
        wrong: Whether ibtrace cannot work as it is.
    """

    name: str
    told: str
    wrong: bool = False


def examined() -> dict[str, list[Finding]]:
    """What was found, under a heading each; what goes wrong in looking is a finding."""
    parts: dict[str, Callable[[], Iterator[Finding]]] = {
        "ibtrace": _itself,
        "packages": _packages,
        "devices": _devices,
        "loops that numba compiles at their first use": _kernels,
        "data and runs": _places,
        "optional": _extras,
    }
    found = {}
    for heading, part in parts.items():
        found[heading] = list(_safely(part))
    return found


def text(found: Mapping[str, list[Finding]]) -> str:
    """The findings as lines; what is wrong is said again at the end."""
    width = max(len(each.name) for part in found.values() for each in part)
    lines = []
    for heading, part in found.items():
        lines += [heading, *(f"  {each.name:<{width}}  {each.told}" for each in part), ""]
    wrong = [each for part in found.values() for each in part if each.wrong]
    for each in wrong:
        lines.append(f"WRONG: {each.name}: {each.told}")
    return "\n".join(lines if wrong else [*lines, "Nothing is wrong."])


def _safely(part: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from part()
    except Exception as error:  # a broken package can raise anything
        yield Finding(part.__name__.strip("_"), _said(error), wrong=True)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _itself() -> Iterator[Finding]:
    yield Finding("version", __version__)
    yield Finding("installed in", str(Path(__file__).parents[1]))
    yield Finding("Python", f"{platform.python_version()} ({platform.platform()})")


def _packages() -> Iterator[Finding]:
    for needed in metadata.requires("ibtrace") or ():
        matched = _REQUIRED.match(needed)
        if matched is None:
            continue  # of an extra
        name = matched[1]
        module = _MODULES.get(name.lower(), name.lower().replace("-", "_"))
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken package can raise anything
            yield Finding(name, f"{_said(error)}; pip install '{needed}'", wrong=True)
            continue
        yield Finding(name, metadata.version(name))
    try:
        importlib.import_module("npeet")
    except ImportError:
        yield Finding("npeet", "not there: npeet-plus stands in for it")
    else:
        yield Finding("npeet", "there, and used by the estimator npeet")


def _devices() -> Iterator[Finding]:
    import torch

    threads = torch.get_num_threads()
    many = f"{threads} thread{'s' * (threads != 1)}"
    yield Finding("cores", f"{os.cpu_count()}, of which torch takes {many}")
    settings = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    if given := [f"{name}={os.environ[name]}" for name in settings if name in os.environ]:
        yield Finding("threads as set", ", ".join(given))
    names = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
    yield Finding("CUDA", ", ".join(names) or "no GPU that torch can use: all runs on the CPU")
    yield Finding("MPS (Apple)", "there" if torch.backends.mps.is_available() else "none")


def _kernels() -> Iterator[Finding]:
    own = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(__file__).parents[1] / "numerics"
    place = Path(own) if own else beside
    if os.access(place if place.exists() else place.parent, os.W_OK):
        yield Finding("kept in", str(place))
    else:
        yield Finding(
            "kept in",
            f"{place} cannot be written to: numba takes the user's own cache, or compiles in every "
            "process (10 to 20 s); NUMBA_CACHE_DIR=FOLDER names another place",
        )


def _places() -> Iterator[Finding]:
    from ibtrace.datasets.mnist import held

    given = os.environ.get("IBTRACE_DATA")
    yield Finding("IBTRACE_DATA", given or "not set: data are kept in the user's cache")
    try:
        files = {part: str(place) for part, place in held().items()}
    except IbtraceError as error:
        yield Finding("MNIST", str(error), wrong=True)
    else:
        parts = [f"{part} images in {place}" for part, place in files.items()]
        lacking = [part for part in ("train", "test") if part not in files]
        parts += [f"no {part} images: downloaded when a run asks for them" for part in lacking]
        yield Finding("MNIST", "; ".join(parts))
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 2**30
    if os.access(here, os.W_OK):
        yield Finding("runs go to", f"{here / 'runs'} ({free:.1f} GiB free)", wrong=free < 0.1)
    else:
        yield Finding("runs go to", f"{here} cannot be written to; use --out DIR")


def _extras() -> Iterator[Finding]:
    for extra, (module, what) in EXTRAS.items():
        try:
            importlib.import_module(module)
        except ImportError:
            yield Finding(extra, f"not there: {what} needs pip install 'ibtrace[{extra}]'")
        except Exception as error:  # a broken package can raise anything
            yield Finding(extra, f"broken, for {what}: {_said(error)}")
        else:
            yield Finding(extra, f"there: {what}")
    yield Finding(
        "ffmpeg",
        shutil.which("ffmpeg") or "not there (no pip package): animations are GIF, not MP4",
    )
