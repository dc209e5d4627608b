"""The page: verdicts, figures, claims and provenance of traces in one file that asks for nothing.

What must be read by everybody (verdicts, claims, configuration) is plain HTML; the figures are
drawn by scripts from numbers in the page. A content security policy lets no other script run and
no request be made, whatever the names in a trace are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from string import Template
from typing import Any, Protocol

import pandas as pd
import yaml

from ibtrace.bounds import BottleneckCurve
from ibtrace.errors import InvalidInput
from ibtrace.page.data import numbers
from ibtrace.page.embed import as_json, asset, digest, script
from ibtrace.page.tables import definitions, folded, preformatted, table, text
from ibtrace.plane import (
    Controlled,
    Multiverse,
    PlaneBound,
    Resolution,
    Verdict,
    pair,
    quantities,
    trust,
    verdict,
)
from ibtrace.plane.answer import QUESTIONS, LayerVerdict
from ibtrace.runtime.arguments import require_path
from ibtrace.runtime.files import written_whole
from ibtrace.types import I_TY, I_XT, TraceLike, control_of

Traces = Mapping[str, TraceLike]


class Tabulated(Protocol):
    """What is told in words by ``str``, and in a table."""

    def summary(self) -> pd.DataFrame:
        """The table."""
        ...


_SCRIPTS = (
    "base.js",
    "statistics.js",
    "panels.js",
    "plane.js",
    "curves.js",
    "resolution.js",
    "specification.js",
    "controls.js",
    "player.js",
    "main.js",
)
_STORED_CONFIG = "config"


def write(traces: TraceLike | Traces, path: str | os.PathLike[str], **more: Any) -> Path:
    """Write the page of traces to a file; returns its path.

    Args:
        traces: One trace, or several by name, which are compared side by side.
        path: The file; its folder is made if need be, and a file there is replaced.
        **more: See `page`.

    Raises:
        RunError: If it cannot be written.
        InvalidInput: If the name does not end with ``.html``; and as `page`.
    """
    require_path("report: path", path)
    if Path(path).suffix.lower() not in (".html", ".htm"):  # a slip must not replace a trace
        raise InvalidInput(f"report: the name of a page ends with .html, got {os.fspath(path)!r}")
    content = page(traces, **more)
    with written_whole(Path(path)) as part:
        # a name may hold half of a surrogate pair, which no encoding has
        part.write_bytes(content.encode("utf-8", "replace"))
    return Path(path)


def page(
    traces: TraceLike | Traces,
    *,
    title: str = "",
    claims: Mapping[str, pd.DataFrame] | None = None,
    predictions: Mapping[str, pd.DataFrame] | None = None,
    maps: Mapping[str, Resolution] | None = None,
    multiverses: Mapping[str, Multiverse] | None = None,
    controls: Mapping[str, Controlled] | None = None,
    examinations: Mapping[str, Tabulated] | None = None,
    bounds: Mapping[str, BottleneckCurve] | None = None,
) -> str:
    """The page of traces as HTML.

    Args:
        traces: One trace, or several by name, which are compared side by side.
        title: Its heading; by default the names of the traces.
        claims: What came of a paper's claims (`ibtrace.claims.claims_table`), by what was tested.
        predictions: How predictions fared (`ibtrace.predictions.predictions_table`), likewise.
        maps: Resolution maps (`ibtrace.Trace.resolution`) of some of the traces, by their names.
        multiverses: Verdicts under many analyses (`ibtrace.Trace.multiverse`), likewise.
        controls: What controls of some of the traces say (`ibtrace.plane.controlled`), likewise.
        examinations: What their activations say of the estimates (`ibtrace.Trace.examine`).
        bounds: Bottleneck curves (`ibtrace.Trace.bound`) of some of the traces, drawn beneath the
            planes of the inputs and the first target; verdicts tell the distances.

    Raises:
        InvalidInput: If there is no trace, one is empty, their looks are not counted alike, or a
            bound is no curve.
    """
    given = dict(traces) if isinstance(traces, Mapping) else {"": traces}
    named = {name: pair(trace) for name, trace in given.items()}
    scripts = script(asset(name) for name in _SCRIPTS)
    # The policy allows these by their digests, and nothing that a name could bring in.
    library = script([asset("plotly-cartesian.min.js")])
    bounds = bounds or {}
    curves = {name: PlaneBound(curve) for name, curve in bounds.items()}
    drawn = numbers(given, maps, multiverses, curves)
    heading = title or " · ".join(filter(None, named)) or "One run"
    return Template(asset("page.html")).substitute(
        policy=f"default-src 'none'; script-src {digest(library)} {digest(scripts)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'",
        title=text(heading),
        facts=_facts(named, drawn),
        style=asset("page.css"),
        verdicts=_of_each(named, lambda name, trace: _verdict(trace, bounds.get(name))),
        controls=_controls(controls or {}),
        examinations=_examinations(examinations or {}),
        answers=_answers(maps or {}),
        claims=_tested("Claims", claims or {}) + _tested("Predictions", predictions or {}),
        provenance=_of_each(named, lambda _, trace: _provenance(trace)),
        made=_made(named),
        data=as_json(drawn),
        library=library,
        scripts=scripts,
    )


def _facts(named: Traces, drawn: Mapping[str, Any]) -> str:
    """What was measured, in one line."""
    seeds = [len(run["seeds"]) for run in drawn["runs"]]
    each = f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
    samples = {trace.meta.get("n") for trace in named.values()} - {None}
    facts = [
        f"{len(named)} runs side by side" if len(named) > 1 else "",
        f"{each} {'seed' if max(seeds) == 1 else 'seeds'}{' each' if len(named) > 1 else ''}",
        _count(len(drawn["layers"]), "layer"),
        _count(len(drawn["estimators"]), "estimator"),
        f"{samples.pop():,} samples" if len(samples) == 1 else "",
    ]
    facts += dict.fromkeys(_variables(trace) for trace in named.values())
    if drawn["thinned"]:
        most, longest = drawn["thinned"]
        facts.append(f"{most} of up to {longest} looks are drawn; verdicts are of all")
    return "".join(f"<li>{text(fact)}</li>" for fact in facts if fact)


def _variables(trace: TraceLike) -> str:
    """What stands for X and Y here, where the trace has more variables than these."""
    chosen = trace.meta.get("pair")
    if chosen is None:
        return ""
    called = quantities(trace.meta)
    return f"verdicts are of {called[I_XT]} and {called[I_TY]}; figures of all, as chosen"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _of_each(named: Traces, tell: Callable[[str, TraceLike], str]) -> str:
    """What is told of each trace, under its name, side by side where there is room."""
    parts = []
    for name, trace in named.items():
        control = control_of(trace.meta)
        told = f" (a control: {control.words})" if control else ""
        head = f"<h3>{text(name)}{told}</h3>" if name else ""
        parts.append(f'<article class="run">{head}{tell(name, trace)}</article>')
    return f'<div class="runs">{"".join(parts)}</div>'


def _verdict(trace: TraceLike, bound: BottleneckCurve | None) -> str:
    """The sentences, and every number behind them."""
    try:
        judged = verdict(trace, bound=bound)
    except InvalidInput as error:  # a trace of lenses alone has nothing to judge
        return f"<p>No verdict: {text(error)}.</p>"
    every = table(judged.table(), "Every layer by every estimator; bits")
    details = preformatted(judged.details(), "The verdict with causes and remarks")
    checked = trust(trace)
    counts = table(checked.counts(), "Points that fail each check, by layer and estimator")
    words = preformatted(str(checked), "Points that fail a check, in words")
    return (
        _sentences(judged)
        + folded("Every number", every)
        + folded("Causes and remarks", details)
        + folded("Points that fail a check", words + counts)
    )


def _sentences(judged: Verdict) -> str:
    """What was found of each layer, those of which the same is said together; then the notes."""
    together: dict[str, list[str]] = {}
    for layer in judged.layers:
        told = f"{_calls(layer)}<p>{text(layer.sentence)}</p>"
        together.setdefault(told, []).append(layer.layer)
    entries = "".join(
        f"<dt>{text(', '.join(names))}</dt><dd>{told}</dd>" for told, names in together.items()
    )
    notes = "".join(f"<li>{text(note)}</li>" for note in judged.notes)
    return f'<dl class="found">{entries}</dl><ul class="notes">{notes}</ul>'


def _calls(layer: LayerVerdict) -> str:
    """The answers in a word or two, a question at a time."""
    return "".join(
        f'<span class="calls">{text(QUESTIONS[answer.question])}: <b>{text(answer.call)}</b></span>'
        for answer in layer
    )


def _answers(maps: Mapping[str, Resolution]) -> str:
    """At which scales each layer compresses, in words."""
    if not maps:
        return ""
    parts = []
    for name, resolution in maps.items():
        head = f"<h3>{text(name)}</h3>" if name else ""
        told = preformatted(str(resolution), "The resolutions in words")
        parts.append(f'<article class="run">{head}{told}</article>')
    return f'<div class="runs">{"".join(parts)}</div>'


def _controls(controls: Mapping[str, Controlled]) -> str:
    """A section on what controls do beside their subjects; nothing where there are none."""
    tables = {name: (held, held.table()) for name, held in controls.items()}
    return _told("Controls", "controls", tables, ("The controls in words", "Every control; bits"))


def _examinations(examinations: Mapping[str, Tabulated]) -> str:
    """A section on estimates against chance and on fewer samples; nothing where there are none."""
    tables = {name: (examined, examined.summary()) for name, examined in examinations.items()}
    labels = "The examination in words", "The last look; bits"
    return _told("Estimates examined", "examinations", tables, labels)


def _told(
    title: str,
    place: str,
    told: Mapping[str, tuple[object, pd.DataFrame]],
    labels: tuple[str, str],
) -> str:
    """A section that tells each run in words, and in a table that can be unfolded."""
    parts, (of_words, of_table) = [], labels
    for name, (words, frame) in told.items():
        head = f"<h3>{text(name)}</h3>" if name else ""
        said = preformatted(str(words), of_words)
        every = folded("Every number", table(frame, of_table))
        parts.append(f'<article class="run">{head}{said}{every}</article>')
    if not parts:
        return ""
    inner = f'<div class="runs">{"".join(parts)}</div>'
    return f'<section id="{place}"><h2>{title}</h2>{inner}</section>'


def _tested(title: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """A section of claims or of predictions; nothing where there are none."""
    parts = [
        f"{f'<h3>{text(name)}</h3>' if name else ''}{table(frame, title)}"
        for name, frame in tables.items()
        if len(frame)
    ]
    if not parts:
        return ""
    place = title.lower()
    return f'<section id="{place}"><h2>{title}</h2>{"".join(parts)}</section>'


def _provenance(trace: TraceLike) -> str:
    """The record of the run; its configuration as it would stand in a file."""
    meta = dict(trace.meta)
    config = meta.pop(_STORED_CONFIG, None)
    parts = [definitions(meta)]
    if config:
        written = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        parts.insert(0, folded("Configuration", preformatted(written, "Configuration")))
    return "".join(parts)


def _made(named: Traces) -> str:
    versions = {str(trace.meta.get("packages", {}).get("ibtrace", "")) for trace in named.values()}
    by = ", ".join(sorted(filter(None, versions))) or "of an unknown version"
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return text(f"Traced by ibtrace {by}; this page was made on {now}.")
