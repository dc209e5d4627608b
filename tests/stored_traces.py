"""Traces that keep made-up activations, whose behaviour at every resolution is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ibtrace.probe import Probe
from ibtrace.trace import Scalar, Trace
from ibtrace.types import I_XT, Row

NAN = float("nan")
BITS = 6
N = 2**BITS

WIDE = (1, 0, -1, -4, -5, -6)
"""The size of each bit of a code, as powers of 2: coarse ones, and fine ones far below."""

NARROW = (-2, 0, -1, -4, -5, -6)
"""The first bit is moved between the others: at widths 2⁻¹, 2⁰ and 2¹ there is a bit less."""


def codes(places: Sequence[int]) -> Tensor:
    """All sums of powers of 2, ``(64, 1)``: which bits ``floor(T / 2^k)`` tells is known."""
    digits = (torch.arange(N)[:, None] >> torch.arange(BITS)) & 1
    return (digits * 2.0 ** torch.tensor(places)).sum(1, keepdim=True)


def labels(bit: int = 1) -> Tensor:
    """One digit of each code: of `WIDE` and `NARROW` alike, digit 1 has size 1."""
    return (torch.arange(N) >> bit) & 1


def kept_trace(
    folder: Path,
    looks: Mapping[int, Sequence[Mapping[str, Tensor]]],
    *,
    y: Tensor | None = None,
    population: bool = True,
    losses: Sequence[float] = (),
    clock: str = "epoch",
) -> Trace:
    """A trace that keeps activations.

    Args:
        folder: Of the run.
        looks: ``{epoch: [{layer: (64, …)} of each seed]}``.
        y: The labels; None for `labels`.
        population: Whether the probe is all of X.
        losses: The training loss of each seed at the last look.
        clock: What the looks are counted by; of steps all are in epoch 0.
    """
    y = labels() if y is None else y
    x = torch.arange(len(y), dtype=torch.float32)[:, None]
    probe = Probe(x, y, population=population)
    first = next(iter(looks.values()))
    meta = {
        "n": probe.n,
        "population": population,
        "probe_digest": probe.digest,
        "input_entropy": probe.input_entropy,
        "label_entropy": probe.label_entropy,
        "layers": [*first[0]],
        "seeds": list(range(len(first))),
        "clock": clock,
        "epochs": {str(at): 0 for at in looks},
    }
    trace = Trace.create(folder, meta=meta)
    trace.save_probe(probe)
    last = max(looks)
    for at, seeds in looks.items():
        epoch, step = (at, None) if clock == "epoch" else (0, at)
        for seed, layers in enumerate(seeds):
            trace.save_activations(at, layers, seed)
            rows = [
                Row(seed, epoch, step, name, I_XT, "Exact", "T", NAN, NAN, NAN, NAN, "", {}, 0.0)
                for name in layers
            ]
            scalars = [Scalar(seed, epoch, "", "train_loss", losses[seed], step)] if losses else []
            trace.append(rows, scalars if at == last else [])
    return trace


def coded(
    plan: Mapping[int, Sequence[int]], seeds: int = 5, *, falling: int | None = None
) -> dict[int, list[dict[str, Tensor]]]:
    """Looks of one layer ``hidden``: at each epoch the codes of some places.

    At the second look every seed is a little off in its own way, for seeds that are alike to the
    last digit are one network: that lowers its information by a few hundredths.

    Args:
        plan: ``{epoch: places}``.
        seeds: How many networks.
        falling: So many of the seeds follow the plan, the others stay at its first epoch.
    """
    first = next(iter(plan.values()))
    looks: dict[int, list[dict[str, Tensor]]] = {}
    for at, (epoch, places) in enumerate(plan.items()):
        each = [places if falling is None or seed < falling else first for seed in range(seeds)]
        values = [codes(one) for one in each]
        looks[epoch] = [{"hidden": off(t, seed) if at == 1 else t} for seed, t in enumerate(values)]
    return looks


def off(t: Tensor, seed: int) -> Tensor:
    """Values ``(64, 1)`` of which some are in the last one's place, one more for each seed.

    Taken cell by cell of the coarse bits, so that every seed is off at every width.
    """
    t, order = t.clone(), torch.arange(N).reshape(8, 8).T.flatten()
    t[order[: seed + 1]] = t[-1].clone()
    return t
