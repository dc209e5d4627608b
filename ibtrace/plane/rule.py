"""When a layer is said to compress: the thresholds of the judge."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, fields

from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import shown, whole


@dataclass(frozen=True)
class Rule:
    """When a layer is said to compress.

    Args:
        least_drop: A fall of I(X;T) of fewer bits is not called compression.
        least_seeds: With fewer seeds there is no call.
        confidence: Of the intervals over seeds.
        near_ceiling: An estimate within this share of its ceiling is saturated.
        final_share: The last snapshots, as a share of all: a seed that comes near its peak in
            them has not fallen for good.
        late_share: Training had not converged if more than this share of the fall of the
            training loss came in the last half of the epochs.
        window_share: The held-out fall is taken between means of this share of the snapshots.
        errors: A curve within this many standard errors of 0 throughout shows nothing.

    Raises:
        ConfigError: If a number is none, negative, or a share above 1.
    """

    least_drop: float = 0.1
    least_seeds: int = 3
    confidence: float = 0.95
    near_ceiling: float = 0.05
    final_share: float = 0.2
    late_share: float = 0.1
    window_share: float = 0.1
    errors: float = 2.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "least_seeds":
                whole("Rule: least_seeds", value, least=1)
                continue
            real = isinstance(value, numbers.Real) and not isinstance(value, bool)
            most = math.inf if item.name in ("least_drop", "errors") else 1
            if not (real and math.isfinite(value) and 0 <= value <= most):
                least = "0 or more" if most == math.inf else "from 0 to 1"
                raise ConfigError(f"Rule: {item.name} must be {least}, got {shown(value)}")
