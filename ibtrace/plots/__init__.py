"""From a trace to a figure; nothing here computes information."""

from ibtrace.plots._against import Panel as Panel
from ibtrace.plots._against import against as against
from ibtrace.plots._aligned import aligned as aligned
from ibtrace.plots._animation import animate as animate
from ibtrace.plots._beside import Measure as Measure
from ibtrace.plots._beside import beside as beside
from ibtrace.plots._beside import beside_controls as beside_controls
from ibtrace.plots._compare import error_map as error_map
from ibtrace.plots._compare import estimate_against_truth as estimate_against_truth
from ibtrace.plots._compare_run import disagreement_map as disagreement_map
from ibtrace.plots._compare_run import planes_by_estimator as planes_by_estimator
from ibtrace.plots._curves import curves as curves
from ibtrace.plots._curves import readings as readings
from ibtrace.plots._drops import drops as drops
from ibtrace.plots._falls import falls as falls
from ibtrace.plots._grid import Series as Series
from ibtrace.plots._grid import Strip as Strip
from ibtrace.plots._grid import grid as grid
from ibtrace.plots._multiverse import specification_curve as specification_curve
from ibtrace.plots._plane import information_plane as information_plane
from ibtrace.plots._plane import information_planes as information_planes
from ibtrace.plots._resolution import resolution_map as resolution_map
from ibtrace.plots._style import save as save
