"""A small decoder: a language model whose residual stream can be looked at block by block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ibtrace.runtime.arguments import whole


class Decoder(nn.Module):
    """A causal transformer that gives logits of the next token at every position.

    Pre-norm blocks as of GPT-2: ``embedding`` (tokens and places), ``block1``, ``block2``, …, each
    of which gives the residual stream after it, ``norm`` and ``head``. Weights are normal with
    σ = 0.02, those that write to the residual stream divided by √(2 blocks).

    Args:
        vocabulary: How many tokens there are.
        width: Units of the residual stream, a multiple of ``heads``.
        blocks: How many blocks.
        heads: Heads of attention in each.
        context: The most tokens of a sequence.

    Raises:
        ConfigError: If a number is below 1, or the width no multiple of the heads.

    Example:
        >>> net = Decoder(256, width=128, blocks=4)
        >>> round(sum(p.numel() for p in net.parameters()) / 1e6, 2)
        0.87
        >>> net(torch.zeros(2, 9).long()).shape
        torch.Size([2, 9, 256])
    """

    def __init__(
        self,
        vocabulary: int = 256,
        width: int = 128,
        blocks: int = 4,
        heads: int = 4,
        context: int = 64,
    ) -> None:
        super().__init__()
        for name, value in (("vocabulary", vocabulary), ("blocks", blocks), ("context", context)):
            whole(f"Decoder: {name}", value, least=1)
        whole("Decoder: heads", heads, least=1)
        whole("Decoder: width / heads", width / heads, least=1)
        self.embedding = Embedding(vocabulary, width, context)
        self.blocks = blocks
        for number in range(1, blocks + 1):
            self.add_module(f"block{number}", Block(width, heads))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / ((2 * blocks) ** 0.5 if writes else 1.0))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits ``(n, tokens, vocabulary)`` of ids ``(n, tokens)``."""
        stream = self.embedding(ids)
        for number in range(1, self.blocks + 1):
            stream = self.get_submodule(f"block{number}")(stream)
        logits: Tensor = self.head(self.norm(stream))
        return logits


class Embedding(nn.Module):
    """Tokens and places as vectors, ``(n, tokens, width)``."""

    def __init__(self, vocabulary: int, width: int, context: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.place = nn.Embedding(context, width)

    def forward(self, ids: Tensor) -> Tensor:
        """The sum of both."""
        places = torch.arange(ids.shape[1], device=ids.device)
        stream: Tensor = self.token(ids) + self.place(places)
        return stream


class Block(nn.Module):
    """Attention to what came before, then two layers for each token; each added to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.second = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.down = nn.Linear(4 * width, width)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the block, ``(n, tokens, width)``."""
        n, tokens, width = stream.shape
        parts = self.mix(self.first(stream)).view(n, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind()
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.out(seen.transpose(1, 2).reshape(n, tokens, width))
        after: Tensor = stream + self.down(self.act(self.up(self.second(stream))))
        return after
