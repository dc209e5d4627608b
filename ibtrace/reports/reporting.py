"""What a finished run leaves for a person: figures, the verdict, and the claims of its paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ibtrace import plots
from ibtrace.claims import Claim, claims_table, claims_text
from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.plane import against, coordinates, pair, verdict
from ibtrace.predictions import PREDICTIONS, Prediction, predictions_table, predictions_text
from ibtrace.reports import sweeping
from ibtrace.reports.alignment import alignment
from ibtrace.reports.controls import groups, subjects
from ibtrace.reports.quantities import lens_readings, quantities
from ibtrace.runtime.files import make_folder, written_whole
from ibtrace.runtime.text import printable
from ibtrace.trace import Sweep, Trace
from ibtrace.types import I_TY, I_XT

Traces = Mapping[str, Trace]
"""The traces of a run by variant; one without variants has the name ``""``."""

_EACH = 6  # quantities of lenses that have a figure of their own; of more, one for all
_POINTS = 8  # of a sweep, that are told one by one without being asked
_SCREEN = 60  # lines of lenses' readings that are printed; more are in the report


def figures(
    traces: Traces,
    folder: Path,
    estimator: str | None = None,
    *,
    run: Path | None = None,
    normalised: bool = False,
    bound: bool = False,
) -> list[Path]:
    """Draw the figures of a run as PNG and PDF; those of its controls beside their subjects alone.

    Of a sweep of more than eight points there are no curves of each.

    Args:
        traces: The run.
        folder: Where the files go.
        estimator: Which estimator's plane; None draws one for each that all variants share and
            that gave both I(X;T) and I(T;Y) (class-wise estimators give no I(X;T) of distinct X).
        run: The run's folder, whose name a run without variants has in the figures; None if it is
            ``folder``.
        normalised: Draw I(X;T)/H(X) and I(T;Y)/H(Y) in planes and curves.
        bound: Draw the bottleneck curve of the probe beneath the planes; where variants have
            different probes, each has a figure of its own.

    Returns:
        The PNG files.

    Raises:
        UnknownName: If the run has no such estimator; lists those it has.
    """
    make_folder(folder)
    name_of_run = _drawn(run or folder)
    beside = groups(traces, name_of_run)
    swept = traces if isinstance(traces, Sweep) else None
    columns, most = (None, len(traces)) if swept is None else (swept.columns, _POINTS)
    traces, written = subjects(traces) or traces, []
    titled = {name or name_of_run: trace for name, trace in traces.items()}
    for label in _estimators(traces, estimator):
        stem = f"{_slug(label)}"
        if estimator is not None or all(_has_plane(trace, label) for trace in traces.values()):
            for name, some in _of_one_law(titled, bound).items():
                curve = next(iter(some.values())).bound() if bound else None
                plane = plots.information_planes(
                    some, label, normalised=normalised, columns=columns, bound=curve
                )
                written.append(_save(plane, folder / f"{name}information_plane-{stem}"))
        for name, trace in titled.items() if len(titled) <= most else ():
            curves = plots.curves(trace, label, normalised=normalised)
            prefix = f"{name.replace(', ', ',')}-" if len(titled) > 1 else ""
            written.append(_save(curves, folder / f"curves-{prefix}{stem}"))
    if swept is not None:
        written += _falls(swept, estimator, folder)
    elif estimator is None or all(_gave_xt(trace, estimator) for trace in traces.values()):
        written.append(_save(plots.drops(titled, estimator), folder / "drops"))
    if estimator is None and (read := _readings(titled)):
        written.append(_save(plots.aligned(titled), folder / "aligned"))
        if len({quantity for _, quantity, _ in read}) <= _EACH:
            written += [_reading(titled, *series, folder) for series in read]
    for group in beside:
        written += [
            _save(drawn, folder / f"controls-{_slug(group.name)}-{kind}-{_slug(label)}")
            for kind, label, drawn in group.figures()
            if estimator in (None, label)
        ]
    return written


def _drawn(run: Path) -> str:
    """The name of a run's folder as figures draw it: a dollar sign begins no formula."""
    return printable(run.resolve().name).replace("$", r"\$")


def _falls(swept: Sweep, estimator: str | None, folder: Path) -> list[Path]:
    """How much each layer falls at every point, by each estimator that gave I(X;T)."""
    judged = swept.verdict()
    asked = [label for label in _estimators(swept, estimator) if judged.by(label)]
    return [_save(plots.falls(judged, label), folder / f"falls-{_slug(label)}") for label in asked]


