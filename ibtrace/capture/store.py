"""The place of one layer's T, filled batch by batch."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from ibtrace.capture.evidence import Reading
from ibtrace.capture.layer import Layer
from ibtrace.capture.rounding import Rounding
from ibtrace.errors import InvalidInput
from ibtrace.numerics.projections import orthonormal

ANOTHER = "choose another layer"
ONE_BATCH = f"forward the probe as one batch (batch_size=n), or {ANOTHER}"


class LayerStore:
    """The place of one layer, filled batch by batch."""

    def __init__(
        self,
        name: str,
        output: Tensor,
        reading: Reading,
        bounds: tuple[float, float] | None,
        max_width: int | None,
        samples: int,
    ) -> None:
        assert reading.reduction is not None
        self.reduction = reading.reduction
        self.per_token = self.reduction.per_token
        self._reading = reading
        self._samples = samples
        shape = list(output.shape)
        del shape[self.reduction.axes.batch]
        self._shape = tuple(shape)
        self._bounds = bounds
        self._frame: Tensor | None = None
        self._filled = 0
        self.random = False
        self._values: Tensor | None = None
        self._rounding: Rounding | None = None
        self._name = name
        self._max_width = max_width
        self._made_by = [self.reduction.name] if self.reduction.name else []
        if output.dtype != torch.float32:
            self._made_by.append(str(output.dtype).removeprefix("torch."))

    def reduced(self, output: Tensor, rows: slice) -> Tensor:
        """T of a batch, these rows of the probe."""
        size = len(range(*rows.indices(self._samples)))
        mask = self._reading.mask(rows)
        try:
            t = self.reduction(output, mask)
            if self._rounding is None:
                self._rounding = self.reduction.rounding(output, mask)
        except InvalidInput as error:
            raise InvalidInput(f"layer {self._name!r}: {error}") from error
        if t.dim() < 1 or (len(t) != size and not self.per_token):
            raise InvalidInput(
                f"layer {self._name!r}: reduce made {tuple(t.shape)} of {tuple(output.shape)}; "
                "it must keep the samples first"
            )
        if self._frame is None and self._max_width and t[0].numel() > self._max_width:
            self._frame = frame_of(self._name, t.shape[1], self._max_width).to(t.device)
            # A sum of many columns: their ranges bound it no more.
            self._made_by.append(f"{self._max_width} random projections of {t.shape[1]}")
            self._bounds = None
            if self._rounding is not None:
                self._rounding = self._rounding.projected(self._frame)
        if self._frame is not None:
            # In double: half precision would round thousands of products before they are summed.
            t = (t.double() @ self._frame).to(torch.promote_types(t.dtype, torch.float32))
        return t

    def size(self, t: Tensor, rows: int) -> int:
        """Bytes of the whole layer, judged by the T of one sample or token."""
        return rows * t[:1].numel() * t.element_size()

    def add(self, t: Tensor, rows: int) -> str:
        """Put the T of a batch into its place; why not, if it does not fit.

        Args:
            t: T of the batch.
            rows: How many there are in all; counts for the first batch.
        """
        if self._values is None:
            self._values = t.new_empty((rows, *t.shape[1:]))
        held, rows = self._values, len(self._values)
        if t.shape[1:] != held.shape[1:] or t.dtype != held.dtype:
            then, now = (f"{tuple(v.shape[1:])} {v.dtype}" for v in (held, t))
            return f"T is {then} a sample in one batch and {now} in another; {ONE_BATCH}"
        if self._filled + len(t) > rows:
            return f"it gave more than {rows} rows; {ONE_BATCH}"
        held[self._filled : self._filled + len(t)] = t
        self._filled += len(t)
        return ""

    @property
    def missing(self) -> str:
        """Why it is not whole after a pass; empty if it is."""
        rows = 0 if self._values is None else len(self._values)
        if self._filled == rows:
            return ""
        return f"it ran for {self._filled} of {rows} rows, not in every batch; {ONE_BATCH}"

    def filled(self) -> Layer:
        """What was captured."""
        assert self._values is not None
        return self.layer(self._values, self.settle(self._values))

    def settle(self, values: Tensor) -> bool:
        """Make columns constant that are so but for rounding; whether all columns then are.

        Args:
            values: T of all samples, ``(n, d)``, written to.
        """
        return self._rounding is not None and self._rounding.settle(values)

    def layer(self, values: Tensor, rounded: bool = False) -> Layer:
        """These values as the layer's T.

        Args:
            values: T, ``(n, d)`` or, of several networks, ``(s, n, d)``.
            rounded: Whether its samples differed by rounding alone.
        """
        stream = self._reading.stream
        tokens = None if not self.per_token else () if stream is None else stream.inputs
        variable = ", ".join(self._made_by)
        of_output = self._shape, self._bounds, tokens, self.random, rounded
        known = self._reading.padding, self._rounding
        return Layer(values, variable, *of_output, *known)


def frame_of(name: str, width: int, to: int) -> Tensor:
    """The fixed frame by which a wide layer is projected, ``(width, to)`` float64."""
    # Not hash(): that differs between processes, and the same layer would be projected otherwise.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name}/{width}/{to}".encode()))
    return orthonormal(1, width, to, generator)[0]
