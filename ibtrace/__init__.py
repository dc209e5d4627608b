"""ibtrace: an Information Bottleneck tracer for PyTorch.

Wrap a model in a `Tracer`, train it as you always do, and ask whether it compresses:

    with ibtrace.Tracer(model, data=(x, y)) as tracer:
        for epoch in range(1, epochs + 1):
            train_one_epoch(model)
            tracer.snapshot(epoch)
    print(tracer.verdict())
"""

from ibtrace import datasets as datasets
from ibtrace import estimators as estimators
from ibtrace import problems as problems
from ibtrace.capture import Look as Look
from ibtrace.capture import layers as layers
from ibtrace.capture import snapshot as snapshot
from ibtrace.comparison import compare as compare
from ibtrace.ensemble import Ensemble as Ensemble
from ibtrace.errors import IbtraceError as IbtraceError
from ibtrace.errors import LeftOut as LeftOut
from ibtrace.estimators import information as information
from ibtrace.plane import Rule as Rule
from ibtrace.plane import Verdict as Verdict
from ibtrace.plane import verdict as verdict
from ibtrace.probe import Probe as Probe
from ibtrace.runtime.schedule import Steps as Steps
from ibtrace.runtime.schedule import log_spaced as log_spaced
from ibtrace.trace import Trace as Trace
from ibtrace.tracer import At as At
from ibtrace.tracer import Keep as Keep
from ibtrace.tracer import Subsampled as Subsampled
from ibtrace.tracer import Tracer as Tracer
from ibtrace.types import Estimate as Estimate
from ibtrace.types import Estimator as Estimator
from ibtrace.types import Row as Row

__version__ = "0.1.0"
