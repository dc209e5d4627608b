"""Numbers that never travel alone: a quantity, a reading, an estimate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

Per = Literal["layer", "network"]


LOSS = "loss"
"""In a unit: that of the loss, whichever it is."""


@dataclass(frozen=True)
class Quantity:
    """What a number is of, whatever instrument took it.

    Args:
        name: As in tables and on axes: ``"I(X;T)"``, ``"saturated share"``.
        unit: ``"bits"``, ``"nats"``, ``"1"`` for a pure number, …; ``"loss"`` stands for the unit
            of the loss that a network is trained on (``"loss²"`` is nats² of a cross-entropy).
        per: Whether each layer has one, or the network as a whole.
    """

    name: str
    unit: str
    per: Per = "layer"


def _filled(value: Any, dtype: torch.dtype, like: Tensor, kind: str, name: str = "") -> Tensor:
    """A value in the shape and on the device of another, in a type; what it is, for the error.

    Raises:
        ValueError: If it is not of that kind, or does not fit that shape.
    """
    if isinstance(value, Tensor) and value.dtype == dtype and value.shape == like.shape:
        return value if value.device == like.device else value.to(like.device)
    what = f"a reading's {kind} {name!r}" if name else f"a reading's {kind}"
    try:
        given = torch.as_tensor(value, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} must be numbers, got {value!r:.80}") from error
    if given.is_complex():
        raise ValueError(f"{what} is complex; give real and imaginary part apart")
    if dtype == torch.bool and given.dtype != dtype and bool(((given != 0) & (given != 1)).any()):
        raise ValueError(f"{what} must be true or false, got {given.tolist()!r:.80}")
    try:
        return given.to(dtype).expand(like.shape)
    except RuntimeError as error:
        raise ValueError(
            f"{what} has shape {tuple(given.shape)}, and its value {tuple(like.shape)}"
        ) from error


class _Numbers:
    """Numbers of one shape with their errors, intervals, flags and diagnostics.

    A dataclass of these fields and one more for the numbers themselves, the first.
    """

    stderr: Tensor
    lower: Tensor
    upper: Tensor
    flags: Mapping[str, Tensor]
    diagnostics: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        # mypy: the class is a mixin of dataclasses
        first = dataclasses.fields(self)[0].name  # type: ignore[arg-type]
        numbers = torch.as_tensor(getattr(self, first))
        if numbers.is_complex():
            raise ValueError(f"a reading's {first} is complex; read real and imaginary part apart")
        object.__setattr__(self, first, numbers.to(torch.float64))
        for name in ("stderr", "lower", "upper"):
            object.__setattr__(
                self, name, _filled(getattr(self, name), torch.float64, numbers, name)
            )
        flags = {n: _filled(f, torch.bool, numbers, "flag", n) for n, f in self.flags.items()}
        object.__setattr__(self, "flags", flags)
        diagnostics = {
            n: _filled(value, torch.float64, numbers, "diagnostic", n)
            for n, value in self.diagnostics.items()
        }
        object.__setattr__(self, "diagnostics", diagnostics)

    def flagged(self, **flags: Tensor) -> Self:
        """The same numbers with more flags raised."""
        more = {n: _filled(f, torch.bool, self.stderr, "flag", n) for n, f in flags.items()}
        return self._with("flags", more)

    def diagnosed(self, **figures: Tensor) -> Self:
        """The same numbers with more figures that go with them."""
        more = {
            n: _filled(figure, torch.float64, self.stderr, "diagnostic", n)
            for n, figure in figures.items()
        }
        return self._with("diagnostics", more)

    def _with(self, name: str, more: Mapping[str, Tensor]) -> Self:
        same = object.__new__(type(self))  # all else is checked, and filled, already
        same.__dict__.update(self.__dict__)
        same.__dict__[name] = {**getattr(self, name), **more}
        return same

    @classmethod
    def stack(cls, parts: Sequence[Self]) -> Self:
        """Numbers of one shape ``(...)`` as one, ``(len(parts), ...)``.

        Raises:
            ValueError: If they have not the same flags and diagnostics, or another unit.
        """

        def together(values: Sequence[Any]) -> Any:
            if isinstance(values[0], Tensor):
                return torch.stack(list(values))
            if isinstance(values[0], Mapping):
                names = values[0].keys()
                if any(value.keys() != names for value in values):
                    raise ValueError(f"{cls.__name__}.stack: not all have {', '.join(names)}")
                return {name: together([value[name] for value in values]) for name in names}
            if any(value != values[0] for value in values):
                raise ValueError(f"{cls.__name__}.stack: {set(values)} are not one unit")
            return values[0]

        # mypy: the class is a mixin of dataclasses
        names = [item.name for item in dataclasses.fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: together([getattr(part, name) for part in parts]) for name in names})

    def reshape(self, *shape: int) -> Self:
        """The same numbers in another shape."""
        return self._map(lambda value: value.reshape(shape))

    def __getitem__(self, index: Any) -> Self:
        """Some of the numbers, by an index of the leading dimensions."""
        return self._map(lambda value: value[index])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with every tensor changed."""
        changed: dict[str, Any] = {}
        # mypy: the class is a mixin of dataclasses
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                changed[item.name] = change(value)
            elif isinstance(value, Mapping):
                changed[item.name] = {name: change(part) for name, part in value.items()}
        # mypy: the class is a mixin of dataclasses
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]


