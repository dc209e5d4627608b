"""From trials to bias, spread and RMSE."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ibtrace.comparison._trial import COLUMNS, DECLINED, FAILED, INFORMATION, OK
from ibtrace.errors import InvalidInput
from ibtrace.types import split_flags

OFF_BITS = 0.5


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Bias, spread and RMSE over seeds, one row for each estimator, law and n.

    Columns: ``estimator, problem, n, truth``; ``seeds``, how many gave a number; ``mean`` of the
    estimates; ``bias``, the mean error; ``spread``, the standard deviation over seeds; ``rmse``;
    ``seconds``, the median; ``flags``, each with how often it was raised; ``status`` and
    ``reason``, of the first trial without an estimate if there is one; ``measures`` and
    ``of_information``. A NaN or infinite estimate makes its mean so: nothing is left out.

    Args:
        frame: What `compare` gives, or some rows of it.

    Raises:
        InvalidInput: If columns are missing.
    """
    _check(frame)
    keys = ["estimator", "problem", "n"]
    groups = frame.groupby(keys, sort=False)
    records = [{**dict(zip(keys, key, strict=True)), **_of_law(group)} for key, group in groups]
    columns = [*keys, "truth", "seeds", "mean", "bias", "spread", "rmse", "seconds", "flags"]
    columns += ["status", "reason", "measures", "of_information"]
    return pd.DataFrame(records, columns=columns)


def overall(frame: pd.DataFrame) -> pd.DataFrame:
    """The same over all laws, one row for each estimator and n.

    Columns: ``estimator, n``; ``laws``, on how many it gave numbers; ``declined``, how many it
    does not take; ``failed``; ``bias``, the mean over laws; ``spread``, the median over laws;
    ``rmse``, over all trials, and ``median_error``, the median absolute one; ``off``, on how many
    laws the RMSE exceeds 0.5 bit; the ``worst`` law and its bias ``worst_bias``; median
    ``seconds``; ``flags``; ``measures`` and ``of_information``, on continuous variables.

    Args:
        frame: What `compare` gives, or some rows of it.

    Raises:
        InvalidInput: If columns are missing.
    """
    each = summary(frame)
    records = []
    for (estimator, n), laws in each.groupby(["estimator", "n"], sort=False):
        trials = frame[(frame["estimator"] == estimator) & (frame["n"] == n)]
        records.append({"estimator": estimator, "n": n, **_of_estimator(laws, trials)})
    columns = ["estimator", "n", "laws", "declined", "failed", "bias", "spread", "rmse"]
    columns += ["median_error", "off", "worst", "worst_bias", "seconds", "flags"]
    return pd.DataFrame(records, columns=[*columns, "measures", "of_information"])


def _of_law(trials: pd.DataFrame) -> dict[str, Any]:
    done = trials[trials["status"] == OK]
    errors = done["error"].to_numpy(dtype=float)
    bits = done["bits"].to_numpy(dtype=float)
    without = trials[trials["status"] != OK]
    return {
        "truth": trials["truth"].iloc[0],
        "seeds": len(done),
        "mean": _mean(bits),
        "bias": _mean(errors),
        "spread": _spread(bits),
        "rmse": _root_mean_square(errors),
        "seconds": _median(done["seconds"].to_numpy(dtype=float)),
        "flags": _counted(done["flags"]),
        "status": OK if without.empty else without["status"].iloc[0],
        "reason": "" if without.empty else without["reason"].iloc[0],
        "measures": trials["measures"].iloc[0],
        "of_information": bool(trials["of_information"].iloc[0]),
    }


def _of_estimator(laws: pd.DataFrame, trials: pd.DataFrame) -> dict[str, Any]:
    done = trials[trials["status"] == OK]
    given = laws[laws["seeds"] > 0]
    bias = given["bias"].to_numpy(dtype=float)
    # NaN is worse than any number.
    worst = int(np.nan_to_num(np.abs(bias), nan=np.inf).argmax()) if len(bias) else None
    others = trials.loc[~trials["of_information"].astype(bool), "measures"]
    return {
        "laws": len(given),
        "declined": int((laws["status"] == DECLINED).sum()),
        "failed": int((laws["status"] == FAILED).sum()),
        "bias": _mean(bias),
        "spread": _median(given["spread"].to_numpy(dtype=float)),
        "rmse": _root_mean_square(done["error"].to_numpy(dtype=float)),
        "median_error": _median(np.abs(done["error"].to_numpy(dtype=float))),
        "off": int((~(given["rmse"] <= OFF_BITS)).sum()),  # NaN is off
        "worst": "" if worst is None else given["problem"].iloc[worst],
        "worst_bias": np.nan if worst is None else bias[worst],
        "seconds": _median(done["seconds"].to_numpy(dtype=float)),
        "flags": _counted(done["flags"]),
        "measures": others.iloc[0] if len(others) else INFORMATION,
        "of_information": others.empty,
    }


def _mean(values: np.ndarray[Any, Any]) -> float:
    return float(values.mean()) if len(values) else np.nan


def _spread(values: np.ndarray[Any, Any]) -> float:
    with np.errstate(invalid="ignore"):  # an infinite estimate has no spread: NaN
        return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def _median(values: np.ndarray[Any, Any]) -> float:
    return float(np.median(values)) if len(values) else np.nan


def _root_mean_square(values: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else np.nan


def _counted(flags: pd.Series) -> str:
    """``"saturated 3/3, few_samples 1/3"``."""
    counts = Counter(flag for raised in flags for flag in split_flags(raised))
    return ", ".join(f"{flag} {count}/{len(flags)}" for flag, count in counts.most_common())


def _check(frame: pd.DataFrame) -> None:
    if missing := [name for name in COLUMNS if name not in frame]:
        raise InvalidInput(f"the table lacks the columns {missing}; pass what compare() gives")
