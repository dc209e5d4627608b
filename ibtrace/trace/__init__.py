"""The trace of a run: its tables, its files, and what is recorded of where they came from."""

from ibtrace.trace._trace import COLUMNS as COLUMNS
from ibtrace.trace._trace import READING_COLUMNS as READING_COLUMNS
from ibtrace.trace._trace import Scalar as Scalar
from ibtrace.trace._trace import Trace as Trace
from ibtrace.trace.choices import Choices as Choices
from ibtrace.trace.examination import Examination as Examination
from ibtrace.trace.sweep import Sweep as Sweep
