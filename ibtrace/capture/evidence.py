"""What T will be of each layer, settled once for a trace by a look at a few samples.

Shapes alone do not tell samples from time, channels from space, or one sequence's padding from
another's. Two forwards with different numbers of samples show the axes that follow the batch, and
samples that are replaced which of them holds one sample a row (`rows`); the operations around a
layer show its channels (`axes`); altered inputs show whose padding it holds (`masks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ibtrace.capture.axes import AxisWatch, Channels
from ibtrace.capture.hooks import Keep
from ibtrace.capture.masks import Positions, telling_rows, whose
from ibtrace.capture.reduce import Axes, Reduce, Reduction, choose
from ibtrace.capture.rows import Rows, spread, tied
from ibtrace.capture.targets import Defaults, stem
from ibtrace.errors import InvalidInput
from ibtrace.numerics.types import numeric
from ibtrace.probe import Probe, Stream

Run = Callable[[Probe, Keep], None]
"""A forward of a probe under hooks, after which the model is as it was."""


@dataclass(frozen=True, eq=False)
class Reading:
    """How one layer's output becomes T.

    Args:
        reduction: What is done with it, if that is known.
        stream: The input whose tokens its positions are, if any.
        trouble: Why it cannot be read, for a warning or an error; empty if it can.
        padding: What is to be said of padding in T that nobody stated; empty if nothing is.
    """

    reduction: Reduction | None = None
    stream: Stream | None = None
    trouble: str = ""
    padding: str = ""

    def mask(self, rows: slice | Tensor) -> Tensor | None:
        """Which positions T is made of in these samples, bool ``(n, positions)``; None: all."""
        if self.stream is None:
            return None
        if self.stream.left_out is not None and self.reduction and self.reduction.per_token:
            return self.stream.measured(len(self.stream.left_out))[rows]
        return None if self.stream.real is None else self.stream.real[rows]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a model's layers.

    Args:
        layers: Each layer that ran, by name.
        left_out: Why a layer is not traced; looks add to it.
        rounded: Layers whose T was said to be a constant but for rounding; looks add to it.
        guessed: Layers of whose padding was said that it is guessed; looks add to it.
        defaults: The layers to trace, where nobody chose any.
        stream_above: From how many bytes of T on a layer is handed on batch by batch, and not
            held; None: then it cannot be traced.
        beyond: The layers that need more; looks add to it.
    """

    layers: Mapping[str, Reading] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    rounded: set[str] = field(default_factory=set)
    guessed: set[str] = field(default_factory=set)
    defaults: Defaults | None = None
    stream_above: int | None = None
    beyond: set[str] = field(default_factory=set)

    def of(self, name: str) -> Reading:
        """One layer; of a call that was not seen, what is known of the module's first one."""
        unseen = Reading(trouble="it did not run on the first samples of the probe")
        return self.layers.get(name, self.layers.get(stem(name), unseen))


@dataclass(frozen=True)
class _Seen:
    shape: tuple[int, ...]
    channels: Channels


def settling_rows(run: Run, probe: Probe, batch_size: int) -> Tensor:
    """The samples by which layers are settled: a few, or the first batch if more runs on that.

    Args:
        run: Runs the model on a probe.
        probe: The whole probe.
        batch_size: Samples per forward.
    """
    few = telling_rows(probe)
    batch = torch.arange(min(batch_size, probe.n), device=probe.device)
    if probe.undivided or len(batch) <= len(few):
        return few
    on_few, on_batch = _shapes(run, probe.take(few)), _shapes(run, probe.take(batch))
    if on_few is None or on_batch is None or on_few.keys() >= on_batch.keys():
        return few
    return batch


def gather(
    run: Run, probe: Probe, reduce: Reduce, batch_size: int, rows: Tensor | None = None
) -> Evidence:
    """What T will be of each layer.

    Args:
        run: Runs the model on a probe.
        probe: The whole probe, of which a few samples are used.
        reduce: The user's choice.
        batch_size: Samples of the forward that is made where the model does not take a few.
        rows: See `settling_rows`, if that was asked before.
    """
    rows = settling_rows(run, probe, batch_size) if rows is None else rows
    seen, fewer, size = None, None, len(rows)
    if not probe.undivided:
        seen, fewer = _watched(run, probe.take(rows)), _shapes(run, probe.take(rows[:-1]))
    if seen is None or fewer is None:
        size = probe.n if probe.undivided else min(batch_size, probe.n)
        rows = torch.arange(size, device=probe.device)
        seen, fewer = _watched(run, probe.take(rows)) or {}, {}
    samples = Rows()
    if not probe.undivided and seen:  # a graph's nodes do change each other
        try:
            samples = tied(_forward(run), probe.take(spread(probe, rows) if fewer else rows))
        except InvalidInput:  # it may take no more than those
            samples = tied(_forward(run), probe.take(rows))
    readings = {}
    for name, layer in seen.items():
        few = fewer.get(name)
        following = _following(layer.shape, few, size)
        batch = samples.axis(name, following, few is not None)
        drawn = name in samples.drawn
        readings[name] = _reading(name, layer, following, batch, reduce, drawn=drawn)
    readings |= _of_users(run, probe, rows, readings)
    axes = {n: r.reduction.axes for n, r in readings.items() if r.reduction and r.reduction.masked}
    for name, positions in whose(_forward(run), probe, axes, rows).items():
        shape = seen[name].shape
        readings[name] = _with_positions(name, readings[name], positions, probe, shape)
    return Evidence(readings)


