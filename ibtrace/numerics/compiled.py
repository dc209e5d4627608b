"""The compiled kernels, loaded when first asked for: `import ibtrace` does not pay for them."""

from __future__ import annotations

import importlib
import logging
import time
from functools import cache
from types import ModuleType
from typing import Literal

_log = logging.getLogger("ibtrace")

_NOTICED = 1.0  # seconds
_spent = [0.0]  # seconds of importing numba and compiling, in this process

Kernels = Literal["_counting", "_columns", "_gaussian_pairs", "_neighbours", "_screened"]


def clock() -> float:
    """Seconds on a clock that stands still while kernels are compiled or loaded.

    What a look, an estimate or a reading takes is told by it: the first one of a process would say
    that all are as slow.
    """
    return time.perf_counter() - _spent[0]


@cache
def kernels(name: Kernels) -> ModuleType:
    """A module of compiled kernels.

    The first use on a machine compiles it, in seconds, and says so; numba keeps the code beside the
    source, or in the user's own cache, so that later processes load it in a tenth of a second.
    Where neither can be written to, every process compiles anew.

    Args:
        name: The module's name in `ibtrace.numerics`.
    """
    begin = clock()
    importlib.import_module("numba")  # not of the time that is told: nothing is kept of it
    start = time.perf_counter()
    module = importlib.import_module(f"ibtrace.numerics.{name}")
    seconds = time.perf_counter() - start
    _spent[0] += clock() - begin
    if seconds > _NOTICED:
        _log.warning(
            "compiled ibtrace.numerics.%s in %.1f s, which is kept for the next time where numba "
            "finds a place to write to (NUMBA_CACHE_DIR names one)",
            name,
            seconds,
        )
    return module
