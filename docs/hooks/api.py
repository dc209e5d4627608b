"""The pages of the API: which names are told of where; what they say is read from the code."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping

from ibtrace import errors, lenses, plots, problems

CONCEPTS: dict[str, tuple[str, str, list[str]]] = {
    "tracer": (
        "Tracer",
        "What looks at a network, and how: the tracer, its looks, when they are due, what is "
        "kept and where rows go.",
        [
            *("ibtrace.Tracer", "ibtrace.Look", "ibtrace.layers", "ibtrace.snapshot"),
            *("ibtrace.At", "ibtrace.Steps", "ibtrace.log_spaced", "ibtrace.Keep", "ibtrace.Sink"),
            *("ibtrace.Recipe", "ibtrace.Twins", "ibtrace.Ensemble"),
        ],
    ),
    "probe": (
        "Probe",
        "The fixed inputs and labels on which information is measured, and the data sets that "
        "come with ibtrace.",
        [
            *("ibtrace.Probe", "ibtrace.ReadAnew", "ibtrace.Dataset", "ibtrace.ngrams"),
            *("ibtrace.datasets.tishby", "ibtrace.datasets.digits", "ibtrace.datasets.mnist"),
            "ibtrace.datasets.python_source",
        ],
    ),
    "trace": (
        "Trace",
        "The record of a run: its rows, and everything that is read from them.",
        [
            *("ibtrace.Trace", "ibtrace.Sweep", "ibtrace.Scalar", "ibtrace.Row"),
            *("ibtrace.TraceLike", "ibtrace.alignment.Event", "ibtrace.alignment.Events"),
            *("ibtrace.alignment.Order", "ibtrace.alignment.apart", "ibtrace.trace.Choices"),
        ],
    ),
    "verdict": (
        "Verdict",
        "Does I(X;T) of a layer fall, and what says so.",
        [
            *("ibtrace.verdict", "ibtrace.Verdict", "ibtrace.Rule"),
            *("ibtrace.plane.LayerVerdict", "ibtrace.plane.Answer", "ibtrace.plane.Finding"),
            *("ibtrace.plane.Evidence", "ibtrace.plane.Cause", "ibtrace.plane.derived"),
            *("ibtrace.plane.interval", "ibtrace.plane.controlled", "ibtrace.plane.Trust"),
            *("ibtrace.plane.Multiverse", "ibtrace.plane.Resolution"),
        ],
    ),
    "bound": (
        "The bound",
        "The information-bottleneck curve: the most I(T;Y) that any T can have.",
        ["ibtrace.bottleneck", "ibtrace.gaussian_bottleneck", "ibtrace.BottleneckCurve"],
    ),
    "problems": (
        "Laws of known information",
        "Joint laws whose information is known, to hold estimators to.",
        [
            *("ibtrace.Problem", "ibtrace.problems.make", "ibtrace.problems.names"),
        ],
    ),
    "comparison": (
        "Comparison",
        "Estimators side by side, on laws and on a run's own activations.",
        ["ibtrace.compare", "ibtrace.comparison.summary", "ibtrace.comparison.table"],
    ),
    "lenses": (
        "Lenses",
        "What else is read at the looks. What each says and when it lies: [Lenses](../lenses.md).",
        [
            *("ibtrace.Lens", "ibtrace.LensTags", "ibtrace.Quantity", "ibtrace.Reading"),
            *("ibtrace.View", "ibtrace.lenses.make", "ibtrace.lenses.names"),
        ],
    ),
    "plots": (
        "Plots",
        "From a trace to a figure.",
        [
            f"ibtrace.plots.{name}"
            for name, each in sorted(vars(plots).items())
            if inspect.isfunction(each) and not name.startswith("_")
        ],
    ),
    "testing": (
        "Testing",
        "The contracts of an estimator and of a lens, as checks to run on your own.",
        ["ibtrace.testing.check_estimator", "ibtrace.testing.check_lens"],
    ),
    "models": (
        "Models",
        "The networks of the papers, and what puts noise into one.",
        [
            *("ibtrace.models.MLP", "ibtrace.models.CNN", "ibtrace.models.Decoder"),
            *("ibtrace.models.noise.inject_noise", "ibtrace.models.noise.GaussianNoise"),
            "ibtrace.models.noise.ContinuousDropout",
        ],
    ),
    "integrations": (
        "Integrations",
        "Callbacks of training frameworks, and sinks for rows.",
        [
            *("ibtrace.integrations.lightning.IBTrace", "ibtrace.integrations.huggingface.IBTrace"),
            "ibtrace.integrations.ignite.IBTrace",
            *("ibtrace.integrations.tensorboard.TensorBoard", "ibtrace.integrations.wandb.WandB"),
            "ibtrace.integrations.mlflow.MLflow",
        ],
    ),
    "papers": (
        "Papers, claims and predictions",
        "What a replication is made of ([one of your own](../extending/paper.md)).",
        [
            *("ibtrace.papers.Paper", "ibtrace.claims.Claim", "ibtrace.claims.Outcome"),
            *("ibtrace.predictions.Prediction", "ibtrace.predictions.of_each"),
        ],
    ),
    "errors": (
        "Errors and warnings",
        "All that ibtrace raises on purpose, in one tree: `except ibtrace.IbtraceError` catches "
        "every error.",
        [
            "ibtrace.IbtraceError",
            *(
                f"ibtrace.errors.{name}"
                for name, each in vars(errors).items()
                if isinstance(each, type)
                and each.__module__ == errors.__name__
                and name not in ("IbtraceError", "LeftOut")
            ),
            "ibtrace.LeftOut",
        ],
    ),
}
"""By the name of the page: its title, a sentence, and what is told on it."""

ESTIMATORS = (
    *("ibtrace.Estimator", "ibtrace.Tags", "ibtrace.Estimate", "ibtrace.information"),
    *("ibtrace.estimators.make", "ibtrace.estimators.names", "ibtrace.estimators.checked"),
    "ibtrace.Subsampled",
)
"""What the page of estimators tells beside the estimators."""


KINDS: dict[str, Mapping[str, type]] = {"lenses": lenses.registry, "problems": problems.registry}
"""Pages that tell each of a registry as well."""


def directive(name: str) -> str:
    """What mkdocstrings reads, under the name that a user imports.

    A function that stands in a module of its own name (``datasets.ngrams``) is told by its full
    path, for the name alone would mean the module.
    """
    module, _, attribute = name.rpartition(".")
    home = name if ".integrations." in name else _home(module, attribute)
    if not home.endswith(f".{attribute}.{attribute}"):
        return f"::: {name}\n"
    return f"::: {home}\n    options:\n      heading: {name}\n      toc_label: {attribute}\n"


def _home(module: str, attribute: str) -> str:
    """Where what a module exports is defined."""
    told = getattr(importlib.import_module(module), attribute)
    return f"{getattr(told, '__module__', module)}.{attribute}"


def briefly(room: str, each: type) -> str:
    """The same of a class whose methods are those of its protocol: its own ways to make one."""
    own = [name for name, what in vars(each).items() if isinstance(what, classmethod)]
    members = [name for name in own if not name.startswith("_")]
    told = directive(f"ibtrace.{room}.{each.__name__}")
    return f"{told}    options:\n      members: {members or 'false'}\n"


def pages() -> dict[str, str]:
    """Every page of the API but that of estimators, and the list of all."""
    made = {}
    for at, (title, text, names) in CONCEPTS.items():
        kinds = [briefly(at, each) for each in KINDS.get(at, {}).values()]
        lines = [f"# {title}", "", text, "", *map(directive, names), *kinds]
        made[f"api/{at}.md"] = "\n".join(lines)
    return {"api/index.md": _index(), **made}


def _index() -> str:
    lines = ["# API by concept", "", "Read from the code, each name on one page.", ""]
    told = {
        **CONCEPTS,
        "estimators": (
            "Estimators",
            "Of mutual information, in bits, by what they ask.",
            [*ESTIMATORS],
        ),
    }
    for at, (title, _, names) in told.items():
        shown = ", ".join(f"`{name.removeprefix('ibtrace.')}`" for name in names[:6])
        more = ", …" if len(names) > 6 else ""
        lines.append(f"- [{title}]({at}.md): {shown}{more}")
    return "\n".join([*lines, ""])
