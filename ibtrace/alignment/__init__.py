"""What happens when: events of a run, which of two comes first, and what changes together."""

from __future__ import annotations

from ibtrace.alignment.coincidence import coincidence as coincidence
from ibtrace.alignment.events import EVENTS as EVENTS
from ibtrace.alignment.events import Event as Event
from ibtrace.alignment.events import Events as Events
from ibtrace.alignment.events import events as events
from ibtrace.alignment.order import Named as Named
from ibtrace.alignment.order import Order as Order
from ibtrace.alignment.order import order as order
