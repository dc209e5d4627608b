"""What happens when: events of a run, which of two comes first, and what changes together."""

from __future__ import annotations

from ibtrace.alignment.apart import Apart as Apart
from ibtrace.alignment.apart import apart as apart
from ibtrace.alignment.coincidence import coincidence as coincidence
from ibtrace.alignment.events import DIFFUSION as DIFFUSION
from ibtrace.alignment.events import EVENTS as EVENTS
from ibtrace.alignment.events import PEAK as PEAK
from ibtrace.alignment.events import SATURATION as SATURATION
from ibtrace.alignment.events import Event as Event
from ibtrace.alignment.events import Events as Events
from ibtrace.alignment.events import events as events
from ibtrace.alignment.order import Named as Named
from ibtrace.alignment.order import Order as Order
from ibtrace.alignment.order import order as order
from ibtrace.alignment.places import module_of as module_of
from ibtrace.alignment.places import outputs as outputs
