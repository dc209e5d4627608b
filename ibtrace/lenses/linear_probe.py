"""Linear probe: how well a linear classifier reads the labels from each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibtrace.errors import ConfigError, TooFewSamples, Unsupported
from ibtrace.lenses._rows import classes_of, drawn, layers_of_samples
from ibtrace.numerics.ridge import ridge_classes
from ibtrace.runtime.arguments import whole
from ibtrace.runtime.fields import require_types
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

ACCURACY = Quantity("linear probe accuracy", "1")


@dataclass(frozen=True)
class LinearProbe:
    r"""The accuracy of a ridge classifier on each layer, on samples that it was not fitted to.

    Fitted by least squares on one-hot labels with λ = ``ridge`` times the mean variance of a
    unit. Where T of the training and of the test samples is known (they are in the tracer's
    probe, as in `ibtrace run` with the probe ``all``) it is fitted to the former and judged on the
    latter; else on two halves of the probe, drawn by the seed: these are held out from the
    classifier alone, not from the network, and flagged ``halves``.

    The diagnostic ``majority`` is the share of the largest class among the samples judged: the
    accuracy of no classifier at all. The error is binomial, √(a(1-a)/m).

    Args:
        ridge: λ in units of the mean variance of a unit, above 0.
        samples: More samples than this of either part are thinned by the seed; how many are
            fitted to and judged on are diagnostics.

    Raises:
        ConfigError: If ``ridge`` is not above 0, or ``samples`` no whole number above 1.
        TooFewSamples: When called, on a probe of fewer than 4 samples.
        Unsupported: When called, if the labels are no classes.

    Example:
        >>> LinearProbe(ridge=0.1)
        LinearProbe(ridge=0.1, samples=5000)
    """

    ridge: float = 1e-3
    samples: int = 5000

    tags: ClassVar[LensTags] = LensTags(
        quantities=(ACCURACY,),
        reference="Alain & Bengio 2016, Understanding intermediate layers using linear classifier "
        "probes",
        needs=frozenset({"activations", "training", "test"}),
        cost="O(N d²) of each layer, or O(N² d) where d > N",
        caveats="what is there is not what the network uses; a wide layer separates samples by "
        "its width alone",
    )

    def __post_init__(self) -> None:
        require_types(self)
        if self.ridge <= 0:
            raise ConfigError(f"LinearProbe: ridge must be above 0, got {self.ridge}")
        object.__setattr__(self, "samples", whole("LinearProbe: samples", self.samples, least=2))

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        """The accuracy on every layer; see `ibtrace.types.Lens`."""
        fitted, judged = _Part.of(view.training), _Part.of(view.test)
        halves = fitted is None or judged is None
        if fitted is None or judged is None:
            fitted, judged = _halves(view, seed)
        fitted, judged = fitted.thinned(self.samples, seed), judged.thinned(self.samples, seed)
        y = judged.labels
        majority = torch.nn.functional.one_hot(y).double().mean(-2).amax(-1)
        read = {}
        for layer, t in fitted.layers.items():
            given = ridge_classes(
                t, fitted.labels.to(t.device), judged.layers[layer], ridge=self.ridge
            )
            accuracy = (given == y.to(t.device)).double().mean(-1)
            read[layer] = Reading(
                accuracy,
                "1",
                stderr=(accuracy * (1 - accuracy) / y.shape[-1]).sqrt(),
                flags={"halves": torch.tensor(halves)},
                diagnostics={
                    "majority": majority.to(t.device),
                    "fitted": torch.tensor(t.shape[1]),
                    "judged": torch.tensor(y.shape[1]),
                },
            )
        return {ACCURACY.name: read}


@dataclass(frozen=True)
class _Part:
    """T ``(s, n, d)`` of each layer and the classes ``(s, n)`` of some samples."""

    layers: Mapping[str, Tensor]
    labels: Tensor

    @classmethod
    def of(cls, view: View | None) -> _Part | None:
        """Those of a view; None if it does not know T."""
        if view is None:
            return None
        try:
            layers = layers_of_samples(view)
        except Unsupported:
            return None
        return cls(layers, _classes(view))

    def take(self, rows: Tensor) -> _Part:
        layers = {name: t[:, rows.to(t.device)] for name, t in self.layers.items()}
        return _Part(layers, self.labels[:, rows.to(self.labels.device)])

    def thinned(self, most: int, seed: int) -> _Part:
        n = self.labels.shape[1]
        return self if n <= most else self.take(drawn(n, most, seed))


def _halves(view: View, seed: int) -> tuple[_Part, _Part]:
    """Two random halves of the probe.

    Raises:
        TooFewSamples: If it has fewer than 4 samples.
    """
    n = view.samples
    if n < 4:
        raise TooFewSamples(f"LinearProbe needs at least 4 samples, got {n}; enlarge the probe")
    part = _Part(layers_of_samples(view), _classes(view))
    first_half = torch.zeros(n, dtype=torch.bool)
    first_half[drawn(n, n // 2, seed)] = True
    return part.take(first_half.nonzero()[:, 0]), part.take((~first_half).nonzero()[:, 0])


def _classes(view: View) -> Tensor:
    """The labels themselves: parts of a probe name a class alike, whichever classes they hold."""
    classes_of(view, "LinearProbe")  # that they are classes
    return view.labels
