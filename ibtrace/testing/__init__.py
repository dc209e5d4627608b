"""The contracts of an estimator and of a lens, as checks that anybody can run on their own.

`check_estimator` runs them all; `checks` lists them by name, so that pytest can parametrize::

    @pytest.mark.parametrize(("name", "check"), ibtrace.testing.checks)
    def test_my_estimator(name, check):
        check(MyEstimator())

A check raises ``AssertionError`` with one clear line, or ``unittest.SkipTest`` (which pytest
reports as a skip) where it does not apply. What applies follows from the tags:

- **Kinds.** The kinds of variable in ``tags.x`` and ``tags.y``, less the combinations that the
  estimator declines with `Unsupported`.
- **Truth.** An estimator with ``tags.of_information`` is held to I(X;Y) on every law that it
  takes. Any other estimand (a binned or noisy variable) has another value on continuous
  laws, so it is held where both variables are discrete. A class attribute ``held_to``, names of
  problems as `ibtrace.problems.make` takes them, replaces the laws this rule picks; it may be
  empty.
- **Scale.** Unless ``tags.scale_dependence`` says why, multiplying a variable by a constant
  changes nothing.
- **Question.** What ``tags.question`` says is asked of I(X;T) shows on samples that lie in two
  narrow crowds and are each their own class: ``information`` tells them all apart, what has a
  ``resolution`` tells the crowds apart and little more, and of a ``density`` there is none.
- **Bound.** An estimator whose ``tags.bound`` is "lower" or "upper" is held to its side of the
  truth only.

`check_lens` and `lens_checks` are the same for a lens, on small networks, dense and convolutional:
its tags are full and true (units, per layer or network; a view with what ``tags.needs`` names is
enough, and all of it is used), it writes to nothing, the seed alone draws, and several networks
together have the numbers of each alone.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable, Sequence
from typing import TypeVar

from ibtrace.testing import _flags, _form, _invariance, _lens, _question, _values
from ibtrace.testing._applies import Check as Check
from ibtrace.testing._applies import accepted_kinds as accepted_kinds
from ibtrace.testing._applies import truths as truths
from ibtrace.testing._lens import LensCheck as LensCheck
from ibtrace.types import Estimator, Lens

checks: list[tuple[str, Check]] = [
    ("truth", _values.check_truth),
    ("bound", _values.check_bound),
    ("units", _values.check_units),
    ("independence", _values.check_independence),
    ("data_processing", _values.check_data_processing),
    ("stderr", _values.check_stderr),
    ("symmetry", _invariance.check_symmetry),
    ("row_order", _invariance.check_row_order),
    ("scale", _invariance.check_scale),
    ("seed", _invariance.check_seed),
    ("global_state", _invariance.check_global_state),
    ("inputs", _invariance.check_inputs),
    ("batch", _invariance.check_batch),
    ("plane", _invariance.check_plane),
    ("precision", _invariance.check_precision),
    ("device", _invariance.check_device),
    ("flags", _flags.check_flags),
    ("question", _question.check_question),
    ("estimate", _form.check_estimate),
    ("kinds", _form.check_kinds),
    ("errors", _form.check_errors),
    ("value", _form.check_value),
    ("documentation", _form.check_documentation),
]

lens_checks: list[tuple[str, LensCheck]] = [
    ("value", _lens.check_is_value),
    ("tags", _lens.check_tags),
    ("readings", _lens.check_readings),
    ("needs", _lens.check_needs),
    ("seed", _lens.check_seed),
    ("global_state", _lens.check_global_state),
    ("view", _lens.check_view),
    ("networks", _lens.check_networks),
    ("order", _lens.check_order),
]


def check_estimator(estimator: Estimator) -> None:
    """Run every check on an estimator.

    Args:
        estimator: Any object of the `ibtrace.types.Estimator` protocol.

    Raises:
        AssertionError: If any check fails; one line for each that does.
    """
    _run(checks, estimator)


def check_lens(lens: Lens) -> None:
    """Run every check on a lens.

    Args:
        lens: Any object of the `ibtrace.types.Lens` protocol.

    Raises:
        AssertionError: If any check fails; one line for each that does.

    Example:
        >>> from ibtrace.lenses import Saturation
        >>> check_lens(Saturation())
    """
    _run(lens_checks, lens)


_Instrument = TypeVar("_Instrument")


def _run(
    each: Sequence[tuple[str, Callable[[_Instrument], None]]], instrument: _Instrument
) -> None:
    failures = []
    for name, check in each:
        try:
            check(instrument)
        except unittest.SkipTest:
            continue
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    if failures:
        raise AssertionError(f"{instrument!r} fails\n" + "\n".join(failures))
