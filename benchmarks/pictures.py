"""Draws docs/figures/verdict.png, what a fall, a held-out fall and a ceiling are: made-up curves.

python benchmarks/pictures.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent.parent))

from ibtrace import plane, plots

FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "verdict"
EPOCHS = np.arange(41)
SEEDS = 5
CEILING = 10.0
COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e")


def made(fall: float, noise: float, seed: int) -> np.ndarray:
    """I(X;T) of some networks: up for ten epochs, then down by ``fall`` bits, under noise."""
    rng = np.random.default_rng(seed)
    mean = 8 - fall * np.clip((EPOCHS - 10) / 30, 0, None) - np.clip((10 - EPOCHS) / 10, 0, None)
    mean = mean if fall else np.full(len(EPOCHS), 8.0)
    return mean + 0.2 * rng.normal(size=(SEEDS, 1)) + noise * rng.normal(size=(SEEDS, len(EPOCHS)))


def told(curves: np.ndarray) -> str:
    """Both drops of some curves, in words."""
    peak = plane.interval(plane.peak_to_final_drops(curves))
    held = plane.interval(plane.held_out_drops(plane.windowed(curves)), held_out=True)
    numbers = [f"{each.mean:.2f} [{each.lower:.2f}, {each.upper:.2f}]" for each in (peak, held)]
    return f"drop {numbers[0]}\nheld out {numbers[1]}"


def drawn(axes: Axes, curves: np.ndarray, title: str) -> None:
    """The networks, and where each of them peaks."""
    for curve, colour in zip(curves, COLOURS, strict=True):
        axes.plot(EPOCHS, curve, color=colour, lw=0.8, alpha=0.6)
        axes.plot(EPOCHS[curve.argmax()], curve.max(), "o", color=colour, ms=4)
    axes.plot(EPOCHS, curves.mean(0), color="black", lw=2)
    axes.set_title(title, loc="left", fontsize=10)
    axes.text(0.03, 0.04, told(curves), transform=axes.transAxes, fontsize=9)


def main() -> None:
    """Draw the three panels."""
    figure = Figure(figsize=(10, 3.1), layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True)
    drawn(left, made(2.0, 0.1, 0), "a  A fall, and each network's peak")
    drawn(middle, made(0.0, 0.3, 2), "b  Nothing but noise")
    left.annotate("", (38.5, 6.0), (38.5, 8.0), arrowprops={"arrowstyle": "->"})
    left.axhline(8.0, color="grey", lw=0.8, ls=":")
    truth = 12 - 2.0 * np.clip((EPOCHS - 10) / 30, 0, None)
    right.plot(EPOCHS, truth, color="grey", ls="--", label="what there is")
    right.plot(EPOCHS, np.minimum(truth, CEILING) - 0.1, color="black", lw=2, label="what is seen")
    right.axhline(CEILING, color="#b2182b", lw=1)
    right.text(0, CEILING + 0.12, "log₂ N", color="#b2182b", fontsize=9)
    right.set_title("c  Saturated: a fall that cannot be seen", loc="left", fontsize=10)
    right.legend(frameon=False, fontsize=9, loc="lower left")
    for axes in (left, middle, right):
        axes.set_xlabel("Epoch")
        axes.set_ylim(4.6, 12.6)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("I(X;T) (bits)")
    png, pdf = plots.save(figure, FIGURE)
    pdf.unlink()
    print(png)


if __name__ == "__main__":
    main()
