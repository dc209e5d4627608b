"""One tensor, saved and put back: the memory that it shows first, then the values in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ibtrace.errors import RunError

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_COMPRESSED = {
    torch.sparse_csr: (Tensor.crow_indices, Tensor.col_indices, Tensor.values),
    torch.sparse_bsr: (Tensor.crow_indices, Tensor.col_indices, Tensor.values),
    torch.sparse_csc: (Tensor.ccol_indices, Tensor.row_indices, Tensor.values),
    torch.sparse_bsc: (Tensor.ccol_indices, Tensor.row_indices, Tensor.values),
}


class SavedTensor:
    """What a tensor shows (storage, offset, size, stride, type), its gradient and its values.

    To put several back, call `show_again` of all, then `take_gradient` of all, then `refill` of
    all, for one may have been made to share the memory of another; then `check` of all.

    Args:
        tensor: Of any layout.
        values: Whether its values are copied too; else only what it shows.
    """

    def __init__(self, tensor: Tensor, *, values: bool = True) -> None:
        self._tensor = tensor
        self._is_leaf, self._needs_gradient = tensor.is_leaf, tensor.requires_grad
        self._gradient = tensor.grad if tensor.is_leaf else None
        self._memory: list[_Memory] = []
        self._copy: Tensor | None = None
        with _raw():
            self._shown = tensor.detach()
            parts = _parts(self._shown)
            if parts:
                self._memory = [_Memory(part, values=values) for part in parts]
            elif values:
                self._copy = self._shown.clone()

    def unchanged(self) -> bool:
        """Whether it shows the memory and holds the values that it did."""
        with _raw():
            if not self._memory:
                return self._copy is None or _equal(self._tensor, self._copy)
            shown = _shows_the_same(self._tensor, self._shown)
            return shown and all(memory.same() for memory in self._memory)

    def show_again(self) -> None:
        """Let it show the memory that it showed."""
        tensor = self._tensor
        with _raw():
            for memory in self._memory:
                memory.resize()
            # What was computed into a leaf in place made it part of a graph.
            if self._is_leaf and not tensor.is_leaf:
                tensor.detach_()
            if self._memory and not _shows_the_same(tensor, self._shown):
                tensor.data = self._shown
            if tensor.is_leaf and tensor.requires_grad != self._needs_gradient:
                tensor.requires_grad_(self._needs_gradient)

    def take_gradient(self) -> None:
        """Give it the gradient that it had, or none."""
        if self._is_leaf and self._tensor.grad is not self._gradient:
            self._tensor.grad = self._gradient

    def refill(self) -> None:
        """Give it back its values, where they have changed."""
        tensor, copy = self._tensor, self._copy
        with _raw():
            for memory in self._memory:
                memory.refill()
            if copy is None or _equal(tensor, copy):
                return
            if tensor.shape == copy.shape and tensor.dtype == copy.dtype:
                tensor.copy_(copy)
            else:
                tensor.data = copy

    def check(self) -> None:
        """Raise unless it is as it was.

        Raises:
            RunError: If it shows other memory or other values.
        """
        with _raw():
            tensor = self._tensor
            plain = self._memory and tensor.layout == torch.strided and not tensor.is_quantized
            if plain and not _shows_the_same(tensor, self._shown):
                raise RunError(f"a tensor {tuple(self._shown.shape)} does not take back its memory")
            if not all(memory.same() for memory in self._memory):
                raise RunError(f"a tensor {tuple(self._shown.shape)} does not take back its values")


class _Memory:
    """The memory of a strided tensor as integers, whatever the values mean."""

    def __init__(self, tensor: Tensor, *, values: bool) -> None:
        self._storage = tensor.untyped_storage()
        self._bytes = self._storage.nbytes()
        self._bits = _bits(tensor) if values and self._bytes >= _needed(tensor) else None
        self._values = None if self._bits is None else self._bits.clone()

    def resize(self) -> None:
        """Give the storage its length."""
        if self._storage.nbytes() != self._bytes:
            self._storage.resize_(self._bytes)

    def same(self) -> bool:
        """Whether the values are as they were."""
        if self._bits is None or self._values is None:
            return True
        return torch.equal(self._bits, self._values)  # as integers, so that NaN equals itself

    def refill(self) -> None:
        """Write the values back where they have changed."""
        if self._bits is not None and self._values is not None and not self.same():
            self._bits.copy_(self._values)


@contextmanager
def _raw() -> Iterator[None]:
    """Tensors without gradients, and without what a subclass makes of an operation."""
    # What is made in inference mode could not take a normal tensor's place outside of it.
    with torch.inference_mode(False), torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        yield


def _parts(tensor: Tensor) -> list[Tensor]:
    """The strided tensors whose memory a tensor shows; none if that cannot be told."""
    if is_traceable_wrapper_subclass(tensor) or tensor.is_nested:
        return []
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in _COMPRESSED:
        return [part(tensor) for part in _COMPRESSED[tensor.layout]]
    if tensor.layout != torch.strided:
        return []
    try:
        tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return []
    return [tensor]


def _needed(tensor: Tensor) -> int:
    """Bytes of storage up to the tensor's last value."""
    if not tensor.numel():
        return 0
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    last = tensor.storage_offset() + sum((size - 1) * stride for size, stride in pairs)
    return int(last + 1) * tensor.element_size()


def _bits(tensor: Tensor) -> Tensor:
    """The same memory as integers; of values that repeat along an axis (stride 0), one."""
    width = min(tensor.element_size(), 8)
    times = tensor.element_size() // width
    pairs = list(zip(tensor.shape, tensor.stride(), strict=True))
    size = [min(length, 1) if stride == 0 else length for length, stride in pairs]
    bits = torch.empty(0, dtype=_INTEGERS[width], device=tensor.device)
    stride = [times * step for _, step in pairs]
    offset = times * tensor.storage_offset()
    return bits.set_(tensor.untyped_storage(), offset, [*size, times], [*stride, 1])


def _shows_the_same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are the same view of the same memory; False where that is unknown."""
    if first.layout != torch.strided or second.layout != torch.strided or first.is_quantized:
        return False
    return (
        (first.dtype, first.shape, first.device) == (second.dtype, second.shape, second.device)
        and (first.stride(), first.storage_offset()) == (second.stride(), second.storage_offset())
        and (first.is_conj(), first.is_neg()) == (second.is_conj(), second.is_neg())
        and first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    )


def _equal(first: Tensor, second: Tensor) -> bool:
    try:
        return (
            first.shape == second.shape
            and first.dtype == second.dtype
            and torch.equal(first, second)
        )
    except (RuntimeError, NotImplementedError):
        return False
