"""Plug-in information of samples that come in batches: of each a digest is kept, and no value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput
from ibtrace.estimators._inputs import check_variable
from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.counting import first_alike, same_as
from ibtrace.types import Estimate, Targets, label


class OfSymbols(Protocol):
    """What makes symbols of values, and estimates of symbols: `ibtrace.estimators._plugin`."""

    def numbers(self, value: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Rows whose equality makes a symbol, of floats ``(n, d)``, and means over them."""
        ...

    def of_symbols(
        self, layer: Tensor, figures: Mapping[str, Tensor], target: Tensor, *, known: bool
    ) -> Estimate:
        """The estimate of ids ``(n,)``."""
        ...


DIGEST = 16
"""Bytes of a digest: two different rows share one with a chance of 3e-39."""


def row_digests(rows: Tensor) -> Tensor:
    """128 bits of each row ``(n, d)``, the same for equal rows, int64 ``(n, 2)``; -0 is 0."""
    wide = rows + 0.0 if rows.is_floating_point() else rows.to(torch.int64)
    wide = wide.float() if wide.dtype == torch.bfloat16 else wide  # which NumPy lacks
    plain = wide.detach().contiguous().cpu().numpy()
    digests = b"".join(hashlib.blake2b(row, digest_size=DIGEST).digest() for row in plain)
    return torch.frombuffer(bytearray(digests), dtype=torch.int64).view(-1, 2)


def require_every_sample(who: str, seen: int, samples: int) -> None:
    """Raise unless every sample was taken up once.

    Raises:
        InvalidInput: If not.
    """
    if seen != samples:
        raise InvalidInput(
            f"{who}: {seen} samples were taken up, and the targets are of {samples}; update with "
            "every batch once, and merge each process once"
        )


class SymbolCounts:
    """Which samples have the same symbol, 16 bytes each; see `ibtrace.types.Accumulator`.

    Args:
        estimator: What makes symbols of values, and an estimate of symbols.
    """

    def __init__(self, estimator: OfSymbols) -> None:
        self._estimator = estimator
        # one place for all: many small ones between large ones that go would hold these as well
        self._digests = torch.empty(0, 2, dtype=torch.int64)
        self._seen = 0
        self._ids: dict[str, list[Tensor]] = {}
        self._sums: dict[str, Tensor] = {}
        self._samples, self._population = 0, False
        self._about_x: frozenset[str] = frozenset()

    def update(self, t: Tensor, targets: Targets) -> None:
        """Take up a batch; see `ibtrace.types.Accumulator.update`.

        Raises:
            InvalidInput: If ``t`` is malformed.
            NonFinite: If it holds NaN or infinite values.
        """
        check_variable(label(self._estimator), "t", t)
        values = t.detach().float() if t.element_size() < 4 else t.detach()
        numbers, figures = self._estimator.numbers(values)
        self._hold(row_digests(numbers), targets.samples)
        for name, group in targets.groups.items():
            self._ids.setdefault(name, []).append(group.ids.cpu())
        for name, mean in figures.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), dtype=torch.float64)) + (
                mean.cpu() * len(t)
            )
        self._samples, self._population = targets.samples, targets.population
        self._about_x = targets.about_x

    def merge(self, other: SymbolCounts) -> None:
        """Take up what another process has seen."""
        self._hold(other._digests[: other._seen], other._samples)
        for name, ids in other._ids.items():
            self._ids[name] = self._ids.get(name, []) + ids
        for name, total in other._sums.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(total)) + total
        if other._samples:
            self._samples, self._population = other._samples, other._population
            self._about_x = other._about_x

    def begin_next(self) -> bool:
        """No further pass is needed."""
        return False

    def result(self) -> dict[str, Estimate]:
        """The estimates, as of all samples at once.

        Raises:
            InvalidInput: If not every sample was taken up once.
        """
        require_every_sample(label(self._estimator), self._seen, self._samples)
        digests = self._digests
        figures = {name: total / len(digests) for name, total in self._sums.items()}
        layer, estimates = row_ids(digests), {}
        for name, parts in self._ids.items():
            target = torch.cat(parts)
            of_x = name in self._about_x and bool(same_as(layer, first_alike(target)))
            known = self._population or of_x
            estimates[name] = self._estimator.of_symbols(layer, figures, target, known=known)
        return estimates

    def _hold(self, digests: Tensor, samples: int) -> None:
        """Put digests after those that are there; what is too much is counted alone."""
        if len(self._digests) < samples:
            wider = self._digests.new_empty(samples, 2)
            wider[: len(self._digests)] = self._digests
            self._digests = wider
        place = self._digests[self._seen : self._seen + len(digests)]
        place.copy_(digests[: len(place)])
        self._seen += len(digests)
