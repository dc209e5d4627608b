"""What came of an examination, as tables and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from ibtrace.runtime.text import wrap
from ibtrace.types import I_TY, I_XT

_SHOWN = {
    "null_95": "by chance",
    "largest p": "p",
    "I(X;T) of all": I_XT,
    "I(X;T) of half": "of N/2",
    "prediction_bits": "H(ŷ|seen T)",
    "ratio": "within/between",
}


@dataclass(frozen=True)
class Examination:
    """What the activations say of the estimates; ``print`` it.

    Every table has ``seed, epoch, layer``, and the first three ``estimator``.

    Args:
        null: I(T;Y) against labels in a random order: ``bits``; ``null_mean`` and ``null_95``, the
            mean and the 95 % quantile over m permutations; ``p`` = (1 + b)/(1 + m), b of them
            with at least as much (Phipson & Smyth 2010), which is never 0.
        sizes: Both informations of a part of the samples: ``part`` (``all``, ``half``, ``other
            half``, ``quarter``), ``samples``, ``I(X;T)``, ``I(T;Y)``. What still rises with the
            samples is set by their number.
        cells: ``occupied`` (bins, where the estimator counts them) and ``prediction_bits``,
            H(ŷ | T as it is seen) in bits: 0 where what is seen of T decides what the network
            predicts, so that a binning above it has thrown away what the network uses.
        units: ``units``, ``saturated`` (the share of activations within 1 % of an end of their
            range; NaN without two ends) and ``dead`` (the share of units that never change).
        geometry: The mean squared distance ``within`` classes (to the own class's mean) and
            ``between`` them (of that to the mean of all), and their ``ratio`` (Goldfeld et al.
            2019): what binned information follows where it is geometry.
        coincidence: How the ratio changes with I(X;T) over training: `ibtrace.alignment.
            coincidence`; empty with fewer than five looks.
        declined: Why an estimator gave nothing for a layer, by both.
        left_out: Estimators of the trace that were not examined, and why.
    """

    null: pd.DataFrame
    sizes: pd.DataFrame
    cells: pd.DataFrame
    units: pd.DataFrame
    geometry: pd.DataFrame
    coincidence: pd.DataFrame
    declined: Mapping[tuple[str, str], str]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> pd.DataFrame:
        """The last look, means over the networks, one row for each layer and estimator.

        Columns ``layer, estimator, I(T;Y), null_95, largest p, I(X;T) of all, of half, occupied,
        prediction_bits, saturated, dead, ratio``.
        """
        last = [
            table[table["epoch"] == table["epoch"].max()]
            for table in (self.null, self.sizes, self.cells, self.units, self.geometry)
        ]
        null, sizes, cells, units, geometry = last
        by = ["layer", "estimator"]
        parts = sizes.pivot_table(index=by, columns="part", values=I_XT, sort=False)
        table = pd.DataFrame(
            {
                I_TY: null.groupby(by, sort=False)["bits"].mean(),
                "null_95": null.groupby(by, sort=False)["null_95"].mean(),
                "largest p": null.groupby(by, sort=False)["p"].max(),
                **{f"I(X;T) of {part}": parts.get(part) for part in ("all", "half")},
                "occupied": cells.groupby(by, sort=False)["occupied"].mean(),
                "prediction_bits": cells.groupby(by, sort=False)["prediction_bits"].mean(),
            }
        )
        table = table.reindex(parts.index).reset_index()
        of_layer = units.groupby("layer")[["saturated", "dead"]].mean()
        of_layer = of_layer.join(geometry.groupby("layer")["ratio"].mean())
        return table.join(of_layer, on="layer")

    def __str__(self) -> str:
        lines = [] if self.sizes.empty else [*self._measured()]
        layers: dict[tuple[str, str], list[str]] = {}
        for (estimator, layer), reason in self.declined.items():
            layers.setdefault((estimator, reason), []).append(layer)
        said = [f"{by} gives nothing in {', '.join(of)}: {why}" for (by, why), of in layers.items()]
        said += [f"{name} is not examined: {reason}." for name, reason in self.left_out.items()]
        return "\n".join([*lines, *(wrap(line) for line in said)])

    def _measured(self) -> Iterator[str]:
        """The last look, a table for each estimator under its label."""
        look = self.sizes["epoch"].max()
        yield f"At look {look}, means over networks; bits, p and ratios:"
        shown = self.summary().rename(columns=_SHOWN)
        for estimator, rows in shown.groupby("estimator", sort=False):
            yield str(estimator)
            plain = rows.drop(columns="estimator").to_string(
                index=False, float_format=lambda number: f"{round(number, 9) + 0.0:.3g}", na_rep="-"
            )
            yield from (f"  {line}" for line in plain.splitlines())
