"""What depends on a probe alone, computed once for it: one place, one key.

The inputs never change during a run, the layers do at every look. What an estimator needs of the
inputs (their distances, their ranks, their kernel) is computed by a function of the probe and of
what else it depends on, and kept with the probe under that function and those arguments. As the
function sees nothing else, no key can forget what a value depends on; two configurations of an
estimator that need the same share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from ibtrace.types import ProbeLike

_Settings = ParamSpec("_Settings")
_Prepared = TypeVar("_Prepared")


def once(
    prepare: Callable[Concatenate[ProbeLike, _Settings], _Prepared],
    probe: ProbeLike,
    *settings: _Settings.args,
    **named: _Settings.kwargs,
) -> _Prepared:
    """``prepare(probe, *settings)``, computed the first time and kept with the probe.

    Args:
        prepare: A function of a module, so that it depends on its arguments only.
        probe: The inputs and labels.
        *settings: All else that the value depends on, hashable; a device among them where tensors
            are made there, a seed where something is drawn.
        **named: The same by name.

    Raises:
        TypeError: If ``prepare`` may see more than its arguments: a lambda, a local function, a
            method.
    """
    name = getattr(prepare, "__qualname__", repr(prepare))
    if "." in name or "<" in name:
        raise TypeError(f"once: {name} is no function of a module; its key would miss what it sees")
    key = (prepare, *settings, *sorted(named.items()))
    return probe.cached(key, lambda: prepare(probe, *settings, **named))
