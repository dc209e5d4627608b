"""Which axis of a layer holds the samples, one row each: that which only its own sample changes.

A length that follows the batch does not tell: a forward may sort its samples, mix them, or take
them for time steps. One sample is given another one's values; then its own row may change, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput
from ibtrace.probe import Probe

Forward = Callable[[Probe], Mapping[str, Tensor]]
"""Every layer's output on a probe, the model left as it was."""

SAMPLES = 8
"""How many samples, spread over the probe, are forwarded where the model takes any number."""

_LARGE = 1e4


@dataclass(frozen=True, eq=False)
class Rows:
    """What replacing single samples changes in each layer.

    Args:
        own: The axes of a layer along which nothing but the sample's own row ever changed.
        shown: Whether the layer changed at all.
        vary: Whether it holds more than one value.
        drawn: The layers that differ between two forwards of the very same samples.
    """

    own: Mapping[str, frozenset[int]] = field(default_factory=dict)
    shown: Mapping[str, bool] = field(default_factory=dict)
    vary: Mapping[str, bool] = field(default_factory=dict)
    drawn: frozenset[str] = frozenset()

    def axis(self, name: str, candidates: Sequence[int], sized: bool) -> int | None:
        """The one axis of the candidates that holds the samples; None if there is not just one.

        Args:
            name: The layer.
            candidates: Axes of the right length.
            sized: Whether their lengths were seen to follow the number of samples; else a layer
                that no sample changes (a weight of as many rows) is none of theirs.
        """
        if name not in self.own:
            return candidates[0] if len(candidates) == 1 or 0 in candidates else None
        if not sized and not self.shown[name] and self.vary[name]:
            return None
        tied = [axis for axis in candidates if axis in self.own[name]]
        return tied[0] if len(tied) == 1 else None


def spread(probe: Probe, rows: Tensor) -> Tensor:
    """These samples and others from all over the probe, `SAMPLES` in all."""
    more = torch.linspace(0, probe.n - 1, SAMPLES, dtype=torch.float64).round().long()
    both = [*rows.tolist(), *more.tolist()]
    return torch.tensor(sorted(dict.fromkeys(both)), device=probe.device)


def tied(forward: Forward, few: Probe) -> Rows:
    """What the samples change, by a forward for each of three that is replaced, and one for none.

    Args:
        forward: Runs the model.
        few: Some samples, in as many forwards as one.
    """
    outputs = forward(few)
    before = {
        name: output
        for name, output in outputs.items()
        if output.layout == torch.strided and not output.is_nested and output.numel()
    }
    again = forward(few)
    drawn = {n for n, value in before.items() if _changes(value, again.get(n), 0)[1]}
    own = {name: frozenset(range(output.dim())) for name, output in before.items()}
    shown = dict.fromkeys(before, False)
    for row, replaced in _replaced(few):
        try:
            after = forward(replaced)
        except InvalidInput:
            continue  # it does not take such samples together, which the look itself will hear
        if after.keys() != outputs.keys():
            continue  # it went another way, on which the rows of this one cannot be followed
        for name, output in before.items():
            axes, changed = _changes(output, after.get(name), row)
            own[name] &= axes
            shown[name] = shown[name] or changed
    vary = {name: bool((v != v.flatten()[:1]).any()) for name, v in before.items()}
    return Rows(own, shown, vary, frozenset(drawn))


def _replaced(few: Probe) -> Iterable[tuple[int, Probe]]:
    """A sample's number, and the probe in which it has another one's values."""
    for row in dict.fromkeys((0, few.n // 2, few.n - 1)):
        for other in [*range(row + 1, few.n), *range(row)]:
            inputs = {name: value.clone() for name, value in few.inputs.items()}
            for value in inputs.values():
                value[row] = value[other]
            if any(not torch.equal(inputs[name], few.inputs[name]) for name in inputs):
                yield row, few.with_inputs(inputs)
                break


def _changes(before: Tensor, after: Tensor | None, row: int) -> tuple[frozenset[int], bool]:
    """The axes along which at most this row changed, and whether anything did."""
    if after is None or after.shape != before.shape:
        return frozenset(), True
    changed = after != before
    if before.is_floating_point():  # products of other sizes round in other ways
        size = before.abs()
        usual = size[size < _LARGE].max() if bool((size < _LARGE).any()) else size.new_zeros(())
        allowed = torch.finfo(before.dtype).eps ** 0.75 * size.maximum(usual)
        changed &= ~((after - before).abs() <= allowed) & ~(after.isnan() & before.isnan())
    axes = set()
    for axis, length in enumerate(before.shape):
        rows = changed.movedim(axis, 0).reshape(length, -1).any(1)
        if row < length and int(rows.sum()) <= int(rows[row]):
            axes.add(axis)
    return frozenset(axes), bool(changed.any())
