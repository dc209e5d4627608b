"""Every estimator on samples of every law: one row for each trial."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeVar

import pandas as pd
from torch import Tensor

from ibtrace import estimators as registered
from ibtrace import problems as laws
from ibtrace.comparison._suite import suite
from ibtrace.errors import IbtraceError, InvalidInput
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

NAN = float("nan")
INFORMATION = "I(X;Y)"

Status = Literal["ok", "not applicable", "failed"]
OK: Status = "ok"
DECLINED: Status = "not applicable"
FAILED: Status = "failed"

Progress = Callable[[int, int], None]
_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Trial:
    """One estimator on one sample of one law; in bits.

    Args:
        estimator: The estimator's label.
        problem: The law's name.
        n: Number of samples.
        seed: The seed of the sample, and of the estimator.
        truth: I(X;Y) of the law.
        bits: The estimate; NaN where there is none.
        stderr: Its standard error by the estimator's own account.
        lower: Lower end of the estimator's own interval.
        upper: Upper end of it.
        error: Estimate less truth; where it is not ``of_information``, also a difference of what
            is estimated.
        seconds: Wall time of the estimate.
        flags: The flags raised, as `ibtrace.types.join_flags` writes them.
        status: Whether there is an estimate; ``"not applicable"`` where the estimator declines.
        reason: Why there is none; empty where there is one.
        measures: What the estimator estimates, by its tags; I(X;Y) on two discrete variables.
        of_information: Whether that is I(X;Y) itself, by its tags; so on two discrete variables.
        x_kind: The kind of X.
        y_kind: The kind of Y.
        x_dim: The dimension of X.
        y_dim: The dimension of Y.
    """

    estimator: str
    problem: str
    n: int
    seed: int
    truth: float
    bits: float = NAN
    stderr: float = NAN
    lower: float = NAN
    upper: float = NAN
    error: float = NAN
    seconds: float = NAN
    flags: str = ""
    status: Status = OK
    reason: str = ""
    measures: str = INFORMATION
    of_information: bool = True
    x_kind: str = "continuous"
    y_kind: str = "continuous"
    x_dim: int = 1
    y_dim: int = 1


COLUMNS = tuple(field.name for field in dataclasses.fields(Trial))


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
        One row for each estimator, law, n and seed, with the fields of `Trial` as columns. A
        combination that an estimator does not take has a row that says so in ``status``, and why in
        ``reason``.

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


def table(done: Iterable[Trial]) -> pd.DataFrame:
    """Trials as a tidy DataFrame, one row each."""
    frame = pd.DataFrame([dataclasses.asdict(trial) for trial in done], columns=[*COLUMNS])
    return frame.reset_index(drop=True)


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


_Task = tuple[str, Estimator, str, Problem, float, int, int]


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
            yield tag, estimator, name, problem, truth, size, seed


def _try(
    tag: str, estimator: Estimator, name: str, problem: Problem, truth: float, n: int, seed: int
) -> Trial:
    """One trial; what goes wrong in it is said in its status and its reason."""
    discrete = problem.kinds == ("discrete", "discrete")
    start = Trial(
        estimator=tag,
        problem=name,
        n=n,
        seed=seed,
        truth=truth,
        measures=INFORMATION if discrete else estimator.tags.estimand,
        of_information=discrete or estimator.tags.of_information,
        x_kind=problem.x_kind,
        y_kind=problem.y_kind,
        x_dim=problem.dims[0],
        y_dim=problem.dims[1],
    )
    for variable, kind in zip("xy", problem.kinds, strict=True):
        if kind not in getattr(estimator.tags, variable):
            reason = f"{tag} does not take {kind} {variable}"
            return dataclasses.replace(start, status=DECLINED, reason=reason)
    x, y = problem.sample(n, seed=seed)
    try:
        return _estimate(start, estimator, x, y)
    except IbtraceError as error:
        return dataclasses.replace(start, status=DECLINED, reason=str(error))
    except Exception as error:  # a user's own estimator may raise anything; it is said, and counted
        reason = f"{type(error).__name__}: {error}"
        return dataclasses.replace(start, status=FAILED, reason=reason)


def _estimate(start: Trial, estimator: Estimator, x: Tensor, y: Tensor) -> Trial:
    """The trial with its numbers."""
    begin = time.perf_counter()
    estimate = estimator(x, y, seed=start.seed)
    seconds = time.perf_counter() - begin
    bits = float(estimate.bits)
    return dataclasses.replace(
        start,
        bits=bits,
        stderr=float(estimate.stderr),
        lower=float(estimate.lower),
        upper=float(estimate.upper),
        error=bits - start.truth,
        seconds=seconds,
        flags=join_flags(flag for flag, raised in estimate.flags.items() if bool(raised)),
    )
