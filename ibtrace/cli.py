"""The command line: parse, call, print. A mistake is one clear line and exit status 2."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from ibtrace import __version__
from ibtrace.errors import ConfigError, IbtraceError
from ibtrace.runtime.output import complain, occupy, say
from ibtrace.runtime.signals import INTERRUPTED, TERMINATED, terminated_as_interrupted
from ibtrace.runtime.text import shorten

_PROG = "ibtrace"
_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line and exit status 2, without the usage."""
        self.exit(2, f"{self.prog}: {message} (see '{self.prog} --help')\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stderr:
            complain(message.removesuffix("\n"))
        else:
            say(message.removesuffix("\n"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    Args:
        arguments: As on the command line; None takes them from there.
    """
    occupy()
    with terminated_as_interrupted() as stop:
        status = _status_of(arguments)
    return TERMINATED if stop.terminated and status == INTERRUPTED else status


def _status_of(arguments: Sequence[str] | None) -> int:
    """Run a command; what ends it early is one line."""
    try:
        options = _parser().parse_args(arguments)
        with _warnings_in_one_line():
            status: int = options.call(options)
    except IbtraceError as error:
        complain(f"{_PROG}: {error}")
        return 2
    except OSError as error:  # a name that is too long, a folder of somebody else, …
        place = "" if error.filename is None else f"{shorten(str(error.filename))}: "
        complain(f"{_PROG}: {place}{error.strerror or error}")
        return 2
    except KeyboardInterrupt:
        complain(f"\n{_PROG}: interrupted")
        return INTERRUPTED
    return status


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Each warning once, as a line to a person."""
    shown: set[str] = set()

    def show(message: Warning | str, *_where: Any, **_: Any) -> None:
        text = str(message)
        if text not in shown:
            complain(f"{_PROG}: {text}")
        shown.add(text)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_PROG,
        description="Does my network compress, and should I believe it? "
        "An Information Bottleneck tracer for PyTorch.",
    )
    parser.add_argument("--version", action="version", version=f"{_PROG} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in _COMMANDS:
        add(commands)
    return parser


# Each command: a function that adds it to the parser, and below it the one that it calls.


def _add_replicate(commands: _Commands) -> None:
    parser = commands.add_parser(
        "replicate",
        help="replicate a paper: train, trace, draw, and test its claims",
        description="Train and trace a paper's networks, draw the information plane, and say of "
        "each claim whether it held. The default takes a few minutes on 2 cores.",
    )
    parser.add_argument("name", metavar="NAME", help="which (see 'ibtrace list'), or file.PAPER")
    parser.add_argument(
        "--activation",
        action="append",
        metavar="A",
        help="only this nonlinearity; may be repeated (default: those of its configuration)",
    )
    parser.add_argument("--full", action="store_true", help="the paper's size (tishby: 50 seeds)")
    _add_run_options(parser, "runs/NAME")
    parser.set_defaults(call=_replicate)


def _replicate(options: argparse.Namespace) -> int:
    from ibtrace import papers
    from ibtrace.training import configs, folders

    _find_users_code()
    changes = _changes(options)
    if options.out or options.name in papers.PAPERS:
        folders.require_usable(options.out or f"runs/{options.name}", options.resume)
    paper = papers.find(options.name)

    from ibtrace.reports import reporting
    from ibtrace.training import runner

    folder = Path(options.out or f"runs/{paper.name}")
    given = paper.config or paper.name
    raw = folders.stored_config(folder) if options.resume else configs.read(given)
    asked = paper.changes(changes, activations=options.activation, full=options.full)
    raw = _overridden(raw, asked)
    try:
        traces = runner.run(raw, folder, resume=options.resume, progress=not options.quiet)
        say(reporting.report(traces, folder, paper.claims, paper.figures, paper.predictions))
    except KeyboardInterrupt:
        return _interrupted(f"replicate {options.name} --out {folder}")
    if paper.full and not options.full and not options.resume:
        say(f"\nThe paper's size: ibtrace replicate {options.name} --full")
    return 0


def _add_run(commands: _Commands) -> None:
    parser = commands.add_parser(
        "run",
        help="run a configuration: a shipped one, or your own model by class_path",
        description="Train and trace what a YAML file describes. 'class_path' runs the code it "
        "names: run only configurations that you trust.",
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="a YAML file or shipped name; with --resume, a run folder"
    )
    _add_run_options(parser, "runs/CONFIG")
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from ibtrace.training import configs, folders

    _find_users_code()
    folder = Path(options.out or f"runs/{Path(options.config).stem}")
    by_folder = options.config not in configs.shipped() and Path(options.config).is_dir()
    if options.resume and by_folder:
        folder = Path(options.out or options.config)
        raw = folders.stored_config(folder)
    else:
        raw = configs.read(options.config)
    raw = _overridden(raw, _changes(options))
    folders.require_usable(folder, options.resume)

    from ibtrace.reports import reporting
    from ibtrace.training import runner

    try:
        traces = runner.run(raw, folder, resume=options.resume, progress=not options.quiet)
        say(reporting.report(traces, folder))
    except KeyboardInterrupt:
        return _interrupted(f"run {folder}")
    return 0


def _add_sweep(commands: _Commands) -> None:
    parser = commands.add_parser(
        "sweep",
        help="a grid over a configuration and seeds, on this machine or on a cluster",
        description="Train and trace every point of a grid, each seed of it a job of its own, and "
        "merge all of them. The same command goes on with what is left: finished jobs are skipped, "
        "interrupted ones resumed. As a task of a Slurm array it does the task's jobs alone.",
    )
    parser.add_argument(
        "config", metavar="CONFIG", help="a YAML file or shipped name; or the folder of a sweep"
    )
    parser.add_argument(
        "--grid",
        nargs="+",
        action="extend",
        default=[],
        metavar="A.B=C,D",
        help="values of any key of the configuration, and seeds=0..49",
    )
    parser.add_argument(
        "--seeds-per-job", type=int, metavar="K", help="seeds that a job trains (default: 1)"
    )
    parser.add_argument(
        "--engine",
        choices=("loky", "dask", "ray"),
        default="loky",
        help="where jobs run: processes of this machine (default), or through Dask or Ray",
    )
    parser.add_argument(
        "--address", help="of Dask's scheduler or Ray's cluster (default: one started here)"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="jobs at a time (default: one a core)"
    )
    parser.add_argument(
        "--tasks", type=int, metavar="N", help="tasks of the Slurm array (default: one a job)"
    )
    parser.add_argument("--retry", action="store_true", help="begin failed jobs again")
    parser.add_argument("--dry-run", action="store_true", help="list the jobs, and do nothing")
    parser.add_argument("--out", metavar="DIR", help="the folder (default: runs/CONFIG-sweep)")
    _add_set_option(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(call=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from ibtrace.training import jobs

    _find_users_code()
    folder, plan = _planned_sweep(options)
    jobs.require_usable(folder, plan)
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    share = None if task is None else plan.share(_task(task), options.tasks)
    if options.dry_run:
        say(jobs.listing(folder, plan, share or plan.jobs))
        return 0

    from ibtrace.training import engines, sweep

    workers = engines.Workers(options.engine, options.address, options.jobs)
    try:
        outcome = sweep.run(
            plan,
            folder,
            only=share,
            workers=workers,
            retry=options.retry,
            progress=not options.quiet,
        )
    except KeyboardInterrupt:
        complain(f"\n{_PROG}: interrupted; go on with: ibtrace sweep {folder}")
        return INTERRUPTED
    say(str(outcome))
    if share is None:
        from ibtrace.reports import sweeping

        say(sweeping.text(sweep.merged(plan, folder), folder))
    return int(bool(outcome.failed or outcome.unfinished))


def _planned_sweep(options: argparse.Namespace) -> tuple[Path, Any]:
    """The folder of a sweep and what is to be done in it."""
    from ibtrace.training import configs, grid, jobs

    if options.config not in configs.shipped() and Path(options.config).is_dir():
        if given := [name for name in ("grid", "set", "out") if getattr(options, name)]:
            raise ConfigError(f"{options.config} is a sweep already: leave out --{given[0]}")
        return Path(options.config), jobs.stored_plan(options.config)
    raw = _overridden(configs.read(options.config), configs.assignments(options.set))
    per_job = 1 if options.seeds_per_job is None else options.seeds_per_job
    plan = grid.Plan.of(raw, grid.parsed(options.grid), per_job)
    return Path(options.out or f"runs/{Path(options.config).stem}-sweep"), plan


def _task(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"SLURM_ARRAY_TASK_ID must be a whole number, got {text!r}")
    return int(text)


def _add_trace(commands: _Commands) -> None:
    parser = commands.add_parser(
        "trace",
        help="trace the checkpoints of a training that is over",
        description="Measure saved checkpoints as a run of the configuration would have "
        "measured the network live. They may be state dicts, Lightning's, safetensors or "
        "Hugging Face folders. 'class_path' runs the code it names: use only configurations "
        "that you trust.",
    )
    parser.add_argument("config", metavar="CONFIG", help="a YAML file or shipped name")
    parser.add_argument(
        "--checkpoints",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="which files or folders, all of one network",
    )
    parser.add_argument(
        "--epochs",
        metavar="E,F",
        help="epochs of training done at each, by the order of the names (default: as they say)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="its seed (default: 0)")
    parser.add_argument("--variant", metavar="NAME", help="its variant of the configuration")
    parser.add_argument(
        "--out", metavar="DIR", help="the run folder (default: runs/CONFIG-checkpoints)"
    )
    _add_set_option(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(call=_trace)


def _trace(options: argparse.Namespace) -> int:
    from ibtrace.training import configs

    _find_users_code()
    folder = Path(options.out or f"runs/{Path(options.config).stem}-checkpoints")
    raw = _overridden(configs.read(options.config), configs.assignments(options.set))

    from ibtrace.reports import reporting
    from ibtrace.training import after, runner

    after.trace_checkpoints(
        raw,
        options.checkpoints,
        folder,
        variant=options.variant,
        seed=options.seed,
        epochs=None if options.epochs is None else after.numbers(options.epochs),
        progress=not options.quiet,
    )
    say(reporting.report(runner.load(folder), folder))
    return 0


def _add_compare(commands: _Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="which estimators can be believed: on laws of known information, or on a run",
        description="Hold estimators to laws whose information is known and say how far each "
        "is off; or, with --run, put them all on a run's stored activations and calibrate "
        "them at its own N, d and class count. The default takes a few minutes on 2 cores; "
        "Ctrl-C keeps what is done.",
    )
    parser.add_argument("--estimators", metavar="A,B", help="only these (default: all)")
    parser.add_argument(
        "--problems",
        action="append",
        default=[],
        metavar="P,Q",
        help="laws, or suites: default, small, beyond-normal, all; may be repeated",
    )
    parser.add_argument("--n", metavar="N,M", help="samples (default: 500,2000; all with --run)")
    parser.add_argument("--seeds", type=int, metavar="K", help="seeds (default: 3; 1 with --run)")
    parser.add_argument("--run", metavar="RUN", help="a run folder with stored activations")
    parser.add_argument(
        "--snapshots", type=int, metavar="K", help="with --run: how many epochs (default: 6)"
    )
    _add_of_controls(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="where to (default: runs/compare, or RUN/compare)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(call=_compare)


def _compare(options: argparse.Namespace) -> int:
    if options.run is None and options.snapshots is not None:
        raise ConfigError("--snapshots goes with --run")
    if options.run is None and options.controls:
        raise ConfigError("--controls goes with --run")
    if options.run is not None and options.problems:
        raise ConfigError("--problems does not go with --run, which calibrates at its size")
    if options.run is not None and options.n is not None and "," in options.n:
        raise ConfigError("--n takes one number with --run: how many of the probe's samples")
    _require_runs(*([] if options.run is None else [options.run]))

    from ibtrace.comparison import FAILED
    from ibtrace.reports import comparing

    names = None if options.estimators is None else comparing.split(options.estimators)
    n = None if options.n is None else comparing.sizes(options.n)
    if options.run is not None:
        return _compare_run(options, names, n)
    folder = Path(options.out or "runs/compare")
    frame, whole = comparing.compare(
        names,
        comparing.chosen_problems(options.problems),
        folder,
        n=n or comparing.SIZES,
        seeds=comparing.SEEDS if options.seeds is None else options.seeds,
        progress=not options.quiet,
    )
    if len(frame):
        say(comparing.text(frame, folder))
    return _exit_status(whole) or int((frame["status"] == FAILED).any())


def _compare_run(options: argparse.Namespace, names: list[str] | None, n: list[int] | None) -> int:
    from ibtrace.reports import comparing_run as report
    from ibtrace.training import comparing_run

    out = Path(options.out or Path(options.run) / "compare")
    for variant, trace in _judged(options).items():
        comparison = comparing_run.compare_run(
            trace,
            names,
            n=n[0] if n else None,
            seeds=comparing_run.SEEDS if options.seeds is None else options.seeds,
            snapshots=comparing_run.SNAPSHOTS if options.snapshots is None else options.snapshots,
            progress=not options.quiet,
        )
        if variant:
            say(f"{variant}\n{'=' * len(variant)}")
        say(report.leave(comparison, out / variant))
        if not comparison.whole:
            return _exit_status(False)
    return 0


def _judged(options: argparse.Namespace) -> dict[str, Any]:
    """The traces of a run by variant, its controls among them where they are asked for."""
    from ibtrace.reports import controls
    from ibtrace.training import runner

    traces = dict(runner.load(options.run))
    return traces if options.controls else controls.subjects(traces)


def _exit_status(whole: bool) -> int:
    if not whole:
        complain(f"{_PROG}: interrupted; the above is what was done")
    return 0 if whole else INTERRUPTED


def _add_multiverse(commands: _Commands) -> None:
    parser = commands.add_parser(
        "multiverse",
        help="the verdict under every analysis, and at every resolution, of a run's activations",
        description="Judge every layer under a grid of analysis choices, say which choice the "
        "verdict turns on, and map binned information at every width of bins. The run must have "
        "kept its activations (store_activations: true); of checkpoints they are made by "
        "'ibtrace trace CONFIG --checkpoints … --set store_activations=true'.",
    )
    parser.add_argument("run", metavar="RUN", help="a run folder with stored activations")
    parser.add_argument("--grid", metavar="FILE", help="a YAML file of choices (default: shipped)")
    parser.add_argument("--layers", metavar="A,B", help="only these (default: all)")
    _add_of_controls(parser)
    parser.add_argument(
        "--looks", type=int, metavar="K", help="snapshots of the resolution map (default: all)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--out", metavar="DIR", help="where to (default: RUN/multiverse)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(call=_multiverse)


def _multiverse(options: argparse.Namespace) -> int:
    _require_runs(options.run)

    from ibtrace.reports import multiverse

    out = Path(options.out or Path(options.run) / "multiverse")
    jobs = options.jobs or os.cpu_count() or 1
    common: dict[str, Any] = {"jobs": jobs, "progress": not options.quiet}
    common["layers"] = None if options.layers is None else _names(options.layers)
    for variant, trace in _judged(options).items():
        judged = trace.multiverse(options.grid, **common)
        resolution = trace.resolution(looks=options.looks, **common)
        if variant:
            say(f"{variant}\n{'=' * len(variant)}")
        say(multiverse.leave(judged, resolution, out / variant))
    return 0


def _add_plot(commands: _Commands) -> None:
    parser = commands.add_parser(
        "plot", help="draw the figures of a run", description="Draw the figures of a run."
    )
    _add_finished_run(parser)
    parser.add_argument("--out", metavar="DIR", help="where to (default: the run folder)")
    parser.add_argument(
        "--animate",
        nargs="?",
        const="gif",
        choices=("gif", "mp4"),
        help="films of the information plane instead: gif (default), or mp4 where ffmpeg is",
    )
    parser.add_argument(
        "--normalised",
        action="store_true",
        help="I(X;T)/H(X) and I(T;Y)/H(Y), to compare layers and data sets",
    )
    _add_source_option(parser)
    parser.add_argument(
        "--y", metavar="NAME", help="the target that stands for Y (default: the first)"
    )
    _add_bound(parser, "draw the information-bottleneck curve beneath the plane")
    parser.set_defaults(call=_plot)


def _add_bound(parser: argparse.ArgumentParser, what: str) -> None:
    law = "of the probe's X and Y: what no layer can pass (an estimate, unless it is all of X)"
    parser.add_argument("--bound", action="store_true", help=f"{what} {law}")


_NOT_NAMED = "--bound is the curve of the inputs and the first target: leave --x and --y out"


def _plot(options: argparse.Namespace) -> int:
    if options.animate is not None and options.normalised:
        raise ConfigError("--normalised does not go with --animate, whose axes are bits")
    if options.animate is not None and options.bound:
        raise ConfigError("--bound does not go with --animate; ask one after the other")
    if options.bound and (options.x is not None or options.y is not None):
        raise ConfigError(_NOT_NAMED)
    _require_runs(options.run)

    from ibtrace.reports import reporting
    from ibtrace.training import runner

    traces: Mapping[str, Any] = runner.load(options.run)
    if options.x is not None or options.y is not None:
        traces = {name: trace.pair(options.x, options.y) for name, trace in traces.items()}
    run, out = Path(options.run), Path(options.out or options.run)
    if options.animate is not None:
        paths = reporting.films(traces, out, options.animate, options.estimator, run=run)
    else:
        wanted = {"run": run, "normalised": options.normalised, "bound": options.bound}
        paths = reporting.figures(traces, out, options.estimator, **wanted)
    for path in paths:
        say(str(path))
    return 0


def _add_report(commands: _Commands) -> None:
    parser = commands.add_parser(
        "report",
        help="one HTML file of a run, or of several side by side",
        description="Write verdicts, figures to look into (a slider of epochs, toggles, hover, "
        "SVG and CSV of each), claims and provenance as one HTML file that asks for nothing from "
        "anywhere.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run folder")
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help="where to (default: RUN/report.html; of several runs, report.html)",
    )
    parser.add_argument(
        "--no-maps",
        action="store_true",
        help="no resolution maps, which runs that keep their activations get otherwise",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="what 'ibtrace verdict RUN --trust' measures of activations that were kept",
    )
    _add_bound(parser, "draw the information-bottleneck curve beneath the plane")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(call=_report)


def _report(options: argparse.Namespace) -> int:
    _require_runs(*options.runs)

    from ibtrace.reports import paging

    maps = not options.no_maps
    more = {"maps": maps, "examinations": options.trust, "bound": options.bound}
    page = paging.write_page(options.runs, options.out, progress=not options.quiet, **more)
    say(str(page))
    return 0


def _add_verdict(commands: _Commands) -> None:
    text = "does I(X;T) of each layer fall: the information itself, and as estimators see it"
    parser = commands.add_parser("verdict", help=text, description=f"{text[0].upper()}{text[1:]}.")
    _add_finished_run(parser)
    parser.add_argument("--details", action="store_true", help="every number of every layer")
    _add_source_option(parser)
    parser.add_argument(
        "--against", metavar="RUN", help="what differs from the verdict on another run, in bits"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="which points fail a check; of a run that keeps its activations, its estimators "
        "against chance and on fewer samples, what bins lose, and the geometry of the classes",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar of --trust")
    _add_bound(parser, "tell how far each layer is from the information-bottleneck curve")
    parser.set_defaults(call=_verdict)


def _verdict(options: argparse.Namespace) -> int:
    if options.bound and options.x is not None:
        raise ConfigError(_NOT_NAMED)
    if options.trust and options.against is not None:
        raise ConfigError("--trust does not go with --against; ask one after the other")
    _require_runs(*filter(None, (options.run, options.against)))

    from ibtrace.reports import reporting, trusting
    from ibtrace.training import runner

    traces = runner.load(options.run)
    if options.against is not None:
        say(reporting.differences(traces, runner.load(options.against), options.estimator))
        return 0
    if options.trust:
        say(trusting.trusts(traces, options.estimator, progress=not options.quiet))
        return 0
    wanted = {"details": options.details, "x": options.x, "bound": options.bound}
    say(reporting.verdicts(traces, options.estimator, **wanted))
    return 0


def _add_list(commands: _Commands) -> None:
    parser = commands.add_parser(
        "list",
        help="what there is: configurations, papers, estimators, lenses, problems",
        description="List what there is.",
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=("configs", "papers", "estimators", "lenses", "problems"),
        help="one kind only",
    )
    parser.set_defaults(call=_list)


def _list(options: argparse.Namespace) -> int:
    from ibtrace.reports import listing

    say(listing.listing(options.what))
    return 0


def _add_cite(commands: _Commands) -> None:
    parser = commands.add_parser(
        "cite",
        help="BibTeX of ibtrace and of all that a run rests on",
        description="Print BibTeX: of ibtrace, and of every estimator, lens and paper that a run "
        "used.",
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run folder (default: ibtrace)")
    parser.set_defaults(call=_cite)


def _cite(options: argparse.Namespace) -> int:
    if options.run is not None:
        _require_runs(options.run)

    from ibtrace.reports import citing
    from ibtrace.training import runner

    traces = {} if options.run is None else runner.load(options.run)
    say(citing.of_run(traces, Path(options.run or "")))
    return 0


def _add_doctor(commands: _Commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what this machine has and lacks: packages, devices, data",
        description="Say which packages, devices and data are there and what is missing for "
        "which command. The exit status is 1 if something is wrong.",
    )
    parser.set_defaults(call=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from ibtrace.reports import doctor

    found = doctor.examined()
    say(doctor.text(found))
    return int(any(each.wrong for part in found.values() for each in part))


_COMMANDS: tuple[Callable[[_Commands], None], ...] = (
    _add_replicate,
    _add_run,
    _add_sweep,
    _add_trace,
    _add_compare,
    _add_multiverse,
    _add_plot,
    _add_report,
    _add_verdict,
    _add_list,
    _add_cite,
    _add_doctor,
)


# What commands share.


def _add_run_options(parser: argparse.ArgumentParser, out: str) -> None:
    parser.add_argument("--seeds", type=int, metavar="N", help="networks, each its own seed")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of training")
    parser.add_argument("--out", metavar="DIR", help=f"the run folder (default: {out})")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--lenses", metavar="A,B", help="what else to measure (see 'ibtrace list lenses'), or: all"
    )
    parser.add_argument(
        "--controls",
        action="store_true",
        help="trace beside them the same networks with shuffled labels, linear, and frozen",
    )
    _add_set_option(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _add_of_controls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--controls", action="store_true", help="of a run's controls too (default: its subjects)"
    )


def _add_set_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="A.B=C",
        help="set any key of the configuration; may be repeated",
    )


def _add_finished_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--estimator", metavar="E", help="only this estimator's label")


def _add_source_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--x", metavar="NAME", help="the source that stands for X (default: the inputs themselves)"
    )


def _require_runs(*runs: str) -> None:
    """Raise, before anything heavy is imported, unless the folders hold runs."""
    from ibtrace.training import folders

    for run in runs:
        folders.require_run(run)


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """The configuration keys that the options set."""
    from ibtrace.training import configs

    changes = configs.assignments(options.set)
    for name in ("seeds", "epochs"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    if options.lenses is not None:
        from ibtrace.reports import listing

        given = options.lenses
        named = list(listing.known("lenses")) if given == "all" else _names(given)
        if not named:
            raise ConfigError("--lenses names none: give names (A,B) or all, or leave it out")
        changes["lenses"] = named
    if options.controls:
        from ibtrace.types import CONTROLS

        changes["controls"] = list(CONTROLS)
    return changes


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _overridden(raw: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    from ibtrace.training import configs

    for key, value in changes.items():
        raw = configs.override(raw, key, value)
    configs.require_unset(raw, changes)
    return raw


def _find_users_code() -> None:
    sys.path.insert(0, str(Path.cwd()))  # a class_path may name a file beside the user


def _interrupted(command: str) -> int:
    complain(f"\n{_PROG}: interrupted; go on with: ibtrace {command} --resume")
    return INTERRUPTED
