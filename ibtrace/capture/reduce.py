"""From a layer's output of any shape to one vector for each sample: what T is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ibtrace.capture.rounding import Rounding
from ibtrace.errors import ConfigError, IbtraceError, InvalidInput, UnknownName
from ibtrace.numerics.types import numeric
from ibtrace.runtime.arguments import require_mapping, shown
from ibtrace.runtime.patterns import matches

How = str | Callable[[Tensor], Tensor]
Reduce = How | Mapping[str, How] | None
"""A name of `REDUCTIONS`, a callable, one for each pattern of layers, or None: the mean over all
that is neither samples nor channels."""


@dataclass(frozen=True)
class Axes:
    """Which axis of a layer's output is what.

    Args:
        batch: The axis of the samples.
        channels: The axes of channels; all others are positions (space, time, tokens). None if
            that is not known.
    """

    batch: int = 0
    channels: frozenset[int] | None = None

    def positions(self, dims: int) -> tuple[int, ...]:
        """The axes, of so many, that are neither samples nor channels; none if not known."""
        if self.channels is None:
            return ()
        return tuple(a for a in range(dims) if a != self.batch and a not in self.channels)

    def length(self, shape: Sequence[int]) -> int:
        """How many positions there are, if they lie along one axis, else 0."""
        positions = self.positions(len(shape))
        wide = [axis for axis in positions if shape[axis] > 1] or list(positions[:1])
        return shape[wide[0]] if len(wide) == 1 else 0

    def sequence(self, output: Tensor) -> Tensor:
        """The output as ``(n, positions, d)``."""
        positions = self.positions(output.dim())
        rest = [a for a in range(output.dim()) if a != self.batch and a not in positions]
        moved = output.permute(self.batch, *positions, *rest)
        return moved.flatten(1, len(positions)).flatten(2) if rest else moved.flatten(1)[..., None]


@dataclass(frozen=True)
class Reduction:
    """How a layer's output becomes T ``(n, d)``.

    Args:
        name: As it stands in the estimand.
        reduce: Takes the output and which positions are real (bool ``(n, positions)``, or None).
        per_token: Whether each token becomes a sample of its own, ``(tokens in all, d)``.
        axes: Which axis of the output is what.
        masked: Whether padding has to be left out.
        raw: Whether it is the user's function, given a copy of the output as the layer made it.
        averages: Whether T is a mean over positions.
        first: Whether T is the first real token alone.
    """

    name: str
    reduce: Callable[[Tensor, Tensor | None], Tensor]
    per_token: bool = False
    axes: Axes = Axes()
    masked: bool = False
    raw: bool = False
    averages: bool = False
    first: bool = False

    def __call__(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        """T of some samples.

        Args:
            output: What the layer computed.
            mask: Which positions are real, bool ``(n, positions)``.

        Raises:
            InvalidInput: If the output does not have the shape that the reduction needs.
        """
        return numeric(self.reduce(output if self.raw else numeric(output), mask))

    def rounding(self, output: Tensor, mask: Tensor | None = None) -> Rounding | None:
        """How far means over positions may differ by rounding alone; None if T is no mean."""
        output = numeric(output)
        if not self.averages or not output.is_floating_point():
            return None
        tokens = self.axes.sequence(output)
        return Rounding.of(tokens, _of_positions(mask, tokens.shape[1]))


def flatten(output: Tensor, mask: Tensor | None = None) -> Tensor:
    """All values of a sample side by side, ``(n, d)``; scalars per sample get d = 1."""
    return output.flatten(1) if output.dim() > 1 else output[:, None]


def _by(function: Callable[[Tensor], Tensor], called: str, output: Tensor) -> Tensor:
    """What the user's function makes of an output."""
    shape = tuple(output.shape)
    try:
        t = function(output.clone())
    except (IbtraceError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise InvalidInput(f"reduce={called} failed on its output {shape}: {what}") from error
    if not isinstance(t, Tensor):
        got = type(t).__name__
        raise InvalidInput(f"reduce={called} made {got} of {shape}; it must return a tensor")
    return flatten(t)


def _mean(tokens: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return tokens.mean(1)
    weights = mask.to(tokens.dtype)
    total = (weights.unsqueeze(1) @ tokens).squeeze(1)  # four times faster than a masked sum
    return total / weights.sum(1, keepdim=True).clamp(min=1)


def _mean_in_order(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The mean by a sum whose rounding is the same wherever the values stand."""
    if mask is None:
        return tokens.sort(1).values.sum(1) / tokens.shape[1]
    real = tokens.masked_fill(~mask.unsqueeze(-1), 0.0)
    return real.sort(1).values.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def _first(tokens: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return tokens[:, 0]
    return tokens[torch.arange(len(tokens), device=tokens.device), mask.int().argmax(1)]


def _last(tokens: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return tokens[:, -1]
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * places).argmax(1)
    return tokens[torch.arange(len(tokens), device=tokens.device), last]


def _each(tokens: Tensor, mask: Tensor | None) -> Tensor:
    return tokens.flatten(0, 1) if mask is None else tokens[mask]


_OF_TOKENS = {
    "gap": _mean,
    "gap:first": _mean,
    "gap:last": _mean,
    "token:cls": _first,
    "token:mean": _mean,
    "token:last": _last,
    "tokens": _each,
}

REDUCTIONS = ("flatten", *_OF_TOKENS)
"""``flatten``: all values; ``gap``: global average pooling over space, the channels being where
the layer has them, or said to be first or last; ``token:cls``, ``:mean``, ``:last``: the first,
the mean or the last real token of a sequence; ``tokens``: each real token a sample, with its own
input token as X (Voita et al. 2019, arXiv:1909.01380)."""


def _require_known(how: How) -> None:
    """Raise unless it is one of `REDUCTIONS`, or a function from ``(n, ...)`` to ``(n, d)``.

    Raises:
        UnknownName: If there is no reduction of that name.
        ConfigError: If it is neither a name nor a callable.
    """
    if isinstance(how, str):
        if how not in REDUCTIONS:
            raise UnknownName(f"no reduction {how!r}; there are: {', '.join(REDUCTIONS)}")
        return
    if not callable(how) or isinstance(how, type):
        raise ConfigError(f"reduce takes a name, a callable or a mapping, got {shown(how)}")


def check(reduce: Reduce) -> None:
    """Raise for a choice of reductions that cannot be meant.

    Raises:
        UnknownName: If there is no reduction of that name.
        ConfigError: If it is neither a name, a callable, a mapping of these, nor None.
    """
    if isinstance(reduce, Mapping):
        require_mapping("reduce", reduce)
    hows = reduce.values() if isinstance(reduce, Mapping) else [] if reduce is None else [reduce]
    for how in hows:
        _require_known(how)


def require_fitting(reduce: Reduce, layers: Iterable[str]) -> None:
    """Raise if a pattern fits no layer: it is a slip of the pen.

    Raises:
        UnknownName: Naming the pattern and the layers.
    """
    names = list(layers)
    for pattern in reduce if isinstance(reduce, Mapping) else ():
        if not any(matches(name, pattern) for name in names):
            known = ", ".join(names)
            raise UnknownName(f"reduce: no layer fits {pattern!r}; those traced are: {known}")


def by_module(reduce: Reduce, shown: Mapping[str, str]) -> Reduce:
    """The same choice with patterns of what a trace calls layers also by the names of modules.

    Args:
        reduce: The user's choice.
        shown: ``{name by module: name in a trace}``.
    """
    if not isinstance(reduce, Mapping):
        return reduce
    both: dict[str, How] = {}
    for pattern, how in reduce.items():
        both.setdefault(pattern, how)
        for name, in_trace in shown.items():
            if matches(in_trace, pattern):
                both.setdefault(name, how)
    return both


def choose(reduce: Reduce, layer: str, shape: Sequence[int], axes: Axes) -> Reduction:
    """The reduction of one layer: the user's, or the mean over its positions.

    ``(n,)`` and ``(n, d)`` need none; only a callable is applied to them. Of any other shape the
    positions (space, time, tokens) are averaged, and the channels kept; where the samples are not
    first they are put there. A callable is given a copy of the output as the layer made it.

    Args:
        reduce: The user's choice; the first pattern that fits the layer's name counts.
        layer: The layer's name.
        shape: The shape of what it computed.
        axes: What is known of its axes.

    Raises:
        InvalidInput: If channels and positions cannot be told from each other, and it matters.
    """
    how = _how_of(reduce, layer)
    if callable(how):
        function = how
        called = getattr(how, "__name__", type(how).__name__)
        return Reduction(called, lambda output, mask: _by(function, called, output), raw=True)
    moved = f"samples from axis {axes.batch}" if axes.batch else ""
    dims = len(shape)
    if dims <= 2 or how == "flatten":
        label = "flatten" if dims > 2 else ""
        return _flattening(", ".join(filter(None, (label, moved))), axes)
    settled = _settled(how, dims, axes)
    if settled is None:
        raise InvalidInput(
            f"cannot tell channels from positions in its shape {tuple(shape)}; say "
            f"reduce={{{layer!r}: 'gap:first'}} (channels come first), 'gap:last', 'flatten' or "
            "a callable"
        )
    if not settled.positions(dims):
        return _flattening(", ".join(filter(None, ("flatten", moved))), settled)
    name = how if how and how != "gap" else _averaged(settled, dims)
    of_tokens = _OF_TOKENS[how or "gap"]
    return Reduction(
        ", ".join(filter(None, (name, moved))),
        lambda output, mask: _reduced(output, mask, settled, of_tokens),
        per_token=how == "tokens",
        axes=settled,
        masked=True,
        averages=of_tokens is _mean,
        first=of_tokens is _first,
    )


def _how_of(reduce: Reduce, layer: str) -> How | None:
    """What the user asks for this layer."""
    if not isinstance(reduce, Mapping):
        return reduce
    fitting = [how for pattern, how in reduce.items() if matches(layer, pattern)]
    return fitting[0] if fitting else None


def _flattening(name: str, axes: Axes) -> Reduction:
    return Reduction(name, lambda output, mask: flatten(output.movedim(axes.batch, 0)), axes=axes)


def _settled(how: str | None, dims: int, axes: Axes) -> Axes | None:
    """The axes with the channels known: by the user's word, else by evidence."""
    others = [axis for axis in range(dims) if axis != axes.batch]
    if how == "gap:first":
        return replace(axes, channels=frozenset(others[:1]))
    if how == "gap:last":
        return replace(axes, channels=frozenset(others[-1:]))
    if axes.channels is None:
        by_name = how is not None and how.startswith("token")
        return replace(axes, channels=frozenset(others[1:])) if by_name else None
    channels = axes.channels - {axes.batch}
    return replace(axes, channels=channels or frozenset(others))


def _averaged(axes: Axes, dims: int) -> str:
    """What the mean over the positions is called."""
    others = [axis for axis in range(dims) if axis != axes.batch]
    if axes.channels == frozenset(others[:1]):
        return "gap"
    if axes.channels == frozenset(others[-1:]):
        return "token:mean" if dims == 3 else "gap:last"
    return f"mean over axes {', '.join(map(str, axes.positions(dims)))}"


def _reduced(
    output: Tensor,
    mask: Tensor | None,
    axes: Axes,
    of_tokens: Callable[[Tensor, Tensor | None], Tensor],
) -> Tensor:
    """T by a function of tokens ``(n, tokens, d)`` and their mask.

    A mean is taken in double precision and rounded once, to single precision at least. In the
    output's own type its sum is rounded by the order: samples with the same values at other
    positions would get different means, and whole bits of information that are the arithmetic's;
    half precision would merge what differs. What is in double precision already has its values
    put in order before they are summed.
    """
    if of_tokens is _mean and output.dtype == torch.float64:
        return _by_tokens(output, mask, axes, _mean_in_order)
    if of_tokens is _mean and output.is_floating_point():
        t = _by_tokens(output.double(), mask, axes, _mean)
        return t.to(torch.promote_types(output.dtype, torch.float32))
    return _by_tokens(output, mask, axes, of_tokens)


def _by_tokens(
    output: Tensor,
    mask: Tensor | None,
    axes: Axes,
    of_tokens: Callable[[Tensor, Tensor | None], Tensor],
) -> Tensor:
    if of_tokens is _mean and mask is None:  # without a copy that has the positions side by side
        mean = output.mean(axes.positions(output.dim()), keepdim=True)
        return mean.movedim(axes.batch, 0).flatten(1)
    tokens = axes.sequence(output)
    mask = _of_positions(mask, tokens.shape[1])
    if mask is not None:
        _require_tokens(mask, tokens.shape[1], of_tokens)
    return of_tokens(tokens, None if mask is None else mask.to(output.device))


def _of_positions(mask: Tensor | None, positions: int) -> Tensor | None:
    """The mask of the first or last positions, where a layer is cut to a batch's longest."""
    if mask is None or mask.shape[1] <= positions:
        return mask
    if not bool(mask[:, positions:].any()):
        return mask[:, :positions]
    return mask if bool(mask[:, :-positions].any()) else mask[:, -positions:]


def _require_tokens(
    mask: Tensor, positions: int, of_tokens: Callable[[Tensor, Tensor | None], Tensor]
) -> None:
    """Raise if a mask is not that of these positions, or leaves a sample without any."""
    if mask.shape[1] != positions:
        raise InvalidInput(f"{positions} positions, but the mask has {mask.shape[1]}")
    if of_tokens is not _each and (empty := int((~mask.any(1)).sum())):
        raise InvalidInput(
            f"{empty} of {len(mask)} samples have no real token, of which T could be made: all are "
            "padding; leave these samples out of the probe (or Probe(…, padding=None), if no mask "
            "says so and it is none)"
        )
