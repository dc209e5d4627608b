"""The compiled kernels beside the ways they replace and their peers, on the same inputs.

Binning: I(X;T) and I(T;Y) of tanh layers of random weights on random 12-bit inputs, by
- ``ibsgd``: a NumPy statement of ibsgd's ``bin_calc_information2`` with its fast unique rows;
- ``sorted``: torch's hash, sort and counts, the way on a GPU;
- ``kernel``: the compiled counts, from the layer to both informations;
- ``call``: `Binning.plane`, with every check, flag, null and standard error.

KSG (k = 3): normal x and y of d columns each, the first ones correlated, by NPEET and by `KSG` in
both norms, as called.

``python benchmarks/kernels.py`` writes ``results/kernels.json``; ``--quick`` measures small ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timing import RESULTS, by_turns, environment
from torch import Tensor

from ibtrace.estimators.binning import Binning
from ibtrace.estimators.ksg import KSG
from ibtrace.estimators.npeet import load_mi
from ibtrace.numerics import bins
from ibtrace.numerics.entropy import information, pair_counts, sample_counts
from ibtrace.probe import Probe

WIDTH, K, PROBLEMS = 0.07, 3, 50
Ways = Mapping[str, Callable[[], object]]


def layer(n: int, d: int, problems: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, tanh layers ``(problems, n, d)`` of them, and binary labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (n, 12), generator=generator).float()
    weights = torch.randn(problems, 12, d, generator=generator) / 12**0.5
    t = torch.tanh((2 * x - 1) @ weights)
    return x, t, (x.sum(1) > 6).long()


def ibsgd(t: NDArray[np.float32], of_label: Sequence[NDArray[np.bool_]]) -> tuple[float, float]:
    """H(T) and H(T) - H(T|Y) of T in bins, by unique rows as void views."""
    numbers = np.floor(t / np.float32(WIDTH)).astype("int")

    def entropy(rows: NDArray[np.int64]) -> float:
        row = np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))
        counts = np.unique(np.ascontiguousarray(rows).view(row), return_counts=True)[1]
        p = counts / counts.sum()
        return float(-(p * np.log2(p)).sum())

    whole = entropy(numbers)
    return whole, whole - sum(rows.mean() * entropy(numbers[rows]) for rows in of_label)


def counted(t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both informations by the compiled counts, X being distinct."""
    of_t, of_y = (ids := bins.row_ids(bins.floor_bins(t, WIDTH))), sample_counts(y)
    counts, ones = sample_counts(of_t), torch.ones_like(of_t)
    return information(ones, counts, ones), information(counts, of_y, pair_counts(ids, y))


def by_sorting(t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The same as a GPU does it."""

    def counts(ids: Tensor) -> Tensor:
        return torch.zeros_like(ids).scatter_add_(-1, ids, torch.ones_like(ids)).gather(-1, ids)

    ids = bins.ordered_row_ids(bins.floor_bins(t, WIDTH))
    ordered, order = (ids * 2 + y).sort(-1)
    steps = torch.nn.functional.pad((ordered[..., 1:] != ordered[..., :-1]).long(), (1, 0))
    pairs = torch.empty_like(ids).scatter_(-1, order, steps.cumsum(-1))
    ones = torch.ones_like(ids)
    of_t = counts(ids)
    return information(ones, of_t, ones), information(of_t, counts(y), counts(pairs))


def binning(n: int, d: int, problems: int) -> Ways:
    """The ways to bin, one call of each for all problems; ibsgd's loops over them."""
    x, t, y = layer(n, d, problems)
    probe, arrays = Probe(x, y), list(t.numpy())
    of_label = [y.numpy() == label for label in (0, 1)]
    estimator = Binning.ibsgd(WIDTH)
    same = [float(part[0]) for part in counted(t, y)], ibsgd(arrays[0], of_label)
    assert np.allclose(*same, atol=1e-9), same
    return {
        "ibsgd": lambda: [ibsgd(array, of_label) for array in arrays],
        "sorted": lambda: by_sorting(t, y),
        "kernel": lambda: counted(t, y),
        "call": lambda: estimator.plane(t, probe),
    }


def ksg(n: int, d: int) -> Ways:
    """KSG in both norms and NPEET's."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2))
    y[:, 0] += x[:, 0]
    ways: Ways = {
        "npeet": lambda: load_mi()(x.numpy(), y.numpy(), k=K, base=2),
        "max-norm": lambda: KSG(K, norm="max", scale="none")(x, y),
        "euclidean": lambda: KSG(K, scale="none")(x, y),
    }
    theirs, ours = ways["npeet"](), KSG(K, norm="max", scale="none")(x, y).bits
    assert abs(float(theirs) - float(ours)) < 1e-6, (theirs, ours)  # type: ignore[arg-type]
    return ways


def measured(ways: Ways, rounds: int, peer: str) -> dict[str, Any]:
    """Median CPU milliseconds of each way, and how many times faster than the peer it is."""
    turns = by_turns(ways, rounds)
    cpu = {name: statistics.median(of_one["cpu"]) for name, of_one in turns.items()}
    times = {
        name: statistics.median(a / b for a, b in zip(turns[peer]["cpu"], of["cpu"], strict=True))
        for name, of in turns.items()
        if name != peer
    }
    return {
        "ms": {name: round(1e3 * seconds, 3) for name, seconds in cpu.items()},
        f"times faster than {peer}": {name: round(ratio, 1) for name, ratio in times.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small ones, in seconds")
    parser.add_argument("--out", type=Path, default=RESULTS / "kernels.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    quick = options.quick
    rows: dict[str, Any] = {}
    for n, d, problems in (
        [(500, 2, 1), (300, 5, 3)]
        if quick
        else [(4096, d, p) for p in (1, PROBLEMS) for d in (2, 5, 10, 64)]
        + [(4096, 512, 1), *((60_000, d, 1) for d in (2, 5, 10, 64))]
    ):
        rounds = 2 if quick else 5 if n * problems > 1e4 else 31
        name = f"binning, N = {n}, d = {d}, problems in a call: {problems}"
        rows[name] = measured(binning(n, d, problems), rounds, "ibsgd")
        print(name, json.dumps(rows[name]), flush=True)
    for n, d in [(300, 2)] if quick else [*((4096, d) for d in (2, 5, 10, 64)), (10_000, 10)]:
        name = f"KSG, N = {n}, d = {d} + {d}"
        rows[name] = measured(ksg(n, d), 1 if quick or n * d > 50_000 else 3, "npeet")
        print(name, json.dumps(rows[name]), flush=True)
    found = {"environment": environment(("numba", "npeet-plus")), "results": rows}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
