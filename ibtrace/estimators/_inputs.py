"""What every estimator does to its inputs before the mathematics: check them, line them up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput, NonFinite, TooFewSamples, Unsupported
from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.finite import count_non_finite
from ibtrace.numerics.types import is_computed
from ibtrace.types import Estimate

_NEIGHBOURHOODS = 16


def is_ids(value: Tensor) -> bool:
    """Whether a variable is discrete: integer (or boolean) ids of shape ``(..., n)``."""
    return not value.is_floating_point() and not value.is_complex()


def check_variable(name: str, role: str, value: Tensor) -> None:
    """Raise unless ``value`` is ``(..., n, d)`` finite floats or ``(..., n)`` integer ids.

    Args:
        name: The estimator's label, for the message.
        role: What the variable is called in the message (``x``, ``y``, ``t``).
        value: The variable.

    Raises:
        InvalidInput: If it is no tensor, has no values in place (`require_dense`), is complex, of a
            type in which torch computes nothing (float8), or has too few dimensions.
        NonFinite: If it holds NaN or infinite values.
    """
    require_dense(name, role, value)
    if value.is_complex():
        raise InvalidInput(f"{name}: {role} is complex; pass torch.view_as_real({role})")
    if not is_computed(value):
        kind = str(value.dtype).removeprefix("torch.")
        raise InvalidInput(f"{name}: {role} is {kind}; pass its values as float32")
    if value.dim() < event_dims(value):
        form = "(..., n) ids" if is_ids(value) else "(..., n, d) floats"
        raise InvalidInput(f"{name}: {role} must be {form}, got shape {tuple(value.shape)}")
    if value.is_floating_point() and value.shape[-1] == 0:
        raise InvalidInput(f"{name}: {role} has no features, got shape {tuple(value.shape)}")
    if bad := count_non_finite(value):
        raise NonFinite(f"{name}: {role} has {bad} NaN or infinite values; remove or mend them")


def require_dense(name: str, role: str, value: object) -> None:
    """Raise unless a variable is a tensor whose values lie in memory, one for each place.

    Args:
        name: The estimator's label, for the message.
        role: What the variable is called in the message.
        value: The variable.

    Raises:
        InvalidInput: If it is no tensor, or is sparse, nested, quantised or on the device ``meta``.
    """
    if not isinstance(value, Tensor):
        got = type(value).__name__
        raise InvalidInput(f"{name}: {role} must be a torch.Tensor, got {got}; use torch.as_tensor")
    if value.device.type == "meta":
        way = "materialise it on the CPU or a GPU"
        raise InvalidInput(f"{name}: {role} is on the device 'meta' and has no values; {way}")
    if value.is_nested:
        way = f"torch.nested.to_padded_tensor({role}, 0.0)"
        raise InvalidInput(f"{name}: {role} is nested; give samples of one length, such as {way}")
    if value.layout != torch.strided:
        kind = str(value.layout).removeprefix("torch.")
        raise InvalidInput(f"{name}: {role} has the layout {kind}; give {role}.to_dense()")
    if value.is_quantized:
        raise InvalidInput(f"{name}: {role} is quantised; give {role}.dequantize()")


def rows_as_ids(rows: Tensor) -> Tensor:
    """Rows of integers ``(..., n, d)`` as ids ``(..., n)``: equal rows of a problem, equal ids."""
    return row_ids(rows.to(torch.int64))


def event_dims(value: Tensor) -> int:
    """How many trailing dimensions one problem takes: 1 for ids, 2 for floats."""
    return 1 if is_ids(value) else 2


def samples(value: Tensor) -> int:
    """The number of samples n of ``(..., n, d)`` floats or ``(..., n)`` ids."""
    return value.shape[-event_dims(value)]


def columns(value: Tensor) -> int | None:
    """The number of columns d of ``(..., n, d)`` floats; None for ids ``(..., n)``."""
    return None if is_ids(value) else value.shape[-1]


def batch_shape(value: Tensor) -> torch.Size:
    """The leading dimensions of a variable: the independent problems."""
    return value.shape[: -event_dims(value)]


def refuse_two_ids(name: str, x: Tensor, y: Tensor, advice: str) -> None:
    """Raise if no variable is continuous.

    Args:
        name: The estimator's label, for the message.
        x: The first variable.
        y: The second variable.
        advice: What to do instead.

    Raises:
        Unsupported: If both are ids.
    """
    if is_ids(x) and is_ids(y):
        raise Unsupported(f"{name}: x and y are both ids; {advice}")


def many_dimensions(x: Tensor, y: Tensor) -> Tensor:
    """Whether neighbours are hardly nearer than other samples: more joint dimensions than log2 n.

    n samples cannot halve each of d > log2 n dimensions even once: no neighbourhood is local, and
    a nearest-neighbour estimate falls towards 0.
    """
    dimensions = sum(value.shape[-1] for value in (x, y) if not is_ids(value))
    return torch.tensor(dimensions > math.log2(samples(x)))


def few_samples(x: Tensor, y: Tensor, k: int) -> Tensor:
    """Whether k neighbours of a sample are more than a 16th of all, both variables being floats.

    Such a neighbourhood is as wide as the dependence, and the estimate falls towards 0: of normal
    variables that share 1.2 bits, `KSG` (k = 3) loses .07 at n = 50, .16 at 30 and .66 at 10.
    """
    return torch.tensor(not is_ids(x) and not is_ids(y) and samples(x) < _NEIGHBOURHOODS * k)


def check_pair(name: str, x: Tensor, y: Tensor, *, minimum: int = 2) -> int:
    """Check both variables and return n.

    Args:
        name: The estimator's label, for the messages.
        x: The first variable, ``(..., n, dx)`` floats or ``(..., n)`` ids.
        y: The second variable.
        minimum: The smallest n the estimator can work with.

    Raises:
        InvalidInput: If a variable is malformed, n differs, or leading dimensions do not broadcast.
        NonFinite: If a variable holds NaN or infinite values.
        TooFewSamples: If n is below ``minimum``.
    """
    check_variable(name, "x", x)
    check_variable(name, "y", y)
    _refuse_integer_rows(name, x, y)
    n = samples(x)
    if samples(y) != n:
        raise InvalidInput(f"{name}: x has {n} samples and y has {samples(y)}; they must be paired")
    if n < minimum:
        raise TooFewSamples(f"{name} needs at least {minimum} samples, got {n}; enlarge the probe")
    try:
        torch.broadcast_shapes(batch_shape(x), batch_shape(y))
    except RuntimeError as error:
        got = f"{tuple(batch_shape(x))} and {tuple(batch_shape(y))}"
        raise InvalidInput(f"{name}: leading dimensions {got} do not broadcast") from error
    return n


def _refuse_integer_rows(name: str, x: Tensor, y: Tensor) -> None:
    """Raise if integers of several dimensions may be rows ``(n, d)`` and not ids ``(..., n)``.

    Leading dimensions of ids are plain only where the other variable tells n.

    Raises:
        InvalidInput: If so.
    """
    for role, value, other in (("x", x, y), ("y", y, x)):
        if not is_ids(value) or value.dim() < 2:
            continue
        n = samples(other)
        both = is_ids(other) and other.dim() > 1
        rows = value.shape[-2] == n and (value.shape[-1] != n or value.dim() == 2)
        if both or rows:
            shapes = " and ".join(f"{r} {tuple(v.shape)}" for r, v in (("x", x), ("y", y)))
            raise InvalidInput(
                f"{name}: {role} is integers with more than one dimension ({shapes}), and ids are "
                f"(..., n); give rows as ids, torch.unique({role}, dim=0, return_inverse=True)[1]"
                + (", and separate problems one by one" if both else "")
            )


def each_estimate(solve: Callable[[Tensor, Tensor], Estimate], x: Tensor, y: Tensor) -> Estimate:
    """The estimates ``solve(x, y)`` of every problem of the broadcast batch, as one.

    For estimators whose single problem already fills the machine (pairwise distances).
    """
    return each_estimates(lambda one_x, one_y: [solve(one_x, one_y)], x, y)[0]


def each_estimates(
    solve: Callable[[Tensor, Tensor], Sequence[Estimate]], x: Tensor, y: Tensor
) -> Sequence[Estimate]:
    """`each_estimate` of a ``solve`` that gives several, of several quantities."""
    shape = torch.broadcast_shapes(batch_shape(x), batch_shape(y))
    if not shape:
        return solve(x, y)
    xs = x.expand(*shape, *x.shape[-event_dims(x) :]).reshape(-1, *x.shape[-event_dims(x) :])
    ys = y.expand(*shape, *y.shape[-event_dims(y) :]).reshape(-1, *y.shape[-event_dims(y) :])
    solved = [solve(one_x, one_y) for one_x, one_y in zip(xs, ys, strict=True)]
    return [Estimate.stack(of_one).reshape(*shape) for of_one in zip(*solved, strict=True)]


class Mean(NamedTuple):
    """An average of local information in bits, and its standard error."""

    bits: float
    stderr: float


def mean_of(local: Tensor | None, away: Tensor | None = None) -> Mean:
    """The mean of local information ``(n,)`` in bits; of a constant variable (None) exactly 0.

    The terms of near samples move together, as they share neighbours, so that their variance alone
    is too small. Taking one sample away shows what hangs on it (the jackknife), but counts twice
    what hangs on pairs (Efron & Stein 1981). The standard error is of the mean of both variances.

    Args:
        local: The terms of the samples.
        away: What taking each sample away would add to the terms of the others, ``(n,)``.
    """
    if local is None:
        return Mean(0.0, 0.0)
    estimate = Estimate.from_local(local)
    stderr = float(estimate.stderr)
    if away is not None:
        without = Estimate.from_local(local - away)
        stderr = math.sqrt((stderr**2 + float(without.stderr) ** 2) / 2)
    return Mean(float(estimate.bits), stderr)
