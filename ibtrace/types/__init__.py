"""The words the rest is written in: Estimate, Tags, Estimator, Row, and what a trace tells.

Everything public is in bits. A number never travels alone: an `Estimate` carries its error, its
interval and its flags, and a `Row` adds where it came from and what it is an estimate *of*.
"""

from __future__ import annotations

from ibtrace.types.accumulators import Accumulator as Accumulator
from ibtrace.types.accumulators import AddsUp as AddsUp
from ibtrace.types.accumulators import Grouping as Grouping
from ibtrace.types.accumulators import Targets as Targets
from ibtrace.types.accumulators import adds_up as adds_up
from ibtrace.types.accumulators import on_bounded as on_bounded
from ibtrace.types.controls import CONTROL as CONTROL
from ibtrace.types.controls import CONTROLS as CONTROLS
from ibtrace.types.controls import CONTROLS_LEFT_OUT as CONTROLS_LEFT_OUT
from ibtrace.types.controls import Control as Control
from ibtrace.types.controls import ControlKind as ControlKind
from ibtrace.types.controls import control_of as control_of
from ibtrace.types.estimators import ANY as ANY
from ibtrace.types.estimators import CONTINUOUS as CONTINUOUS
from ibtrace.types.estimators import DISCRETE as DISCRETE
from ibtrace.types.estimators import Binds as Binds
from ibtrace.types.estimators import Bound as Bound
from ibtrace.types.estimators import Estimator as Estimator
from ibtrace.types.estimators import Kind as Kind
from ibtrace.types.estimators import LayerContext as LayerContext
from ibtrace.types.estimators import NeedsMemory as NeedsMemory
from ibtrace.types.estimators import NeedsTrace as NeedsTrace
from ibtrace.types.estimators import OnePass as OnePass
from ibtrace.types.estimators import Plane as Plane
from ibtrace.types.estimators import ProbeLike as ProbeLike
from ibtrace.types.estimators import Question as Question
from ibtrace.types.estimators import ShapesVariable as ShapesVariable
from ibtrace.types.estimators import Tags as Tags
from ibtrace.types.estimators import Variable as Variable
from ibtrace.types.estimators import bound_to as bound_to
from ibtrace.types.estimators import needs_trace as needs_trace
from ibtrace.types.estimators import variable_of as variable_of
from ibtrace.types.lenses import Lens as Lens
from ibtrace.types.lenses import LensTags as LensTags
from ibtrace.types.lenses import Need as Need
from ibtrace.types.names import Labelled as Labelled
from ibtrace.types.names import Preset as Preset
from ibtrace.types.names import either as either
from ibtrace.types.names import label as label
from ibtrace.types.readings import BITS as BITS
from ibtrace.types.readings import LOSS as LOSS
from ibtrace.types.readings import Estimate as Estimate
from ibtrace.types.readings import Per as Per
from ibtrace.types.readings import Quantity as Quantity
from ibtrace.types.readings import Reading as Reading
from ibtrace.types.traces import DISTINCT_ROWS as DISTINCT_ROWS
from ibtrace.types.traces import EXACT_BITS as EXACT_BITS
from ibtrace.types.traces import I_TY as I_TY
from ibtrace.types.traces import I_XT as I_XT
from ibtrace.types.traces import INFORMATION as INFORMATION
from ibtrace.types.traces import RESERVED as RESERVED
from ibtrace.types.traces import Remembers as Remembers
from ibtrace.types.traces import Row as Row
from ibtrace.types.traces import TraceLike as TraceLike
from ibtrace.types.traces import about_source as about_source
from ibtrace.types.traces import about_target as about_target
from ibtrace.types.traces import information_of as information_of
from ibtrace.types.traces import join_flags as join_flags
from ibtrace.types.traces import split_flags as split_flags
from ibtrace.types.views import AdamMoments as AdamMoments
from ibtrace.types.views import Head as Head
from ibtrace.types.views import Link as Link
from ibtrace.types.views import OptimizerState as OptimizerState
from ibtrace.types.views import View as View
