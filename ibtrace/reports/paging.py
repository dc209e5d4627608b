"""The report of run folders as one HTML file: their traces, and what came of their claims."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from os.path import commonpath
from pathlib import Path

import pandas as pd

from ibtrace import page
from ibtrace.errors import InvalidInput, RunError
from ibtrace.plane import Controlled, Multiverse, Resolution
from ibtrace.reports.controls import groups
from ibtrace.reports.trusting import examined
from ibtrace.trace import Trace
from ibtrace.training import runner

FILE = "report.html"
_LOOKS = 60


def write_page(
    folders: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    maps: bool = True,
    examinations: bool = False,
    bound: bool = False,
    progress: bool = False,
) -> Path:
    """Write the page of one run, or of several side by side.

    Claims and predictions are those that ``ibtrace replicate`` left in the folders, the verdicts
    under many analyses those of ``ibtrace multiverse``.

    Args:
        folders: The run folders; one with variants has a trace for each.
        out: The file; None is ``report.html`` in the run folder, or of several runs in the one
            that is current.
        maps: Whether runs that keep their activations get resolution maps, of at most 60 looks.
        examinations: Whether the estimators of these runs are examined: against chance, on fewer
            samples (`ibtrace.reports.trusting.examined`), which takes minutes.
        bound: Whether the bottleneck curve of each probe is drawn, and the distances to it told.
        progress: Draw progress bars.

    Returns:
        The file.

    Raises:
        RunError: If a folder holds no run, is named twice, or the file cannot be written.
        InvalidInput: If the runs do not fit into one report, or a curve is not known.
    """
    paths = [Path(folder).resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise RunError("report: a run is named twice; name each once")
    names = _names(paths) if len(paths) > 1 else [""]
    traces: dict[str, Trace] = {}
    multiverses: dict[str, Multiverse] = {}
    controls: dict[str, Controlled] = {}
    tested: dict[str, dict[str, pd.DataFrame]] = {"claims": {}, "predictions": {}}
    for path, name in zip(paths, names, strict=True):
        run = runner.load(path)
        for group in groups(run, path.name):
            called = "/".join(filter(None, (name, group.variant))) or path.name
            controls[called] = group.held_against()
        for variant, trace in run.items():
            called = "/".join(filter(None, (name, variant))) or path.name
            traces[called] = trace
            if (file := path / "multiverse" / variant / "multiverse.csv").is_file():
                multiverses[called] = Multiverse.read(file)
        for kind, tables in tested.items():
            if (file := path / f"{kind}.csv").is_file():
                tables[name] = pd.read_csv(file, dtype={"trace": str}).fillna("")
    if out is None:
        out = Path(FILE) if len(paths) > 1 else paths[0] / FILE
    title = " · ".join(path.name for path in paths)
    resolutions = dict(_maps(traces, progress)) if maps else {}
    kept = {name: trace for name, trace in traces.items() if trace.activation_epochs()}
    looked_at = {
        name: examined(trace, progress=progress)
        for name, trace in (kept.items() if examinations else ())
    }
    bounds = {name: trace.bound() for name, trace in traces.items()} if bound else {}
    found = {
        "maps": resolutions,
        "bounds": bounds,
        "multiverses": multiverses,
        "controls": controls,
        **tested,
    }
    return page.write(traces, out, title=title, examinations=looked_at, **found)


def _maps(traces: Mapping[str, Trace], progress: bool) -> Iterator[tuple[str, Resolution]]:
    """The resolution maps of those traces that keep what they are made of."""
    for name, trace in traces.items():
        if not trace.activation_epochs():
            continue
        try:
            yield name, trace.resolution(looks=_LOOKS, progress=progress)
        except (InvalidInput, RunError) as error:  # of a run that has just begun, say
            warnings.warn(f"{name}: no resolution map: {error}", stacklevel=2)


def _names(paths: Sequence[Path]) -> list[str]:
    """What tells the folders apart: their names, or as much of their paths as is needed."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    shared = Path(commonpath(paths))
    return [str(path.relative_to(shared)) if path != shared else path.name for path in paths]
