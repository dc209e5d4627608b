"""What ``ibtrace multiverse`` leaves for a person: tables, figures, and the answer in words."""

from __future__ import annotations

from pathlib import Path

from ibtrace import plots
from ibtrace.plane import Multiverse, Resolution
from ibtrace.reports.comparing import write
from ibtrace.runtime.files import make_folder
from ibtrace.runtime.text import wrap


def leave(multiverse: Multiverse, resolution: Resolution, folder: Path) -> str:
    """Write the tables and figures of a multiverse and a resolution map; return what to print.

    Args:
        multiverse: The verdicts.
        resolution: The map.
        folder: Where the files go.

    Raises:
        RunError: If they cannot be written.
    """
    make_folder(folder)
    write(multiverse.table, folder / "multiverse.csv")
    write(multiverse.shares(), folder / "choices.csv")
    files = ["multiverse.csv", "choices.csv"]
    for layer in multiverse.layers:
        stem = f"specification-{_slug(layer)}"
        plots.save(plots.specification_curve(multiverse, layer), folder / stem)
        files.append(f"{stem}.png")
    write(resolution.table(), folder / "resolution.csv")
    plots.save(plots.resolution_map(resolution), folder / "resolution")
    files += ["resolution.csv", "resolution.png"]
    parts = [_title(multiverse), str(multiverse), "", "At which resolution?", str(resolution)]
    listed = "\n".join(f"  {folder / name}" for name in files)
    return "\n".join([*parts, "", "Figures (each also as PDF) and numbers:", listed])


def _title(multiverse: Multiverse) -> str:
    analyses, layers, seeds = len(multiverse), len(multiverse.layers), len(multiverse.seeds)
    return wrap(
        f"{analyses} analys{'es' if analyses != 1 else 'is'} of {layers} "
        f"layer{'s' * (layers != 1)}, {seeds} seed{'s' * (seeds != 1)}, "
        f"{multiverse.looks} snapshots. The same activations, judged under every combination of "
        "choices:"
    )


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in name).strip("_").lower()
