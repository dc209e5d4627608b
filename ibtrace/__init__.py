"""ibtrace: an Information Bottleneck tracer for PyTorch.

Wrap a model in a `Tracer`, train it as you always do, and ask whether it compresses:

    with ibtrace.Tracer(model, data=(x, y)) as tracer:
        for epoch in range(1, epochs + 1):
            train_one_epoch(model)
            tracer.snapshot(epoch)
    print(tracer.verdict())
"""

import typing as _typing

from ibtrace import datasets as datasets
from ibtrace import errors as errors
from ibtrace import estimators as estimators
from ibtrace import lenses as lenses
from ibtrace import problems as problems
from ibtrace.capture import Look as Look
from ibtrace.capture import Recipe as Recipe
from ibtrace.capture import Twins as Twins
from ibtrace.capture import layers as layers
from ibtrace.capture import snapshot as snapshot
from ibtrace.comparison import compare as compare
from ibtrace.datasets import Dataset as Dataset
from ibtrace.ensemble import Ensemble as Ensemble
from ibtrace.errors import IbtraceError as IbtraceError
from ibtrace.errors import LeftOut as LeftOut
from ibtrace.estimators import information as information
from ibtrace.plane import Rule as Rule
from ibtrace.plane import Verdict as Verdict
from ibtrace.plane import verdict as verdict
from ibtrace.probe import Probe as Probe
from ibtrace.problems import Problem as Problem
from ibtrace.runtime.imports import when_named as _when_named
from ibtrace.runtime.schedule import Steps as Steps
from ibtrace.runtime.schedule import log_spaced as log_spaced
from ibtrace.trace import Scalar as Scalar
from ibtrace.trace import Trace as Trace
from ibtrace.tracer import At as At
from ibtrace.tracer import Keep as Keep
from ibtrace.tracer import Sink as Sink
from ibtrace.tracer import Subsampled as Subsampled
from ibtrace.tracer import Tracer as Tracer
from ibtrace.types import Estimate as Estimate
from ibtrace.types import Estimator as Estimator
from ibtrace.types import Lens as Lens
from ibtrace.types import LensTags as LensTags
from ibtrace.types import Quantity as Quantity
from ibtrace.types import Reading as Reading
from ibtrace.types import Row as Row
from ibtrace.types import Tags as Tags
from ibtrace.types import TraceLike as TraceLike
from ibtrace.types import View as View

if _typing.TYPE_CHECKING:
    from ibtrace import claims as claims
    from ibtrace import cli as cli
    from ibtrace import integrations as integrations
    from ibtrace import papers as papers
    from ibtrace import plots as plots
    from ibtrace import predictions as predictions
    from ibtrace import reports as reports
    from ibtrace import testing as testing
    from ibtrace import training as training
else:  # ``ibtrace.plots`` is there after ``import ibtrace``, and costs its import where it is named
    __getattr__, __dir__ = _when_named(
        __name__,
        *(
            "claims",
            "cli",
            "integrations",
            "papers",
            "plots",
            "predictions",
            "reports",
            "testing",
            "training",
        ),
    )

__version__ = "0.1.0"
