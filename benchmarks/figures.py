"""Draws the documentation's figures of every resolution, every analysis, and the controls.

    ibtrace replicate tishby --controls --set store_activations=true --activation tanh --out RUN
    python benchmarks/figures.py RUN

Writes ``docs/figures/{resolution_map,specification_curve,controls}.png``, prints the answers in
words, and leaves the tables in ``RUN/figures``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ibtrace import plots
from ibtrace.reports.controls import groups
from ibtrace.training import runner

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
LAYERS = ("hidden1", "hidden3", "hidden5")
LOOKS = 30
ESTIMATOR = "Binning(bins=30, range='snapshot')"


def main(run: str) -> None:
    """Draw and tell."""
    (group,) = groups(runner.load(run), "tanh")
    subject, jobs, out = group.subject, os.cpu_count() or 1, Path(run) / "figures"
    out.mkdir(exist_ok=True)
    held = group.held_against()
    print(held)
    drawn = {group.name: subject, **group.controls}
    plots.save(plots.beside_controls(drawn, ESTIMATOR), out / "controls")

    resolution = subject.resolution(looks=LOOKS, jobs=jobs)
    print(resolution)
    resolution.table().to_csv(out / "resolution.csv", index=False)
    plots.save(plots.resolution_map(resolution, LAYERS), out / "resolution_map")

    multiverse = subject.multiverse(jobs=jobs)
    print(multiverse)
    multiverse.table.to_csv(out / "multiverse.csv", index=False)
    multiverse.shares().to_csv(out / "choices.csv", index=False)
    plots.save(plots.specification_curve(multiverse, LAYERS[-1]), out / "specification_curve")
    for name in ("controls", "resolution_map", "specification_curve"):
        (FIGURES / f"{name}.png").write_bytes((out / f"{name}.png").read_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
