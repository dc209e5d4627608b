"""The fixed inputs and labels on which information is measured."""

from __future__ import annotations

from ibtrace.probe._probe import Probe as Probe
from ibtrace.probe._probe import as_x as as_x
from ibtrace.probe.inputs import Graph as Graph
from ibtrace.probe.inputs import Inputs as Inputs
from ibtrace.probe.named import LEFT_OUT as LEFT_OUT
from ibtrace.probe.named import Named as Named
from ibtrace.probe.padding import Stream as Stream
from ibtrace.probe.read_anew import ReadAnew as ReadAnew
from ibtrace.probe.reading import read as read
