"""A small decoder of tokens, and tokens with padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibtrace.probe import Probe


class Decoder(nn.Module):
    """A small decoder of one's own."""

    def __init__(self, width: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.words = nn.Embedding(12, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(blocks)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        for block in self.blocks:
            x = x + block(x).cumsum(1) / 2
        out: Tensor = x.tanh()
        return out


def tokens(sequences: int = 30, length: int = 6) -> Probe:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, 12, (sequences, length), generator=generator)
    x[:5, 4:] = x[15:20, 4:] = 0
    return Probe(x, x.roll(-1, 1) % 5, padding=0)
