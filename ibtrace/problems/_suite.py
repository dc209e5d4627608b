"""The ready problems: named instances that tests and comparisons run over."""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from typing import get_args

from ibtrace.problems._problem import Problem
from ibtrace.problems.channel import GaussianChannel
from ibtrace.problems.discrete import BinarySymmetric, Table
from ibtrace.problems.gamma_exponential import GammaExponential
from ibtrace.problems.gao import NormalWithAtoms, UniformLabel, ZeroInflatedPoisson
from ibtrace.problems.independent import Independent, Marginal
from ibtrace.problems.mixture import NormalMixture
from ibtrace.problems.normal import BivariateNormal, DenseNormal, LinearGaussian, SparseNormal
from ibtrace.problems.quantized import QuantizedNetwork
from ibtrace.problems.student import StudentT
from ibtrace.problems.swapped import Swapped
from ibtrace.problems.transforms import (
    Asinh,
    Bimodal,
    HalfCube,
    NormalCDF,
    Spiral,
    SwissRoll,
    Wiggly,
)
from ibtrace.problems.uniform import AdditiveUniform

_SQUARE = ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0))


@cache
def beyond_normal() -> tuple[Problem, ...]:
    """The forty tasks of Czyż et al. 2023, restated with closed forms."""
    normal, student = BivariateNormal(0.75), StudentT(1, 1, 1)
    two_pair = [SparseNormal(d, d) for d in (3, 5, 25)]
    return (
        normal,
        NormalCDF(normal),
        AdditiveUniform(0.1),
        AdditiveUniform(0.75),
        Bimodal(normal),
        Wiggly(normal),
        HalfCube(normal),
        student,
        Asinh(student),
        SwissRoll(NormalCDF(normal)),
        *(DenseNormal(d, d) for d in (2, 3, 5, 25, 50)),
        *(SparseNormal(d, d) for d in (2, 3, 5, 25)),
        *(StudentT(d, d, dof) for d, dof in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))),
        *(NormalCDF(base) for base in two_pair),
        *(HalfCube(base) for base in two_pair),
        *(Spiral(base) for base in two_pair),
        *(Spiral(NormalCDF(base)) for base in two_pair),
        *(Asinh(StudentT(d, d, dof)) for d, dof in ((2, 1), (3, 2), (5, 2))),
    )


@cache
def everything() -> tuple[Problem, ...]:
    """Every ready problem, "Beyond Normal" first."""
    circle = tuple((math.cos(t), math.sin(t)) for t in (math.pi / 4 * k for k in range(8)))
    return (
        *beyond_normal(),
        *(BivariateNormal(r) for r in (0.3, 0.9, 0.99, 0.9999)),
        DenseNormal(64, 64),
        SparseNormal(64, 64),
        LinearGaussian(),
        StudentT(2, 2, 3, off_diagonal=0.5),
        GammaExponential(2.0),
        NormalMixture.cross(),
        NormalMixture.letters(),
        NormalMixture.inliers(),
        UniformLabel(5),
        UniformLabel(5, as_ids=False),
        UniformLabel(5, copies=3, as_ids=False),
        Swapped(UniformLabel(5)),
        ZeroInflatedPoisson(0.15),
        ZeroInflatedPoisson(0.15, as_ids=False),
        NormalWithAtoms(),
        Table(title="3x3"),
        BinarySymmetric(0.11),
        GaussianChannel(((-1.0,), (1.0,)), 0.7, title="2-points"),
        GaussianChannel(_SQUARE, 0.7, title="4-points"),
        GaussianChannel(circle, 0.4, title="8-points"),
        Swapped(GaussianChannel(_SQUARE, 0.7, title="4-points")),
        *(QuantizedNetwork(12, function) for function in ("popcount", "parity", "kept")),
        *(Independent(x, y) for x, y in product(get_args(Marginal), repeat=2)),
        Independent(dim=5),
    )


@cache
def small() -> tuple[Problem, ...]:
    """A dozen laws of every kind, for a first comparison."""
    return (
        BivariateNormal(0.3),
        BivariateNormal(0.75),
        BivariateNormal(0.99),
        SparseNormal(5, 5),
        DenseNormal(25, 25),
        StudentT(3, 3, 2),
        Spiral(SparseNormal(3, 3)),
        AdditiveUniform(0.1),
        Swapped(UniformLabel(5)),
        NormalWithAtoms(),
        Swapped(GaussianChannel(_SQUARE, 0.7, title="4-points")),
        Table(title="3x3"),
        Independent(),
        Independent("continuous", "discrete"),
    )
