"""Every estimator beside its peers on the same inputs, over N and d.

A layer is tanh of random weights on random 12-bit inputs with binary labels; the pairs of density
estimators are normal, the first columns correlated. Where a peer does the same, its number is
compared before it is timed. ``ibtrace`` is the call that a user makes, with all checks, flags and
errors, and both informations where the estimator gives both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.timing import by_turns, exponent, seconds
from ibtrace import estimators
from ibtrace.probe import Probe

OURS, WIDTH, VARIANCE, K, MANY = "ibtrace", 0.07, 1e-3, 3, 300  # six layers of 50 networks
Ways = dict[str, Callable[[], object]]


def layer(n: int, d: int, problems: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Ids of distinct inputs, tanh layers ``(n, d)`` or ``(problems, n, d)``, and labels."""
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(2, (n, 12), generator=generator).float()
    weights = torch.randn(*[problems] * bool(problems), 12, d, generator=generator) / 12**0.5
    return torch.arange(n), torch.tanh((2 * bits - 1) @ weights), (bits.sum(1) > 6).long()


def pair(n: int, d: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2))
    y[:, 0] += x[:, 0]
    return x, y


def _plane(name: str, n: int, d: int, problems: int = 0, **fields: Any) -> tuple[Ways, Any]:
    """Our call, and the arrays for a peer's."""
    x, t, y = layer(n, d, problems)
    estimator, probe = estimators.make(name, **fields), Probe(x, y)
    both = estimators.information
    return {OURS: lambda: [part.bits for part in both(estimator, t, probe)]}, (x, t, y)


def binning(n: int, d: int) -> Ways:
    ways, (_, t, y) = _plane("binning.ibsgd", n, d, width=WIDTH)
    ways["ibsgd"] = lambda: peers.ibsgd_binning(t.numpy(), y.numpy(), WIDTH)
    return ways


def binning_of_many(n: int, d: int) -> Ways:
    ways, (_, t, y) = _plane("binning.ibsgd", n, d, MANY, width=WIDTH)
    ways["ibsgd"] = lambda: [peers.ibsgd_binning(one, y.numpy(), WIDTH) for one in t.numpy()]
    return ways


def idnns(n: int, d: int) -> Ways:
    ways, (x, t, y) = _plane("binning.idnns", n, d)
    ways["IDNNs"] = lambda: peers.idnns_binning(t.numpy(), x.numpy(), y.numpy())
    return ways


def exact(n: int, d: int) -> Ways:
    ways, (_, t, y) = _plane("exact", n, d)
    ways["unique rows"] = lambda: peers.unique_rows(t.numpy(), y.numpy())
    return ways


def kde(n: int, d: int) -> Ways:
    ways, (_, t, y) = _plane("kde", n, d, noise_variance=VARIANCE)
    ways["ibsgd"] = lambda: peers.ibsgd_kde(t.numpy(), y.numpy(), VARIANCE)
    return ways


def ksg(n: int, d: int) -> Ways:
    x, y = pair(n, d)
    a, b = x.numpy(), y.numpy()
    by_max = estimators.make("ksg", k=K, norm="max", scale="none")
    ways: Ways = {OURS: lambda: by_max(x, y).bits, "NPEET": lambda: peers.npeet(a, b, K)}
    for name, way in (("infomeasure", peers.infomeasure), ("ennemi", peers.ennemi)):
        if _there(name) and (d == 1 or name != "ennemi"):
            ways[name] = lambda way=way: way(a, b, K)  # type: ignore[misc]
    if d == 1:
        ways["scikit-learn"] = lambda: peers.scikit_learn(a, b, K)
    by_sum = estimators.make("ksg", k=K, scale="none")
    ways["ibtrace, Euclidean"] = lambda: by_sum(x, y).bits
    return ways


def ross(n: int, d: int) -> Ways:
    _, t, y = layer(n, 1)
    estimator = estimators.make("ross", k=K)
    values = t.double() + 1e-3 * torch.randn(n, d, generator=torch.Generator().manual_seed(1))
    return {
        OURS: lambda: estimator(values, y).bits,
        "scikit-learn": lambda: peers.scikit_learn(values.numpy(), y.numpy(), K),
    }


def alone(name: str, **fields: Any) -> Callable[[int, int], Ways]:
    """Our call of an estimator that no peer does alike."""

    def ways(n: int, d: int) -> Ways:
        estimator = estimators.make(name, **fields)
        if estimator.tags.question != "density":
            return _plane(name, n, d, **fields)[0]
        x, y = pair(n, d)
        return {OURS: lambda: estimator(x, y).bits}

    return ways


