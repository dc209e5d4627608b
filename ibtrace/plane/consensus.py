"""What the estimators say together about a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ibtrace.plane.cause import Call
from ibtrace.plane.evidence import Truth
from ibtrace.plane.result import Consensus, Joint, LayerVerdict

_BY_ROWS = "the distinct rows of T"


def consensus(
    layer: str, judged: Sequence[LayerVerdict], still: Truth | None, vote: bool
) -> Consensus:
    """What the estimators say together.

    Args:
        layer: The layer.
        judged: By each estimator; one that gives no I(X;T) has no vote.
        still: The true I(X;T), if it is known not to have moved.
        vote: Whether it then speaks for all of X, so that the layer does not compress.
    """
    calls: dict[Call, list[str]] = {}
    voters = [layer_verdict for layer_verdict in judged if not layer_verdict.silent]
    for layer_verdict in voters:
        calls.setdefault(layer_verdict.call, []).append(layer_verdict.estimator)
    if still and vote:
        calls.setdefault("does not compress", []).append(_BY_ROWS)
    call = _together(calls)
    if still and call == "compresses":
        call = "inconclusive"
    reason = "; ".join(f"{each} by {', '.join(names)}" for each, names in calls.items())
    if list(calls) == [call]:
        reason = "by all estimators" if len(voters) == len(judged) else "by all that give I(X;T)"
    if not calls:
        reason = "no estimator gives I(X;T)"
    return Consensus(layer, call, f"{reason}; {still}" if still else reason)


def _together(calls: Mapping[Call, Sequence[str]]) -> Joint:
    """The call that half of the voters make, the others undecided."""
    decided = [call for call in calls if call != "inconclusive"]
    if len(decided) == 2:
        return "estimator-dependent"
    voters = sum(map(len, calls.values()))
    return decided[0] if decided and 2 * len(calls[decided[0]]) >= voters else "inconclusive"
