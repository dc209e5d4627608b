"""First and second derivatives of the mean loss of several networks at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ibtrace.capture.transforms import Tensors, batching_quietly
from ibtrace.errors import Unsupported
from ibtrace.numerics.flat import flattened, unflattened

_Pair = tuple[Tensors, Tensors]

_MOST = 4_000  # parameters of a network of which the Hessian is computed as a matrix
_VECTORS = 16  # unit vectors at a time: faster and three times smaller than 64


@dataclass(eq=False)
class Curves:
    """The mean loss of each network as a function of its parameters.

    Networks do not touch each other, so that the gradient of the sum of their losses is each
    one's own, and one product with the Hessian of the sum is a product for each. The gradient's
    graph is kept from the first product on, where it is not too large.

    Args:
        parameters: ``{name: (s, ...)}``.
        mean_loss: Parameters, a part of the samples, and whether the networks are called one by
            one, to the part's share of the mean loss, ``(s,)``.
        parts: The parts of the samples.
        computed: Calls a function of that with networks that may be called inside.
        keeps: Whether the graph may be kept.
    """

    parameters: Mapping[str, Tensor]
    mean_loss: Callable[[Tensors, slice, bool], Tensor]
    parts: Sequence[slice]
    computed: Callable[[Callable[[bool], _Pair]], _Pair]
    keeps: bool
    _graphs: list[tuple[Tensors, Tensors]] = field(default_factory=list)

    def gradient(self) -> Tensors:
        """The gradient, ``{name: (s, ...)}``."""
        total: Tensors = {}
        for _, slopes in self._slopes(create_graph=False):
            _add(total, {name: value.detach() for name, value in slopes.items()})
        return total

    def product(self, vector: Mapping[str, Tensor]) -> Tensors:
        """The Hessian times a vector ``{name: (s, ...)}``, or several, ``(m, s, ...)``."""
        first = next(iter(self.parameters))
        several = vector[first].dim() > self.parameters[first].dim()
        total: Tensors = {}
        for leaves, slopes in self._slopes(create_graph=True):
            bent = [name for name in leaves if slopes[name].requires_grad]
            if not bent:  # a loss that is linear in every parameter
                _add(total, {name: torch.zeros_like(vector[name]) for name in leaves})
                continue
            products = _products(
                [slopes[name] for name in bent],
                [*leaves.values()],
                [vector[name].to(slopes[name]) for name in bent],
                several=several,
            )
            _add(total, dict(zip(leaves, products, strict=True)))
        return total

    def matrix(self) -> Tensor:
        """The Hessian, ``(s, P, P)``.

        Raises:
            Unsupported: If a network has more parameters than a matrix is made of.
        """
        shapes = {name: value.shape[1:] for name, value in self.parameters.items()}
        count = sum(shape.numel() for shape in shapes.values())
        if count > _MOST:
            raise Unsupported(f"a Hessian of {count} parameters is too large; {_MOST} at most")
        networks = len(next(iter(self.parameters.values())))
        rows = []
        like = next(iter(self.parameters.values()))
        unit = torch.eye(count, dtype=like.dtype, device=like.device)
        for vectors in unit.split(_VECTORS):
            apart = unflattened(vectors[:, None].expand(-1, networks, -1), shapes)
            rows.append(flattened(self.product(apart), leading=2))
        return torch.cat(rows).transpose(0, 1)

    def _slopes(self, *, create_graph: bool) -> Iterator[tuple[Tensors, Tensors]]:
        """Parameters and the part's gradient in them, with its graph if that is asked for."""
        if self._graphs:
            yield from self._graphs
            return
        graphs = []
        for part in self.parts:
            pair = self.computed(partial(self._pair, part, create_graph))
            if create_graph and self.keeps:
                graphs.append(pair)
            yield pair
        self._graphs = graphs

    def _pair(self, part: slice, create_graph: bool, one_by_one: bool) -> _Pair:
        with torch.enable_grad():
            leaves = {n: v.detach().clone().requires_grad_() for n, v in self.parameters.items()}
            loss = self.mean_loss(leaves, part, one_by_one).sum()
            slopes = torch.autograd.grad(
                loss, [*leaves.values()], create_graph=create_graph, materialize_grads=True
            )
        return leaves, dict(zip(leaves, slopes, strict=True))


def _products(
    slopes: Sequence[Tensor], leaves: Sequence[Tensor], vectors: Sequence[Tensor], *, several: bool
) -> Sequence[Tensor]:
    """Vectors times the derivatives of gradients, several vectors together where torch can."""

    def product(along: Sequence[Tensor], batched: bool = False) -> Sequence[Tensor]:
        products = torch.autograd.grad(
            slopes,
            leaves,
            along,
            retain_graph=True,
            is_grads_batched=batched,
            allow_unused=True,
        )
        # by hand: torch's own zeros are not batched
        many = along[0].shape[: along[0].dim() - slopes[0].dim()]
        return [
            leaf.new_zeros(*many, *leaf.shape) if part is None else part
            for part, leaf in zip(products, leaves, strict=True)
        ]

    if not several:
        return product(vectors)
    try:
        with batching_quietly():
            return product(vectors, batched=True)
    except RuntimeError:  # an operation of the backward pass that has no batching rule
        each = [product(along) for along in zip(*vectors, strict=True)]
        return [torch.stack(parts) for parts in zip(*each, strict=True)]


def _add(total: Tensors, more: Tensors) -> None:
    for name, value in more.items():
        total[name] = total[name] + value if name in total else value
