"""What tracing a language model costs: ``python -m benchmarks.language``.

How much 30 looks at 10,000 tokens add to a training of 2,000 steps of the decoder of
``ibtrace replicate conklin``, from the medians of a step, of a look and of a call that is not due;
and an estimate of `SoftEntropy` beside the products that it needs. One thread, CPU seconds;
``--quick`` takes small ones and prints only.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import by_turns, keep, ratios
from ibtrace import Look, Probe, Steps, Tracer
from ibtrace.datasets import python_source
from ibtrace.estimators import SoftEntropy, informations
from ibtrace.models import Decoder

STEPS, LOOKS, TOKENS, WINDOW, BATCH = 2_000, 30, 10_000, 48, 32
BLOCKS = ["block1", "block2", "block3"]
CLASSES = {"next1": 256, "next2": 8_000, "context2": 8_000, "context3": 20_000}
"""Targets of the estimate, beside X of 256 values, and how many classes each has."""


class Training:
    """A decoder in training, and what looks at it.

    Args:
        tokens: How many are looked at.
        steps: How many steps are taken at a time, to be timed.
    """

    def __init__(self, tokens: int, steps: int) -> None:
        torch.manual_seed(0)
        data = python_source(held_out=tokens, window=WINDOW, contexts=4, continuations=2)
        held_out = torch.arange(len(data.x) - tokens // WINDOW, len(data.x))
        self._rows, self._steps = data.x[: held_out[0]], steps
        self._net = Decoder(width=96, blocks=len(BLOCKS), context=WINDOW)
        self._adam = torch.optim.AdamW(self._net.parameters(), 2e-3)
        self._count = itertools.count(1)
        self.probe = Probe.of_dataset(data, held_out)
        look = Look(BLOCKS, reduce="tokens")
        never = Steps([100_000])
        arguments: dict[str, Any] = {"estimators": "soft_entropy", "every": never, "look": look}
        self.tracer = Tracer(self._net, self.probe, **arguments)

    def train(self) -> None:
        """Some steps."""
        for _ in range(self._steps):
            rows = self._rows[torch.randint(len(self._rows), (BATCH,))]
            logits = self._net(rows[:, :-1]).flatten(0, 1)
            self._adam.zero_grad()
            nn.functional.cross_entropy(logits, rows[:, 1:].flatten()).backward()
            self._adam.step()

    def look(self) -> None:
        """A look at all blocks."""
        self.tracer.snapshot(step=next(self._count), force=True)

    def forward(self) -> None:
        """What a look cannot do without: the tokens through the decoder."""
        with torch.no_grad():
            self._net(self.probe.x)

    def call(self) -> None:
        """As many calls that are not due as steps are taken."""
        for _ in range(self._steps):
            self.tracer.snapshot(step=next(self._count))


def callback(quick: bool) -> dict[str, Any]:
    """What looks, and the calls between them, add to a training, in % of its time."""
    at_once = 2 if quick else 20
    training = Training(960 if quick else TOKENS, at_once)
    ways = {
        "steps": training.train,
        "look": training.look,
        "forward": training.forward,
        "calls": training.call,
    }
    found = by_turns(ways, 1 if quick else 7)
    step, look, forward, call = (statistics.median(found[way]["cpu"]) for way in ways)
    step, call = step / at_once, call / at_once
    whole = STEPS * step
    return {
        "tokens": training.probe.x.numel(),
        "quantities": len(training.probe.quantities),
        "layers": len(BLOCKS),
        "step (CPU s)": round(step, 5),
        "look (CPU s)": round(look, 4),
        "bare forward of these tokens (CPU s)": round(forward, 4),
        "call that is not due (CPU s)": round(call, 6),
        f"{LOOKS} looks in {STEPS} steps add (%)": round(100 * LOOKS * look / whole, 2),
        f"{LOOKS} bare forwards would add (%)": round(100 * LOOKS * forward / whole, 2),
        f"{STEPS - LOOKS} other calls add (%)": round(100 * (STEPS - LOOKS) * call / whole, 2),
    }


def estimate(quick: bool) -> dict[str, Any]:
    """An estimate of five targets beside the product of T and the points, in both precisions."""
    n, d = (2_000, 64) if quick else (50_000, 768)
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(n, d, generator=generator)
    points = torch.randn(SoftEntropy().points, d, generator=generator)
    ids = {
        name: torch.randint(min(k, n // 4), (n,), generator=generator)
        for name, k in CLASSES.items()
    }
    x = torch.randint(256, (n, 1), generator=generator)
    sources = {name: value for name, value in ids.items() if name.startswith("context")}
    targets = {name: value for name, value in ids.items() if name not in sources}
    probe = Probe(x, targets, sources=sources, padding=None)
    ours = "SoftEntropy"
    ways: dict[str, Any] = {
        ours: partial(informations, SoftEntropy(), t, probe, probe.others),
        "float32 product": partial(_product, t, points),
        "float64 product": partial(_product, t.double(), points.double()),
    }
    found = by_turns(ways, 1 if quick else 7)
    products = [way for way in ways if way != ours]
    told: dict[str, Any] = {f"{ours} / {way}": ratios(found, ours, way) for way in products}
    return {"N": n, "d": d, "targets": len(probe.quantities), **told}


def _product(t: Tensor, points: Tensor) -> Tensor:
    return t @ points.T


def main(quick: bool) -> None:
    """Measure, print, and keep the result but of a quick one."""
    torch.set_num_threads(1)
    found = {"callback": callback(quick), "estimate": estimate(quick)}
    if quick:
        print(found)
    else:
        keep("language", found)


if __name__ == "__main__":
    main("--quick" in sys.argv)
