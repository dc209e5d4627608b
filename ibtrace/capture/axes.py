"""Which axes of a tensor are channels, told by the operations that made it and that take it.

A convolution's output has its channels before space, a linear layer's has them last, whatever the
shape looks like. During one forward pass every torch function is watched: some settle where the
channels are (in what they give, and in what they are given), others pass that on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Channels = frozenset[int] | None
"""Axes that hold channels; none of them, or not known."""

_LAST = {"linear", "layer_norm", "rms_norm", "embedding", "embedding_bag", "bilinear", "one_hot"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_LAST |= {*_RECURRENT, "multi_head_attention_forward"}
_SECOND = {"batch_norm", "group_norm", "instance_norm", "local_response_norm", "interpolate"}
_POOLS = ("max_pool", "avg_pool", "lp_pool", "max_unpool", "adaptive_max_pool", "adaptive_avg_pool")
_BEFORE_SPACE = {
    f"{name}{dims}d": dims
    for name in ("conv", "conv_transpose", "fractional_max_pool", *_POOLS)
    for dims in (1, 2, 3)
} | {"pixel_shuffle": 2, "pixel_unshuffle": 2, "grid_sample": 2}
_MOVES = {"permute", "transpose", "t", "T", "mT", "H", "mH", "adjoint"}
_MOVES |= {"swapaxes", "swapdims", "movedim", "moveaxis"}
_REDUCES = {"mean", "sum", "amax", "amin", "max", "min", "std", "var", "norm", "logsumexp"}
_REDUCES |= {"median", "prod", "any", "all", "argmax", "argmin"}
_RESHAPES = {"reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as"}
_RESHAPES |= {"reshape_as", "ravel", "contiguous"}
_PRODUCTS = {"matmul": 0, "bmm": 0, "mm": 0, "addmm": 1, "baddbmm": 1, "rmatmul": 0}
_LOSE = {"cdist", "outer", "tensordot", "new_zeros", "new_ones", "new_empty", "new_full", "fold"}
_MARKERS = (2, 3, 5, 7, 11, 13, 17, 19)


class _Node:
    """What is known of a tensor's axes; tensors whose axes are the same share one."""

    def __init__(
        self,
        channels: Channels = None,
        parent: _Node | None = None,
        origin: Sequence[int | None] = (),
    ) -> None:
        self._channels, self._parent, self._origin = channels, parent, origin
        self.weight = False

    @property
    def channels(self) -> Channels:
        """Where the channels are, from its own operation or the tensor it was made of."""
        if self._channels is None and self._parent is not None:
            above = self._parent.channels
            if above is not None:
                return frozenset(i for i, axis in enumerate(self._origin) if axis in above)
        return self._channels

    def consumed(self, channels: frozenset[int]) -> None:
        """An operation takes these axes for channels: that counts where nothing else is known."""
        if self.channels is not None:
            return
        self._channels = channels
        above = [self._origin[i] for i in channels if i < len(self._origin)]
        if self._parent is not None and above and None not in above:
            self._parent.consumed(frozenset(axis for axis in above if axis is not None))


@dataclass(frozen=True)
class Call:
    """One call of a torch function."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def argument(self, place: int, name: str) -> Any:
        """An argument given by place or by name, else None."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name)


