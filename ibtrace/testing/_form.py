"""The form of an estimator: its results, its errors, its being a value, its documentation."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput, NonFinite, TooFewSamples, Unsupported
from ibtrace.testing._applies import EXAMPLES, accepted_kinds, examples, tagged
from ibtrace.types import Estimate, Estimator, Lens


def check_estimate(estimator: Estimator) -> None:
    """One finite number of bits for one problem, and the ends of an interval in order."""
    for x, y in examples(estimator):
        estimate = estimator(x, y)
        assert isinstance(estimate, Estimate), f"{estimator!r} returns {type(estimate).__name__}"
        shape = tuple(estimate.bits.shape)
        assert shape == (), f"{estimator!r} gives shape {shape} for one problem"
        assert torch.isfinite(estimate.bits), f"{estimator!r} gives {float(estimate.bits)} bits"
        ends = f"lower {float(estimate.lower):.4f} above upper {float(estimate.upper):.4f}"
        assert not bool(estimate.lower > estimate.upper), f"{estimator!r} gives {ends}"


def check_kinds(estimator: Estimator) -> None:
    """Kinds of variable that the tags exclude are refused by name; some are taken."""
    for kinds, problem in EXAMPLES.items():
        if not tagged(estimator, kinds):
            x, y = problem.sample(60)
            what = f"{kinds[0]} x with {kinds[1]} y, which the tags exclude,"
            _refuses(estimator, what, Unsupported, functools.partial(estimator, x, y))
    assert accepted_kinds(estimator), f"{estimator!r} declines every kind of variable"


def check_errors(estimator: Estimator) -> None:
    """Data that cannot be used is one line of a typed error that names the estimator."""
    for x, y in examples(estimator, n=60):
        for what, error, *pair in _unusable(x, y):
            _refuses(estimator, what, error, functools.partial(estimator, *pair))


def check_value(estimator: Estimator | Lens) -> None:
    """An instrument is a value: frozen, hashable, equal to its copies, its pickle and its repr."""
    assert dataclasses.is_dataclass(estimator), f"{estimator!r} is no dataclass"
    frozen = type(estimator).__dataclass_params__.frozen
    assert frozen, f"{estimator!r} is no frozen dataclass"
    copies: dict[str, Callable[[], object]] = {
        "copy": lambda: copy.deepcopy(estimator),
        "pickle": lambda: pickle.loads(pickle.dumps(estimator)),
        "repr": lambda: eval(repr(estimator), _names_in(estimator)),
    }
    for how, make in copies.items():
        try:
            copied = make()
            same = copied == estimator and hash(copied) == hash(estimator)
        except Exception as error:
            raise AssertionError(f"{estimator!r}: its {how} fails: {error}") from error
        assert same, f"{estimator!r}: its {how} is {copied!r}, which is not equal to it"


def check_documentation(estimator: Estimator) -> None:
    """The docstring has estimand, formula, units, reference and example; the tags are full."""
    who, text, tags = type(estimator).__name__, type(estimator).__doc__ or "", estimator.tags
    wanted = {
        "the estimand, I(...)": r"I\(",
        "a formula": r"=",
        'the unit, "bits"': r"\bbits?\b",
        "a reference with its year": r"\b(19|20)\d\d\b",
        "a doctest": r">>> ",
    }
    missing = [what for what, pattern in wanted.items() if not re.search(pattern, text)]
    assert not missing, f"{who}: its docstring lacks {', '.join(missing)}"
    empty = [name for name in ("estimand", "reference", "cost", "bias") if not getattr(tags, name)]
    assert not empty, f"{who}: its tags lack {', '.join(empty)}"
    assert re.search(r"\b(19|20)\d\d\b", tags.reference), f"{who}: tags.reference has no year"
    assert estimator.estimand, f"{estimator!r}: its estimand is empty"


def _unusable(x: Tensor, y: Tensor) -> Iterator[tuple[str, type[InvalidInput], Any, Any]]:
    """What is wrong, the error it calls for, and the pair."""
    yield "59 samples of x for 60 of y", InvalidInput, x[:59], y
    yield "one sample", TooFewSamples, x[:1], y[:1]
    yield "an empty pair", InvalidInput, x[:0], y[:0]
    yield "a list for x", InvalidInput, x.tolist(), y
    for value in (math.nan, math.inf):
        for role, variable in enumerate((x, y)):
            if variable.is_floating_point():
                pair = [x.clone(), y.clone()]
                pair[role][7, 0] = value
                yield f"{value} in {'xy'[role]}", NonFinite, pair[0], pair[1]


def _refuses(
    estimator: Estimator, what: str, expected: type[Exception], call: Callable[[], object]
) -> None:
    who = type(estimator).__name__
    try:
        call()
    except expected as error:
        text = str(error)
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise AssertionError(f"{who}: {what} raises {got}, not {expected.__name__}") from error
    else:
        raise AssertionError(f"{who}: {what} is taken without {expected.__name__}")
    clear = who in text and "\n" not in text
    assert clear, f"{who}: on {what} the error is not one line naming {who}: {text!r}"


def _names_in(value: object) -> dict[str, Any]:
    """The names that the repr of a dataclass needs, those of its fields included."""
    names: dict[str, Any] = {"inf": math.inf, "nan": math.nan}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names[type(value).__name__] = type(value)
        for item in dataclasses.fields(value):
            names |= _names_in(getattr(value, item.name))
    return names
