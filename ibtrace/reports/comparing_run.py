"""What ``ibtrace compare --run`` leaves for a person: tables, figures, and how far each is off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ibtrace import plots
from ibtrace.comparison import OK, disagreement, summary
from ibtrace.plane import on_clock
from ibtrace.reports.comparing import OTHER, duration, signed, write
from ibtrace.runtime.files import make_folder
from ibtrace.runtime.text import WIDTH, shorten
from ibtrace.training.comparing_run import Comparison
from ibtrace.types import I_TY, I_XT

_LEGEND = (
    "off by: smallest and largest bias in bits on laws of known information with this N, these",
    "dimensions, scales of columns and number of classes (calibration.csv). The laws for I(X;T)",
    "are normal, which is what GaussianCopula assumes: it is at its best there.",
)


def leave(comparison: Comparison, folder: Path) -> str:
    """Write the tables and figures of a comparison; return what to print.

    Args:
        comparison: The comparison.
        folder: Where the files go.

    Raises:
        RunError: If they cannot be written.
    """
    make_folder(folder)
    frame = on_clock(comparison.trace.frame())
    if frame.empty:
        return "Nothing was measured."
    files = ["planes.csv"]
    write(frame, folder / "planes.csv")
    notes = off_by(comparison.calibration)
    if len(comparison.calibration):
        write(summary(comparison.calibration), folder / "calibration.csv")
        files.append("calibration.csv")
    pairs = disagreement(frame)
    if (pairs["points"] > 0).any():
        write(pairs, folder / "disagreement.csv")
        plots.save(plots.disagreement_map(frame), folder / "disagreement")
        files += ["disagreement.csv", "disagreement.png"]
    if {I_XT, I_TY} <= set(frame["quantity"]):
        plots.save(plots.planes_by_estimator(comparison.trace, notes), folder / "planes")
        files.append("planes.png")
    listed = "\n".join(f"  {folder / name}" for name in sorted(files))
    return f"{text(comparison)}\n\nFigures (each also as PDF) and numbers:\n{listed}"


def text(comparison: Comparison) -> str:
    """The table of a comparison: how far each estimator is off at the run's own size."""
    frame = on_clock(comparison.trace.frame())
    part = "" if comparison.n == comparison.of else f" of {comparison.of:,}"
    lines = [f"{comparison.n:,}{part} samples, {frame['epoch'].nunique()} snapshots", ""]
    lines += [f"{'estimator':<32}{'I(X;T) off by':>20}{'I(T;Y) off by':>20}{'time':>10}"]
    lines.append("-" * WIDTH)
    of_information = comparison.calibration["of_information"].astype(bool)
    others = set(comparison.calibration.loc[~of_information, "estimator"])
    for estimator, rows in frame.groupby("estimator", sort=False):
        ranges = {q: _range(_bias(comparison.calibration, str(estimator), q)) for q in (I_XT, I_TY)}
        seconds = duration(float(rows["seconds"].median()))
        name = shorten(str(estimator), 30) + "*" * (estimator in others)
        lines.append(f"{name:<32}{ranges[I_XT]:>20}{ranges[I_TY]:>20}{seconds:>10}")
    lines += ["", *_LEGEND, *OTHER] if len(comparison.calibration) else []
    lines += [""] if comparison.declined else []
    for reason, names in _declined(comparison).items():
        lines.append(shorten(f"not measured: {', '.join(names)}: {reason}", WIDTH))
    pairs = [pair for pair in disagreement(frame).to_dict("records") if pair["points"]]
    moved = [pair for pair in pairs if np.isfinite(pair["correlation"])]
    if pairs:
        far = max(pairs, key=lambda pair: pair["difference"])
        apart = f"{far['first']} and {far['second']}, {far['difference']:.2f} bits"
        lines += ["", f"Farthest apart in I(X;T): {apart} on average."]
    if moved:
        least = min(moved, key=lambda pair: pair["correlation"])
        unlike = f"{least['first']} and {least['second']}, {least['correlation']:+.2f}"
        lines.append(f"Least alike over epochs: {unlike} (rank correlation).")
    return "\n".join(lines)


def off_by(calibration: pd.DataFrame) -> dict[str, str]:
    """For each estimator, how far it is off on the calibration laws, in a line."""
    notes = {}
    for estimator in calibration["estimator"].unique():
        biases = {q: _bias(calibration, str(estimator), q) for q in (I_XT, I_TY)}
        shown = "; ".join(f"{q} {_range(bias)}" for q, bias in biases.items() if len(bias))
        notes[str(estimator)] = f"at this N and d off by {shown} bits" if shown else ""
    return notes


def _bias(calibration: pd.DataFrame, estimator: str, quantity: str) -> pd.Series:
    """The bias of an estimator on each of the laws of a quantity that it gave a number on."""
    of_quantity = calibration[calibration["quantity"] == quantity]
    done = of_quantity[of_quantity["status"] == OK]
    return done[done["estimator"] == estimator].groupby("problem")["error"].mean()


def _range(bias: pd.Series) -> str:
    """The smallest and the largest of some biases."""
    return f"{signed(bias.min())} to {signed(bias.max())}" if len(bias) else "-"


def _declined(comparison: Comparison) -> dict[str, list[str]]:
    """Why estimators gave no number, each reason once, with those it holds for."""
    reasons: dict[str, list[str]] = {}
    for (estimator, _), reason in comparison.declined.items():
        names = reasons.setdefault(reason, [])
        if estimator not in names:
            names.append(estimator)
    return reasons
