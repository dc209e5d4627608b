"""The resolution map of a trace: every layer's information at every resolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.plane.copies import copies
from ibtrace.plane.drops import Array
from ibtrace.plane.layer_resolution import SCALES, LayerResolution, Mask, Reader
from ibtrace.plane.notes import repeated
from ibtrace.plane.resolution_words import answer
from ibtrace.plane.rule import Rule
from ibtrace.runtime.text import wrap
from ibtrace.types import I_TY, I_XT


@dataclass(frozen=True)
class Resolution:
    """Information of every layer at every resolution, epoch and seed; ``print`` it for the answer.

    Args:
        layers: The layers, in the network's order.
        seeds: The seeds, as in the second axis of a layer's arrays.
        clock: What the looks are counted by.
        notes: What was left out, in sentences.
    """

    layers: tuple[LayerResolution, ...]
    seeds: Mapping[str, tuple[int, ...]]
    clock: str = "epoch"
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[LayerResolution]:
        return iter(self.layers)

    def of(self, layer: str) -> LayerResolution:
        """One layer.

        Raises:
            UnknownName: If there is none of this name; lists those that there are.
        """
        for each in self.layers:
            if each.layer == layer:
                return each
        known = ", ".join(each.layer for each in self.layers)
        raise UnknownName(f"no layer {layer!r} in the resolution map; it has {known}")

    def frame(self) -> pd.DataFrame:
        """All numbers as a tidy table: ``layer, width, seed, epoch, I(X;T), I(T;Y)``."""
        return pd.concat([self._rows(each) for each in self.layers], ignore_index=True)

    def table(self) -> pd.DataFrame:
        """`LayerResolution.table` of all layers."""
        return pd.concat([each.table() for each in self.layers], ignore_index=True)

    def __str__(self) -> str:
        """For each layer in words: at which scales it compresses, and what they tell of Y."""
        said = [wrap(answer(each, self.clock), rest="  ") for each in self.layers]
        return "\n".join([*said, *(wrap(note) for note in self.notes)])

    def _rows(self, each: LayerResolution) -> pd.DataFrame:
        scale = SCALES[each.reader]
        axes: list[Any] = [each.scales, self.seeds[each.layer], each.epochs]
        places: Any = pd.MultiIndex.from_product(axes, names=[scale, "seed", self.clock])
        numbers = {I_XT: each.about_x.ravel(), I_TY: each.about_y.ravel()}
        rows = pd.DataFrame(numbers, index=places).reset_index()
        rows.insert(0, "layer", each.layer)
        return rows


def resolution(
    about_x: Mapping[str, Array],
    about_y: Mapping[str, Array],
    null: Mapping[str, Array],
    *,
    scales: Sequence[float],
    seeds: Sequence[int],
    epochs: Sequence[int],
    entropies: Mapping[str, tuple[float, float]],
    population: Mapping[str, bool] | None = None,
    reader: Reader = "bins",
    rule: Rule | None = None,
    clock: str = "epoch",
    notes: Sequence[str] = (),
) -> Resolution:
    """A resolution map from its numbers.

    Args:
        about_x: I(X;T) of each layer, ``(scales, seeds, epochs)``. A seed with a number that is
            not finite is left out of the layer, and a note says so.
        about_y: I(T;Y) likewise.
        null: See `LayerResolution`.
        scales: Ascending.
        seeds: Of the second axis.
        epochs: Of the third axis.
        entropies: H(X) and H(Y) of each layer.
        population: Of which layers the samples are all of X; of none by default.
        reader: What reads T.
        rule: What counts as a fall.
        clock: What the looks are counted by.
        notes: What was left out, in sentences.

    Raises:
        InvalidInput: If there is no layer, or fewer than 2 scales or looks.
    """
    if not about_x or len(scales) < 2 or len(epochs) < 2:
        got = f"{len(about_x)} layers, {len(scales)} scales and {len(epochs)} looks"
        raise InvalidInput(f"a resolution map needs a layer, 2 scales and 2 looks, got {got}")
    again = copies((curve for bits in about_x.values() for curve in bits), seeds)
    distinct = np.array([seed not in again for seed in seeds], dtype=bool)
    layers, kept, lost = [], {}, []
    for name, bits in about_x.items():
        finite: Mask = np.atleast_1d(np.isfinite(bits).all(axis=(0, 2)))
        lost += [f"{name} of seed {s}" for s, whole in zip(seeds, finite, strict=True) if not whole]
        used = finite & distinct
        kept[name] = tuple(seed for seed, one in zip(seeds, used, strict=True) if one)
        layers.append(
            LayerResolution(
                layer=name,
                reader=reader,
                scales=np.asarray(scales, dtype=np.float64),
                epochs=np.asarray(epochs, dtype=np.int64),
                about_x=bits[:, used],
                about_y=about_y[name][:, used],
                null=null[name],
                input_entropy=entropies[name][0],
                label_entropy=entropies[name][1],
                population=bool((population or {}).get(name, False)),
                rule=rule or Rule(),
            )
        )
    said = [f"Left out, for its values are not all finite: {', '.join(lost)}."] if lost else []
    return Resolution(tuple(layers), kept, clock, (*notes, *said, *repeated(again)))
