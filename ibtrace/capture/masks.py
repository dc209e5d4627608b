"""Whose positions a layer's are: which input's padding, if any, it has to leave out.

Names and lengths do not tell: a decoder may be as long as its encoder. What tells is what a layer
depends on. An input's contents are altered, and then its padding alone, in a forward of a few
samples; where the layer changes, it holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from ibtrace.capture.reduce import Axes
from ibtrace.errors import InvalidInput
from ibtrace.probe import Probe
from ibtrace.probe.padding import Stream, altered, called

Forward = Callable[[Probe], Mapping[str, Tensor]]
"""Every layer's output on a probe, the model left as it was."""


@dataclass(frozen=True, eq=False)
class Positions:
    """What the positions of a layer are.

    Args:
        stream: The input whose tokens they are, if any.
        trouble: Why that cannot be told, for the message; empty if it can.
        cut: Whether there are more or fewer of them from batch to batch.
        begins: Whether the first one is surely no padding, though the others are not known.
    """

    stream: Stream | None = None
    trouble: str = ""
    cut: bool = False
    begins: bool = False


_CUT = Positions(None, "its positions are cut to a batch's longest sequence", cut=True)


def whose(
    forward: Forward, probe: Probe, axes: Mapping[str, Axes], rows: Tensor
) -> dict[str, Positions]:
    """The input that each layer's positions belong to.

    Args:
        forward: Runs the model.
        probe: The whole probe.
        axes: Which axis of each layer is what.
        rows: A few samples, some of them padded; see `telling_rows`.
    """
    streams = probe.streams
    if len(streams) == 1 and not streams[0].padded and not streams[0].unclear:
        return {name: Positions(streams[0]) for name in axes}
    few = probe.take(rows)
    before = forward(few)
    contents = [_outputs(forward, few, stream, None) for stream in streams]
    padding = [
        _outputs(forward, few, stream, rows) if stream.padded else None for stream in streams
    ]
    cut = _cut_to_longest(forward, probe, axes, rows, before)
    unmasked = [_unmasked(forward, few, stream, rows) for stream in streams if stream.padded]
    result = {}
    for name, layer in axes.items():
        if name not in before:
            continue
        if name in cut:
            result[name] = cut[name]
            continue
        shape = before[name].shape
        if any(
            outputs is not None and name in outputs and outputs[name].shape != shape
            for outputs in unmasked
        ):
            result[name] = _CUT
            continue
        effects = [
            _Effect(
                stream,
                _changes(before, whole, name) is not False,
                _places(before, whole, name, layer),
                _places(before, pads, name, layer),
                None if stream.real is None else stream.real[rows],
            )
            for stream, whole, pads in zip(streams, contents, padding, strict=True)
        ]
        reaching = [
            effect for effect in effects if effect.reaches
        ] or effects  # weights that begin as 0 show none
        result[name] = _decide(layer.length(before[name].shape), reaching)
    return result


def telling_rows(probe: Probe) -> Tensor:
    """At least three samples (if there are), two with padding and the two longest of an input.

    All of them, where some input belongs to all samples together.
    """
    if probe.undivided:
        return torch.arange(probe.n, device=probe.device)
    rows: list[int] = []
    for stream in probe.streams:
        if stream.real is not None:
            rows += (~stream.real).any(1).nonzero()[:2, 0].tolist()
            longest = stream.real.sum(1).sort(descending=True, stable=True).indices
            rows += longest[:2].tolist()
    rows = list(dict.fromkeys(rows))
    rows += [row for row in range(probe.n) if row not in rows][: max(0, 3 - len(rows))]
    return torch.tensor(sorted(rows), device=probe.device)


