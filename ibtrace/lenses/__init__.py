"""Lenses: what else to measure at the epochs of the information plane, each in its own unit.

A lens is a frozen dataclass of the `ibtrace.types.Lens` protocol. To add one: a file here and a
line in the registry; your own need not be registered (`ibtrace.testing.check_lens` tests it).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ibtrace.errors import UnknownName
from ibtrace.lenses._costs import COSTS as COSTS
from ibtrace.lenses._costs import measured_cost as measured_cost
from ibtrace.lenses.balance import Balance as Balance
from ibtrace.lenses.capacity import Capacity as Capacity
from ibtrace.lenses.connectivity import Connectivity as Connectivity
from ibtrace.lenses.curvature import Curvature as Curvature
from ibtrace.lenses.edge import Edge as Edge
from ibtrace.lenses.effective_dimension import EffectiveDimension as EffectiveDimension
from ibtrace.lenses.feature_alignment import FeatureAlignment as FeatureAlignment
from ibtrace.lenses.flatness import Flatness as Flatness
from ibtrace.lenses.generalization import Generalization as Generalization
from ibtrace.lenses.geometry import Geometry as Geometry
from ibtrace.lenses.gradient_noise import GradientNoise as GradientNoise
from ibtrace.lenses.invariance import Invariance as Invariance
from ibtrace.lenses.linear_probe import LinearProbe as LinearProbe
from ibtrace.lenses.modes import Modes as Modes
from ibtrace.lenses.neural_collapse import NeuralCollapse as NeuralCollapse
from ibtrace.lenses.norms import Norms as Norms
from ibtrace.lenses.ntk import NTK as NTK
from ibtrace.lenses.one_step import OneStep as OneStep
from ibtrace.lenses.pac_bayes import PACBayes as PACBayes
from ibtrace.lenses.readings import checked as checked
from ibtrace.lenses.readings import layer_of as layer_of
from ibtrace.lenses.readings import modules_of as modules_of
from ibtrace.lenses.redundancy import Redundancy as Redundancy
from ibtrace.lenses.saturation import Saturation as Saturation
from ibtrace.lenses.sensitivity import Sensitivity as Sensitivity
from ibtrace.lenses.slice import Slice as Slice
from ibtrace.lenses.stability import Stability as Stability
from ibtrace.lenses.topology import Topology as Topology
from ibtrace.lenses.two_nn import TwoNN as TwoNN
from ibtrace.runtime.arguments import built, several, shown
from ibtrace.types import Lens

registry: dict[str, type[Any]] = {
    "geometry": Geometry,
    "neural_collapse": NeuralCollapse,
    "saturation": Saturation,
    "stability": Stability,
    "two_nn": TwoNN,
    "capacity": Capacity,
    "curvature": Curvature,
    "edge": Edge,
    "gradient_noise": GradientNoise,
    "one_step": OneStep,
    "ntk": NTK,
    "pac_bayes": PACBayes,
    "flatness": Flatness,
    "slice": Slice,
    "connectivity": Connectivity,
    "linear_probe": LinearProbe,
    "redundancy": Redundancy,
    "topology": Topology,
    "effective_dimension": EffectiveDimension,
    "norms": Norms,
    "feature_alignment": FeatureAlignment,
    "balance": Balance,
    "sensitivity": Sensitivity,
    "invariance": Invariance,
    "modes": Modes,
    "generalization": Generalization,
}
"""Every lens of the package by name; values are dataclasses of the `Lens` protocol."""


def names() -> list[str]:
    """The registered names, in the order of the registry."""
    return list(registry)


def expanded(items: Any) -> list[Any]:
    """One or several lenses as a list, with the names of all in place of ``"all"``.

    Example:
        >>> len(expanded("all")) == len(names())
        True
    """
    given = several(items)
    return [each for item in given for each in (names() if is_all(item) else [item])]


def is_all(item: Any) -> bool:
    """Whether this stands for every lens of the package."""
    return isinstance(item, str) and item == "all"


def statements() -> dict[str, str]:
    """What has to be said of a quantity where it is printed, by the quantity's name."""
    tags = [make(name).tags for name in names()]
    return {each.quantities[0].name: each.statement for each in tags if each.statement}


def make(name: str, **fields: Any) -> Lens:
    """A lens by its registered name.

    Args:
        name: A key of the registry.
        **fields: Fields of the lens's dataclass.

    Raises:
        UnknownName: If no lens has that name; lists those there are.
        ConfigError: If a field does not exist or has an impossible value.

    Example:
        >>> make("saturation", share=0.95)
        Saturation(share=0.95)
    """
    if not isinstance(name, str) or name not in registry:
        raise UnknownName(f"no lens is called {shown(name)}; there are: {', '.join(names())}")
    known = [field.name for field in dataclasses.fields(registry[name])]
    made: Lens = built(f"lens {name}", registry[name], fields, known)
    return made