def films(
    traces: Traces, folder: Path, kind: str, estimator: str | None = None, *, run: Path
) -> list[Path]:
    """Write the information planes of a run as films (`plots.animate`).

    Args:
        traces: The run.
        folder: Where the files go.
        kind: ``gif`` or ``mp4``.
        estimator: Which estimator's plane; None films one for each that all variants share and
            that gave both I(X;T) and I(T;Y).
        run: The run's folder, whose name a run without variants has.

    Returns:
        The files.

    Raises:
        ConfigError: If the kind is another.
        InvalidInput: If the run has no plane to film, or fewer than two snapshots.
        MissingDependency: If an MP4 is asked for and ffmpeg is not installed.
        UnknownName: If the run has no such estimator; lists those it has.
    """
    titled = {name or _drawn(run): trace for name, trace in traces.items()}
    planes = [
        name
        for name in _estimators(traces, estimator)
        if estimator is not None or all(_has_plane(trace, name) for trace in traces.values())
    ]
    if not planes:
        raise InvalidInput(f"{run}: no estimator gave both I(X;T) and I(T;Y), a plane to film")
    return [
        plots.animate(titled, folder / f"information_plane-{_slug(name)}.{kind}", name)
        for name in planes
    ]


def _readings(titled: Traces) -> list[tuple[str, str, str]]:
    """Trace, quantity and instrument of all that lenses read and that has a number to draw."""
    return [
        (name, quantity, instrument)
        for name, trace in titled.items()
        for quantity, instrument, rows in lens_readings(trace)
        if np.isfinite(rows["value"]).any()
    ]


def _reading(titled: Traces, name: str, quantity: str, instrument: str, folder: Path) -> Path:
    """The figure of one quantity of one lens."""
    by = [instrument for read, instrument, _ in lens_readings(titled[name]) if read == quantity]
    parts = [name] if len(titled) > 1 else []
    parts += [_slug(quantity)]
    parts += [_slug(instrument)] if len(by) > 1 else []
    figure = plots.readings(titled[name], quantity, instrument)
    return _save(figure, folder / "-".join(["readings", *parts]))


def _of_one_law(titled: Mapping[str, Trace], bound: bool) -> dict[str, Mapping[str, Trace]]:
    """The traces that share a figure, by what its name begins with: all, or those of one law."""
    laws = {name: trace.meta.get("joint") for name, trace in titled.items()}
    first = next(iter(laws.values()))
    if not bound or all(law == first for law in laws.values()):
        return {"": titled}
    return {f"{name.replace(', ', ',')}-": {name: trace} for name, trace in titled.items()}


def verdicts(
    traces: Traces,
    estimator: str | None = None,
    *,
    details: bool = False,
    x: str | None = None,
    bound: bool = False,
) -> str:
    """The data of the run, the verdict of every variant and what its controls do, as text.

    Args:
        traces: The run.
        estimator: Only this one's; None for all.
        details: Every number, however long it gets, and the verdicts on controls; by default a
            summary if that fills a screen.
        x: The source of the probe that stands for X; None: the inputs themselves.
        bound: Tell the distances to the bottleneck curve of each probe.

    Raises:
        UnknownName: If the run has no such estimator; lists those it has.
    """
    if estimator is not None:
        _estimators(traces, estimator)
    wanted = None if estimator is None else [estimator]
    parts = _data(subjects(traces) or traces)
    judged = traces if details else subjects(traces) or traces
    if isinstance(traces, Sweep):
        parts += sweeping.paragraphs(traces, wanted)
        judged = traces if details or len(traces) <= _POINTS else {}
        parts += [] if judged else ["What is said of each point: ibtrace verdict RUN --details."]
    for name, trace in judged.items():
        curve = trace.bound() if bound else None
        result = verdict(trace, estimators=wanted, x=x, bound=curve)
        parts.append("\n".join([*_title(name), result.details() if details else str(result)]))
    for group in groups(traces, "this run"):
        parts.append("\n".join([*_title(f"Controls of {group.name}"), str(group.held_against())]))
    return "\n\n".join(parts)


def differences(traces: Traces, others: Traces, estimator: str | None = None) -> str:
    """What differs between the verdicts on two runs, variant by variant (`plane.against`).

    Args:
        traces: The run.
        others: The run that it is held against. Variants are paired by name; where either run has
            a single one, that is held against every one of the other. Controls are, if both have
            them.
        estimator: Only this one's; None for all.

    Raises:
        InvalidInput: If the runs share no variant.
        UnknownName: If a run has no such estimator; lists those it has.
    """
    if estimator is not None:
        _estimators(traces, estimator)
        _estimators(others, estimator)
    if any(len(subjects(each)) == len(each) for each in (traces, others)):
        traces, others = subjects(traces) or traces, subjects(others) or others
    single = len(traces) == 1 or len(others) == 1
    pairs = [(one, two) for one in traces for two in others if single or one == two]
    if not pairs:
        ours, theirs = (", ".join(named) for named in (traces, others))
        raise InvalidInput(f"the runs share no variant: {ours} here, {theirs} there; name one")
    names = None if estimator is None else [estimator]
    parts = []
    for one, two in pairs:
        title = one if one == two else " against ".join(filter(None, (one, two)))
        here, there = (verdict(each, estimators=names) for each in (traces[one], others[two]))
        parts.append("\n".join([*_title(title), str(against(here, there))]))
    alone = [] if single else sorted(traces.keys() ^ others.keys())
    parts += [f"In one run only: {', '.join(alone)}."] if alone else []
    return "\n\n".join(parts)