class AxisWatch(TorchFunctionMode):
    """While it is active, learns which axes of each tensor hold channels."""

    def __init__(self) -> None:
        super().__init__()
        self._nodes = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Callable[[], Channels]:
        """What tells, after the forward pass, where a tensor's channels are."""
        node = self._node(tensor)
        return lambda: node.channels

    def _node(self, tensor: Tensor) -> _Node:
        if tensor not in self._nodes:
            self._nodes[tensor] = _Node()
        node: _Node = self._nodes[tensor]
        return node

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [*_tensors(args), *_tensors((kwargs or {}).values())]
        call = Call(_name(func), func, args, kwargs or {})
        for place, tensor in enumerate(_tensors([result])):
            if not any(tensor is one for one in given):
                node = self._made(call, tensor, given, place)
                if given and all(map(self._is_weight, given)):
                    node = _Node()
                    node.weight = True
                self._nodes[tensor] = node
        return result

    def _is_weight(self, tensor: Tensor) -> bool:
        """Whether it is a weight of the model, or was made of weights alone."""
        return isinstance(tensor, nn.Parameter) or self._node(tensor).weight

    def _made(self, call: Call, result: Tensor, given: list[Tensor], place: int) -> _Node:
        """What is known of a result, by the operation that it came from."""
        name, dims = call.name, result.dim()
        if not given or name in _LOSE:
            return _Node()
        first = given[0]
        if name in _PRODUCTS:
            return self._product(given[_PRODUCTS[name] :], dims)
        if name in _LAST and (name != "multi_head_attention_forward" or place == 0):
            if name != "embedding" and name != "one_hot":
                self._node(first).consumed(frozenset({first.dim() - 1}))
            states = name in _RECURRENT and place > 0  # (layers, n, h): all of a sample's are kept
            return _Node(frozenset({0, dims - 1} if states else {dims - 1}))
        if name in _SECOND or (name == "prelu" and given[-1].numel() > 1):
            self._node(first).consumed(frozenset({1}))
            return _Node(frozenset({1}))
        if name in _BEFORE_SPACE:
            axis = dims - 1 - _BEFORE_SPACE[name]
            self._node(first).consumed(frozenset({axis}))
            return _Node(frozenset({axis}))
        if name == "unfold" and call.function is not Tensor.unfold:
            return _Node(frozenset({1}))
        if name == "einsum":
            return self._einsum(call, given)
        origin = _origin(call, first, result)
        if origin is not None:
            return _Node(None, self._node(first), origin)
        if name in _RESHAPES:
            return self._reshaped(first, result)
        return self._inherited(given, dims)

    def _inherited(self, given: list[Tensor], dims: int) -> _Node:
        """Of an operation that leaves the axes where they are: as one of what it was given."""
        alike = [self._node(tensor) for tensor in given if tensor.dim() == dims]
        if settled := [node for node in alike if node.channels is not None]:
            agreed = {node.channels for node in settled}
            return settled[0] if len(agreed) == 1 else _Node()  # two that differ tell nothing
        weights = [t for t in given if self._is_weight(t) and t.numel() > 1]
        for weight in weights if dims > 2 else ():  # one number for each channel
            wide = [axis for axis in range(-weight.dim(), 0) if weight.shape[axis] > 1]
            if len(wide) == 1 and (dims > 3 or wide == [-1]):  # (t, 1) may be of each position
                return _Node(frozenset({dims + wide[0]}))
        return alike[0] if alike else _Node()

    def _reshaped(self, before: Tensor, after: Tensor) -> _Node:
        """Axes that were split or merged; what is merged with channels is channels."""
        node = self._node(before)
        if before.shape == after.shape:
            return node
        groups = _groups(before.shape, after.shape)
        if groups is None:
            return _Node()
        if all(len(old) <= 1 and len(new) <= 1 for old, new in groups):
            origin: list[int | None] = [None] * after.dim()
            for old, new in groups:
                for axis in new:
                    origin[axis] = old[0] if old else None
            return _Node(None, node, origin)
        known = node.channels
        if known is None:
            return _Node()
        return _Node(frozenset(a for old, new in groups if known & set(old) for a in new))

    def _product(self, given: list[Tensor], dims: int) -> _Node:
        """A matrix product: of activations with weights, or of activations with each other."""
        left, right = given[:2]
        for side, mixed in ((left, left.dim() - 1), (right, right.dim() - 2)):
            known = self._node(side).channels
            weight = right if side is left else left
            if known and mixed not in known and self._is_weight(weight) and side.dim() == dims:
                return _Node(known)  # positions are mixed, by an adjacency that is learned
        if self._is_weight(right):
            self._node(left).consumed(frozenset({left.dim() - 1}))
            return _Node(frozenset({dims - 1}))
        if self._is_weight(left):
            self._node(right).consumed(frozenset({right.dim() - 2}))
            return _Node(frozenset({dims - 2}))
        rows, columns = self._node(left).channels, self._node(right).channels
        if columns is None or right.dim() < 2:
            return _Node()
        of_left = {a + dims - left.dim() for a in rows or () if a < left.dim() - 1}
        of_right = {a + dims - right.dim() for a in columns if a != right.dim() - 2}
        return _Node(frozenset(of_left | of_right))

    def _einsum(self, call: Call, given: list[Tensor]) -> _Node:
        """By the letters of the equation: those of weights, and of channels."""
        equation = call.argument(0, "equation")
        if not isinstance(equation, str) or "->" not in equation or "." in equation:
            return _Node()
        left, right = equation.replace(" ", "").split("->")
        weights, activations, channels = set(), set(), set()
        for letters, tensor in zip(left.split(","), given, strict=True):
            if self._is_weight(tensor):
                weights |= set(letters)
            else:
                activations |= set(letters)
                channels |= {letters[axis] for axis in self._node(tensor).channels or ()}
        settled = channels | (weights - activations)
        return _Node(frozenset(i for i, letter in enumerate(right) if letter in settled) or None)


