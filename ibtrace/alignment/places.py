"""Which module belongs to which layer, and what is only the output."""

from __future__ import annotations

from ibtrace.types import TraceLike


def module_of(trace: TraceLike, layer: str) -> str | None:
    """The module that makes a layer of a chain: the one in its place.

    Args:
        trace: A trace.
        layer: One of its layers.

    Returns:
        None where there are not as many modules with readings as layers, so that places tell
        nothing.
    """
    if len(trace.modules) != len(trace.layers):
        return None
    return trace.modules[trace.layers.index(layer)]


def outputs(trace: TraceLike) -> tuple[str, ...]:
    """The last layer and the module that makes it: what happens there is not of hidden layers.

    Args:
        trace: A trace.
    """
    if not trace.layers:
        return ()
    last = trace.layers[-1]
    module = module_of(trace, last)
    return (last,) if module is None else (last, module)