@dataclass(frozen=True)
class Reading(_Numbers):
    """A number with its unit, its error and its flags, of each of the networks looked at.

    Args:
        value: The number, shape ``(...)``: of an instrument's reading, one for each network.
        unit: Its unit; ``"1"`` for a pure number.
        stderr: Standard error, shape ``(...)``; NaN if unknown.
        lower: Lower end of an interval that the instrument gives; NaN if it gives none.
        upper: Upper end of the same interval.
        flags: Reasons not to take the number at its face, as booleans of shape ``(...)``.
        diagnostics: Figures that go with the number, ``(...)``.
    """

    value: Tensor
    unit: str
    stderr: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    lower: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    upper: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    flags: Mapping[str, Tensor] = field(default_factory=dict)
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)


BITS = "bits"


@dataclass(frozen=True)
class Estimate(_Numbers):
    """Mutual information in bits, one number for each of the leading batch dimensions.

    It is the reading whose unit is bits: see `reading`.

    Args:
        bits: The estimate, shape ``(...)``. Never clipped: it may be negative.
        stderr: Standard error over the draw of the samples, shape ``(...)``; NaN if unknown.
        lower: Lower end of the interval the estimator itself gives for its estimand (a 95 %
            confidence interval, or a proven lower bound), shape ``(...)``; NaN if it gives none.
        upper: Upper end of the same interval.
        flags: Reasons not to take the number at its face, as booleans of shape ``(...)``.
        diagnostics: Figures that go with the number (occupied bins, share out of range), ``(...)``.
    """

    bits: Tensor
    stderr: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    lower: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    upper: Tensor = field(default_factory=lambda: torch.tensor(torch.nan))
    flags: Mapping[str, Tensor] = field(default_factory=dict)
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def reading(self) -> Reading:
        """The same as a reading in bits."""
        return Reading(
            self.bits, BITS, self.stderr, self.lower, self.upper, self.flags, self.diagnostics
        )

    @classmethod
    def single(
        cls,
        bits: float,
        stderr: float = float("nan"),
        *,
        flags: Mapping[str, bool],
        diagnostics: Mapping[str, float],
        device: torch.device,
    ) -> Estimate:
        """The estimate of one problem from plain numbers; `stack` makes a batch of several."""

        def number(value: float) -> Tensor:
            return torch.tensor(value, dtype=torch.float64, device=device)

        return cls(
            bits=number(bits),
            stderr=number(stderr),
            flags={name: torch.tensor(bool(value)) for name, value in flags.items()},
            diagnostics={name: number(value) for name, value in diagnostics.items()},
        )

    @classmethod
    def from_local(
        cls,
        local: Tensor,
        *,
        flags: Mapping[str, Tensor] | None = None,
        diagnostics: Mapping[str, Tensor] | None = None,
    ) -> Estimate:
        """The mean of per-sample information in bits, ``(..., n)``, with its standard error."""
        local = local.to(torch.float64)
        n = local.shape[-1]
        spread = local.std(-1) if n > 1 else local.new_full(local.shape[:-1], torch.nan)
        return cls(
            bits=local.mean(-1),
            stderr=spread / n**0.5,
            flags=flags or {},
            diagnostics=diagnostics or {},
        )
