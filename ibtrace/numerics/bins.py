"""Real values to bin numbers, and rows to ids: which rows of a matrix are equal.

Everything takes leading batch dimensions as independent problems and works on them together.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ibtrace.numerics.columns import compilable, extremes
from ibtrace.numerics.compiled import kernels
from ibtrace.numerics.counting import counted_rows, numbered

_ROW, _ROWS = 2**12, 2**12  # bytes of a row that is hashed at once, and how many rows are
_HASH_SEED = 0x1B


def floor_bins(values: Tensor, width: float) -> Tensor:
    """Bin numbers ``floor(values / width)``, as integers (whole floats beyond int32's range).

    Args:
        values: Floats of any shape.
        width: The width of a bin, above 0.
    """
    # A division by a Python number is compiled on CUDA to a product with its reciprocal, which
    # lands some values in the next bin; a division by a tensor is not.
    divisor = values.new_tensor(width)
    if values.numel() == 0:
        return values.to(torch.int8)
    low, high = extremes(values) if values.dim() > 1 else values.aminmax()
    lowest, highest = (float((end / divisor).floor()) for end in (low.min(), high.max()))
    if max(-lowest, highest) >= 2**31:
        return (values / divisor).floor_()
    kind = _smallest_int(int(max(-lowest, highest)))
    return _equal_bins(values, torch.zeros_like(divisor), divisor, None, kind)


def bins_within(values: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """Numbers ``0..bins-1`` of equal bins on ``[low, high]``, for values known to lie within.

    Bins are closed on the left, the last one on both sides. Where ``low`` equals ``high`` there
    is one bin, number 0.

    Args:
        values: Floats ``(..., n, d)``.
        low: Lower end, same dtype, broadcastable to ``values``.
        high: Upper end, same dtype, broadcastable to ``values``.
        bins: The number of bins.
    """
    width = (high - low) / torch.full_like(high, bins)
    width = torch.where(width > 0, width, torch.ones_like(width))
    return _equal_bins(values, low, width, bins - 1, _smallest_int(bins))


def _equal_bins(
    values: Tensor, low: Tensor, width: Tensor, most: int | None, kind: torch.dtype
) -> Tensor:
    """``floor((values - low) / width)`` as integers of a kind, put within 0 and ``most``.

    On the CPU one compiled pass, where each problem has one low and one width.
    """
    lead = values.shape[:-2]
    ends = [end.expand(*lead, 1, 1) for end in (low, width) if end.shape[-2:].numel() == 1]
    if len(ends) < 2 or not compilable(values):
        quotient = (values - low).div_(width).floor_()
        return (quotient if most is None else quotient.clamp_(0, most)).to(kind)
    numbers = torch.empty(values.shape, dtype=kind)
    problems, m = lead.numel(), values.shape[-2:].numel()
    flat = values.detach().reshape(problems, m).contiguous()
    plain = (end.detach().reshape(problems).contiguous().numpy() for end in ends)
    out = numbers.view(problems, m).numpy()
    kernels("_columns").equal_bins(flat.numpy(), *plain, -1 if most is None else most, out)
    return numbers


def uniform_bins(values: Tensor, low: Tensor, high: Tensor, bins: int) -> Tensor:
    """`bins_within` for any values: ``-1`` below ``low`` and ``bins`` above ``high``.

    Args:
        values: Floats ``(..., n, d)``.
        low: Lower end, same dtype, broadcastable to ``values``.
        high: Upper end, same dtype, broadcastable to ``values``.
        bins: The number of bins.
    """
    # Compared, not computed: rounding can put the quotient of an end on either side of it.
    numbers = bins_within(values, low, high, bins)
    return numbers.add_(values > high).sub_((values < low).to(numbers.dtype))


def digitise(values: Tensor, edges: Tensor) -> Tensor:
    """How many edges are at or below each value: bin numbers ``0..e``, closed on the left.

    Args:
        values: Floats ``(..., n, d)``.
        edges: Ascending, same dtype, ``(e,)`` or one row per problem ``(..., e)``.
    """
    flat = values.flatten(-2).contiguous()
    rows = edges.expand(*flat.shape[:-1], edges.shape[-1]).contiguous()
    numbers = torch.searchsorted(rows, flat, right=True, out_int32=True)
    return numbers.to(_smallest_int(edges.shape[-1])).reshape(values.shape)


def digitise_linspace(values: Tensor, edges: Tensor) -> Tensor:
    """`digitise` for edges that are equally spaced up to rounding, several times faster.

    A division finds the bin, but for values within a thousandth of a bin of an edge, where
    rounding could decide; those are searched.

    Args:
        values: Floats ``(..., n, d)``.
        edges: Ascending, same dtype, at least two, ``(e,)``.
    """
    count = edges.shape[0]
    width = (edges[-1] - edges[0]) / edges.new_tensor(count - 1)
    quotient = (values - edges[0]).div_(width)
    near_edge = (quotient - quotient.round()).abs_() < 1e-3
    numbers = quotient.floor_().add_(1).clamp_(0, count).to(_smallest_int(count))
    searched = torch.searchsorted(edges, values[near_edge], right=True)
    numbers[near_edge] = searched.to(numbers.dtype)
    return numbers


def quantile_edges(values: Tensor, bins: int) -> Tensor:
    """The ``bins - 1`` inner edges that cut pooled values into bins of equal mass.

    Edge k is the value of rank ``ceil(k m / bins)`` (from 0), itself a value of the sample: a
    strictly increasing map of the values maps the edges along. A tied value that would repeat an
    edge has a bin of its own: the second of the equal edges is the next number above it.

    Args:
        values: Floats ``(..., m)``.
        bins: The number of bins.

    Returns:
        Edges in ascending order, ``(..., bins - 1)``.
    """
    m = values.shape[-1]
    ranks = [min(-(-k * m // bins), m - 1) for k in range(1, bins)]
    if values.device.type == "cpu":
        # torch sorts indices along; numpy sorts the values alone, some twenty times faster.
        ordered = values.detach().numpy().copy()
        ordered.sort(axis=-1)
        edges = torch.from_numpy(ordered[..., ranks])
    else:
        edges = values.sort(-1).values[..., ranks]
    repeats = torch.zeros_like(edges, dtype=torch.bool)
    repeats[..., 1:] = edges[..., 1:] == edges[..., :-1]
    return torch.where(repeats, edges.nextafter(torch.full_like(edges, torch.inf)), edges)


def dense_ids(values: Tensor) -> Tensor:
    """Ids ``0..k-1`` of integers of shape ``(..., n)``, in ascending order of the integers."""
    ids = numbered(values) if values.device.type == "cpu" else None
    if ids is not None:
        return ids
    ordered, order = _sorted(values.to(torch.int64))
    return _number(ordered[..., 1:] != ordered[..., :-1], order)


def joint_ids(a: Tensor, b: Tensor) -> Tensor:
    """Ids of the pairs of two variables given as ids below n, ``(..., n)``; batches broadcast."""
    return dense_ids(a * a.shape[-1] + b)


def row_ids(rows: Tensor, *, raw: bool = False) -> Tensor:
    """Ids ``0..k-1`` of the distinct rows of each problem; equal rows have equal ids.

    On the CPU by a compiled hash table (`counted_rows`), elsewhere by `ordered_row_ids`. Both
    compare the rows whose hashes are equal: the answer is exact.

    Args:
        rows: Integers or finite floats, ``(..., n, d)``. Narrow integers are fastest.
        raw: Compare floats by their bits, so that -0.0 differs from 0.0.

    Returns:
        Ids in an order of their own, int64, ``(..., n)``.
    """
    if rows.device.type == "cpu":
        return counted_rows(rows, raw=raw).ids
    return ordered_row_ids(rows, raw=raw)


def ordered_row_ids(rows: Tensor, *, raw: bool = False) -> Tensor:
    """`row_ids` in an order that depends on the rows alone, not on that in which they come.

    Rows are packed into 64-bit words, hashed to one int64 by a random linear form (its
    coefficients always the same), and sorted by hash. Rows that share a hash are then compared
    word by word, and hashed anew should they differ: the answer is exact.

    Args:
        rows: Integers or finite floats, ``(..., n, d)``. Narrow integers are fastest.
        raw: Compare floats by their bits, so that -0.0 differs from 0.0.

    Returns:
        Ids in the order of the hash, int64, ``(..., n)``.
    """
    words = _words(rows, raw=raw)
    attempt = 0
    while True:
        hashes, order = _sorted(_hash(words, attempt))
        differs = hashes[..., 1:] != hashes[..., :-1]
        if _equal_where_not(differs, words, order):
            return _number(differs, order)
        attempt += 1


def certainly_distinct(rows: Tensor) -> Tensor:
    """Whether the rows of each problem surely are all distinct, bool ``(...)``.

    Equal rows have equal hashes, so distinct hashes are a proof; rows that are distinct fail it
    with probability ``n² / 2³⁴`` at most. One sort: some ten times faster than `row_ids`.

    Args:
        rows: Integers or finite floats, ``(..., n, d)``.
    """
    hashes = _hash(_words(rows, raw=False), 0)
    if hashes.device.type == "cpu":
        ordered = torch.from_numpy(np.sort(hashes.numpy(), axis=-1))
    else:
        ordered = hashes.sort(-1).values
    return (ordered[..., 1:] != ordered[..., :-1]).all(-1)


def digest(value: Tensor) -> int:
    """A hash of a tensor's bytes, 64 bits: another with probability ``2⁻³³`` where one differs.

    Args:
        value: A dense tensor of any type.

    Example:
        >>> weights = torch.tensor([1.0, -2.0])
        >>> digest(weights) == digest(weights.clone()), digest(weights) == digest(-weights)
        (True, False)
    """
    flat = value.detach().reshape(-1)
    flat = (flat.resolve_conj().resolve_neg() if flat.is_complex() else flat).contiguous()
    data = flat.view(torch.uint8)
    whole = len(data) // _ROW * _ROW
    tail = torch.nn.functional.pad(data[whole:], (0, _ROW - len(data) + whole))
    rows = [data[whole:].new_zeros(0) if not whole else data[:whole], tail]
    hashes = [
        _hash(part.view(torch.int64).reshape(-1, _ROW // 8)[first : first + _ROWS], 0)
        for part in rows
        for first in range(0, len(part) // _ROW, _ROWS)
    ]
    return int(_hash(torch.cat(hashes)[None], 1))


def _sorted(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values in ascending order along the last dimension, and the order; ties in any order."""
    if values.device.type != "cpu":
        ordered, order = values.sort(-1)
        return ordered, order
    # numpy's vectorised sort of 64-bit integers is four times faster than torch's
    order = torch.from_numpy(values.numpy().argsort(-1))
    return values.gather(-1, order), order


def _words(rows: Tensor, *, raw: bool) -> Tensor:
    """The bytes of each row as int64 words, padded with zeros: ``(..., n, w)``."""
    if rows.dtype == torch.bool:
        rows = rows.to(torch.int8)
    *lead, d = rows.shape
    per_word = 8 // rows.element_size()
    packed = rows.new_zeros(*lead, -(-d // per_word) * per_word)
    packed[..., :d] = rows.detach()
    if rows.is_floating_point() and not raw:
        packed += 0.0  # turns -0.0 into 0.0
    return packed.view(torch.int64)


def _hash(words: Tensor, attempt: int) -> Tensor:
    """A random linear form of the halves of the words modulo 2⁶⁴, ``(..., n)``.

    Two rows collide with probability 2⁻³³ at most: halves differ by less than 2³², so that at
    least 33 bits of a coefficient reach the difference. Whole words would not do: their signs
    reach one bit only, and rows that differ in the signs of two numbers would often cancel.
    """
    generator = torch.Generator().manual_seed(_HASH_SEED + attempt)
    info, size = torch.iinfo(torch.int64), (2, words.shape[-1])
    coefficients = torch.randint(info.min, info.max, size, generator=generator)
    low, high = coefficients.to(words.device)
    return (words & 0xFFFFFFFF).mul_(low).addcmul_(words >> 32, high).sum(-1)


def _equal_where_not(differs: Tensor, words: Tensor, order: Tensor) -> bool:
    """Whether neighbours in the order, where not marked as different, are equal rows."""
    n, w = words.shape[-2:]
    same = (~differs).reshape(words.shape[:-2].numel(), n - 1).nonzero()
    first = same[:, 0] * n
    flat, ranks = words.reshape(-1, w), order.reshape(-1)
    left = flat[first + ranks[first + same[:, 1]]]
    right = flat[first + ranks[first + same[:, 1] + 1]]
    return torch.equal(left, right)


def _number(differs: Tensor, order: Tensor) -> Tensor:
    """Number the runs of a sorted sequence from 0 and put the numbers back in sample order."""
    steps = torch.nn.functional.pad(differs.to(torch.int64), (1, 0))
    return torch.empty_like(order).scatter_(-1, order, steps.cumsum(-1))


def _smallest_int(largest: int) -> torch.dtype:
    for dtype in (torch.int8, torch.int16):
        if largest <= torch.iinfo(dtype).max:
            return dtype
    return torch.int32


def parted_columns(values: Tensor, *, least: int) -> Tensor:
    """Which group each value of a column is in, numbered upwards from 0, ``(..., n, d)``.

    Two neighbours in order part two groups if they are farther from each other than both the
    ``least`` samples below span and those above do. Of a law without gaps that is as rare as
    e^-least.

    Args:
        values: ``(..., n, d)`` floats.
        least: The fewest samples of a group, at least 2.

    Example:
        >>> parted_columns(torch.tensor([[5.0], [1.0], [5.2], [1.1]]), least=2)[:, 0].tolist()
        [1, 0, 1, 0]
    """
    n, parts = values.shape[-2], torch.zeros(values.shape, dtype=torch.int64, device=values.device)
    if n < 2 * least:
        return parts
    ordered, order = values.sort(-2)
    starts, ends = ordered[..., : n - least + 1, :], ordered[..., least - 1 :, :]
    spans = ends - starts  # of the `least` samples from each one on
    gaps = starts[..., least:, :] - ends[..., : n - 2 * least + 1, :]
    cuts = gaps > torch.maximum(spans[..., : n - 2 * least + 1, :], spans[..., least:, :])
    parts[..., least : n - least + 1, :] = cuts.long()
    return torch.zeros_like(parts).scatter(-2, order, parts.cumsum(-2))
