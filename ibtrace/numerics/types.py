"""Types of numbers in which torch computes, and what becomes of the others."""

from __future__ import annotations

import torch
from torch import Tensor

_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_COMPLEX = {torch.complex32, torch.complex64, torch.complex128}
_INTEGERS = {torch.int8, torch.int16, torch.int32, torch.int64, torch.bool}
_UNSIGNED = {torch.uint8, torch.uint16, torch.uint32, torch.uint64}
_COMPUTED = _FLOATS | _COMPLEX | _INTEGERS | _UNSIGNED


def _is_float8(value: Tensor) -> bool:
    return value.dtype.is_floating_point and "float8" in str(value.dtype)


def is_computed(value: Tensor) -> bool:
    """Whether torch computes in the type of a tensor as it is."""
    return value.dtype in _COMPUTED


def is_numeric(value: Tensor) -> bool:
    """Whether `numeric` can read it: not packed half bytes (``uint4``, ``float4``) or bare bits."""
    return is_computed(value) or value.is_quantized or _is_float8(value)


def numeric(value: Tensor) -> Tensor:
    """The same numbers in a type in which torch computes: float8 and quantized ones as float32.

    Both hold the very values; all other types are left as they are.

    Args:
        value: A tensor of any shape.

    Example:
        >>> numeric(torch.tensor([0.3, 2.0]).to(torch.float8_e4m3fn))
        tensor([0.3125, 2.0000])
    """
    if value.is_quantized:
        return value.dequantize()
    return value.float() if _is_float8(value) else value
