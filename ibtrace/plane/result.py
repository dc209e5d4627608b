"""What a verdict is: the rule it was made by, a finding for each layer and estimator, the text."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pandas as pd

from ibtrace.errors import ConfigError, UnknownName
from ibtrace.plane.cause import Call, Cause
from ibtrace.plane.drops import Interval
from ibtrace.runtime.arguments import shown, whole
from ibtrace.runtime.text import WIDTH, wrap
from ibtrace.types import either

Joint = Literal["compresses", "does not compress", "inconclusive", "estimator-dependent"]

_SCREEN = 40
_SHOWN = 8
_LAYER_WIDTH = 16


@dataclass(frozen=True)
class Rule:
    """When a layer is said to compress.

    Args:
        least_drop: A fall of I(X;T) of fewer bits is not called compression.
        least_seeds: With fewer seeds there is no call.
        confidence: Of the intervals over seeds.
        near_ceiling: An estimate within this share of its ceiling is saturated.
        final_share: The last snapshots, as a share of all: a seed that comes near its peak in
            them has not fallen for good.
        late_share: Training had not converged if more than this share of the fall of the
            training loss came in the last half of the epochs.
        window_share: The held-out fall is taken between means of this share of the snapshots.
        errors: A curve within this many standard errors of 0 throughout shows nothing.

    Raises:
        ConfigError: If a number is none, negative, or a share above 1.
    """

    least_drop: float = 0.1
    least_seeds: int = 3
    confidence: float = 0.95
    near_ceiling: float = 0.05
    final_share: float = 0.2
    late_share: float = 0.1
    window_share: float = 0.1
    errors: float = 2.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "least_seeds":
                whole("Rule: least_seeds", value, least=1)
                continue
            real = isinstance(value, numbers.Real) and not isinstance(value, bool)
            most = math.inf if item.name in ("least_drop", "errors") else 1
            if not (real and math.isfinite(value) and 0 <= value <= most):
                least = "0 or more" if most == math.inf else "from 0 to 1"
                raise ConfigError(f"Rule: {item.name} must be {least}, got {shown(value)}")


@dataclass(frozen=True)
class LayerVerdict:
    """Whether one layer compresses by one estimator.

    Args:
        layer: The layer.
        estimator: The estimator's label.
        estimands: What stands for T in I(X;T), and how T was made of the layer's output: pairs of
            `Row.estimand` and `Row.variable`.
        cause: What decided the call.
        remarks: What else one must know to read the number.
        drop: Peak-to-final drop of I(X;T) in bits: mean over the seeds kept, and interval.
        held_out: Drop from the peak epoch of the other seeds: the number that decides.
        peak_epoch: Epoch (by `Verdict.clock`, step) at which the mean curve peaks.
        peak_bits: The mean curve there.
        final_epoch: The last epoch, or step.
        final_bits: The mean curve there.
        drops: Peak-to-final drop of each seed kept, ``{seed: bits}``.
        seeds_that_fall: Those whose own held-out or lasting drop exceeds the least drop.
        seeds_run: All seeds of the run.
        seeds_kept: Those with a finite number at the last epoch: none is dropped for its fit.
    """

    layer: str
    estimator: str
    estimands: tuple[tuple[str, str], ...]
    cause: Cause
    remarks: tuple[str, ...]
    drop: Interval
    held_out: Interval
    peak_epoch: int
    peak_bits: float
    final_epoch: int
    final_bits: float
    drops: Mapping[int, float]
    seeds_that_fall: tuple[int, ...]
    seeds_run: tuple[int, ...]
    seeds_kept: tuple[int, ...]

    @property
    def estimand(self) -> str:
        """What stands for T in I(X;T), in words."""
        return either(self.estimands)

    @property
    def call(self) -> Call:
        """The verdict."""
        return self.cause.call

    @property
    def silent(self) -> bool:
        """Whether the estimator gives no I(X;T) of this layer, at any look: it has no vote."""
        return self.cause.kind == "no I(X;T)"

    @property
    def reason(self) -> str:
        """Cause, with the interval that decided, and remarks as one sentence."""
        if np.isnan(self.held_out.lower):
            return "; ".join((self.cause.text, *self.remarks))
        fall = f"{_bits(self.held_out.mean)} {_ends(self.held_out)}"
        return "; ".join((f"{self.cause} (held-out fall {fall})", *self.remarks))

    @property
    def share(self) -> float:
        """The share of the seeds kept that fall; NaN if none was kept."""
        seeds = len(self.seeds_kept)
        return len(self.seeds_that_fall) / seeds if seeds else np.nan


@dataclass(frozen=True)
class Consensus:
    """What the estimators say together about a layer."""

    layer: str
    call: Joint
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Does each layer compress, by which estimators, with what interval; ``print`` it.

    As text it is its `details`, or its `summary` where they are longer than a screen.

    Args:
        layers: One finding for each layer and estimator, in the network's order.
        consensus: One for each layer.
        notes: What holds for the whole run.
        rule: What it was judged by.
        clock: What the looks are counted by: ``epoch`` or ``step``.
    """

    layers: tuple[LayerVerdict, ...]
    consensus: tuple[Consensus, ...]
    notes: tuple[str, ...]
    rule: Rule
    clock: str = "epoch"

    def __iter__(self) -> Iterator[LayerVerdict]:
        return iter(self.layers)

    def of(self, layer: str, estimator: str | None = None) -> LayerVerdict:
        """The finding for a layer by an estimator (by default the first of the trace).

        Raises:
            UnknownName: If there is none; lists those that there are.
        """
        for v in self.layers:
            if v.layer == layer and estimator in (None, v.estimator):
                return v
        known = ", ".join(f"{v.layer} by {v.estimator}" for v in self.layers)
        raise UnknownName(f"no verdict on {layer!r} by {estimator or 'any estimator'}; on {known}")

    def table(self) -> pd.DataFrame:
        """One row for each layer and estimator, all in bits; ``peak_step`` where steps count."""
        together = {c.layer: c.call for c in self.consensus}
        records = [{**_record(v), "consensus": together[v.layer]} for v in self.layers]
        names = {f"{end}_epoch": f"{end}_{self.clock}" for end in ("peak", "final")}
        return pd.DataFrame(records).rename(columns=names)

    def __str__(self) -> str:
        details = self.details()
        return details if details.count("\n") < _SCREEN else self.summary()

    def summary(self) -> str:
        """The calls of all estimators together and what decided most of them, on one screen."""
        layers, estimators = (
            len(self.consensus),
            len({v.estimator for v in self.layers if not v.silent}),
        )
        lines = [f"{_count(layers, 'layer')} by {_count(estimators, 'estimator')} together:"]
        calls: dict[str, list[str]] = {}
        for c in self.consensus:
            calls.setdefault(c.call, []).append(c.layer)
        width = max(map(len, calls))
        for call, names in sorted(calls.items(), key=lambda item: -len(item[1])):
            lines.append(wrap(f"{len(names):5}  {call:{width}}  {_few(names)}"))
        lines += ["", "What decided, and for how many layers by how many estimators:"]
        causes = Counter(f"{v.call}: {v.cause}" for v in self.layers)
        shown = causes.most_common(_SHOWN)
        lines += [wrap(f"{number:5}  {cause}") for cause, number in shown]
        if rest := sum(causes.values()) - sum(number for _, number in shown):
            lines.append(f"{rest:5}  other causes")
        lines += ["", *(wrap(note) for note in self.notes)]
        lines.append("Every number: verdict.details() or .table(), ibtrace verdict RUN --details.")
        return "\n".join(lines)

    def details(self) -> str:
        """Every layer by every estimator, with numbers, causes and remarks."""
        estimators = dict.fromkeys(v.estimator for v in self.layers)
        parts = [self._heading()] if estimators else []
        parts += [self._block(name) for name in estimators]
        if len(estimators) > 1:
            parts.append(self._together())
        if self.notes:
            parts.append("\n".join(wrap(note) for note in self.notes))
        return "\n\n".join(parts)

    def _heading(self) -> str:
        percent = f"{self.rule.confidence:.0%}".replace("%", " %")
        lines = (
            f"Fall of I(X;T) from its peak to the last {self.clock}: bits, mean over seeds,"
            f" {percent} interval.",
            "drop: each seed from its own peak, which noise makes look high.",
            f"held out: between means over {self.rule.window_share:.0%} of the snapshots, from the"
            " peak of the other seeds to the end;",
            f"  its interval decides at {self.rule.least_drop:g} bit.",
            "seeds: that fall, together or for good / kept / run.",
        )
        return "\n".join(lines)

    def _block(self, estimator: str) -> str:
        verdicts = [v for v in self.layers if v.estimator == estimator]
        width = min(_LAYER_WIDTH, max(5, *(len(v.layer) for v in verdicts)))
        estimands = either(pair for v in verdicts for pair in v.estimands)
        head = (
            f"{'layer':{width}}   peak  {self.clock:>5}  final   {'drop':19}   {'held out':19}"
            f"  {'seeds':>8}  call"
        )
        lines = [wrap(f"{estimator}: {estimands}"), head, *(_line(v, width) for v in verdicts)]
        reasons: dict[str, list[str]] = {}
        for v in verdicts:
            for text in (v.cause.text, *v.remarks):
                reasons.setdefault(text, []).append(v.layer)
        for text, names in reasons.items():
            who = "all layers" if len(names) == len(verdicts) > 1 else ", ".join(names)
            lines.append(wrap(f"{who}: {text}", first="  ", rest="    "))
        return "\n".join(lines)

    def _together(self) -> str:
        width = max(len(c.layer) for c in self.consensus)
        lines = (
            wrap(f"{c.layer:{width}}  {c.call}: {c.reason}", first="  ", rest="    ")
            for c in self.consensus
        )
        return "\n".join(("All estimators together", *lines))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _few(names: Sequence[str]) -> str:
    """The first names, as many as two lines hold, and how many more there are."""
    shown = 0
    while shown < len(names) and len(", ".join(names[: shown + 1])) <= WIDTH:
        shown += 1
    shown = max(1, shown)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"


