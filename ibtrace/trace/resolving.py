"""The resolution map of a trace, from the activations that it keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.estimators import Binning
from ibtrace.estimators._checks import shuffled
from ibtrace.measure import as_variable
from ibtrace.numerics.entropy import null_information, sample_counts
from ibtrace.numerics.kernels import nested_gaussian_sums
from ibtrace.numerics.nested import chains, nested_ids, nested_information
from ibtrace.plane import Resolution, Rule
from ibtrace.plane.layer_resolution import Reader
from ibtrace.plane.resolution import resolution
from ibtrace.probe import Probe
from ibtrace.runtime.arguments import whole
from ibtrace.runtime.workers import results
from ibtrace.trace.stored import (
    StoredLook,
    StoredTrace,
    shared_looks,
    spread,
    stored_look,
    thinned,
)

OCTAVES = 12
"""The default grid: so many halvings of the range of the values."""

_RANGE_LOOKS = 5  # looks over which the range of the default grid is taken
_STEPS: dict[Reader, int] = {"bins": 2, "noise": 1}  # scales an octave

Floats: TypeAlias = NDArray[np.float64]


class _Subject(NamedTuple):
    """What a layer is measured on.

    Args:
        x: Which inputs are equal, ``(n,)``.
        y: The labels as ids, ``(n,)``; None if there are none.
        known: Whether the samples are all there is.
        entropies: H(X) and H(Y); the latter NaN where the labels are no classes.
        rows: Which of the samples kept these are; None for all.
    """

    x: Tensor
    y: Tensor | None
    known: bool
    entropies: tuple[float, float]
    rows: Tensor | None


class _Numbers(NamedTuple):
    """Informations of one layer at one look, ``(scales, seeds)`` each; null NaN if not asked."""

    about_x: Floats
    about_y: Floats
    null: Floats


def resolve(
    trace: StoredTrace,
    scales: Sequence[float] | None = None,
    *,
    reader: Reader = "bins",
    samples: int | None = None,
    layers: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    looks: int | None = None,
    rule: Rule | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> Resolution:
    """I(X;T) and I(T;Y) of every layer at every resolution, epoch and seed.

    With bins each number is that of ``Binning(width=…)`` to the last bit, with noise that of
    ``KDE(noise_variance=deviation²)`` to 1e-8. Scales that are one another's multiples by powers of
    2 are found in one pass (`ibtrace.numerics.nested`, `nested_gaussian_sums`).

    Args:
        trace: A trace that keeps activations.
        scales: Widths of bins or deviations of noise, in the units of T. None takes twelve
            octaves down from the power of 2 that is at least the widest range of a layer at five
            looks, the first and the last among them: two widths an octave, one deviation.
        reader: ``bins``, or ``noise``, which takes all pairs of samples at every look: thin them.
        samples: So many of the probe's samples, at random; None for all.
        layers: Only these; None for all. A layer of integers has no resolution, and is left out.
        seeds: Only these; None for all that have activations.
        looks: At most so many, evenly by their place; None for all.
        rule: What counts as a fall.
        jobs: Processes.
        progress: Draw a progress bar.

    Raises:
        RunError: If the trace keeps no activations, or not the probe.
        InvalidInput: If a scale is not above 0 or there are fewer than two, a layer or a seed is
            not there, fewer than two looks are shared, or the samples are not the probe's.
        ConfigError: If ``jobs`` or ``looks`` is no whole number above 0, or there is no such
            reader.
    """
    if reader not in _STEPS:
        raise ConfigError(f"resolution: reader must be bins or noise, got {reader!r}")
    jobs = whole("resolution: jobs", jobs, least=1)
    looks = None if looks is None else whole("resolution: looks", looks, least=2)
    chosen, places = shared_looks(trace, seeds, looks)
    last = stored_look(trace, chosen, places[-1])
    names, notes = _layers(last, layers)
    if scales is None:
        before = spread(places, _RANGE_LOOKS)[:-1]  # a layer that shrinks had a wider range
        looks_seen = [*(stored_look(trace, chosen, at) for at in before), last]
        values = [look.activations[name] for look in looks_seen for name in names]
        grid = _spanning(values, _STEPS[reader])
    else:
        grid = _ascending(scales)
    subjects = _subjects(trace.probe(), samples, last, names)
    tasks = [(trace, reader, subjects, chosen, at, grid, at == places[-1]) for at in places]
    bar: Any = {
        "total": len(tasks),
        "desc": "resolution",
        "disable": not progress,
        "unit": " looks",
    }
    done = list(tqdm(results(_measured, tasks, jobs), **bar))

    def stacked(what: str) -> dict[str, Floats]:
        return {name: np.stack([getattr(each[name], what) for each in done], -1) for name in names}

    return resolution(
        stacked("about_x"),
        stacked("about_y"),
        {name: done[-1][name].null.mean(-1) for name in names},
        scales=grid,
        seeds=chosen,
        epochs=places,
        entropies={name: subjects[name].entropies for name in names},
        population={name: subjects[name].known for name in names},
        reader=reader,
        rule=rule,
        clock=trace.clock,
        notes=notes,
    )


def _layers(look: StoredLook, asked: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The layers that have a resolution, and which have none, in a sentence."""
    if unknown := [name for name in asked or () if name not in look.activations]:
        there = ", ".join(look.activations)
        raise InvalidInput(f"no activations of {unknown[0]!r} are kept; they are of {there}")
    wanted = [*look.activations] if asked is None else list(dict.fromkeys(asked))
    if not wanted:
        raise InvalidInput("resolution: layers must be a list with one at least, got none")
    symbols = [name for name in wanted if not look.activations[name].is_floating_point()]
    names = [name for name in wanted if name not in symbols]
    if not names:
        raise InvalidInput(f"{', '.join(symbols)} hold integers: symbols have no resolution")
    left = f"Left out: {', '.join(symbols)}, integers, which have no resolution."
    return names, [left] if symbols else []


