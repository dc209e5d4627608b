"""Which points of the information plane fail a check that information itself would pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ibtrace.errors import UnknownName
from ibtrace.plane.ceilings import layer_entropies
from ibtrace.plane.coordinates import check_frame, in_order, on_clock
from ibtrace.plane.drops import Array
from ibtrace.plane.layer_resolution import Mask
from ibtrace.plane.pairs import X, pair
from ibtrace.plane.rule import Rule
from ibtrace.runtime.text import wrap
from ibtrace.types import I_TY, I_XT, Remembers, TraceLike
from ibtrace.types.protocols import keeps

Check = Literal[
    "at_ceiling",
    "below_zero",
    "labels_above_inputs",
    "labels_above_entropy",
    "labels_by_chance",
    "inputs_rise",
    "labels_rise",
]
"""What a point can fail; see `CHECKS`."""

CHECKS: Mapping[Check, str] = {
    "at_ceiling": "I(X;T) is within 5 % of the most that the samples can show",
    "below_zero": "I(X;T) or I(T;Y) is below 0",
    "labels_above_inputs": "I(T;Y) is above I(X;T)",
    "labels_above_entropy": "I(T;Y) is above H(Y), and so above I(X;Y)",
    "labels_by_chance": "I(T;Y) is no more than random labels give, which is over 0.1 bit",
    "inputs_rise": "I(X;T) is above that of the layer before",
    "labels_rise": "I(T;Y) is above that of the layer before",
}
"""Each check in words, as what is wrong with a point that fails it."""

_KEY = ["seed", "epoch", "layer", "estimator"]
_ROUNDING = 1e-9
_CHANCE = 0.1  # bits of random labels below which a layer that knows nothing may lie
_UNKNOWN_ERROR = 0.1  # bits, of an estimate without an error, of a single network


@dataclass(frozen=True)
class Trust:
    """Every point of the information plane, and which checks it fails; ``print`` it.

    Args:
        points: One row for each network, look, layer and estimator: ``seed, epoch, layer,
            estimator``; ``I(X;T)`` and ``I(T;Y)`` in bits and their errors ``stderr_x, stderr_y``;
            ``samples``;
            ``of_input`` = I(X;T)/H(X) and ``of_label`` = I(T;Y)/H(Y), without unit;
            ``below_ceiling_x`` and ``below_ceiling_y``, the bits to min(log₂ N, H(X)) and to H(Y);
            a column of booleans for each of `CHECKS`; and ``fails``, whether any is true.
        chain: The layers each of which was taken to be computed from the one before.
        questions: What each estimator asks of I(X;T).
    """

    points: pd.DataFrame
    chain: tuple[str, ...]
    questions: Mapping[str, str]

    def counts(self) -> pd.DataFrame:
        """How many points fail: ``layer, estimator, points, fails`` and a column for each check."""
        columns = ["fails", *get_args(Check)]
        groups = self.points.groupby(["layer", "estimator"], sort=False)
        return (
            pd.concat([groups.size().rename("points"), groups[columns].sum()], axis=1)
            .astype(int)
            .reset_index()
        )

    def by(self, estimators: str | Sequence[str] | None) -> Trust:
        """The points by some estimators alone; None leaves them all."""
        if estimators is None:
            return self
        named = [estimators] if isinstance(estimators, str) else list(estimators)
        return replace(self, points=self.points[self.points["estimator"].isin(named)])

    @property
    def failing(self) -> list[str]:
        """One sentence on how many points fail which checks; none where none does."""
        fails = int(self.points["fails"].sum())
        if not fails:
            return []
        each = (
            f"{text} ({count})"
            for name, text in CHECKS.items()
            if (count := int(self.points[name].sum()))
        )
        many = "fail" if fails != 1 else "fails"
        return [f"{fails} of {len(self.points)} points {many} a check: {'; '.join(each)}."]

    def of(self, layer: str, estimator: str) -> pd.DataFrame:
        """The points of one layer by one estimator.

        Raises:
            UnknownName: If there are none; lists the layers and estimators.
        """
        rows = self.points[
            (self.points["layer"] == layer) & (self.points["estimator"] == estimator)
        ]
        if rows.empty:
            known = ", ".join(
                dict.fromkeys(f"{r.layer} by {r.estimator}" for r in self.counts().itertuples())
            )
            raise UnknownName(f"no point of {layer!r} by {estimator!r}; there are: {known}")
        return rows

    def __str__(self) -> str:
        if not self.points["fails"].any():
            return f"None of {len(self.points)} points fails a check."
        lines = []
        for estimator, counts in self.counts().groupby("estimator", sort=False):
            failing, points = int(counts["fails"].sum()), int(counts["points"].sum())
            many = "fail" if failing != 1 else "fails"
            lines.append(f"{estimator}: {failing} of {points} points {many} a check")
            lines += [f"  {text}" for text in _failures(counts)]
        if self.points[["inputs_rise", "labels_rise"]].to_numpy().any():
            lines.append(
                "Rising from layer to layer is impossible for the information itself where each "
                f"layer is computed from the one before ({', '.join(self.chain)}). What is seen in "
                "bins, under noise or through a kernel of each layer's own may rise: it says that "
                "the layers are not seen alike."
            )
        return "\n".join(wrap(line, rest="    ") for line in lines)


def _failures(counts: pd.DataFrame) -> list[str]:
    """Each check that points of an estimator fail, with how many in which layers."""
    said = []
    for name, text in CHECKS.items():
        failing = counts[counts[name] > 0]
        each = (
            f"{layer} {failed} of {points}"
            for layer, failed, points in zip(
                failing["layer"], failing[name], failing["points"], strict=True
            )
        )
        said += [f"{text}: {', '.join(each)}"] if len(failing) else []
    return said


def trust(
    trace: TraceLike, *, chain: Sequence[str] | None = None, rule: Rule | None = None
) -> Trust:
    """Check every point of the information plane.

    A difference counts beyond ``rule.errors`` standard errors of the two numbers: their own; where
    an estimator gives none, the spread over the networks at the look; of a single network, 0.1 bit.

    ``at_ceiling`` is asked of samples: of all of X, log₂ N is what there is. The order of layers is
    the data-processing inequality of a chain X → T₁ → T₂ …, which a network with connections that
    skip a layer is not: give its chains one at a time, or none. That and I(T;Y) ≤ I(X;T) are asked
    only where T is computed from X alone: not of a token, which knows of the others, nor where a
    named source stands for X.

    Args:
        trace: A trace; its meta entries ``input_entropy``, ``label_entropy``, ``n``,
            ``population``, ``questions`` and ``captured`` are asked for.
        chain: Layers each of which is computed from the one before; by default all of them, as
            they come in a forward pass; ``()`` for none.
        rule: How near to a ceiling, and how many errors.

    Raises:
        InvalidInput: If the table lacks columns or has a number twice.
        UnknownName: If a layer of the chain is not in the trace.
    """
    trace = pair(trace)
    rule = rule or Rule()
    layers = list(trace.layers)
    links = layers if chain is None else list(chain)
    if unknown := [name for name in links if name not in layers]:
        raise UnknownName(
            f"trust: no layer {unknown[0]!r} in the trace; it has {', '.join(layers)}"
        )
    if not keeps(trace, Remembers):
        return _checked(trace, links, rule)
    key = (trust.__qualname__, tuple(links), rule)
    checked = trace.remembered(key, lambda: _checked(trace, links, rule))
    return replace(checked, points=checked.points.copy())


def _checked(trace: TraceLike, links: Sequence[str], rule: Rule) -> Trust:
    frame = on_clock(trace.frame())
    check_frame(frame)
    points = _points(frame)
    meta = trace.meta
    of_x, of_y = _entropies(meta, points)
    x, y, null = (points[name].to_numpy() for name in (I_XT, I_TY, "null_y"))
    errors = (
        rule.errors * _errors(points, "stderr_x", I_XT),
        rule.errors * _errors(points, "stderr_y", I_TY),
    )
    alone = _of_inputs_alone(meta, points)
    checks: dict[Check, Mask] = {
        "at_ceiling": (not meta.get("population", False)) & (x >= (1 - rule.near_ceiling) * of_x),
        "below_zero": (x < -errors[0] - _ROUNDING) | (y < -errors[1] - _ROUNDING),
        "labels_above_inputs": alone & (y > x + np.hypot(*errors) + _ROUNDING),
        "labels_by_chance": (null > _CHANCE) & (y <= null + errors[1]),
        "labels_above_entropy": y > of_y + errors[1] + _ROUNDING,
        "inputs_rise": alone & _rises(points, links, I_XT, errors[0]),
        "labels_rise": alone & _rises(points, links, I_TY, errors[1]),
    }
    points = points.assign(
        of_input=x / np.where(of_x > 0, of_x, np.nan),
        of_label=y / np.where(of_y > 0, of_y, np.nan),
        below_ceiling_x=of_x - x,
        below_ceiling_y=of_y - y,
        **{name: np.asarray(failed, dtype=bool) for name, failed in checks.items()},
        fails=np.any(np.stack([*checks.values()]), axis=0),
    )
    return Trust(points, tuple(links), dict(meta.get("questions", {})))


def normalised(trace: TraceLike) -> pd.DataFrame:
    """`Trace.frame` with I(X;T) as a share of H(X) and I(T;Y) as a share of H(Y), without unit.

    For layers and data sets of different entropies side by side. Columns ``bits``, ``stderr``,
    ``lower`` and ``upper`` are divided; where an entropy is not known or 0 they are NaN.

    Args:
        trace: A trace; its meta entries ``input_entropy``, ``label_entropy`` and ``captured`` are
            asked for.
    """
    trace = pair(trace)
    frame, meta = trace.frame(), trace.meta
    own, whole = layer_entropies(meta), float(meta.get("input_entropy", np.nan))
    of_x = frame["layer"].map(lambda layer: own.get(layer, whole))
    of_y = float(meta.get("label_entropy", np.nan))
    entropy = np.select([frame["quantity"] == I_XT, frame["quantity"] == I_TY], [of_x, of_y], 1.0)
    entropy = np.where(entropy > 0, entropy, np.nan)
    columns = [name for name in ("bits", "stderr", "lower", "upper") if name in frame]
    return frame.assign(**{name: frame[name] / entropy for name in columns})


def _of_inputs_alone(meta: Mapping[str, Any], points: pd.DataFrame) -> Mask:
    """Of which points T is computed from what stands for X, and from nothing beside."""
    if meta.get("pair", {}).get("x", X) != X:
        return np.zeros(len(points), dtype=bool)
    alone: Mask = ~points["layer"].isin(layer_entropies(meta)).to_numpy()
    return alone


def _points(frame: pd.DataFrame) -> pd.DataFrame:
    """Both informations and their errors, one row a point."""
    given = [name for name in ("bits", "stderr", "samples", "null_bits") if name in frame]
    wide = frame.pivot(index=_KEY, columns="quantity", values=given)
    columns = {
        I_XT: ("bits", I_XT),
        I_TY: ("bits", I_TY),
        "stderr_x": ("stderr", I_XT),
        "stderr_y": ("stderr", I_TY),
        "null_y": ("null_bits", I_TY),
        "samples": ("samples", I_XT),
    }
    table = pd.DataFrame(
        {
            name: wide[place].astype(float) if place in wide else np.nan
            for name, place in columns.items()
        },
        index=wide.index,
    ).reset_index()
    return in_order(table, frame, ["seed", "epoch", "layer", "estimator"])


def _entropies(meta: Mapping[str, Any], points: pd.DataFrame) -> tuple[Array, Array]:
    """The most that I(X;T) and I(T;Y) of each point can be: min(log₂ N, H(X)), and H(Y)."""
    samples = points["samples"].fillna(meta.get("n", np.inf)).to_numpy(dtype=float)
    whole = float(meta.get("input_entropy", np.inf))
    own = layer_entropies(meta)
    codes, layers = pd.factorize(points["layer"])
    of_x = np.array([own.get(layer, whole) for layer in layers], dtype=float)[codes]
    seen = np.array([layer not in own for layer in layers], dtype=bool)[codes]  # tokens: others
    of_x = np.where(seen, np.minimum(of_x, np.log2(samples)), of_x)
    return of_x, np.full(len(points), float(meta.get("label_entropy", np.nan)))


def _errors(points: pd.DataFrame, column: str, quantity: str) -> Array:
    """The standard error of each point: its own, or else the spread over networks, or a tenth."""
    spread = points.groupby(["epoch", "layer", "estimator"])[quantity].transform("std")
    errors = points[column].fillna(spread).fillna(_UNKNOWN_ERROR)
    return errors.to_numpy(dtype=float)


def _rises(points: pd.DataFrame, chain: Sequence[str], quantity: str, errors: Array) -> Mask:
    """Whether a quantity is above that of the layer before it in the chain, beyond the errors."""
    before = dict(zip(chain[1:], chain, strict=False))
    table = points[_KEY].assign(bits=points[quantity], error=errors)
    known = table.set_index(_KEY)
    wanted = pd.MultiIndex.from_frame(table.assign(layer=table["layer"].map(before))[_KEY])
    earlier = known.reindex(wanted)
    margin = np.hypot(errors, earlier["error"].to_numpy()) + _ROUNDING
    rises: Mask = table["bits"].to_numpy() > earlier["bits"].to_numpy() + margin
    return rises
