"""Where a trace's numbers also go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import several, shown
from ibtrace.trace import Trace
from ibtrace.types import Row


class Sink(Protocol):
    """Where rows also go: TensorBoard, a tracking service (see `ibtrace.integrations`)."""

    def write(self, trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]) -> None:
        """Take a snapshot's rows and scalars; the trace holds them already."""
        ...

    def close(self, trace: Trace, failed: bool) -> None:
        """No more will come: the trace is complete, or it has ``failed``, as its training has."""
        ...


def checked_sinks(given: Any) -> list[Sink]:
    """The sinks as a list, each of them one.

    Args:
        given: One or several.

    Raises:
        ConfigError: If something is no sink.
    """
    sinks = several(given)
    for sink in sinks:
        methods = (getattr(sink, name, None) for name in ("write", "close"))
        if isinstance(sink, type) or not all(map(callable, methods)):
            raise ConfigError(
                f"keep: sinks: {shown(sink)} is no sink; give objects with write(trace, rows, "
                "scalars) and close(trace, failed), such as those of ibtrace.integrations"
            )
    return sinks


def write_all(
    sinks: Sequence[Sink], trace: Trace, rows: Sequence[Row], scalars: Mapping[str, Any]
) -> None:
    """Write to every sink, whether or not another fails; then raise the first error.

    Args:
        sinks: The sinks; without rows none is written to.
        trace: Holds the rows already.
        rows: A snapshot's rows.
        scalars: Its scalars.
    """
    errors: list[Exception] = []
    for sink in sinks if rows else ():
        try:
            sink.write(trace, rows, scalars)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def close_all(sinks: Sequence[Sink], trace: Trace, failed: bool) -> list[Exception]:
    """Close every sink, whether or not another fails; returns what they raised.

    Args:
        sinks: The sinks.
        trace: The trace.
        failed: Whether the trace has failed, as its training has.
    """
    errors: list[Exception] = []
    for sink in sinks:
        try:
            sink.close(trace, failed)
        except Exception as error:
            errors.append(error)
    return errors
