"""The tracer: looks at a network on schedule and appends to its trace."""

from __future__ import annotations

from ibtrace.tracer._defaults import default_estimators as default_estimators
from ibtrace.tracer._keep import Keep as Keep
from ibtrace.tracer._observer import Networks as Networks
from ibtrace.tracer._schedules import At as At
from ibtrace.tracer._sinks import Sink as Sink
from ibtrace.tracer._tracer import Tracer as Tracer