@dataclass(frozen=True)
class _Effect:
    """What altering one input does to one layer."""

    stream: Stream
    reaches: bool
    contents: Tensor | bool | None
    places: Tensor | bool | None
    real: Tensor | None

    @property
    def padding_shows(self) -> bool:
        """Whether altered padding changes the layer anywhere (or that is not known)."""
        return self.places is None or bool(torch.as_tensor(self.places).any())

    @property
    def padding_stays(self) -> bool:
        """Whether altered padding changes the layer at the padding's places and nowhere else."""
        return self.real is not None and self._shows_only_where(~self.real)

    def _shows_only_where(self, padding: Tensor) -> bool:
        """Whether altered padding changes the layer there and nowhere else."""
        if not isinstance(self.places, Tensor) or self.places.shape != padding.shape:
            return False
        return bool(self.places.any()) and not bool((self.places & ~padding).any())

    def lengthened(self, length: int) -> Stream | None:
        """The stream with tokens that a model puts before its own, or behind (a class token).

        None unless altered padding shows that it is one of the two.
        """
        more, real = length - self.stream.length, self.stream.real
        if more <= 0 or real is None or self.real is None:
            return None
        sides = [(more, 0), (0, more)]
        fitting = [s for s in sides if self._shows_only_where(~pad(self.real, s, value=True))]
        if len(fitting) != 1:
            return None
        return replace(self.stream, length=length, real=pad(real, fitting[0], value=True))

    @property
    def elsewhere(self) -> bool:
        """Whether its contents change the layer, but its padding nowhere.

        Then the positions are others', as those of queries that read it; unless at the padding
        even the contents change nothing, as in tokens that were set to 0 there.
        """
        if not self.reaches or self.real is None or not isinstance(self.places, Tensor):
            return False
        if bool(self.places.any()) or not isinstance(self.contents, Tensor):
            return False
        if self.contents.shape != self.real.shape:
            return False
        return bool((self.contents & ~self.real).any())


def _decide(length: int, effects: list[_Effect]) -> Positions:
    """The stream of a layer with so many positions, of those inputs that reach it."""
    fitting = [effect for effect in effects if effect.stream.length == length and length > 0]
    if at_home := [effect for effect in fitting if effect.padding_stays]:
        return Positions(at_home[0].stream)
    longer = [] if fitting else [effect.lengthened(length) for effect in effects]
    if lengthened := [stream for stream in longer if stream is not None]:
        return Positions(lengthened[0])
    unclear = [effect.stream.mask for effect in effects if effect.stream.unclear]
    if len(fitting) > 1:
        decoders = [effect for effect in fitting if effect.stream.inputs[0].startswith("decoder_")]
        fitting = decoders if len(decoders) == 1 else fitting
    padded = [effect.stream for effect in fitting if effect.stream.padded or effect.stream.unclear]
    if len(fitting) == 1 and not fitting[0].stream.unclear:
        if fitting[0].elsewhere and length > 1:
            whose = f"may be those of {fitting[0].stream.inputs[0] or 'x'} or others as many"
            return Positions(None, f"its {length} positions {whose}: padding shows in none")
        return Positions(fitting[0].stream)
    if length == 1:
        return Positions()  # nothing is averaged
    if fitting and not padded:
        return Positions(fitting[0].stream if len(fitting) == 1 else None)
    if fitting and len(padded) == 1 and padded[0].unclear:
        return Positions(None, f"{padded[0].mask} does not say which tokens are real")
    if fitting:
        names = " or ".join(effect.stream.inputs[0] for effect in fitting)
        return Positions(None, f"its {length} positions may be those of {names}")
    if unclear:
        return Positions(None, f"{unclear[0]} does not say which tokens are real")
    shows = [effect.stream for effect in effects if effect.stream.padded and effect.padding_shows]
    return _showing(length, shows) if shows else Positions()


def _showing(length: int, streams: list[Stream]) -> Positions:
    """What is said of a layer in which padding of these shows, but not where."""
    stream = streams[0]
    begins = all(s.length < length and bool(s.tokens(0)[:, 0].all()) for s in streams)
    what = "" if stream.fill is None else f" ({stream.fill:g} in {called(stream.inputs[0])})"
    if stream.notice:
        what += ", found by where it stands (Probe(…, padding=None) if it is none),"
    where = f"{length} positions" if length else "positions along several axes"
    whose = f"{stream.mask} is for" if stream.mask else "its input has"
    trouble = f"padding{what} shows in its {where}, {whose} {stream.length}"
    return Positions(None, trouble, begins=begins)


