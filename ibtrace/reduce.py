"""From a layer's output of any shape to one vector for each sample: what T is."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibtrace.types import ConfigError, InvalidInput, UnknownName

How = str | Callable[[Tensor], Tensor]
Reduce = How | Mapping[str, How] | None
"""A name of `REDUCTIONS`, a callable, one for each pattern of layers, or None: by the shape."""


@dataclass(frozen=True)
class Reduction:
    """How a layer's output ``(n, ...)`` becomes T ``(n, d)``.

    Args:
        name: As it stands in the estimand.
        reduce: Takes the output and which tokens are real (bool ``(n, tokens)``, or None).
        per_token: Whether each token becomes a sample of its own, ``(tokens in all, d)``.
    """

    name: str
    reduce: Callable[[Tensor, Tensor | None], Tensor]
    per_token: bool = False

    def __call__(self, output: Tensor, mask: Tensor | None = None) -> Tensor:
        """T of some samples.

        Args:
            output: What the layer computed, ``(n, ...)``.
            mask: Which tokens are real, bool ``(n, tokens)``.

        Raises:
            InvalidInput: If the output does not have the shape that the reduction needs.
        """
        return self.reduce(output, mask)


def flatten(output: Tensor, mask: Tensor | None = None) -> Tensor:
    """All values of a sample side by side, ``(n, d)``; scalars per sample get d = 1."""
    return output.flatten(1) if output.dim() > 1 else output[:, None]


def _gap(output: Tensor, mask: Tensor | None) -> Tensor:
    if output.dim() < 3:
        raise InvalidInput(f"gap needs (n, channels, space …), got {tuple(output.shape)}")
    return output.flatten(2).mean(2)


def _tokens(output: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The output as ``(n, tokens, d)`` and the mask that goes with it."""
    if output.dim() < 3:
        raise InvalidInput(f"token reductions need (n, tokens, d), got {tuple(output.shape)}")
    if mask is not None and mask.shape[1] != output.shape[1]:
        got, masked = output.shape[1], mask.shape[1]
        raise InvalidInput(f"{got} tokens, but attention_mask has {masked}; reduce by a callable")
    return output.flatten(2), None if mask is None else mask.to(output.device)


def _token_cls(output: Tensor, mask: Tensor | None) -> Tensor:
    tokens, mask = _tokens(output, mask)
    if mask is None:
        return tokens[:, 0]
    return tokens[torch.arange(len(tokens), device=tokens.device), mask.int().argmax(1)]


def _token_last(output: Tensor, mask: Tensor | None) -> Tensor:
    tokens, mask = _tokens(output, mask)
    if mask is None:
        return tokens[:, -1]
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * places).argmax(1)
    return tokens[torch.arange(len(tokens), device=tokens.device), last]


def _token_mean(output: Tensor, mask: Tensor | None) -> Tensor:
    tokens, mask = _tokens(output, mask)
    if mask is None:
        return tokens.mean(1)
    weights = mask.to(tokens.dtype)
    total = (weights.unsqueeze(1) @ tokens).squeeze(1)  # four times faster than a masked sum
    return total / weights.sum(1, keepdim=True).clamp(min=1)


def _each_token(output: Tensor, mask: Tensor | None) -> Tensor:
    tokens, mask = _tokens(output, mask)
    return tokens.flatten(0, 1) if mask is None else tokens[mask]


REDUCTIONS: dict[str, Reduction] = {
    "flatten": Reduction("flatten", flatten),
    "gap": Reduction("gap", _gap),
    "token:cls": Reduction("token:cls", _token_cls),
    "token:mean": Reduction("token:mean", _token_mean),
    "token:last": Reduction("token:last", _token_last),
    "tokens": Reduction("tokens", _each_token, per_token=True),
}
"""``flatten``: all values; ``gap``: global average pooling over space; ``token:cls``, ``:mean``,
``:last``: the first, the mean or the last real token of a sequence; ``tokens``: each real token a
sample, with its own input token as X (Voita et al. 2019, arXiv:1909.01380)."""


def by_name(how: How) -> Reduction:
    """The reduction that a name or a callable stands for.

    Args:
        how: A key of `REDUCTIONS`, or a function from ``(n, ...)`` to ``(n, d)``.

    Raises:
        UnknownName: If there is no reduction of that name.
        ConfigError: If it is neither a name nor a callable.
    """
    if isinstance(how, str):
        if how not in REDUCTIONS:
            raise UnknownName(f"no reduction {how!r}; there are: {', '.join(REDUCTIONS)}")
        return REDUCTIONS[how]
    if not callable(how):
        raise ConfigError(f"reduce takes a name, a callable or a mapping, got {how!r}")
    called = getattr(how, "__name__", type(how).__name__)
    return Reduction(called, lambda output, mask: flatten(how(output)))


def check(reduce: Reduce) -> None:
    """Raise for a choice of reductions that cannot be meant.

    Raises:
        UnknownName: If there is no reduction of that name.
        ConfigError: If it is neither a name, a callable, a mapping of these, nor None.
    """
    hows = reduce.values() if isinstance(reduce, Mapping) else [] if reduce is None else [reduce]
    for how in hows:
        by_name(how)


def require_fitting(reduce: Reduce, layers: Iterable[str]) -> None:
    """Raise if a pattern fits no layer: it is a slip of the pen.

    Raises:
        UnknownName: Naming the pattern and the layers.
    """
    names = list(layers)
    for pattern in reduce if isinstance(reduce, Mapping) else ():
        if not fnmatch.filter(names, pattern):
            known = ", ".join(names)
            raise UnknownName(f"reduce: no layer fits {pattern!r}; those traced are: {known}")


def choose(reduce: Reduce, layer: str, output: Tensor, model: nn.Module) -> Reduction:
    """The reduction of one layer: the user's, or what its shape suggests.

    ``(n,)`` and ``(n, d)`` need none; only a callable is applied to them. By shape, ``(n, tokens,
    d)`` gets the mean token, but where the model has one-dimensional convolutions, whose outputs
    are ``(n, channels, length)``, it is flattened; more dimensions are feature maps, and get
    global average pooling.

    Args:
        reduce: The user's choice; the first pattern that fits the layer's name counts.
        layer: The layer's name.
        output: What it computed, ``(n, ...)``.
        model: The model it belongs to.
    """
    if isinstance(reduce, Mapping):
        fitting = [how for pattern, how in reduce.items() if fnmatch.fnmatchcase(layer, pattern)]
        how = fitting[0] if fitting else None
    else:
        how = reduce
    if output.dim() <= 2 and not callable(how):
        return REDUCTIONS["flatten"]
    if how is not None:
        return by_name(how)
    if output.dim() > 3:
        return REDUCTIONS["gap"]
    convolves = any(isinstance(module, nn.Conv1d) for module in model.modules())
    return REDUCTIONS["flatten" if convolves else "token:mean"]
