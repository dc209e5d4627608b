"""Checks of an estimator's fields that more than one needs."""

from __future__ import annotations

from ibtrace.errors import ConfigError
from ibtrace.numerics.scale import Scale


def unscaled(scale: Scale) -> str:
    """Why an estimate depends on the scale, if it was told not to bring variables to their own."""
    return "the variables are compared in the units they come in" if scale == "none" else ""


def require_count(name: str, field: str, value: object, *, least: int = 1) -> None:
    """Raise unless a field is a whole number.

    Args:
        name: Whose field, for the message.
        field: Its name.
        value: What was given.
        least: The smallest it may be.

    Raises:
        ConfigError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(
            f"{name}: {field} must be a whole number of at least {least}, got {value!r}"
        )
