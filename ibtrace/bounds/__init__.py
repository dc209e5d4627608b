"""What no network can pass in the information plane: the information-bottleneck curve.

`bottleneck` finds it for discrete variables, given their law or samples; `gaussian_bottleneck` has
it in closed form.

>>> curve = bottleneck([[0.45, 0.05], [0.05, 0.45]])
>>> curve.impossible(0.5, 0.4)
True
"""

from ibtrace.bounds._curve import BottleneckCurve as BottleneckCurve
from ibtrace.bounds._curve import Check as Check
from ibtrace.bounds._discrete import bottleneck as bottleneck
from ibtrace.bounds._gaussian import gaussian_bottleneck as gaussian_bottleneck
from ibtrace.bounds._joint import curve_of as curve_of
from ibtrace.bounds._joint import joint_record as joint_record
from ibtrace.bounds._law import Samples as Samples
