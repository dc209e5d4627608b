"""The Tishby replication against the same work done the way a user would today.

Both train 10 seeds of the 12-10-7-5-4-3-2 tanh network with IDNNs' recipe and estimate the binned
I(X;T) and I(T;Y) of all layers at the same log-spaced epochs. The other way is a PyTorch loop
over seeds and one NumPy estimate per layer and snapshot, in the style of ibsgd's simplebinmi
(unique rows by a void view).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timing import by_turns, keep, ratios
from torch import nn

from ibtrace.datasets import split, tishby
from ibtrace.models import MLP
from ibtrace.runtime.schedule import log_spaced
from ibtrace.training import config, configs
from ibtrace.training.loop import train

SEEDS, EPOCHS, SNAPSHOTS, WIDTH = 10, 200, 60, 0.07


def ours() -> None:
    """One pass over all seeds, with rows in SQLite as in any run."""
    (raw, *_) = configs.variants(configs.read("tishby")).values()
    changes = {
        "epochs": EPOCHS,
        "seeds": SEEDS,
        "snapshots": SNAPSHOTS,
        "estimators": [{"name": "binning.ibsgd", "width": WIDTH}],
    }
    with tempfile.TemporaryDirectory() as folder:
        train(config.build({**raw, **changes}), Path(folder) / "run")


def todays_way() -> list[float]:
    """A loop over seeds, hooks by hand, NumPy estimates one by one, results in a list."""
    data = tishby()
    due = log_spaced(EPOCHS, SNAPSHOTS)
    chosen, _ = split(data.y, 0.8, "contiguous")
    x, y = data.x[chosen], data.y[chosen]
    found: list[float] = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = MLP(init="idnns")
        optimizer = torch.optim.Adam(model.parameters(), 4e-4)
        for epoch in range(EPOCHS + 1):
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    ways = {"loop over seeds, NumPy": todays_way, "ibtrace": ours}
    found = by_turns(ways, rounds=5)
    names = (f"{SEEDS} seeds, {EPOCHS} epochs, tanh", *ways)
    keep("replication", {names[0]: ratios(found, names[1], names[2])})
