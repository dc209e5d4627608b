"""Memory of a trace of more tokens than fit: ``python -m benchmarks.streaming``.

A decoder-shaped network of layers of 768 dimensions is traced on many tokens by `SoftEntropy` and
by `Binning`, in a process of its own; its peak is told beside that of the same process after the
network and the probe are made. ``--part`` takes 3 layers and 131,072 tokens (a minute and a half),
``--quick`` some thousand; the whole, 12 layers and a million tokens, takes hours on one thread.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from benchmarks.timing import RESULTS, environment

WIDTH, LENGTH, WORDS = 768, 128, 4096
SIZES = {"quick": (3, 8_192), "part": (3, 131_072), "whole": (12, 1_048_576)}
"""Layers and tokens."""


class Decoder(nn.Module):
    """Blocks that hand on a stream; cheap, so that the memory is measured and not the network."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)) for _ in range(layers)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """The stream after the last block, without gradients or heads."""
        x = self.words(tokens)
        for block in self.blocks:
            x = x + block(x)
        return x


def gibibytes() -> float:
    """The peak of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def peak(layers: int, tokens: int) -> dict[str, float]:
    """GiB before a look and at its peak, the bytes of T that it would hold, and its seconds."""
    from ibtrace import Look, Probe, Tracer
    from ibtrace.estimators import Binning, SoftEntropy

    torch.manual_seed(0)
    model = Decoder(layers)
    x = torch.randint(WORDS, (tokens // LENGTH, LENGTH))
    probe = Probe(x, x.roll(-1, 1) % 64, padding=None)
    probe.tokens(tokens)
    before, start = gibibytes(), time.perf_counter()
    look = Look(
        [f"blocks.{i}" for i in range(layers)], reduce="tokens", batch_size=16, max_bytes=2**20
    )
    estimators = [SoftEntropy(), Binning(width=0.5)]
    Tracer(model, probe, estimators=estimators, look=look)
    return {
        "layers": layers,
        "tokens": tokens,
        "T (GiB)": tokens * layers * WIDTH * 4 / 2**30,
        "before (GiB)": round(before, 3),
        "extra at the peak (GiB)": round(gibibytes() - before, 3),
        "seconds": round(time.perf_counter() - start, 1),
    }


def main(size: str = "whole") -> None:
    """Measure in a process of its own, print, and keep the result but of a quick one."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--here", size]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1))
    if size != "quick":
        kept = {"environment": environment(), "streaming": found}
        (RESULTS / "streaming.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "--here" in sys.argv:
        print(json.dumps(peak(*SIZES[sys.argv[-1]])))
    else:
        main(next((size for size in SIZES if f"--{size}" in sys.argv), "whole"))
