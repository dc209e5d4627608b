"""Padding that no mask says: stated for the probe, or found where tokens stand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal

from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.probe.ends import Ends, best, of_value, padded_places
from ibtrace.probe.padding import Stream, called
from ibtrace.runtime.arguments import shown

Padding = Literal["auto"] | float | Mapping[str, float] | None
"""What stands for padding in inputs without a mask: see `ibtrace.Probe`."""


def with_padding(
    padding: Any, streams: Sequence[Stream], inputs: Mapping[str, Tensor]
) -> list[Stream]:
    """The streams, with what their own tokens say of their padding where no mask does.

    Args:
        padding: As of a probe.
        streams: What `streams` gave.
        inputs: The inputs by name, ``(n, ...)``.

    Raises:
        ConfigError: If it is of another type, or names an input that is no sequence.
        InvalidInput: If what is called padding is not there.
    """
    if padding is None:
        return list(streams)
    if isinstance(padding, str) and padding == "auto":
        alone = sum(bool(_axes(s, inputs[s.inputs[0]])) for s in streams) == 1
        return [_searched(stream, inputs[stream.inputs[0]], alone) for stream in streams]
    unmasked = {s.inputs[0]: s for s in streams if _axes(s, inputs[s.inputs[0]]) and not s.padded}
    given = padding if isinstance(padding, Mapping) else dict.fromkeys(unmasked, padding)
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ConfigError(
                "Probe: padding must be the number that fills sequences where they end (0), such "
                f"numbers by input, 'auto' or None, got {shown(padding)}"
            )
        if name not in unmasked:
            known = ", ".join(repr(name) for name in unmasked) or "none"
            raise ConfigError(
                f"Probe: padding: {name!r} is no sequence without a mask; these are: {known}"
            )
    stated = {n: _stated(unmasked[n], inputs[n], float(v)) for n, v in given.items()}
    fills = [stream for stream in stated.values() if stream.padded]
    if (given and not fills) or (isinstance(padding, Mapping) and len(fills) < len(given)):
        raise InvalidInput(f"Probe: padding: no token is {shown(padding)}; padding=None if none is")
    return [
        stated[s.inputs[0]] if s.inputs[0] in stated and stated[s.inputs[0]].padded else s
        for s in streams
    ]


def _searched(stream: Stream, value: Tensor, alone: bool) -> Stream:
    """A stream with the padding that shows at the ends of its sequences, or a word that it may."""
    if stream.padded or stream.unclear or stream.told:
        return stream
    by_axis = {axis: best(value.movedim(axis, 1)) for axis in _axes(stream, value)}
    showing = {axis: ends for axis, ends in by_axis.items() if ends is not None}
    sure = [axis for axis, ends in showing.items() if ends.sure]
    if not showing:
        return stream
    axis = sure[0] if sure else next(iter(showing))
    ends = showing[axis].of_all(value.movedim(axis, 1))
    taken = len(sure) == 1  # along both axes: which of them is that of the tokens?
    notice = _notice(stream, ends, axis, alone=alone, taken=taken)
    padded = _filled(stream, ends.where, axis, ends.value) if taken else stream
    return replace(padded, notice=notice)


def _stated(stream: Stream, value: Tensor, fill: float) -> Stream:
    """A stream whose padding was said to be this token, on the axis where it stands most surely."""
    there = {a: padded_places(value.movedim(a, 1), fill) for a in _axes(stream, value)}
    there = {axis: where for axis, where in there.items() if bool(where.any())}
    if not there:
        return stream
    axis = next(iter(there))
    if len(there) > 1:
        by_axis = {axis: of_value(value.movedim(axis, 1), fill) for axis in there}
        axis = max(by_axis, key=lambda a: (by_axis[a].sure, by_axis[a].doubtful, -a))
    return _filled(stream, there[axis], axis, fill)


def _axes(stream: Stream, value: Tensor) -> list[int]:
    """The axes along which there may be tokens."""
    if not stream.length:
        return []
    return [axis for axis in (1, 2)[: value.dim() - 1] if value.shape[axis] > 1]


def _filled(stream: Stream, where: Tensor, axis: int, fill: float) -> Stream:
    """A stream of which the tokens there are padding."""
    unmasked = replace(stream, axis=axis, length=where.shape[1], mask="", unclear=False)
    return replace(unmasked, real=~where, fill=fill)


def _notice(stream: Stream, ends: Ends, axis: int, *, alone: bool, taken: bool) -> str:
    """What is to be said of padding that nobody stated."""
    name, value = stream.inputs[0], f"{ends.value:g}"
    argument = f"padding={value}" if alone else f"padding={{{name!r}: {value}}}"
    filled, elsewhere, empty = (
        int(rows.sum()) for rows in (ends.filled, ends.elsewhere, ends.empty)
    )
    stands = f"{value} stands at the {ends.side} of {filled} of {len(ends.where)} sequences of "
    stands += called(name) + (f" along axis {axis}" if axis > 1 else "")
    stands += f", elsewhere in {elsewhere}" if elsewhere else " alone"
    stands += f", and is all of {empty}" if empty else ""
    if taken:
        how = f"Probe(…, {argument}) says so, padding=None that it is none"
        return f"leaves out padding: {stands}; {how}"
    return (
        f"may hold padding: {stands}, which proves nothing; Probe(…, {argument}) leaves it out, "
        "padding=None says that it is none, an attention_mask which tokens are real"
    )