def _record(v: LayerVerdict) -> dict[str, object]:
    return {
        "layer": v.layer,
        "estimator": v.estimator,
        "estimand": v.estimand,
        "call": v.call,
        "reason": v.reason,
        "drop": v.drop.mean,
        "lower": v.drop.lower,
        "upper": v.drop.upper,
        "held_out": v.held_out.mean,
        "held_out_lower": v.held_out.lower,
        "held_out_upper": v.held_out.upper,
        "peak_epoch": v.peak_epoch,
        "peak_bits": v.peak_bits,
        "final_epoch": v.final_epoch,
        "final_bits": v.final_bits,
        "share": v.share,
        "seeds_kept": len(v.seeds_kept),
        "seeds_run": len(v.seeds_run),
    }


def _line(v: LayerVerdict, width: int) -> str:
    numbers = (v.seeds_that_fall, v.seeds_kept, v.seeds_run)
    seeds = "/".join(str(len(each)) for each in numbers)
    # a longer name has a line to itself: cut, the layers of a deep network would look alike
    name = v.layer if len(v.layer) <= width else f"{v.layer}\n{'':{width}}"
    return (
        f"{name:{width}}  {_bits(v.peak_bits):>5}"
        f" {v.peak_epoch:6d}  {_bits(v.final_bits):>5}"
        f"  {_bits(v.drop.mean):>5} {_ends(v.drop):14}"
        f"  {_bits(v.held_out.mean):>5} {_ends(v.held_out):14}  {seeds:>8}  {v.call}"
    )


def _bits(value: float) -> str:
    # Adding zero after rounding keeps "-0.00" out of the table.
    return "–" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}"


def _ends(interval: Interval) -> str:
    if np.isnan(interval.lower):
        return ""
    return f"[{_bits(interval.lower)}, {_bits(interval.upper)}]"
