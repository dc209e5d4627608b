"""The mean over positions is of the values and not of where they stand, in every precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ibtrace.tracer import Tracer


def orders(length: int) -> tuple[Tensor, Tensor]:
    """Eight bags of tokens, each in fifty orders, and which bag it is; 0 is no token."""
    generator = torch.Generator().manual_seed(0)
    bags = torch.randint(1, 30, (8, length), generator=generator)
    places = torch.rand(400, length, generator=generator).argsort(1)
    return bags.repeat_interleave(50, 0).gather(1, places), torch.arange(8).repeat_interleave(50)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("padded", [False, True])
def test_orders_of_one_bag_have_one_mean(kind: torch.dtype, padded: bool) -> None:
    torch.manual_seed(0)
    ids, bag = orders(17)
    mask = torch.ones_like(ids, dtype=torch.bool)
    if padded:
        ids, mask = (nn.functional.pad(each, (0, 4)) for each in (ids, mask))
    model = Bag().to(kind)
    with Tracer(
        model, ({"ids": ids, "attention_mask": mask.long()}, bag), estimators="exact", look="word"
    ) as tracer:
        frame = tracer.trace.frame()
    assert frame["bits"].tolist() == pytest.approx([3.0, 3.0])


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word, self.out = nn.Embedding(30, 6), nn.Linear(6, 8)

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask.unsqueeze(-1)
        words = self.word(ids) * weights
        out: Tensor = self.out(words.sum(1) / weights.sum(1))
        return out
