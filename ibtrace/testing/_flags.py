"""Does an estimator say when its number cannot be right?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from ibtrace.errors import IbtraceError
from ibtrace.estimators._checks import FLAGS, flagged, law_of, roofs_of
from ibtrace.probe import Probe
from ibtrace.testing._applies import examples
from ibtrace.types import Estimate, Estimator, Plane


def check_flags(estimator: Estimator) -> None:
    """NaN, less than no information and more than an entropy are flagged, in a call and a plane.

    Shown on ordinary data and on hard ones: a rare label, an outlier, a heavy tail, random labels
    of a wide variable, a constant. `ibtrace.estimators.checked` raises these flags.
    """
    for what, x, y in itertools.chain(_ordinary(estimator), _hard()):
        try:
            estimate = estimator(x, y)
        except IbtraceError:
            continue
        _flags_what_it_must(estimator, what, estimate, [x, y])
    if not isinstance(estimator, Plane):
        return
    t, labels = torch.randn(60, 2, generator=_generator(3)), torch.arange(60) % 3
    probe = Probe(torch.randn(60, 2, generator=_generator(4)), labels)
    for what, layer in (("a layer", t), ("a constant layer", torch.ones(60, 2))):
        about_x, about_y = estimator.plane(layer, probe)
        _flags_what_it_must(estimator, f"I(X;T) of {what}", about_x, [probe.x_ids])
        _flags_what_it_must(estimator, f"I(T;Y) of {what}", about_y, [labels])


def _flags_what_it_must(
    estimator: Estimator, what: str, estimate: Estimate, variables: list[Tensor]
) -> None:
    missing = [name for name in FLAGS if name not in estimate.flags]
    assert not missing, f"{estimator!r} lacks {', '.join(missing)}; decorate it with checked"
    wanted = flagged(estimate, roofs_of(law_of(estimator), *variables))
    for name in FLAGS:
        quiet = wanted.flags[name] & ~estimate.flags[name]
        numbers = f"{estimate.bits.tolist()} ± {estimate.stderr.tolist()} bits on {what}"
        assert not bool(quiet.any()), f"{estimator!r} gives {numbers} without {name}"


def _ordinary(estimator: Estimator) -> Iterator[tuple[str, Tensor, Tensor]]:
    for x, y in examples(estimator):
        yield "ordinary data", x, y


def _hard() -> Iterator[tuple[str, Tensor, Tensor]]:
    noise = torch.randn(200, 3, generator=_generator(0), dtype=torch.float64)
    x, y = noise[:, :1], 0.9 * noise[:, :1] + 0.4 * noise[:, 1:2]
    outlying = x.clone()
    outlying[7] = 1e6
    rare = (torch.arange(200) < 2).long()
    wide = torch.randn(200, 64, generator=_generator(1))
    random = torch.randint(0, 4, (200,), generator=_generator(2))
    yield "an outlier", outlying, y
    yield "heavy tails", x**9, y**9
    yield "random labels of a wide variable", wide, random
    yield "a constant feature and a rare label", torch.ones(200, 1), rare
    yield "independent variables", noise[:, :1], noise[:, 2:]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
