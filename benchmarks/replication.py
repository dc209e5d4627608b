"""The Tishby replication against the same work done the way a user would today.

Both train 10 seeds of the 12-10-7-5-4-3-2 tanh network with IDNNs' recipe and estimate the binned
I(X;T) and I(T;Y) of all layers at the same log-spaced epochs. The other way is a PyTorch loop
over seeds and one NumPy estimate per layer and snapshot, in the style of ibsgd's simplebinmi
(unique rows by a void view).
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.timing import by_turns, exponent, ratios
from ibtrace.datasets import split, tishby
from ibtrace.models import MLP
from ibtrace.runtime.schedule import log_spaced
from ibtrace.training import config, configs
from ibtrace.training.loop import train

WIDTH = 0.07
WIDTHS = (12, 10, 7, 5, 4, 3, 2)
_SMALLEST, _LARGEST = 10, 40  # seeds between which the growth is measured
_FEW_LAYERS, _MANY_LAYERS = (12, 10, 10, 2), (12, 10, 10, 10, 10, 10, 10, 2)


class Size(NamedTuple):
    """How much is trained and looked at."""

    seeds: int
    epochs: int
    snapshots: int


def ours(size: Size, widths: Sequence[int] = WIDTHS) -> None:
    """One pass over all seeds, with rows in SQLite as in any run."""
    (raw, *_) = configs.variants(configs.read("tishby")).values()
    changes = {
        "epochs": size.epochs,
        "seeds": size.seeds,
        "snapshots": size.snapshots,
        "estimators": [{"name": "binning.ibsgd", "width": WIDTH}],
    }
    model = {**raw["model"], "init_args": {**raw["model"]["init_args"], "widths": [*widths]}}
    changes["model"] = model
    with tempfile.TemporaryDirectory() as folder:
        train(config.build({**raw, **changes}), Path(folder) / "run")


def todays_way(size: Size) -> list[float]:
    """A loop over seeds, hooks by hand, NumPy estimates one by one, results in a list."""
    data = tishby()
    due = log_spaced(size.epochs, size.snapshots)
    chosen, _ = split(data.y, 0.8, "contiguous")
    x, y = data.x[chosen], data.y[chosen]
    found: list[float] = []
    for seed in range(size.seeds):
        torch.manual_seed(seed)
        model = MLP(init="idnns")
        optimizer = torch.optim.Adam(model.parameters(), 4e-4)
        for epoch in range(size.epochs + 1):
            if epoch:
                for batch, target in zip(x.split(512), y.split(512), strict=True):
                    optimizer.zero_grad()
                    nn.functional.nll_loss(model(batch).log(), target).backward()
                    optimizer.step()
            if due(epoch):
                with torch.no_grad():
                    t = data.x
                    for layer in model:
                        t = layer(t)
                        if not isinstance(layer, nn.Linear):
                            found += simple_bin_mi(t.numpy(), data.y.numpy())
    return found


def simple_bin_mi(t: NDArray[np.float32], y: NDArray[np.int64]) -> tuple[float, float]:
    """I(X;T) and I(T;Y) in bits of T in bins of one width."""

    def entropy(part: NDArray[np.float32]) -> float:
        binned = np.ascontiguousarray(np.floor(part / WIDTH).astype("int"))
        void = binned.view(np.dtype((np.void, binned.dtype.itemsize * binned.shape[1])))
        _, counts = np.unique(void, return_counts=True)
        p = counts / counts.sum()
        return float(-(p * np.log2(p)).sum())

    whole = entropy(t)
    return whole, whole - sum(float((y == k).mean()) * entropy(t[y == k]) for k in (0, 1))


def measured(quick: bool) -> dict[str, Any]:
    """The ratio to the loop, and how the time of ours grows with seeds and with layers."""
    size, rounds = (Size(3, 4, 3), 1) if quick else (Size(10, 200, 60), 3)
    ways = {"loop over seeds, NumPy": lambda: todays_way(size), "ibtrace": lambda: ours(size)}
    turns = by_turns(ways, rounds)
    name = f"{size.seeds} seeds, {size.epochs} epochs, {size.snapshots} snapshots, tanh"
    few, many = (size._replace(seeds=2 * k if quick else k) for k in (_SMALLEST, _LARGEST))
    grown = by_turns(
        {
            "few": lambda: ours(few),
            "many": lambda: ours(many),
            "shallow": lambda: ours(size, _FEW_LAYERS),
            "deep": lambda: ours(size, _MANY_LAYERS),
        },
        rounds,
    )
    cpu = {each: statistics.median(found["cpu"]) for each, found in grown.items()}
    layers = (len(_MANY_LAYERS) - 1) / (len(_FEW_LAYERS) - 1)
    return {
        "ratios": {name: ratios(turns, *ways)},
        "exponents": {
            "seeds": exponent(cpu["many"] / cpu["few"], _LARGEST / _SMALLEST),
            "layers": exponent(cpu["deep"] / cpu["shallow"], layers),
        },
    }
