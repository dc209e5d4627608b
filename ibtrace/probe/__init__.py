"""The fixed inputs and labels on which information is measured."""

from __future__ import annotations

from ibtrace.probe._probe import ATTENTION_MASK as ATTENTION_MASK
from ibtrace.probe._probe import Probe as Probe
from ibtrace.probe._probe import as_x as as_x
from ibtrace.probe.inputs import Graph as Graph
from ibtrace.probe.inputs import Inputs as Inputs
from ibtrace.probe.reading import read as read
