"""The samples that networks see: all of a probe or some, the same for all or each its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ibtrace.capture.recipe import Part
from ibtrace.capture.transforms import Tensors
from ibtrace.errors import Unsupported
from ibtrace.probe import Inputs, Probe
from ibtrace.probe.inputs import leaves, mapped

Where = slice | Tensor
"""Samples of the probe: some in a row, or by their numbers."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a probe, as several networks see them.

    Args:
        part: The samples.
        networks: How many networks there are, s.
        device: Where these are.
    """

    part: Part
    networks: int
    device: torch.device

    @property
    def probe(self) -> Probe:
        """All samples, of which these are some."""
        return self.part.probe

    @property
    def rows(self) -> Tensor | None:
        """Which of them, ``(n,)`` or ``(s, n)``; None: all."""
        return self.part.rows

    @property
    def count(self) -> int:
        """n, the number of samples."""
        return self.probe.n if self.rows is None else self.rows.shape[-1]

    @property
    def differ(self) -> bool:
        """Whether each network has samples of its own."""
        return self.rows is not None and self.rows.dim() == 2

    @property
    def inputs(self) -> Tensor:
        """The inputs that each network sees, ``(s, n, ...)``.

        Raises:
            Unsupported: If the networks have several inputs.
        """
        if (names := list(self.probe.inputs)) != [""] or self.probe.undivided:
            raise Unsupported(f"this lens takes networks of one input; these have {names}")
        return self.of_each(self.probe.inputs[""].to(self.device))

    @property
    def labels(self) -> Tensor:
        """The labels that each network sees, ``(s, n, ...)``.

        Raises:
            Unsupported: If there are none.
        """
        return self.of_each(self.all_labels)

    @property
    def all_labels(self) -> Tensor:
        """The labels of all samples of the probe.

        Raises:
            Unsupported: If there are none.
        """
        self.require_labels()
        if self.probe.label_kind == "tokens":
            raise Unsupported(
                "this takes one label a sample, and these have several class ids for each (of its "
                "tokens); a loss of tokens is given as a function of outputs and labels"
            )
        return self.probe.labels.to(self.device)

    def require_labels(self) -> None:
        """Raise if there are no labels.

        Raises:
            Unsupported: If there are none.
        """
        if not self.probe.labelled:
            raise Unsupported("the samples have no labels, which this is of: give them as (x, y)")

    def of_each(self, values: Tensor) -> Tensor:
        """Values of all samples ``(all, ...)`` as each network sees them, ``(s, n, ...)``."""
        seen = values if self.rows is None else values[self.rows.to(values.device)]
        return seen if self.differ else seen.expand(self.networks, *seen.shape)

    def batches(self, size: int) -> Iterator[slice]:
        """The samples in parts of a size; all at once where they cannot be parted."""
        size = self.count if self.probe.undivided else size
        for start in range(0, self.count, size):
            yield slice(start, min(start + size, self.count))

    def batch(self, part: slice) -> tuple[Inputs, Where]:
        """The inputs of a part of the samples, and where these stand in the probe."""
        where = part if self.rows is None else self.rows[..., part].to(self.probe.device)
        batch = self.probe.batch(where, self.device)
        return batch, where.to(self.device) if isinstance(where, Tensor) else where

    def cut(self, batch: Inputs) -> Tensors:
        """The inputs in a batch that have the samples first, by name."""
        tensors = {name: value for name, value in leaves(batch) if isinstance(value, Tensor)}
        return {name: value for name, value in tensors.items() if name in self.probe.outlines}

    def few(self) -> Inputs:
        """The first samples of the probe: two, or all where they cannot be parted."""
        rows = slice(None) if self.probe.undivided else slice(2)
        return self.probe.batch(rows, self.device)

    def single(self, inputs: Mapping[str, Tensor]) -> Inputs:
        """One sample's inputs as a batch."""
        of_sample = {name: value[None] for name, value in inputs.items()}
        return mapped(self.probe.form, lambda name, value: of_sample.get(name, value))

    def like(self, x: Tensor) -> Inputs:
        """Other values of the one input, in the form that the networks take."""
        return cast("Tensor", mapped(self.probe.form, lambda name, value: x))

    def drawn(self, most: int, seed: int) -> tuple[Part, Tensor]:
        """Some of these samples, and which they are of these.

        Raises:
            Unsupported: If some inputs belong to all samples together.
        """
        if self.probe.undivided:
            raise Unsupported("inputs that belong to all samples together cannot be thinned")
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randperm(self.count, generator=generator)[:most].sort().values
        rows = numbers if self.rows is None else self.rows[..., numbers.to(self.rows.device)]
        return Part(self.probe, rows), numbers

    def places(self, part: Part) -> Tensor | None:
        """Where the samples of a part stand among these, if these are all and hold them."""
        if self.rows is not None or not part.probe.same_samples(self.probe):
            return None
        return torch.arange(part.probe.n) if part.rows is None else part.rows