BESIDE: dict[str, Callable[[int, int], Ways]] = {
    "binning": binning,
    f"binning, {MANY} layers in a call": binning_of_many,
    "binning as IDNNs": idnns,
    "exact": exact,
    "kde": kde,
    "ksg, max-norm": ksg,
    "ross": ross,
}
"""What is timed beside a peer."""

SIZES: dict[str, list[tuple[int, int]]] = {
    "binning": [(n, d) for n in (4096, 60_000) for d in (2, 5, 10, 64)] + [(4096, 512)],
    f"binning, {MANY} layers in a call": [(4096, d) for d in (2, 5, 10, 64)],
    "binning as IDNNs": [(4096, d) for d in (2, 10)],
    "exact": [(n, d) for n in (4096, 60_000) for d in (2, 10)],
    "kde": [(4096, d) for d in (2, 5, 10, 64, 512)],
    "ksg, max-norm": [(4096, d) for d in (1, 2, 5, 10, 64)] + [(10_000, 10)],
    "ross": [(4096, 1)],
}
_ONE: dict[str, tuple[int, tuple[int, ...]]] = {"sklearn": (1, ())}  # takes one column
_BRIEF = {"variational": {"steps": 20}}
_SLOW = dict.fromkeys(("variational", "matrix_renyi", "diffusion_spectral"), (256, 512, 1024))
_LONG = 4.0  # seconds that all ways of a case take together: it gets fewer rounds
_GROWN = (1024, 2048, 4096)


def beside(quick: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each case with its milliseconds, and how many times faster than each peer ours is."""
    for name, ways_of in BESIDE.items():
        for n, d in [(256, min(d, 3)) for _, d in SIZES[name][:1]] if quick else SIZES[name]:
            yield f"{name}: N = {n}, d = {d}", measured(ways_of(n, d), 1 if quick else 5)


def measured(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Median CPU milliseconds of each way by turns, and the ratios to ours."""
    start = time.process_time()
    agree(ways)
    rounds = rounds if time.process_time() - start < _LONG else min(rounds, 2)
    cpu = {name: found["cpu"] for name, found in by_turns(ways, rounds).items()}
    return {
        "ms": {name: round(1e3 * statistics.median(each), 3) for name, each in cpu.items()},
        "times faster than": {
            name: round(
                statistics.median(b / max(a, 1e-9) for a, b in zip(cpu[OURS], each, strict=True)), 2
            )
            for name, each in cpu.items()
            if name != OURS
        },
    }


def agree(ways: Mapping[str, Callable[[], object]]) -> None:
    """Raise unless the peers give our numbers; those that add noise, to a hundredth of a bit.

    Raises:
        AssertionError: If one does not.
    """
    numbers = {name: np.ravel(np.asarray(_plain(way()), dtype=float)) for name, way in ways.items()}
    for name, found in numbers.items():
        if name in ("ibtrace, Euclidean", OURS):
            continue
        ours = numbers[OURS]
        if len(found) != len(ours):  # ours has I(X;T) of all, then I(T;Y); the peer both of each
            raise AssertionError(f"{name}: {len(found)} numbers, {len(ours)} of ours")
        near = np.sort(found) - np.sort(ours)
        limit = 0.02 if name in ("scikit-learn", "ennemi") else 1e-6
        if np.abs(near).max() > limit:
            raise AssertionError(f"{name} gives {found}, ibtrace {ours}")


def _plain(found: object) -> object:
    if isinstance(found, Tensor):
        return found.tolist()
    return [_plain(each) for each in found] if isinstance(found, list | tuple) else found


def growth(quick: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Seconds of every estimator at doubling N and d, and the exponents of the last doubling."""
    for name in estimators.names():
        ways = BESIDE.get(name) or alone(name, **(_BRIEF.get(name, {}) if quick else {}))
        sizes = (128, 256) if quick else _SLOW.get(name, _GROWN)
        few, columns = _ONE.get(name, (4, (2, 4) if quick else (16, 32, 64)))
        by_n = {n: _seconds(ways(n, few), quick or name in _SLOW) for n in sizes}
        by_d = {d: _seconds(ways(sizes[-1], d), quick or name in _SLOW) for d in columns}
        yield (
            name,
            {
                "N": {str(n): spent for n, spent in by_n.items()},
                "d": {str(d): spent for d, spent in by_d.items()},
                "exponents": {
                    axis: _exponent(found) for axis, found in (("N", by_n), ("d", by_d)) if found
                },
            },
        )


def _seconds(ways: Ways, once: bool) -> float:
    return round(seconds(ways[OURS], 1 if once else 5), 6)


def _exponent(found: Mapping[int, float]) -> float:
    (small, before), (large, after) = [*found.items()][-2:]
    return exponent(max(after, 1e-9) / max(before, 1e-9), large / small)


def _there(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