def _spanning(values: Sequence[Tensor], steps: int) -> tuple[float, ...]:
    """The default scales, ascending: so many steps an octave, down from the widest range."""
    spans = [float(value.max()) - float(value.min()) for value in values]
    finite = [span for span in spans if math.isfinite(span) and span > 0]
    top = math.ceil(math.log2(max(finite, default=1.0)))
    # each step times a power of 2, so that the scales are in as many chains as there are steps
    each = [2.0 ** (step / steps) for step in range(steps)]
    grid = [step * 2.0 ** (top - down) for down in range(1, OCTAVES + 1) for step in each]
    return tuple(sorted([*grid, 2.0**top]))


def _ascending(scales: Sequence[float]) -> tuple[float, ...]:
    """The scales that were asked for, each once."""
    if not isinstance(scales, Sequence | np.ndarray) or isinstance(scales, str):
        raise InvalidInput(f"resolution: give a list of scales, got {scales!r}")
    given = sorted({float(scale) for scale in scales})
    if len(given) < 2 or not all(math.isfinite(scale) and scale > 0 for scale in given):
        raise InvalidInput(f"resolution: give two scales above 0 or more, got {list(scales)}")
    return tuple(given)


def _subjects(
    probe: Probe, samples: int | None, look: StoredLook, names: Sequence[str]
) -> dict[str, _Subject]:
    """What each layer is measured on: the probe, some of it, or its tokens."""
    some, rows = thinned(probe, samples)
    made: dict[Any, _Subject] = {}
    subjects = {}
    for name in names:
        value, tokens = look.activations[name], look.contexts[name].token_inputs
        if tokens is not None and some.n < probe.n:
            raise InvalidInput(f"{name}: each token is a sample here; leave out samples")
        key = None if tokens is None else (value.shape[1], tokens)
        if key not in made:
            subject = some if key is None else probe.tokens(*key)
            made[key] = _subject(subject, rows if some.n < probe.n else None)
        subjects[name] = made[key]
    return subjects


def _subject(probe: Probe, rows: Tensor | None) -> _Subject:
    entropies = probe.input_entropy, probe.label_entropy
    if not probe.labelled:
        return _Subject(probe.x_ids, None, probe.population, entropies, rows)
    x, y = Binning().prepare(probe, probe.device)
    return _Subject(x.ids, y.ids, probe.population, entropies, rows)


def _measured(
    trace: StoredTrace,
    reader: Reader,
    subjects: Mapping[str, _Subject],
    seeds: Sequence[int],
    at: int,
    scales: Sequence[float],
    last: bool,
) -> dict[str, _Numbers]:
    """All layers at one look; a seed with values that are not finite has NaN."""
    look = stored_look(trace, seeds, at)
    measure = _in_bins if reader == "bins" else _in_noise
    done = {}
    for name, subject in subjects.items():
        values = as_variable(look.activations[name])
        values = values if subject.rows is None else values[:, subject.rows]
        numbers = np.full((3, len(scales), len(values)), np.nan)
        finite = values.isfinite().flatten(1).all(1)
        if bool(finite.any()):
            numbers[:, :, finite.numpy()] = measure(values[finite], subject, scales, last)
        done[name] = _Numbers(*numbers)
    return done


def _in_bins(values: Tensor, subject: _Subject, widths: Sequence[float], null: bool) -> Floats:
    """Both informations, and I(T;Y) of random labels if asked, ``(3, widths, seeds)``."""
    numbers = np.full((3, len(widths), len(values)), np.nan)
    for places in chains(widths):
        chain = [widths[place] for place in places]
        for place, ids in zip(places, nested_ids(values, chain), strict=True):
            numbers[:2, place] = torch.stack(nested_information(ids, subject.x, subject.y)).numpy()
            if null:
                numbers[2, place] = _null(ids, subject)
    return numbers


def _null(ids: Tensor, subject: _Subject) -> Floats:
    """I(T;Y) that random labels would give; 0 where the law is known or there are no labels."""
    if subject.y is None or subject.known:
        return np.zeros(len(ids))
    counts = sample_counts(ids.flatten()).reshape(ids.shape)
    null: Floats = null_information(counts, sample_counts(subject.y)).numpy()
    return null


def _in_noise(values: Tensor, subject: _Subject, deviations: Sequence[float], null: bool) -> Floats:
    """The same, ``(3, deviations, seeds)``, of T with Gaussian noise."""
    numbers = np.full((3, len(deviations), len(values)), np.nan)
    labels = [] if subject.y is None else [subject.y]
    asked = null and bool(labels)
    random = shuffled(subject.y, known=subject.known) if asked and subject.y is not None else []
    groups = [subject.x, *labels, *random]
    sizes = [sample_counts(group).double() for group in groups]
    for places in chains(deviations):
        chain = [deviations[place] for place in places]
        levels = round(math.log2(chain[-1] / chain[0])) + 1
        at = [round(math.log2(chain[-1] / deviation)) for deviation in chain]
        for seed, points in enumerate(values):
            sums = nested_gaussian_sums(points, chain[-1] ** 2, levels, groups)[at].log2()
            whole = sums[:, 0] - math.log2(values.shape[1])
            bits = [
                (own - size.log2() - whole).mean(-1).numpy()
                for own, size in zip(sums[:, 1:].unbind(1), sizes, strict=True)
            ]
            numbers[0, places, seed] = bits[0]
            numbers[1, places, seed] = bits[1] if labels else np.nan
            if null:
                numbers[2, places, seed] = np.mean(bits[2:], axis=0) if random else 0.0
    return numbers