def _outputs(
    forward: Forward, few: Probe, stream: Stream, padding: Tensor | None
) -> Mapping[str, Tensor] | None:
    """The layers on altered inputs; None if these cannot be altered, or are not taken.

    All of a stream's contents are altered, or its padding alone, given the samples' numbers.
    """
    inputs = few.inputs
    changed = {
        name: altered(value, None if padding is None else stream.padding(value, padding))
        for name, value in inputs.items()
        if name in stream.inputs
    }
    if all(torch.equal(inputs[name], value) for name, value in changed.items()):
        return None
    try:
        return forward(few.with_inputs({**inputs, **changed}))
    except (InvalidInput, RuntimeError, ValueError, LookupError):
        return None  # then it is not known what the layer depends on: it may be all


def _unmasked(
    forward: Forward, few: Probe, stream: Stream, rows: Tensor
) -> Mapping[str, Tensor] | None:
    """The layers where every token is said to be real; None if the model does not take that."""
    real = None if stream.real is None else stream.real[rows]
    if real is None or not stream.mask or not bool(real.any()):
        return None  # no mask, but tokens that are padding: the contents tell what they are
    inputs = dict(few.inputs)
    for name in stream.mask.split(", "):
        value = inputs[name]
        flat = value.reshape(real.shape)
        inputs[name] = torch.full_like(value, flat[real][0].item())
    try:
        return forward(few.with_inputs(inputs))
    except (InvalidInput, RuntimeError, ValueError, LookupError):
        return None


def _cut_to_longest(
    forward: Forward,
    probe: Probe,
    axes: Mapping[str, Axes],
    rows: Tensor,
    before: Mapping[str, Tensor],
) -> dict[str, Positions]:
    """The layers that have fewer positions in a batch without its longest sequences.

    They hold an input's tokens up to the longest of a batch where they have as many, in both: the
    first ones, or of sequences that are padded on the left the last, if these reach the layer.
    """
    cut = {}
    for stream in probe.streams:
        if stream.real is None or probe.undivided:
            continue
        real = stream.real[rows]
        lengths = real.sum(1)
        short = lengths < lengths.max()
        if not bool(short.any()):
            continue
        try:
            without = forward(probe.take(rows[short]))
        except (InvalidInput, RuntimeError, ValueError, LookupError):
            continue
        begins = not bool((stream.real[:, 1:] & ~stream.real[:, :-1]).any())
        ends = not bool((stream.real[:, :-1] & ~stream.real[:, 1:]).any())
        held = _holding_the_last(forward, probe, stream) if ends and not begins else set()
        longest = (int(lengths.max()), int(lengths[short].max()))
        for name in axes.keys() & without.keys() & before.keys():
            had, has = (axes[name].length(each[name].shape) for each in (before, without))
            if had != has:
                whole = (begins or name in held) and (had, has) == longest
                cut[name] = Positions(stream) if whole else _CUT
    return cut


def _holding_the_last(forward: Forward, probe: Probe, stream: Stream) -> set[str]:
    """The layers that the last tokens of sequences reach, padded on the left.

    A layer that holds a batch's longest, but is cut on the other side, does not hold these: each is
    replaced by another sample's, so that none becomes padding.
    """
    assert stream.real is not None
    short = (stream.real[:, -1] & ~stream.real[:, 0]).nonzero()[:8, 0]
    few, name = probe.take(short), stream.inputs[0]
    value = few.inputs[name].movedim(stream.axis, 1).clone()
    value[:, -1] = value[:, -1].roll(1, 0)
    other = few.with_inputs({**few.inputs, name: value.movedim(1, stream.axis)})
    try:
        before, after = forward(few), forward(other)
    except (InvalidInput, RuntimeError, ValueError, LookupError):
        return set()
    return {name for name in before if _changes(before, after, name)}


def _changes(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor] | None, name: str
) -> bool | None:
    if after is None or name not in after or after[name].shape != before[name].shape:
        return None
    return not torch.equal(after[name], before[name])


def _places(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor] | None, name: str, axes: Axes
) -> Tensor | bool | None:
    """At which positions ``(n, positions)`` a layer changed; a bool if it has no one sequence."""
    changed = _changes(before, after, name)
    if changed is None or axes.length(before[name].shape) == 0 or after is None:
        return changed
    return axes.sequence(before[name] != after[name]).any(2)
