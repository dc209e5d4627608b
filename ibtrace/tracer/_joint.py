"""What a trace records of the joint law of X and Y, for the curve that no layer can pass."""

from __future__ import annotations

from typing import Any

from ibtrace.bounds import joint_record
from ibtrace.probe import Probe


def joint(probe: Probe) -> dict[str, Any]:
    """The record, if the labels are classes of samples and there are not too many; else nothing.

    T of a token is made of other tokens too, and passes the curve of its own X: of labels of
    tokens there is none.
    """
    if probe.label_kind not in ("classes", "joint"):
        return {}
    record = joint_record(probe.x_ids, probe.labels, known=probe.population)
    return {} if record is None else {"joint": record}
