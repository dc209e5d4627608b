"""What estimators share that hand their variables, projected or compressed, to a base."""

from __future__ import annotations

from ibtrace.numerics.scale import Scale, Scaled, scale_flags, words
from ibtrace.types import Estimate, Estimator, Tags


def of_base(base: Estimator) -> str:
    """What an estimand says of a base that itself estimates another than I(X;Y)."""
    return "" if base.tags.of_information else f", as {base.tags.estimand}"


def tags_on_base(base: Estimator, *, estimand: str, reference: str, cost: str, bias: str) -> Tags:
    """Tags of an estimator that makes variables for a base: of them it takes what the base takes.

    Args:
        base: The base.
        estimand: What is estimated, before what the base estimates of it.
        reference: The paper.
        cost: Of the making, with how often the base is asked.
        bias: Of the estimand against I(X;Y).
    """
    return Tags(
        estimand=f"{estimand}{of_base(base)}",
        of_information=False,
        reference=reference,
        question=base.tags.question,
        x=base.tags.x,
        y=base.tags.y,
        bound=base.tags.bound,
        symmetric=False,
        variable="made",
        scale_dependence=base.tags.scale_dependence,
        cost=f"{cost}: {base.tags.cost}",
        bias=f"the estimand is at most I(X; Y), {bias}; of it the base's: {base.tags.bias}",
    )


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
