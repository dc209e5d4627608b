"""The IDX file format of MNIST and its relatives."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ibtrace.errors import InvalidInput

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> Tensor:
    """The array in an IDX file, gzipped or not (told by its content, not by its name).

    Two zero bytes, a type, the number of dimensions, each dimension as a big-endian uint32, then
    the values (LeCun, Cortes & Burges, "The MNIST database").

    Args:
        path: The file.

    Returns:
        A tensor of the file's own type and shape.

    Raises:
        InvalidInput: If the file is missing, is no IDX file, or is shorter or longer than it says.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path} cannot be read ({error})") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise InvalidInput(f"{path} is not an IDX file: it starts with {content[:4]!r}")
    dtype, dims = np.dtype(_TYPES[content[2]]), content[3]
    start = 4 + 4 * dims
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise InvalidInput(
            f"{path} is cut short or damaged: {len(content)} bytes, its header says {expected}"
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return torch.from_numpy(values.astype(dtype.newbyteorder("=")))
