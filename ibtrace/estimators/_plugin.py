"""The plug-in information of variables made discrete: what `Exact` shares with the binnings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, InvalidInput, TooFewSamples, Unsupported
from ibtrace.estimators._checks import checked, undersampled
from ibtrace.estimators._inputs import check_pair, check_variable, is_ids, samples
from ibtrace.estimators._one_pass import ByOnePass
from ibtrace.estimators._prepared import once
from ibtrace.estimators._symbol_counts import DIGEST, SymbolCounts
from ibtrace.numerics.bins import dense_ids
from ibtrace.numerics.counting import first_alike, same_as
from ibtrace.numerics.entropy import (
    Correction,
    constant,
    information_correction,
    null_information,
    pair_counts,
    plug_in,
    sample_counts,
)
from ibtrace.types import Estimate, Grouping, ProbeLike, Targets, label

_CROWDED, _NEARLY_ALL = "crowded", 0.95
_OF_VALUES = (_CROWDED, "scales_apart")  # what only the values of all samples tell
UNDEFINED = "undefined"
"""The figure of labels that hardly repeat, of which nothing is asked."""


class Symbols(NamedTuple):
    """A variable as symbols of a finite alphabet.

    Args:
        ids: Which samples have the same symbol: ids from 0 without a gap, ``(..., n)``.
        counts: `sample_counts` of the ids.
        measured: Whether the variable came as floats (rather than as ids).
        figures: Diagnostics of how it was made discrete, ``(...)`` each.
    """

    ids: Tensor
    counts: Tensor
    measured: bool
    figures: Mapping[str, Tensor]

    @property
    def number(self) -> Tensor:
        """How many symbols are seen, ``(...)``."""
        return self.ids.amax(-1) + 1


def symbols(
    ids: Tensor, *, measured: bool = False, figures: Mapping[str, Tensor] | None = None
) -> Symbols:
    """The symbols behind ids below n, ``(..., n)``."""
    return Symbols(ids, sample_counts(ids), measured, figures or {})


def check_correction(name: str, correction: str) -> None:
    """Raise ConfigError unless the correction exists.

    Raises:
        ConfigError: If it does not; lists those that do.
    """
    if correction not in get_args(Correction):
        known = ", ".join(get_args(Correction))
        raise ConfigError(f"{name}: correction={correction!r} is unknown; choose from {known}")


def too_many_symbols(correction: Correction) -> str:
    """What a draw that sees each symbol seldom does to the plug-in information, in words."""
    left = "" if correction == "none" else f"what {correction} leaves of "
    return f"up by {left}(K_xy - K_x - K_y + 1)/(2 N ln 2)"


def near_ceiling(bits: Tensor, n: int) -> Tensor:
    """Whether an estimate is within 5 % of ``log₂ n``, the ceiling of every plug-in."""
    return bits >= 0.95 * math.log2(n)


@checked
class PlugIn(ByOnePass):
    """An estimator that makes its variables discrete and takes the plug-in information.

    A subclass says how floats become ids (`_discretise`) and what to report of it (`_report`).
    """

    correction: Correction

    @property
    def within_entropy(self) -> bool:
        """Whether no estimate is above an entropy: symbols are made of the values, none is added.

        A correction may add.
        """
        return self.correction == "none"

    def _discretise(self, value: Tensor, *, labels: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Ids ``(..., n)`` and figures ``(...)`` of floats ``(..., n, d)``.

        ``labels`` says that they are a probe's continuous labels, not a layer's values.
        """
        raise NotImplementedError

    def _report(
        self, measured: Sequence[Symbols]
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Flags and diagnostics, given the variables that came as floats (all, if none did)."""
        raise NotImplementedError

    def _symbols(self, value: Tensor, *, labels: bool = False) -> Symbols:
        if is_ids(value):
            return symbols(dense_ids(value))
        values = value.detach()
        values = values.float() if values.element_size() < 4 else values
        ids, figures = self._discretise(values, labels=labels)
        made = symbols(ids, measured=True, figures=figures)
        return made._replace(figures={**figures, _CROWDED: _crowded(values, made.counts)})

    def numbers(self, value: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What makes a symbol of each sample by itself: rows, of which equal ones are one symbol.

        Args:
            value: Floats ``(n, d)``.

        Returns:
            Rows ``(n, d)``, and figures that are means over the samples.

        Raises:
            Unsupported: If a symbol depends on the other samples.
        """
        raise Unsupported(f"{label(self)}: its symbols depend on all samples at once")

    def targets(self, probe: ProbeLike) -> Targets:
        """A probe's inputs and labels, as an accumulator takes them; see `ibtrace.types.AddsUp`."""
        here = torch.device("cpu")
        named = {"x": once(_inputs, probe, here).ids}
        if probe.labels.shape[-1]:
            y = once(_labels, probe, self, here)
            if not bool(y.figures.get(UNDEFINED, torch.zeros((), dtype=torch.bool))):
                named["y"] = y.ids
        groups = {name: Grouping(ids, ids) for name, ids in named.items()}
        return Targets(groups, probe.n, probe.population)

    def accumulated_bytes(self, targets: Targets) -> int:
        """Two numbers for each sample; the classes are the targets' own."""
        return DIGEST * targets.samples

    def accumulator(self, width: int, *, seed: int = 0) -> SymbolCounts:
        """An accumulator that holds 16 bytes for each sample; see `ibtrace.types.AddsUp`.

        Raises:
            Unsupported: If a symbol depends on the other samples.
        """
        self.numbers(torch.zeros(1, width))
        return SymbolCounts(self)

    def of_symbols(
        self, layer: Tensor, figures: Mapping[str, Tensor], target: Tensor, *, known: bool
    ) -> Estimate:
        """The estimate of symbols that are known already.

        Args:
            layer: Which samples of T have the same symbol, ids from 0, ``(n,)``.
            figures: How T was made discrete.
            target: The classes, ``(n,)``.
            known: Whether no null is asked.
        """
        t = symbols(layer, measured=True, figures=figures)
        classes = symbols(dense_ids(target))
        joint = pair_counts(classes.ids, t.ids)
        estimate = self._estimate(classes, t, joint, [t])
        judged = self._judge(estimate, classes, t, known=torch.tensor(known))
        flags = {name: flag for name, flag in judged.flags.items() if name not in _OF_VALUES}
        return replace(judged, flags=flags)

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """I(x; y) in bits; floats are made discrete, integer ids are taken as they are.

        Args:
            x: ``(..., n, dx)`` floats or ``(..., n)`` ids; leading dimensions broadcast.
            y: ``(..., n, dy)`` floats or ``(..., n)`` ids.
            seed: Without effect: nothing here is random.

        Returns:
            The estimate, ``(...)``; its standard error by the delta method.

        Raises:
            InvalidInput: If the variables are malformed or not paired.
            NonFinite: If one holds NaN or infinite values.
            TooFewSamples: If there are fewer than 2 samples.
        """
        check_pair(label(self), x, y)
        pair = [self._symbols(x), self._symbols(y)]
        joint = pair_counts(pair[0].ids, pair[1].ids)
        measured = [symbol for symbol in pair if symbol.measured] or pair
        estimate = self._estimate(pair[0], pair[1], joint, measured)
        known = torch.zeros((), dtype=torch.bool, device=joint.device)
        if len(measured) == 1:
            enumerated = pair[0] if pair[1].measured else pair[1]
            known = (enumerated.counts == 1).all(-1)
        return self._judge(estimate, pair[0], pair[1], known=known)

    def prepare(self, probe: ProbeLike, device: torch.device) -> tuple[Symbols, Symbols]:
        """A probe's inputs and labels as symbols on a device, kept with the probe.

        Raises:
            NonFinite: If the labels hold NaN or infinite values.
        """
        return once(_inputs, probe, device), once(_labels, probe, self, device)

    def informations(
        self, t: Tensor, probe: ProbeLike, others: Sequence[ProbeLike] = (), *, seed: int = 0
    ) -> list[Estimate]:
        """I(X;T) and I(T;Y) in bits, then I(T;Y) of others, from making T discrete once.

        Args:
            t: Activations ``(..., n, d)``, or ids ``(..., n)``.
            probe: Inputs (as ids) and labels; continuous labels are made discrete too.
            others: The same samples with other labels.
            seed: Without effect: nothing here is random.

        Returns:
            Estimates of shape ``(...)``.

        Raises:
            InvalidInput: If ``t`` is malformed or does not have the probe's number of samples.
            NonFinite: If ``t`` or the labels hold NaN or infinite values.
            TooFewSamples: If there are fewer than 2 samples.
        """
        name = label(self)
        check_variable(name, "t", t)
        if samples(t) != probe.n:
            raise InvalidInput(
                f"{name}: t has {samples(t)} samples and the probe has {probe.n}; pair them"
            )
        if probe.n < 2:
            raise TooFewSamples(
                f"{name} needs at least 2 samples, got {probe.n}; enlarge the probe"
            )
        layer = self._symbols(t)
        x = once(_inputs, probe, t.device)
        labels = [once(_labels, each, self, t.device) for each in (probe, *others)]
        # Where inputs decide T each pair of symbols is seen as often as its input.
        determined = same_as(layer.ids, once(_first_alike, probe, t.device))
        xt = x.counts if bool(determined.all()) else pair_counts(x.ids, layer.ids)
        about_x = self._estimate(x, layer, xt, [layer])
        about_y = [self._estimate(layer, y, pair_counts(layer.ids, y.ids), [layer]) for y in labels]
        # Where X determines T, I(X;T) is H(T): no pair of symbols is seen too rarely to count.
        whole = torch.tensor(probe.population, device=t.device)
        judged = [
            self._judge(estimate, layer, y, known=whole)
            for estimate, y in zip(about_y, labels, strict=True)
        ]
        return [self._judge(about_x, x, layer, known=determined | whole), *judged]

    def _judge(self, estimate: Estimate, x: Symbols, y: Symbols, *, known: Tensor) -> Estimate:
        """The estimate with ``undersampled`` raised, but in problems ``(...)`` of a known law."""
        null = torch.full_like(estimate.bits, torch.nan)
        asked = ~known.expand(null.shape)
        if bool(asked.all()):
            null = null_information(x.counts, y.counts, self.correction)
        elif bool(asked.any()):
            shape = *null.shape, x.counts.shape[-1]
            of_x, of_y = (symbol.counts.expand(shape)[asked] for symbol in (x, y))
            null[asked] = null_information(of_x, of_y, self.correction)
        return estimate.flagged(undersampled=undersampled(null)).diagnosed(null_bits=null)

    def _estimate(
        self, x: Symbols, y: Symbols, joint: Tensor, measured: Sequence[Symbols]
    ) -> Estimate:
        n = joint.shape[-1]
        found = plug_in(x.counts, y.counts, joint)
        bits = found.bits
        if self.correction != "none":
            bits = bits + information_correction(x.counts, y.counts, joint, self.correction)
        flags, diagnostics = self._report(measured)
        no = torch.zeros((), dtype=torch.bool, device=bits.device)
        return Estimate(
            bits=bits,
            stderr=found.spread / math.sqrt(n),
            flags={
                "constant": constant(x.counts) | constant(y.counts),
                "near_ceiling": near_ceiling(bits, n),
                _CROWDED: largest([symbol.figures.get(_CROWDED, no) for symbol in (x, y)]),
                **flags,
            },
            diagnostics=diagnostics,
        )


def _inputs(probe: ProbeLike, device: torch.device) -> Symbols:
    return symbols(dense_ids(probe.x_ids.to(device)))


def _first_alike(probe: ProbeLike, device: torch.device) -> Tensor:
    return first_alike(once(_inputs, probe, device).ids)


def _labels(probe: ProbeLike, estimator: PlugIn, device: torch.device) -> Symbols:
    check_variable(label(estimator), "y", probe.labels)
    return estimator._symbols(probe.labels.to(device), labels=True)


def _crowded(values: Tensor, counts: Tensor) -> Tensor:
    """Whether one symbol holds nearly all samples of a problem, whose values differ, ``(...)``."""
    most = counts.amax(-1, keepdim=True)
    crowd = (most >= _NEARLY_ALL * counts.shape[-1]).squeeze(-1)
    if not bool(crowd.any()):
        return crowd
    others = (counts < most).unsqueeze(-1)
    low = values.masked_fill(others, torch.inf).amin(-2)
    high = values.masked_fill(others, -torch.inf).amax(-2)
    return crowd & (low < high).any(-1)


def largest(tensors: Sequence[Tensor]) -> Tensor:
    """The largest of some tensors, element by element; shapes broadcast."""
    return reduce(torch.maximum, tensors)