def _title(name: str) -> list[str]:
    """A variant's name above what is said of it."""
    return [name, "=" * len(name)] if name else []


def report(
    traces: Traces,
    folder: Path,
    claims: Sequence[Claim] = (),
    own: Mapping[str, Callable[[Traces], Figure]] | None = None,
    predictions: Sequence[Prediction] = (),
) -> str:
    """Write figures, tables and texts of a finished run, details and all; return what to print.

    Claims, predictions and the paper's own figures are of its subjects, not of controls.

    Args:
        traces: The run.
        folder: Where the files go.
        claims: The statements of the run's paper, if it has one.
        own: The paper's own figures by name.
        predictions: The paper's own, beside those of the package's lenses.
    """
    tested, every, traces = [], traces, subjects(traces) or traces
    if claims:
        table = claims_table(claims, traces)
        with written_whole(folder / "claims.csv") as part:
            table.to_csv(part, index=False)
        tested = ["Claims\n======\n" + claims_text(table)]
    read, aligned = (
        [
            "\n".join([*_title(name), told])
            for name, trace in traces.items()
            if (told := tell(trace))
        ]
        for tell in (quantities, alignment)
    )
    predicted = _predictions((*predictions, *PREDICTIONS), traces, folder)
    rest = [*aligned, *predicted, *tested]
    written = [verdicts(every, details=True), *read, *rest]
    with written_whole(folder / "report.txt") as part:
        part.write_text("\n\n".join(written) + "\n", encoding="utf-8")
    if sum(part.count("\n") for part in read) > _SCREEN:
        read = [f"Other quantities: in {folder / 'report.txt'}, drawn in {folder / 'aligned.png'}"]
    text = [verdicts(every), *read, *rest]
    drawn = [_save(draw(traces), folder / name) for name, draw in (own or {}).items()]
    drawn += figures(every, folder)
    listed = "\n".join(f"  {path}" for path in [*drawn, folder / "report.txt"])
    text.append(f"Figures (each also as PDF) and this text:\n{listed}")
    return "\n\n".join(text)


def _predictions(predictions: Sequence[Prediction], traces: Traces, folder: Path) -> list[str]:
    """How predictions fared, as text and as a table in the folder."""
    table = predictions_table(predictions, traces)
    if table.empty:
        return []
    with written_whole(folder / "predictions.csv") as part:
        table.to_csv(part, index=False)
    return ["Predictions\n===========\n" + predictions_text(table)]


def _data(traces: Traces) -> list[str]:
    """On which data a run was made, one line, or more if the variants differ."""
    lines = []
    for trace in traces.values():
        if data := trace.meta.get("data"):
            part = "" if data["measured_part"] == "all" else f"{data['measured_part']} "
            sizes = f"{data['train_samples']:,} training and {data['test_samples']:,} test samples"
            measured = f"information on {trace.meta['n']:,} {part}samples"
            lines.append(f"Data: {data['name']}, {sizes}; {measured}")
    return ["\n".join(dict.fromkeys(lines))] if lines else []


def _save(figure: Figure, stem: Path) -> Path:
    """Write a figure as PNG and PDF; the PNG's path."""
    png, _ = plots.save(figure, stem)
    return png


def _estimators(traces: Traces, estimator: str | None) -> list[str]:
    """The estimators to draw: the one asked for, or all that every variant has."""
    first, *others = (trace.estimators for trace in traces.values())
    shared = [name for name in first if all(name in known for known in others)]
    if estimator is None:
        return shared
    if estimator not in shared:
        raise UnknownName(f"the run has no estimator {estimator!r}; it has: {', '.join(shared)}")
    return [estimator]


def _gave_xt(trace: Trace, estimator: str) -> bool:
    frame = trace.frame()
    return bool(((frame["estimator"] == estimator) & (frame["quantity"] == I_XT)).any())


def _has_plane(trace: Trace, estimator: str) -> bool:
    frame = pair(trace).frame()
    points = coordinates(frame[frame["estimator"] == estimator])
    return bool(points[[I_XT, I_TY]].notna().all(axis=1).any())


def _slug(name: str) -> str:
    """A file name's part from an estimator's label."""
    safe = [c if c.isalnum() or c in ".-" else "_" for c in name]
    return "".join(safe).strip("_").lower()
