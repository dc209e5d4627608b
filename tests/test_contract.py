"""Every registered estimator keeps the contract; exceptions carry their reason."""

from __future__ import annotations

from typing import Any

import pytest

from ibtrace import estimators, testing
from ibtrace.testing import Check

# Configurations small enough for the suite, where the defaults are made for larger work.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "sliced": {"directions": 8},
    "variational": {"hidden": 16, "embedding": 8, "steps": 40, "batch": 32},
}

# What an estimator cannot keep, and why. Strict: an exception that has gone has to leave.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("edge", "independence"): "the plug-in bias that its two cancelled terms leave: up by 0.10 bit "
    "at N = 400 in two dimensions, by 0.02 at N = 5000",
}


def every_pair() -> list[Any]:
    """Each estimator with each check, the known exceptions marked."""
    pairs = []
    for estimator in estimators.names():
        for name, check in testing.checks:
            reason = EXCEPTIONS.get((estimator, name))
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            pairs.append(pytest.param(estimator, check, id=f"{estimator}-{name}", marks=marks))
    return pairs


@pytest.mark.parametrize(("name", "check"), every_pair())
def test_contract(name: str, check: Check) -> None:
    check(estimators.make(name, **CONFIGURATIONS.get(name, {})))


def test_exceptions_name_what_exists() -> None:
    known = {(name, check) for name in estimators.names() for check, _ in testing.checks}
    assert set(EXCEPTIONS) <= known
    assert set(CONFIGURATIONS) <= set(estimators.names())