def _of_users(
    run: Run, probe: Probe, rows: Tensor, readings: Mapping[str, Reading]
) -> dict[str, Reading]:
    """The layers of which the user's function makes rows that are not one sample's each."""
    own = {n: r.reduction for n, r in readings.items() if r.reduction and r.reduction.raw}
    if not own or probe.undivided:
        return {}

    def forward(few: Probe) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}

        def keep(name: str, output: Tensor, bounds: tuple[float, float] | None) -> None:
            if name in own:
                with suppress(InvalidInput):  # the look itself will say what is wrong
                    t = own[name](output).clone()
                    if len(t) == few.n:
                        made[name] = t

        run(few, keep)
        return made

    try:
        few = probe.take(spread(probe, rows))
        samples = tied(forward, few)
    except InvalidInput:
        few = probe.take(rows)
        samples = tied(forward, few)
    return {
        name: Reading(
            trouble=f"reduce={reduction.name} makes rows that are not one sample's each: another "
            "sample replaced changes them (mixed, sorted, or unfolded the wrong way)"
        )
        for name, reduction in own.items()
        if name in samples.own and 0 not in samples.own[name]
    }


def _reading(
    name: str,
    layer: _Seen,
    following: Sequence[int],
    batch: int | None,
    reduce: Reduce,
    *,
    drawn: bool,
) -> Reading:
    """How a layer is reduced, or why it cannot be."""
    if drawn:
        return Reading(
            trouble="two forwards of the very same samples differ: it is drawn anew each time, "
            "from what cannot be seeded (os.urandom, random.SystemRandom, a generator out of "
            "reach); draw from a generator that the model holds, or choose another layer"
        )
    try:
        reduction = choose(reduce, name, layer.shape, Axes(batch or 0, layer.channels))
    except InvalidInput as error:
        return Reading(trouble=str(error))
    if batch is not None or reduction.raw:
        return Reading(reduction)
    why = f"no one axis of its shape {layer.shape} follows the number of samples"
    if following:
        why = (
            f"the rows of its shape {layer.shape} are not one sample's each (another sample "
            "replaced changes them: mixed, sorted, cut to a batch's longest, or no samples)"
        )
    return Reading(trouble=f"{why}; choose another layer, or unfold it by a callable in reduce=")


def _with_positions(
    name: str, reading: Reading, positions: Positions, probe: Probe, shape: Sequence[int]
) -> Reading:
    reduction = reading.reduction
    if not positions.trouble and reduction and reduction.per_token:
        if not any(positions.stream is stream for stream in probe.streams):
            positions = Positions(trouble="it is not known whose tokens its positions are")
    if positions.begins and reduction and reduction.first:
        return Reading(reduction)
    if not positions.trouble:
        notice = _of_guesses(reduction, positions.stream, probe, shape)
        return Reading(reduction, positions.stream, padding=notice)
    how = f"reduce={{{name!r}: 'flatten'}} or a callable"
    if positions.cut:  # flattened, its rows would have another width in each batch
        how = (
            f"a callable that makes rows of one width: reduce={{{name!r}: lambda out: out[:, -1]}}"
        )
    return Reading(trouble=f"{positions.trouble}; say what T is of it by {how}")


def _of_guesses(
    reduction: Reduction | None, stream: Stream | None, probe: Probe, shape: Sequence[int]
) -> str:
    """What is to be said of padding that nobody stated, where T hangs on it.

    Padding that is left out is that of the layer's own input. What may be padding concerns every
    layer of which positions are averaged or chosen: its own input's, or any one's if that is not
    known.
    """
    if reduction is None or not reduction.masked:
        return ""
    if all(shape[axis] < 2 for axis in reduction.axes.positions(len(shape))):
        return ""
    if stream is not None and (stream.padded or len(probe.streams) > 1):
        return stream.notice
    return next((s.notice for s in probe.streams if s.notice and not s.padded), "")


def _watched(run: Run, probe: Probe) -> dict[str, _Seen] | None:
    """Each layer's shape and channels; None if the model does not take so few samples."""
    watch = AxisWatch()
    shapes: dict[str, tuple[int, ...]] = {}
    channels: dict[str, Callable[[], Channels]] = {}

    def keep(name: str, output: Tensor, bounds: tuple[float, float] | None) -> None:
        shapes[name] = tuple(output.shape)
        channels[name] = watch.of(output)

    try:
        with watch:
            run(probe, keep)
    except InvalidInput:  # whatever a model says to so few samples, the look itself will hear
        return None
    return {name: _Seen(shape, channels[name]()) for name, shape in shapes.items()}


def _shapes(run: Run, probe: Probe) -> dict[str, tuple[int, ...]] | None:
    shapes: dict[str, tuple[int, ...]] = {}

    def keep(name: str, output: Tensor, bounds: tuple[float, float] | None) -> None:
        shapes[name] = tuple(output.shape)

    try:
        run(probe, keep)
    except InvalidInput:
        return None
    return shapes


def _forward(run: Run) -> Callable[[Probe], dict[str, Tensor]]:
    def forward(probe: Probe) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        run(probe, lambda name, output, bounds: outputs.update({name: numeric(output).clone()}))
        return outputs

    return forward


def _following(shape: Sequence[int], fewer: Sequence[int] | None, size: int) -> list[int]:
    """The axes whose length follows the number of samples, or is that number."""
    if fewer is None or len(fewer) != len(shape):
        return [axis for axis, length in enumerate(shape) if length == size]
    moving = [axis for axis, (a, b) in enumerate(zip(shape, fewer, strict=True)) if a != b]
    following = [axis for axis in moving if shape[axis] == size and fewer[axis] == size - 1]
    return following if len(following) == 1 else []
