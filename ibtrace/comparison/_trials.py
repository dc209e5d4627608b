"""Every estimator on samples of every law: one row for each trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TypeVar

import pandas as pd
from torch import Tensor

from ibtrace import estimators as registered
from ibtrace import problems as laws
from ibtrace.comparison._suite import suite
from ibtrace.comparison._trial import (
    DECLINED,
    FAILED,
    INFORMATION,
    Outcome,
    Sample,
    Trial,
    table,
)
from ibtrace.errors import IbtraceError, InvalidInput
from ibtrace.numerics.compiled import clock
from ibtrace.problems import Problem
from ibtrace.runtime.arguments import (
    MOST,
    is_alone,
    require_function,
    require_instance,
    seed_number,
    several,
    whole,
)
from ibtrace.runtime.workers import results
from ibtrace.types import Estimator, join_flags, label

Progress = Callable[[int, int], None]
_Thing = TypeVar("_Thing")


def compare(
    estimators: Sequence[str | Estimator] | None = None,
    problems: Sequence[str | Problem] | Mapping[str, Problem] | None = None,
    *,
    n: int | Sequence[int] = (500, 2000),
    seeds: int | Sequence[int] = 3,
    jobs: int = 1,
    progress: Progress | None = None,
    on_row: Callable[[Trial], None] | None = None,
) -> pd.DataFrame:
    """Hold estimators to laws whose information is known.

    Args:
        estimators: Registry names or any objects of the `Estimator` protocol, registered or not;
            None takes all that are registered.
        problems: Names of laws or laws, or laws by a name of your choice; None takes `suite`.
        n: Numbers of samples.
        seeds: How many samples of each, or which seeds.
        jobs: Processes; with more than one, each has one thread, and your own estimators must
            be importable from a module.
        progress: Called as ``progress(done, total)`` after each trial.
        on_row: Called with each `Trial` as it is done, so that an interruption loses nothing:
            ``table(trials)`` makes the same DataFrame of those there are.

    Returns:
        One row for each estimator, law, n and seed, as `Trial.row` gives it. A combination that an
        estimator does not take has a row that says so in ``status``, and why in ``reason``.

    Raises:
        UnknownName: If an estimator or a law does not exist; lists those that do.
        InvalidInput: If there is nothing to do, or two estimators or laws share a name.
        ConfigError: If an argument is of a type that it cannot have; names it.

    Example:
        >>> frame = compare(["ksg", "ross"], ["1v1-normal-0.75"], n=500, seeds=2)
        >>> frame[["estimator", "seed", "status"]].iloc[1:3]
          estimator  seed          status
        1       KSG     1              ok
        2      Ross     0  not applicable
        >>> bool(abs(frame.error[:2].mean()) < 0.1)
        True
    """
    for name, function in (("progress", progress), ("on_row", on_row)):
        if function is not None:
            require_function(f"compare: {name}", function, "a function")
    done: list[Trial] = []
    total = len(list(_grid(estimators, problems, n, seeds)))
    for trial in trials(estimators, problems, n=n, seeds=seeds, jobs=jobs):
        done.append(trial)
        if on_row is not None:
            on_row(trial)
        if progress is not None:
            progress(len(done), total)
    return table(done)


def trials(
    estimators: Sequence[str | Estimator] | None = None,
    problems: Sequence[str | Problem] | Mapping[str, Problem] | None = None,
    *,
    n: int | Sequence[int] = (500, 2000),
    seeds: int | Sequence[int] = 3,
    jobs: int = 1,
) -> Iterator[Trial]:
    """The rows of `compare`, each as soon as it is there, in order; the same arguments.

    Raises:
        ConfigError: If ``jobs`` is not positive; and as `compare`.
    """
    jobs = whole("compare: jobs", jobs, least=1)
    yield from results(_try, _grid(estimators, problems, n, seeds), jobs)


def named_estimators(estimators: Sequence[str | Estimator] | None) -> dict[str, Estimator]:
    """Estimators by their labels; None is all that are registered.

    Raises:
        UnknownName: If a name is not registered.
        InvalidInput: If there are none, or two have one label.
    """
    wanted = registered.names() if estimators is None else several(estimators)
    made = [registered.make(each) if isinstance(each, str) else each for each in wanted]
    for each in made:
        require_instance("compare: estimators", each, Estimator, "names or estimators")
    return _by_name("estimators", [(label(estimator), estimator) for estimator in made])


def named_problems(
    problems: Sequence[str | Problem] | Mapping[str, Problem] | None,
) -> dict[str, Problem]:
    """Laws by their names; None is `suite`.

    Raises:
        UnknownName: If there is no law of that name.
        InvalidInput: If there are none, or two have one name.
    """
    if problems is None:
        return suite()
    if isinstance(problems, Mapping):
        for each in problems.values():
            require_instance("compare: problems", each, Problem, "names or laws")
        return _by_name("problems", list(problems.items()))
    made = [laws.make(each) if isinstance(each, str) else each for each in several(problems)]
    for each in made:
        require_instance("compare: problems", each, Problem, "names or laws")
    return _by_name("problems", [(law.name, law) for law in made])


def _by_name(what: str, named: list[tuple[str, _Thing]]) -> dict[str, _Thing]:
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"compare: two {what} are called {twice[0]}; drop one, or name it anew")
    if not names:
        raise InvalidInput(f"compare: no {what}; name at least one")
    return dict(named)


_Task = tuple[str, Estimator, Problem, Sample]


def _grid(
    estimators: Sequence[str | Estimator] | None,
    problems: Sequence[str | Problem] | Mapping[str, Problem] | None,
    n: int | Sequence[int],
    seeds: int | Sequence[int],
) -> Iterator[_Task]:
    """Every trial to do, law by law, so that an interruption leaves whole laws."""
    labelled = named_estimators(estimators)
    sizes = [whole("compare: n", size) for size in several(n)]
    which = [seed_number("compare: seeds: a seed", seed) for seed in several(seeds)]
    if is_alone(seeds):
        which = list(range(whole("compare: seeds", seeds, most=MOST)))
    for what, values in (("n", sizes), ("seeds", which)):
        if not values or len(set(values)) < len(values) or min(values) < (what == "n"):
            raise InvalidInput(f"compare: {what} must be different, positive numbers, got {values}")
    for name, problem in named_problems(problems).items():
        truth = float(problem.bits)
        for size, (tag, estimator), seed in product(sizes, labelled.items(), which):
            sample = Sample(name, size, seed, truth, problem.kinds, problem.dims)
            yield tag, estimator, problem, sample


def _try(tag: str, estimator: Estimator, problem: Problem, sample: Sample) -> Trial:
    """One trial; what goes wrong in it is said in its status and its reason."""
    discrete = sample.kinds == ("discrete", "discrete")
    measures = INFORMATION if discrete else estimator.tags.estimand
    of_information = discrete or estimator.tags.of_information
    outcome = _outcome(tag, estimator, problem, sample)
    return Trial(tag, sample, outcome, measures, of_information)


def _outcome(tag: str, estimator: Estimator, problem: Problem, sample: Sample) -> Outcome:
    """The estimate, or why there is none."""
    for variable, kind in zip("xy", sample.kinds, strict=True):
        if kind not in getattr(estimator.tags, variable):
            return Outcome(status=DECLINED, reason=f"{tag} does not take {kind} {variable}")
    x, y = problem.sample(sample.n, seed=sample.seed)
    try:
        return _estimate(estimator, x, y, sample.seed)
    except IbtraceError as error:
        return Outcome(status=DECLINED, reason=str(error))
    except Exception as error:  # a user's own estimator may raise anything; it is said, and counted
        return Outcome(status=FAILED, reason=f"{type(error).__name__}: {error}")


def _estimate(estimator: Estimator, x: Tensor, y: Tensor, seed: int) -> Outcome:
    begin = clock()
    estimate = estimator(x, y, seed=seed)
    seconds = clock() - begin
    return Outcome(
        bits=float(estimate.bits),
        stderr=float(estimate.stderr),
        lower=float(estimate.lower),
        upper=float(estimate.upper),
        seconds=seconds,
        flags=join_flags(flag for flag, raised in estimate.flags.items() if bool(raised)),
    )
