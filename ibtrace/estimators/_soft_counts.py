"""Soft assignments of samples that come in batches: sums over classes, and no sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ibtrace.errors import Unsupported
from ibtrace.estimators._checks import undersampled
from ibtrace.estimators._inputs import check_variable, is_ids
from ibtrace.estimators._symbol_counts import require_every_sample, row_digests
from ibtrace.numerics.sphere import assignments
from ibtrace.types import Estimate, Grouping, Targets

ALIKE = -math.log2(0.95)  # bits that the channel tells of its samples, if it takes them for one


class SoftCounts:
    """Σ p(b|z) over all samples and over those of each class; see `ibtrace.types.Accumulator`.

    The first pass gives the estimate and its null; the standard error, which is the spread of the
    samples' own terms about it, takes a second one and is NaN before.

    Args:
        who: Whose estimate it is, for messages.
        references: w, ``(points, d)``.
        temperature: ε.
    """

    def __init__(self, who: str, references: Tensor, temperature: float) -> None:
        self._who, self._references, self._temperature = who, references, temperature
        points = len(references)
        self._seen = self._zero_rows = self._samples = 0
        self._sum = torch.zeros(points, dtype=torch.float64)
        self._told = torch.zeros((), dtype=torch.float64)
        self._first: Tensor | None = None
        self._differ = self._population = False
        self._groups: dict[str, _Classes] = {}
        self._bits: dict[str, Tensor] | None = None  # once the first pass is over
        self._again = 0  # samples of the second pass

    def update(self, t: Tensor, targets: Targets) -> None:
        """Take up a batch; see `ibtrace.types.Accumulator.update`.

        Raises:
            InvalidInput: If ``t`` is malformed.
            NonFinite: If it holds NaN or infinite values.
            Unsupported: If it is ids.
        """
        check_variable(self._who, "t", t)
        if is_ids(t):
            raise Unsupported(f"{self._who}: t must be floats, got ids")
        self._samples, self._population = targets.samples, targets.population
        found, zero = assignments(t, self._references.to(t.device), self._temperature)
        p = found.cpu()
        if self._bits is not None:
            self._again += len(t)
            log_overall = _log2(self._sum / self._seen)
            for name, group in targets.groups.items():
                self._groups[name].spread(p, group, log_overall, self._bits[name])
            return
        self._seen += len(t)
        self._zero_rows += int(zero.sum())
        self._sum += p.sum(0)
        self._told += torch.special.xlogy(p, p).sum()
        if self._first is None:
            self._first = t[:1].detach().cpu().clone()
        self._differ = self._differ or bool((t.detach().cpu() != self._first).any())
        for name, group in targets.groups.items():
            if name not in self._groups:
                self._groups[name] = _Classes(len(self._sum), name in targets.about_x)
            self._groups[name].add(p, t, group)

    def merge(self, other: SoftCounts) -> None:
        """Take up what another process has seen in this pass."""
        self._samples = self._samples or other._samples
        self._population = self._population or other._population
        if self._bits is not None:
            self._again += other._again
            for name, classes in other._groups.items():
                self._groups[name].squares = self._groups[name].squares + classes.squares
            return
        self._seen += other._seen
        self._zero_rows += other._zero_rows
        self._sum = self._sum + other._sum
        self._told = self._told + other._told
        if self._first is None:
            self._first = other._first
        elif other._first is not None:
            self._differ = self._differ or bool((self._first != other._first).any())
        self._differ = self._differ or other._differ
        for name, classes in other._groups.items():
            if name in self._groups:
                self._groups[name].merge(classes)
            else:
                self._groups[name] = classes.copied()

    def begin_next(self) -> bool:
        """Whether the pass that ends was the first; the other one is for the standard errors."""
        if self._bits is not None:
            return False
        log_overall = _log2(self._sum / max(self._seen, 1))
        self._bits = {
            name: classes.information(log_overall) / max(self._seen, 1)
            for name, classes in self._groups.items()
        }
        return True

    def result(self) -> dict[str, Estimate]:
        """The estimates, as of all samples at once.

        Raises:
            InvalidInput: If not every sample was taken up once in each pass.
        """
        require_every_sample(self._who, self._seen, self._samples)
        n, overall = self._seen, self._sum / self._seen
        log_overall = _log2(overall)
        if self._again:
            require_every_sample(self._who, self._again, self._samples)
        told = self._told / n / math.log(2) - (overall * log_overall).sum()
        still = torch.tensor(not self._differ)
        figures = {
            "temperature": torch.tensor(self._temperature, dtype=torch.float64),
            "entropy": -(overall * log_overall).sum(),
            "zero_rows": torch.tensor(self._zero_rows),
        }
        most = 0.95 * math.log2(min(n, len(overall)))
        estimates = {}
        for name, classes in self._groups.items():
            bits = classes.information(log_overall) / n
            null = classes.null(log_overall, self._population) / n
            stderr = (classes.squares / max(n - 1, 1)).sqrt() / math.sqrt(n)
            ceiling = classes.entropy(n)
            estimates[name] = Estimate(
                bits=bits,
                stderr=stderr if self._again else torch.full_like(bits, math.nan),
                flags={
                    "constant": still | (ceiling == 0),
                    "near_ceiling": bits >= most,
                    "crowded": (told < ALIKE) & ~still,
                    "undersampled": undersampled(null),
                },
                diagnostics={**figures, "ceiling": ceiling, "null_bits": null},
            )
        return estimates


class _Classes:
    """Σ p(b|z) over the samples of each class of one target.

    Args:
        points: How many b there are.
        of_x: Whether T may be a function of the class.
    """

    def __init__(self, points: int, of_x: bool) -> None:
        self.sums = torch.zeros(0, points, dtype=torch.float64)
        self.sizes = torch.zeros(0, dtype=torch.float64)
        self.nulls: list[Tensor] = []
        # of samples that are alone in their class: how many, Σ p, Σ p log p (nats)
        self.alone, self.sum_alone = 0, torch.zeros(points, dtype=torch.float64)
        self.told_alone = torch.zeros((), dtype=torch.float64)
        self.sum_alone_null = torch.zeros(points, dtype=torch.float64)
        self.told_alone_null = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)
        self.determined = of_x
        self.digests = torch.zeros(0, 2, dtype=torch.int64)

    def copied(self) -> _Classes:
        """The same, for another to add to."""
        copy = _Classes(self.sums.shape[1], self.determined)
        copy.merge(self)
        copy.squares = self.squares
        return copy

    def add(self, p: Tensor, t: Tensor, group: Grouping) -> None:
        """Take up p(b|z) of a batch."""
        places = group.places.cpu()
        together = places >= 0
        self._grow(int(places.max()) + 1 if len(places) else 0)
        self.sums.index_add_(0, places[together], p[together])
        self.sizes += torch.bincount(places[together], minlength=len(self.sizes))
        lonely = p[~together]
        self.alone += len(lonely)
        self.sum_alone += lonely.sum(0)
        self.told_alone += torch.special.xlogy(lonely, lonely).sum()
        if self.determined and bool(together.any()):
            self._compare(places[together], row_digests(t[together.to(t.device)]))
        for at, null in enumerate(group.nulls):
            null = null.cpu()
            if at == len(self.nulls):
                self.nulls.append(torch.zeros_like(self.sums))
            self._grow(int(null.max()) + 1)
            here = null >= 0
            self.nulls[at].index_add_(0, null[here], p[here])
            lonely = p[~here]
            self.sum_alone_null += lonely.sum(0)
            self.told_alone_null += torch.special.xlogy(lonely, lonely).sum()

    def merge(self, other: _Classes) -> None:
        """Take up the sums of other samples."""
        size = max(len(self.sums), len(other.sums))
        self._grow(size)
        k = len(other.sums)
        self.sums[:k] += other.sums
        self.sizes[:k] += other.sizes
        for at, null in enumerate(other.nulls):
            if at == len(self.nulls):
                self.nulls.append(torch.zeros_like(self.sums))
            self.nulls[at][: len(null)] += null
        self.alone += other.alone
        self.sum_alone = self.sum_alone + other.sum_alone
        self.told_alone = self.told_alone + other.told_alone
        self.sum_alone_null = self.sum_alone_null + other.sum_alone_null
        self.told_alone_null = self.told_alone_null + other.told_alone_null
        self.determined = self.determined and other.determined
        if self.determined:
            known = (other.digests != 0).any(1).nonzero()[:, 0]
            self._compare(known, other.digests[known])

    def spread(self, p: Tensor, group: Grouping, log_overall: Tensor, bits: Tensor) -> None:
        """Add the squares of the samples' own terms about their mean."""
        places = group.places.cpu()
        means = p.clone()
        together = places >= 0
        of_class = places[together]
        means[together] = self.sums[of_class] / self.sizes[of_class][:, None]
        local = (p * (_log2(means) - log_overall)).sum(-1)
        self.squares = self.squares + (local - bits).square().sum()

    def information(self, log_overall: Tensor) -> Tensor:
        """Σ_i Σ_b p(b|z_i) log₂ p(b|l_i)/p(b)."""
        told = self.told_alone / math.log(2) - (self.sum_alone * log_overall).sum()
        return _of_sums(self.sums, self.sizes, log_overall) + told

    def null(self, log_overall: Tensor, population: bool) -> Tensor:
        """The same of classes in random orders, the mean over these; NaN where none is asked."""
        if not self.nulls or population or self.determined:
            return torch.tensor(math.nan, dtype=torch.float64)
        each = [_of_sums(null, self.sizes, log_overall) for null in self.nulls]
        lonely = self.told_alone_null / math.log(2) - (self.sum_alone_null * log_overall).sum()
        return (torch.stack(each).sum() + lonely) / len(each)

    def entropy(self, n: int) -> Tensor:
        """The entropy of the classes, bits."""
        together = -(self.sizes / n * (self.sizes.clamp(min=1) / n).log2()).sum()
        return together + self.alone / n * math.log2(n)

    def _grow(self, size: int) -> None:
        more = size - len(self.sums)
        if more > 0:
            wide = self.sums.new_zeros(more, self.sums.shape[1])
            self.sums = torch.cat([self.sums, wide])
            self.sizes = torch.cat([self.sizes, self.sizes.new_zeros(more)])
            self.nulls = [torch.cat([null, wide]) for null in self.nulls]
            self.digests = torch.cat([self.digests, self.digests.new_zeros(more, 2)])

    def _compare(self, places: Tensor, digests: Tensor) -> None:
        """Whether the samples of each class still have one T."""
        new = (self.digests[places] == 0).all(1)
        self.digests[places[new]] = digests[new]  # of several new ones of a class one stands
        self.determined = bool((self.digests[places] == digests).all())


def _of_sums(sums: Tensor, sizes: Tensor, log_overall: Tensor) -> Tensor:
    means = sums / sizes.clamp(min=1)[:, None]
    return (sums * (_log2(means) - log_overall)).sum()


def _log2(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(p.dtype).tiny).log2()
