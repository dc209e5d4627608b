"""A layer's rows are the samples': what mixes, sorts or mistakes them for time is left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look, looks
from ibtrace.errors import InvalidInput, LeftOut
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer

N, STEPS = 12, 5


class Acts(nn.Module):
    """An inner activation of which a subclass makes something in rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act, self.head = nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)


class Sorts(Acts):
    """Runs its samples in the order of their length, as packed sequences were."""

    def forward(self, x: Tensor) -> Tensor:
        order = (x != 0).flatten(1).sum(1).argsort(descending=True, stable=True)
        hidden = self.act(self.linear(x[order])).mean(1)
        out: Tensor = self.head(hidden[order.argsort()])
        return out


class Routes(Acts):
    """Gathers the samples of each expert side by side."""

    def forward(self, x: Tensor) -> Tensor:
        order = (x.sum((1, 2)) > 0).int().argsort(stable=True)
        hidden = self.act(self.linear(x[order])).mean(1)
        out: Tensor = self.head(hidden[order.argsort()])
        return out


class Steps(Acts):
    """A recurrent net for time first, given the samples first: they are its time steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.cell(self.linear(x))[0])
        result: Tensor = self.head(self.linear(x).mean(1)) + 0 * out.sum()
        return result


class Attends(Acts):
    """Samples attend to each other."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.linear(x).mean(1)
        mixed = self.act((hidden @ hidden.T).softmax(1) @ hidden)
        out: Tensor = self.head(hidden) + 0 * mixed.sum()
        return out


class Prototypes(Acts):
    """A weight that has as many rows as there are samples, in a net of that batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(N, 8))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) != N:
            raise ValueError("one batch size")
        out: Tensor = self.head(self.linear(x).mean(1)) + 0 * self.act(self.weight).sum()
        return out


def lengths() -> Tensor:
    """Sequences of different lengths, the longest first: the first ones are sorted already."""
    x = torch.randn(N, STEPS, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    for row in range(N):
        x[row, STEPS - (row * 5) // N :] = 0
    return x


@pytest.mark.parametrize("kind", [Sorts, Routes, Steps, Attends, Prototypes])
def test_rows_that_are_not_their_samples_are_left_out_or_refused(kind: type[Acts]) -> None:
    torch.manual_seed(0)
    model, data = kind(), Probe(lengths(), torch.arange(N) % 2, padding=None)
    with pytest.warns(LeftOut, match=r"act: the rows of its shape .* are not one sample's each"):
        tracer = Tracer(model, data, estimators=["binning"], look="*")
    assert "head" in set(tracer.trace.frame().layer)
    with pytest.raises(InvalidInput, match="layer 'act': the rows of its shape"):
        Tracer(model, data, look=["act"])


class Fixed(nn.Module):
    """Time first, with a state for so many samples."""

    state: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.act = nn.GRU(6, 8), nn.Tanh()
        self.register_buffer("state", torch.zeros(1, STEPS, 8))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.cell(x.transpose(0, 1), self.state)[0])[-1]
        return out


def test_samples_are_told_from_as_many_time_steps() -> None:
    torch.manual_seed(0)
    x = torch.randn(STEPS, STEPS, 6)
    model = Fixed()
    layer = next(iter(looks(model, Probe(x, torch.arange(STEPS) % 2), ["act"])))["act"]
    with torch.no_grad():
        expected = model.act(model.cell(x.transpose(0, 1), model.state)[0]).mean(0)
    torch.testing.assert_close(layer.values, expected)
    assert layer.variable == "token:mean, samples from axis 1"


def test_samples_behind_two_axes_of_their_number_are_found() -> None:
    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            kept: Any = self.act(x.view(4, 4, 3).permute(2, 1, 0))
            out: Tensor = kept.flatten(1).T[:4]
            return out

    x = torch.randn(4, 4, 3)
    probe = Probe(x, torch.arange(4) % 2)
    layer = next(iter(looks(Behind(), probe, Look(layers=["act"], reduce="flatten"))))["act"]
    torch.testing.assert_close(layer.values, x.tanh().mT.flatten(1))


def test_a_norm_over_the_batch_mixes_no_samples_in_eval_mode() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh())
    x = torch.randn(N, 6)
    layers = next(iter(looks(model, Probe(x, torch.arange(N) % 2), "*")))
    assert set(layers) >= {"0", "1", "2"}


class Ragged(nn.Module):
    """Cuts each batch at its longest sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        longest = int((x > 0).sum(1).max())
        tokens: Tensor = self.embedding(x[:, :longest])
        return tokens


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (3, 5, r"layer 'embedding': it gave more than 60 rows; forward the probe as one batch"),
        (5, 3, r"layer 'embedding': it ran for 80 of 100 rows, not in every batch; forward"),
        (4, 4, ""),
    ],
)
def test_tokens_fill_their_place_or_are_refused(first: int, second: int, why: str) -> None:
    x = torch.zeros(20, 6, dtype=torch.long)
    x[:10, :first], x[10:, :second] = 1, 2
    arguments: dict[str, Any] = {"reduce": "tokens", "batch_size": 10}
    probe = Probe(x, torch.arange(20) % 2, padding=None)
    parts = looks(Ragged(), probe, Look(layers=["embedding"], **arguments))
    if why:
        with pytest.raises(InvalidInput, match=why):
            list(parts)
    else:
        assert [len(part["embedding"].values) for part in parts] == [80]
