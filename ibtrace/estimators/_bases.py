"""What estimators share that hand their variables, projected or compressed, to a base."""

from __future__ import annotations

from ibtrace.errors import ConfigError
from ibtrace.numerics.scale import Scale, Scaled, scale_flags, words
from ibtrace.types import Estimate, Estimator


def of_base(base: Estimator) -> str:
    """What an estimand says of a base that itself estimates another than I(X;Y)."""
    return "" if base.tags.of_information else f", as {base.tags.estimand}"


def rescaled(scale: Scale) -> str:
    """What an estimand says of a scale that is set before a base sees the variables."""
    return "" if scale == "none" else f" of T {words(scale)}"


def raise_scale_flags(estimate: Estimate, x: Scaled, y: Scaled) -> Estimate:
    """A base's estimate with what was seen of the variables before their compression."""
    flags, shape = estimate.flags, estimate.bits.shape
    before = scale_flags(x._replace(spread=y.spread), y)  # the base compares the two spreads
    return estimate.flagged(
        **{name: flags.get(name, flag) | flag.expand(shape) for name, flag in before.items()}
    )


def require_base(name: str, base: object) -> None:
    """Raise unless ``base`` is an estimator.

    Args:
        name: Who asks, for the message.
        base: What was given.

    Raises:
        ConfigError: If it is not.
    """
    if isinstance(base, type) or not isinstance(base, Estimator):
        raise ConfigError(f"{name}: base must be an estimator such as KSG(k=3), got {base!r}")
