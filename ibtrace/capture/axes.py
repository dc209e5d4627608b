"""Which axes of a tensor are channels, told by the operations that made it and that take it.

A convolution's output has its channels before space, a linear layer's has them last, whatever the
shape looks like. During one forward pass every torch function is watched: some settle where the
channels are (in what they give, and in what they are given), others pass that on.

A map along one axis may mix channels or positions (a token mixer's ``mix(x.mT).mT``, a graph's
``A @ x``), and leaves each axis what it was. Of an input nothing is known of, it takes channels
only where they are by custom: last, or, of images, right after the samples. Else it tells nothing.
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

_Origin = Sequence[int | frozenset[int] | None]
"""For each axis the one it is, or those it was merged or split of; None: it is new."""

_ALONG_LAST = {"linear", "bilinear", "layer_norm", "rms_norm"}
_MAKE_LAST = {"embedding", "embedding_bag", "one_hot"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_ATTENTION = "multi_head_attention_forward"
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
_PRODUCTS = {"matmul": 0, "bmm": 0, "mm": 0, "addmm": 1, "baddbmm": 1}
_LOSE = {"cdist", "outer", "tensordot", "new_zeros", "new_ones", "new_empty", "new_full", "fold"}
_LOSE |= {"inner", "kron", "mv", "addmv", "addbmm", "multi_dot", "chain_matmul", "conv_tbc"}
_LOSE |= {"rmatmul"}
_MARKERS = (2, 3, 5, 7, 11, 13, 17, 19)


class _Node:
    """What is known of a tensor's axes; tensors whose axes are the same share one.

    Args:
        dims: How many axes there are.
        channels: Which are channels, if its own operation tells.
        parent: What is known of the tensor it was made of.
        origin: Which axes of the parent its own axes are.
        pooled: Whether axes were averaged away (or down to one) in making it.
    """

    def __init__(
        self,
        dims: int,
        channels: Channels = None,
        parent: _Node | None = None,
        origin: _Origin = (),
        *,
        pooled: bool = False,
    ) -> None:
        self.dims = dims
        self._channels, self._parent, self._origin = channels, parent, origin
        self._pooled = pooled
        self.weight = False
        self.contested = False

    @property
    def channels(self) -> Channels:
        """Where the channels are, from its own operation or the tensor it was made of."""
        if self._channels is None and self._parent is not None:
            above = self._parent.channels
            if above is not None:
                made_of = [o if isinstance(o, frozenset) else {o} for o in self._origin]
                return frozenset(axis for axis, old in enumerate(made_of) if above & old)
        return self._channels

    def consumed(self, axis: int) -> None:
        """An operation takes this axis for channels: that counts where nothing else is known."""
        if self.channels is not None:
            return
        self._channels = frozenset({axis})
        above = self._origin[axis] if self._parent is not None else None
        if self._parent is not None and isinstance(above, int):
            self._parent.consumed(above)

    def by_custom(self, axis: int) -> bool:
        """Whether channels lie there by custom, in what this was made of by moving axes alone.

        They are last, or first after the samples where two axes (space) or more follow in order;
        and all that is left after an average are channels.
        """
        node, pooled = self, False
        places: list[int | None] = list(range(self.dims))
        while node._parent is not None:
            pooled |= node._pooled
            above = [None if place is None else node._origin[place] for place in places]
            if not isinstance(above[axis], int):
                break
            places = [old if isinstance(old, int) else None for old in above]
            node = node._parent
        if places[axis] == node.dims - 1 or node.dims == 2 or (pooled and self.dims == 2):
            return True
        in_order = [place for place in places if place != 1] == [0, *range(2, node.dims)]
        return places[axis] == 1 and in_order and node.dims > 3


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
            self._nodes[tensor] = _Node(tensor.dim())
        node: _Node = self._nodes[tensor]
        return node

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [*_tensors(args), *_tensors((kwargs or {}).values())]
        call = Call(_name(func), func, args, kwargs or {})
        for place, tensor in enumerate(_tensors([result])):
            if not any(tensor is argument for argument in given):
                node = self._made(call, tensor, given, place)
                if given and all(map(self._is_weight, given)):
                    node = _Node(tensor.dim())
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
            return _Node(dims)
        first = given[0]
        if name in _PRODUCTS:
            return self._product(given[_PRODUCTS[name] :], dims)
        if name == "einsum":
            return self._einsum(call, given, dims)
        if (module := self._by_a_module(call, first, given, dims, place)) is not None:
            return module
        origin = _origin(call, first, result)
        if origin is not None:
            return _Node(dims, None, self._node(first), origin, pooled=name in _REDUCES)
        if name in _RESHAPES:
            return self._reshaped(first, result)
        return self._inherited(given, dims)

    def _by_a_module(
        self, call: Call, first: Tensor, given: list[Tensor], dims: int, place: int
    ) -> _Node | None:
        """What is known of the result of a module's function; None: it is not one."""
        name = call.name
        if name == "pack_padded_sequence" and place == 0:  # (n, steps, h) to (steps in all, h)
            return _Node(dims, None, self._node(first), [None, *range(2, first.dim())])
        if name == "pad_packed_sequence" and place == 0:  # and back
            return _Node(dims, None, self._node(first), [None, None, *range(1, first.dim())])
        if name in _MAKE_LAST:
            return _Node(dims, frozenset({dims - 1}))
        if name in _RECURRENT or (name == _ATTENTION and place == 0):
            states = name in _RECURRENT and place > 0  # (layers, n, h): all of a sample's are kept
            made = frozenset({0, dims - 1} if states else {dims - 1})
            return self._along_others(first, first.dim() - 1, _Node(dims, made))
        if name in _ALONG_LAST:
            shape = call.argument(1, "normalized_shape")
            if isinstance(shape, (tuple, list)) and len(shape) > 1:
                return self._node(first)  # normalised over channels and positions together
            last = first.dim() - 1
            return self._along(first, last, dims, told=self._node(first).by_custom(last))
        if name in _SECOND or (name == "prelu" and given[-1].numel() > 1):
            return self._along(first, 1, dims, told=True)
        if name in _BEFORE_SPACE:
            axis = dims - 1 - _BEFORE_SPACE[name]
            weight = call.argument(1, "weight") if name.startswith("conv") else None
            if weight is None:
                return self._along(first, axis, dims, told=True)
            if max(weight.shape[2:]) > 1:
                return self._along_others(first, axis, _Node(dims, frozenset({axis})))
            return self._along(first, axis, dims, told=self._node(first).by_custom(axis))
        if name == "unfold" and call.function is not Tensor.unfold:
            return _Node(dims, frozenset({1}))
        return None

    def _along(self, given: Tensor, axis: int, dims: int, *, told: bool) -> _Node:
        """Of a map along one axis, which channels or positions may lie on: all axes stay theirs.

        Args:
            given: What is mapped.
            axis: Its axis along which.
            dims: The axes of the result, of which the last are those of what is mapped.
            told: Whether it shows that channels lie there, where nothing is known.
        """
        node, new = self._node(given), dims - given.dim()
        known = node.channels
        if axis in known if known else told:
            node.consumed(axis)
            return _Node(dims, frozenset({axis + new}))
        return _Node(dims, None, node, [*[None] * new, *range(given.dim())])

    def _along_others(self, given: Tensor, axis: int, made: _Node) -> _Node:
        """Of what goes along the other axes (slides, attends, recurs), so that this is channels."""
        known = self._node(given).channels
        if known and axis not in known:
            return _contested(made.dims)
        self._node(given).consumed(axis)
        return made

    def _inherited(self, given: list[Tensor], dims: int) -> _Node:
        """Of an operation that leaves the axes where they are: as one of what it was given."""
        same = [tensor for tensor in given if tensor.dim() == dims]
        alike = [self._node(tensor) for tensor in same]
        if any(node.contested and node.channels is None for node in alike):
            return _contested(dims)
        if settled := [node for node in alike if node.channels is not None]:
            agreed = {node.channels for node in settled}
            return settled[0] if len(agreed) == 1 else _contested(dims)
        weights = [t for t in given if self._is_weight(t) and t.numel() > 1]
        for weight in weights if dims > 2 else ():  # one number for each channel
            wide = [axis for axis in range(-weight.dim(), 0) if weight.shape[axis] > 1]
            if len(wide) == 1 and (dims > 3 or wide == [-1]):  # (t, 1) may be of each position
                axis = dims + wide[0]
                scaled = next((tensor for tensor in same if not self._is_weight(tensor)), None)
                if scaled is None:
                    return _Node(dims, frozenset({axis}))
                return self._along(scaled, axis, dims, told=self._node(scaled).by_custom(axis))
        return self._node(max(same, key=Tensor.numel)) if same else _Node(dims)

    def _reshaped(self, before: Tensor, after: Tensor) -> _Node:
        """Axes that were split or merged; what is merged with channels is channels."""
        node = self._node(before)
        if before.shape == after.shape:
            return node
        groups = _groups(before.shape, after.shape)
        if groups is None:
            return _Node(after.dim())
        origin: list[int | frozenset[int] | None] = [None] * after.dim()
        for old, new in groups:
            for axis in new:
                origin[axis] = old[0] if len(old) == len(new) == 1 else frozenset(old)
        return _Node(after.dim(), None, node, origin)

    def _product(self, given: list[Tensor], dims: int) -> _Node:
        """A matrix product: of activations with weights, or of activations with each other."""
        left, right = given[:2]
        if self._is_weight(right) and left.dim() <= dims:
            return self._along(left, left.dim() - 1, dims, told=self._tells(left, right))
        if self._is_weight(left) and 2 <= right.dim() <= dims:
            return self._along(right, right.dim() - 2, dims, told=False)
        rows, columns = self._node(left).channels, self._node(right).channels
        if columns is None or right.dim() < 2:
            return _Node(dims)
        of_left = {a + dims - left.dim() for a in rows or () if a < left.dim() - 1}
        of_right = {a + dims - right.dim() for a in columns if a != right.dim() - 2}
        return _Node(dims, frozenset(of_left | of_right))

    def _tells(self, given: Tensor, weight: Tensor) -> bool:
        """Whether weights along the last axis show that channels lie there.

        A square one on ``(n, c, v)`` may be a graph's adjacency, and any on more axes.
        """
        square = weight.dim() > 1 and weight.shape[-1] == weight.shape[-2]
        plain = given.dim() == 2 or (given.dim() == 3 and not square)
        return plain and self._node(given).by_custom(given.dim() - 1)

    def _einsum(self, call: Call, given: list[Tensor], dims: int) -> _Node:
        """By the letters of the equation: those of weights, and of channels."""
        equation = call.argument(0, "equation")
        if not isinstance(equation, str) or "->" not in equation or "." in equation:
            return _Node(dims)
        left, right = equation.replace(" ", "").split("->")
        pairs = list(zip(left.split(","), given, strict=True))
        weights = [(letters, tensor) for letters, tensor in pairs if self._is_weight(tensor)]
        others = [(letters, tensor) for letters, tensor in pairs if not self._is_weight(tensor)]
        met = {letter for letters, _ in others for letter in letters}
        made_of = {  # a new letter stands where those that it was summed over stood
            letter: {old for old in letters if old in met and old not in right}
            for letters, _ in weights
            for letter in letters
            if letter not in met
        } | {letter: {letter} for letter in met}
        bare = {letter for letter, old in made_of.items() if not old}
        if len(others) == 1 and not bare and self._node(others[0][1]).channels is None:
            letters, tensor = others[0]
            return self._mapped(letters, tensor, {new: made_of[new] for new in right}, weights)
        if bare and any(self._node(t).channels is None and t.dim() > 2 for _, t in others):
            return _Node(dims)
        channels = {
            letters[axis]
            for letters, tensor in others
            for axis in self._node(tensor).channels or ()
        }
        settled = [axis for axis, new in enumerate(right) if made_of[new] & channels or new in bare]
        return _Node(dims, frozenset(settled) or None)

    def _mapped(
        self,
        letters: str,
        given: Tensor,
        made_of: dict[str, set[str]],
        weights: list[tuple[str, Tensor]],
    ) -> _Node:
        """An einsum of weights with activations of which nothing is known yet."""
        node, dims, last = self._node(given), len(made_of), letters[-1]
        new = [a for a, (letter, old) in enumerate(made_of.items()) if {last} == old - {letter}]
        matrix = weights[0][1] if len(weights) == 1 else None
        if matrix is not None and matrix.dim() == 2 and new and self._tells(given, matrix):
            node.consumed(given.dim() - 1)
            return _Node(dims, frozenset(new))
        places = [frozenset(letters.index(letter) for letter in old) for old in made_of.values()]
        return _Node(dims, None, node, [next(iter(p)) if len(p) == 1 else p for p in places])


def _contested(dims: int) -> _Node:
    """Where one operation tells against another; with whatever it is added to, too."""
    node = _Node(dims)
    node.contested = True
    return node


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


def _origin(call: Call, first: Tensor, result: Tensor) -> _Origin | None:
    """For each axis of the result the axis of the first argument it is; None: not such a call."""
    name, dims = call.name, first.dim()
    axes: list[int | None] = list(range(dims))
    if name in _REDUCES and result.dim() == dims:
        return axes if result.numel() < first.numel() else None  # keepdim=True
    if name in _MOVES or name in _REDUCES:
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
        old_axes, new_axes = [old.pop(0)], [new.pop(0)]
        while (many := math.prod(before[a] for a in old_axes)) != (
            few := math.prod(after[a] for a in new_axes)
        ):
            (old_axes if many < few else new_axes).append((old if many < few else new).pop(0))
        groups.append((old_axes, new_axes))
    return groups