def _name(function: Any) -> str:
    """``relu`` for ``F.relu``, ``Tensor.relu_``, ``torch.relu``; ``T`` for ``Tensor.T.__get__``."""
    name = str(getattr(function, "__name__", ""))
    if name == "__get__":
        return str(getattr(getattr(function, "__self__", None), "__name__", ""))
    return name.strip("_")


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _origin(call: Call, first: Tensor, result: Tensor) -> list[int | None] | None:
    """For each axis of the result the axis of the first argument it is; None: not such a call."""
    name, dims = call.name, first.dim()
    axes: list[int | None] = list(range(dims))
    if name in _MOVES or (name in _REDUCES and result.dim() < dims):
        return _by_markers(call, dims, result.dim())
    if name == "getitem":
        return _indexed(call.argument(1, "indices"), axes, result.dim())
    if name in ("select", "unbind"):
        dim = call.argument(1, "dim")
        return [axis for axis in axes if axis != (0 if dim is None else dim) % dims]
    if name == "stack":
        dim = call.argument(1, "dim")
        axes.insert((dim or 0) % result.dim(), None)
        return axes
    if name in ("expand", "expand_as", "repeat", "tile") and result.dim() > dims:
        return [None] * (result.dim() - dims) + axes
    return None


def _by_markers(call: Call, dims: int, left: int) -> list[int | None] | None:
    """The same call on a shape whose axes all differ in length shows where each one goes."""
    if dims > len(_MARKERS):
        return None
    marked = torch.empty(_MARKERS[:dims], device="meta")
    try:
        rest = {key: value for key, value in call.kwargs.items() if not isinstance(value, Tensor)}
        moved = next(iter(_tensors([call.function(marked, *call.args[1:], **rest)])))
    except (RuntimeError, TypeError, NotImplementedError):
        return None  # then nothing is known, which is said where it matters
    places = [_MARKERS.index(size) if size in _MARKERS else None for size in moved.shape]
    return places if len(places) == left else None


def _indexed(index: Any, axes: list[int | None], dims: int) -> list[int | None] | None:
    """Where axes go in ``x[index]``; None for what mixes them."""
    parts = list(index) if isinstance(index, tuple) else [index]
    takes = [part for part in parts if part is not None and part is not Ellipsis]
    if any(isinstance(part, Tensor) and part.dim() > 1 for part in takes):
        return None
    if sum(not isinstance(part, (int, slice)) for part in takes) > 1:
        return None
    left = list(axes)
    origin: list[int | None] = []
    for place, part in enumerate(parts):
        if part is None:
            origin.append(None)
        elif part is Ellipsis:
            after = sum(p is not None for p in parts[place + 1 :])
            origin += left[: len(left) - after]
            left = left[len(left) - after :]
        else:
            axis = left.pop(0)
            number = isinstance(part, int) or (isinstance(part, Tensor) and part.dim() == 0)
            origin += [] if number else [axis]
    origin += left
    return origin if len(origin) == dims else None


def _groups(
    before: Sequence[int], after: Sequence[int]
) -> list[tuple[list[int], list[int]]] | None:
    """Which axes of one shape become which of another of as many values; axes of length 1 apart."""
    if math.prod(before) != math.prod(after) or 0 in before:
        return None
    old = [axis for axis, size in enumerate(before) if size > 1]
    new = [axis for axis, size in enumerate(after) if size > 1]
    groups: list[tuple[list[int], list[int]]] = [([], [a]) for a, s in enumerate(after) if s == 1]
    while old and new:
        mine, theirs = [old.pop(0)], [new.pop(0)]
        while (many := math.prod(before[a] for a in mine)) != (
            few := math.prod(after[a] for a in theirs)
        ):
            (mine if many < few else theirs).append((old if many < few else new).pop(0))
        groups.append((mine, theirs))
    return groups
