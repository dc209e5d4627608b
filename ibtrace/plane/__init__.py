"""From a trace to coordinates, phases and a verdict. Pure: tables in, frozen objects out."""

from ibtrace.plane.cause import Call as Call
from ibtrace.plane.cause import Cause as Cause
from ibtrace.plane.cause import CauseKind as CauseKind
from ibtrace.plane.coordinates import clock as clock
from ibtrace.plane.coordinates import coordinates as coordinates
from ibtrace.plane.coordinates import estimands as estimands
from ibtrace.plane.coordinates import mean_coordinates as mean_coordinates
from ibtrace.plane.coordinates import on_clock as on_clock
from ibtrace.plane.coordinates import phases as phases
from ibtrace.plane.drops import Interval as Interval
from ibtrace.plane.drops import half_width as half_width
from ibtrace.plane.drops import held_out_drops as held_out_drops
from ibtrace.plane.drops import interval as interval
from ibtrace.plane.drops import lasting_drops as lasting_drops
from ibtrace.plane.drops import peak_to_final_drops as peak_to_final_drops
from ibtrace.plane.drops import windowed as windowed
from ibtrace.plane.judge import judge as judge
from ibtrace.plane.judge import verdict as verdict
from ibtrace.plane.layer_resolution import LayerResolution as LayerResolution
from ibtrace.plane.resolution import Resolution as Resolution
from ibtrace.plane.result import Consensus as Consensus
from ibtrace.plane.result import LayerVerdict as LayerVerdict
from ibtrace.plane.result import Rule as Rule
from ibtrace.plane.result import Verdict as Verdict
