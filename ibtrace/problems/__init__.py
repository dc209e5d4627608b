"""Joint laws whose mutual information is known: truth to hold estimators to.

Every law is a frozen dataclass with ``sample(n, seed)``, the exact ``bits``, the pointwise
information ``log_ratio(x, y)``, and its formula and source. The suite names ready instances;
those of the "Beyond Normal" benchmark (Czyż et al. 2023) keep the names they have there.

>>> problem = make("1v1-normal-0.75")
>>> x, y = problem.sample(1000, seed=0)
>>> abs(float(problem.log_ratio(x, y).mean()) - problem.bits) < 0.1
True
"""

from __future__ import annotations

import inspect
from typing import Any

from ibtrace.errors import ConfigError, UnknownName
from ibtrace.problems._problem import Problem as Problem
from ibtrace.problems._suite import beyond_normal, small
from ibtrace.problems._suite import everything as _everything
from ibtrace.problems.channel import GaussianChannel as GaussianChannel
from ibtrace.problems.discrete import BinarySymmetric as BinarySymmetric
from ibtrace.problems.discrete import Table as Table
from ibtrace.problems.gamma_exponential import GammaExponential as GammaExponential
from ibtrace.problems.gao import NormalWithAtoms as NormalWithAtoms
from ibtrace.problems.gao import UniformLabel as UniformLabel
from ibtrace.problems.gao import ZeroInflatedPoisson as ZeroInflatedPoisson
from ibtrace.problems.independent import Independent as Independent
from ibtrace.problems.mixture import NormalMixture as NormalMixture
from ibtrace.problems.normal import BivariateNormal as BivariateNormal
from ibtrace.problems.normal import DenseNormal as DenseNormal
from ibtrace.problems.normal import LinearGaussian as LinearGaussian
from ibtrace.problems.normal import SparseNormal as SparseNormal
from ibtrace.problems.quantized import QuantizedNetwork as QuantizedNetwork
from ibtrace.problems.student import StudentT as StudentT
from ibtrace.problems.swapped import Swapped as Swapped
from ibtrace.problems.transforms import Asinh as Asinh
from ibtrace.problems.transforms import Bimodal as Bimodal
from ibtrace.problems.transforms import HalfCube as HalfCube
from ibtrace.problems.transforms import NormalCDF as NormalCDF
from ibtrace.problems.transforms import Rescaled as Rescaled
from ibtrace.problems.transforms import Spiral as Spiral
from ibtrace.problems.transforms import SwissRoll as SwissRoll
from ibtrace.problems.transforms import Wiggly as Wiggly
from ibtrace.problems.uniform import AdditiveUniform as AdditiveUniform
from ibtrace.runtime.arguments import built, shown

registry: dict[str, type[Problem]] = {
    "bivariate_normal": BivariateNormal,
    "dense_normal": DenseNormal,
    "sparse_normal": SparseNormal,
    "linear_gaussian": LinearGaussian,
    "student": StudentT,
    "additive_uniform": AdditiveUniform,
    "gamma_exponential": GammaExponential,
    "normal_mixture": NormalMixture,
    "uniform_label": UniformLabel,
    "zero_inflated_poisson": ZeroInflatedPoisson,
    "normal_with_atoms": NormalWithAtoms,
    "table": Table,
    "binary_symmetric": BinarySymmetric,
    "gaussian_channel": GaussianChannel,
    "quantized_network": QuantizedNetwork,
    "independent": Independent,
    "normal_cdf": NormalCDF,
    "asinh": Asinh,
    "half_cube": HalfCube,
    "wiggly": Wiggly,
    "bimodal": Bimodal,
    "spiral": Spiral,
    "swiss_roll": SwissRoll,
    "swapped": Swapped,
}

_SUITES = {"all": _everything, "beyond-normal": beyond_normal, "small": small}


def suite(name: str = "all") -> dict[str, Problem]:
    """A named set of ready problems, by their names.

    Args:
        name: ``"all"``; ``"beyond-normal"``, the tasks of Czyż et al. 2023; or ``"small"``,
            a dozen laws of every kind, for a first comparison.

    Raises:
        UnknownName: If there is no such set.
    """
    if name not in _SUITES:
        raise UnknownName(f"no suite {name!r}; there are {', '.join(sorted(_SUITES))}")
    return {problem.name: problem for problem in _SUITES[name]()}


def all_problems() -> tuple[Problem, ...]:
    """Every ready problem."""
    return tuple(suite().values())


def names() -> tuple[str, ...]:
    """What ``make`` takes: the families, then the ready problems."""
    return (*registry, *suite())


def make(name: str, **fields: Any) -> Problem:
    """A problem by the name of its family or its own, with some fields changed.

    Args:
        name: A family (``"student"``) or a ready problem (``"1v1-normal-0.75"``).
        **fields: Fields that differ from the family's defaults or the ready problem's.

    Raises:
        UnknownName: If there is no such name; lists those that exist.
        ConfigError: If a field does not exist or has an impossible value.
    """
    if not isinstance(name, str):
        raise UnknownName(f"no problem {shown(name)}; give the name of one: {', '.join(names())}")
    ready = {} if name in registry else suite()
    if name not in registry and name not in ready:
        raise UnknownName(f"no problem {name!r}; there are {', '.join(names())}")
    family = registry[name] if name in registry else type(ready[name])
    known = list(inspect.signature(family).parameters)
    unknown = sorted(set(fields) - set(known))
    if unknown:
        got = ", ".join(unknown)
        raise ConfigError(f"problem {name!r} has no field {got}; it has {', '.join(known)}")
    start = {field: getattr(ready[name], field) for field in known} if ready else {}
    made: Problem = built(f"problem {name!r}", family, start | fields, known)
    return made
