"""From a trace to a figure; nothing here computes information."""

from ibtrace.plots._curves import curves as curves
from ibtrace.plots._drops import drops as drops
from ibtrace.plots._plane import information_plane as information_plane
from ibtrace.plots._plane import information_planes as information_planes
from ibtrace.plots._style import save as save
