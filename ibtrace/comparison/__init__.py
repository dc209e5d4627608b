"""Estimators held side by side: on laws of known information, and on a run's own activations.

`compare` gives one row for every estimator, law, number of samples and seed; `summary` gives
bias, spread and RMSE. `calibration_laws` are laws of known information at the size of somebody's
own data, and `disagreement` says how far estimators are apart where no truth is known.
"""

from ibtrace.comparison._calibration import CalibrationLaw as CalibrationLaw
from ibtrace.comparison._calibration import calibration_laws as calibration_laws
from ibtrace.comparison._calibration import calibration_table as calibration_table
from ibtrace.comparison._calibration import label_law as label_law
from ibtrace.comparison._calibration import layer_law as layer_law
from ibtrace.comparison._disagreement import disagreement as disagreement
from ibtrace.comparison._suite import suite as suite
from ibtrace.comparison._summary import OFF_BITS as OFF_BITS
from ibtrace.comparison._summary import overall as overall
from ibtrace.comparison._summary import summary as summary
from ibtrace.comparison._trial import COLUMNS as COLUMNS
from ibtrace.comparison._trial import DECLINED as DECLINED
from ibtrace.comparison._trial import FAILED as FAILED
from ibtrace.comparison._trial import OK as OK
from ibtrace.comparison._trial import Outcome as Outcome
from ibtrace.comparison._trial import Sample as Sample
from ibtrace.comparison._trial import Status as Status
from ibtrace.comparison._trial import Trial as Trial
from ibtrace.comparison._trial import table as table
from ibtrace.comparison._trials import compare as compare
from ibtrace.comparison._trials import named_estimators as named_estimators
from ibtrace.comparison._trials import named_problems as named_problems
from ibtrace.comparison._trials import trials as trials
