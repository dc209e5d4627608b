"""What stands where sequences end: padding, what may be, and what only looks like it.

A table of made sequences, each drawn several times. What is padding has to be found; what may be is
left as it is, and said; what is none is never left out.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from ibtrace.errors import InvalidInput
from ibtrace.probe import Probe

N, LENGTH, KINDS, DRAWS = 60, 9, 12, 5
AT = torch.arange(LENGTH)
Made = Callable[[torch.Generator], Tensor]


def whole(low: int, high: int, g: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(low, high, shape or (N, LENGTH), generator=g)


def normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*(shape or (N, LENGTH)), generator=g)


def uniform(g: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=g)


def real(g: torch.Generator) -> Tensor:
    """Sequences of 2 to 9 tokens."""
    return whole(2, LENGTH + 1, g, N, 1) > AT


def ids(g: torch.Generator, fill: int = 0, kinds: int = KINDS) -> Tensor:
    drawn = whole(1, kinds, g)
    return torch.where(real(g), torch.where(drawn == fill, 0, drawn), fill)


def vectors(g: torch.Generator) -> Tensor:
    return normal(g, N, LENGTH, 3) * real(g)[..., None]


def written(x: Tensor, **places: Tensor | int) -> Tensor:
    """The last tokens of some rows become 0."""
    rows, last = places["rows"], int(places["last"])
    x[rows, -last:] = 0
    return x


def one_inside(g: torch.Generator) -> Tensor:
    x = ids(g)
    x[7] = torch.tensor([3, 0, 5, 2, 1, 9, 0, 0, 0])
    return x


def one_empty(x: Tensor) -> Tensor:
    x[5] = 0
    return x


def started(g: torch.Generator) -> Tensor:
    return pad(ids(g)[:, :-1], (1, 0))


def middle(g: torch.Generator) -> Tensor:
    begin = whole(0, 4, g, N, 1)
    return (begin <= AT) & (begin + whole(2, 6, g, N, 1) > AT)


def two_rows(g: torch.Generator) -> Tensor:
    x = whole(1, KINDS, g)
    x[3, -3:], x[8, -5:] = 0, 0
    return x


def either_side(g: torch.Generator) -> Tensor:
    x = ids(g)
    return torch.cat([x[:30], x[30:].flip(1)])


PADDED: dict[str, Made] = {
    "ids": ids,
    "ids on the left": lambda g: ids(g).flip(1),
    "another id": lambda g: ids(g, 7),
    "the greatest id": lambda g: ids(g, 99),
    "bytes": lambda g: ids(g).to(torch.uint8),
    "many kinds": lambda g: ids(g, kinds=30_000),
    "four kinds": lambda g: ids(g, kinds=5),
    "of many in a batch": lambda g: ids(g).repeat(30, 1),
    "one empty text": lambda g: one_empty(ids(g)),
    "one inside": one_inside,
    "a first token": started,
    "at both ends": lambda g: whole(1, KINDS, g) * middle(g),
    "at either end": either_side,
    "in two rows": two_rows,
    "vectors": vectors,
    "half precision": lambda g: vectors(g).bfloat16(),
    "vectors on the left": lambda g: vectors(g).flip(1),
    "vectors in the middle": lambda g: normal(g, N, LENGTH, 3) * middle(g)[..., None],
    "one empty sequence": lambda g: one_empty(vectors(g)),
    "channels first": lambda g: vectors(g).mT,
    "channels first, on the left": lambda g: vectors(g).mT.flip(2),
    "a spectrogram": lambda g: normal(g, N, 20, LENGTH).exp() * real(g)[:, None],
    "another number": lambda g: torch.where(real(g)[..., None], normal(g, N, LENGTH, 3), -1.0),
    "one-hot rows": lambda g: one_hot(ids(g), KINDS)[..., 1:].float(),
    "series": lambda g: normal(g) * real(g),
    "series on the left": lambda g: (normal(g) * real(g)).flip(1),
    "series of one channel": lambda g: (normal(g) * real(g))[:, None],
    "series of one number": lambda g: (normal(g) * real(g))[..., None],
}


def sets(g: torch.Generator) -> Tensor:
    """Each its own numbers 1 to 30, the greatest first."""
    drawn = torch.stack([torch.randperm(30, generator=g)[:LENGTH] for _ in range(N)])
    return drawn.sort(descending=True).values + 1


def lasting(g: torch.Generator) -> Tensor:
    return whole(1, KINDS, g).repeat_interleave(3, 1)[:, :LENGTH] * real(g)


def begun(g: torch.Generator) -> Tensor:
    """1 from some time on."""
    return whole(0, 6, g, N, 1) <= AT


def claims(g: torch.Generator) -> Tensor:
    """Ages, regions, claims and their costs, which are 0 together."""
    number = whole(0, 4, g, N) * (uniform(g, N) < 0.4)
    return torch.stack([whole(18, 90, g, N), whole(1, 9, g, N), number, number * 137], 1)


def discs(g: torch.Generator, *, cut: bool) -> Tensor:
    """Pictures that are black but for a disc: above, or in the middle."""
    centre = torch.zeros(N, 1, 1) if cut else whole(3, 6, g, N, 1, 1)
    radius = 2 + 2 * uniform(g, N, 1, 1)
    away = (AT[:, None] - centre) ** 2 + (AT - 4) ** 2
    return uniform(g, N, LENGTH, LENGTH) * (away < radius**2)


def rows_of_zeros(g: torch.Generator, every: int, last: int) -> Tensor:
    return written(whole(1, KINDS, g), rows=torch.arange(0, N, every), last=last)


MAY_BE: dict[str, Made] = {
    "sets from the greatest": lambda g: sets(g) * real(g),
    "codes that last": lasting,
    "sounds that fade": lambda g: (
        normal(g) * ((1 - AT / whole(3, LENGTH + 1, g, N, 1)).clamp(min=0) ** 2)
    ),
    "as much everywhere": lambda g: rows_of_zeros(g, 1, 3),
    "vectors, as much everywhere": lambda g: normal(g, N, LENGTH, 3) * (AT < 6)[:, None],
    "one token": lambda g: rows_of_zeros(g, 3, 1),
    "one vector": lambda g: written(normal(g, N, LENGTH, 3), rows=torch.arange(0, N, 3), last=1),
    "one number": lambda g: written(normal(g), rows=torch.arange(0, N, 3), last=1),
    "two lengths": lambda g: rows_of_zeros(g, 2, 2),
    "one place of all": lambda g: torch.where(AT == 1, 0, ids(g)),
    "elsewhere in many": lambda g: torch.where(
        (AT == 0) & (torch.arange(N) < 20)[:, None], 0, ids(g)
    ),
    "sums of steps": lambda g: (normal(g).abs() * begun(g)).cumsum(1),
    "walks from 0": lambda g: (normal(g, N, LENGTH, 3) * begun(g)[..., None]).cumsum(1),
    "claims": claims,
    "black below": lambda g: discs(g, cut=True),
    "framed": lambda g: pad(uniform(g, N, 5, LENGTH), (0, 0, 2, 2)),
    "a piano roll": lambda g: (uniform(g, N, LENGTH, 12) < 0.2) * real(g)[..., None].float(),
    "ReLU maps": lambda g: normal(g, N, LENGTH, 12).relu() * real(g)[..., None],
}


def counts(g: torch.Generator, rate: float, *shape: int) -> Tensor:
    return torch.poisson(torch.full(shape or (N, LENGTH), rate), generator=g).long()


def household(g: torch.Generator) -> Tensor:
    """Age, income, and children and pets, of which most have none."""
    few = whole(1, 4, g, N, 2) * (uniform(g, N, 2) < 0.35)
    return torch.cat([whole(18, 90, g, N, 1), whole(20, 200, g, N, 1), few], 1)


def cards(g: torch.Generator) -> Tensor:
    return torch.stack([torch.randperm(52, generator=g)[:5] for _ in range(N)]).sort().values


NONE: dict[str, Made] = {
    "tokens": lambda g: whole(0, KINDS, g),
    "many kinds of tokens": lambda g: whole(0, 30_000, g),
    "bits": lambda g: whole(0, 2, g),
    "bools": lambda g: real(g),
    "a thermometer": lambda g: (torch.arange(N)[:, None] % LENGTH > AT).long(),
    "an end of sentence": lambda g: pad(whole(1, KINDS, g), (0, 1)),
    "sorted": lambda g: whole(0, 5, g).sort().values,
    "hands of ranks": lambda g: whole(0, 13, g, N, 5).sort().values,
    "hands of cards": cards,
    "pairs": lambda g: torch.cartesian_prod(torch.arange(8), torch.arange(8))[:N],
    "triples": lambda g: whole(0, 3, g, N, 3),
    "cumulative counts": lambda g: counts(g, 0.6).cumsum(1),
    "cumulative sums": lambda g: (normal(g).abs() * whole(0, 2, g)).cumsum(1),
    "counts": lambda g: counts(g, 1.0),
    "households": household,
    "rain": lambda g: torch.cat([normal(g, N, 4), normal(g, N, 3).relu()], 1),
    "rounded": lambda g: normal(g, N, 5).round(),
    "digits": lambda g: whole(0, 10, g, N, 6),
    "histograms": lambda g: torch.stack([torch.histc(row, 20, -5, 5) for row in normal(g, N, 99)]),
    "pictures": lambda g: discs(g, cut=False),
    "pictures in bytes": lambda g: (255 * discs(g, cut=False)).to(torch.uint8),
    "flat pictures": lambda g: discs(g, cut=False).flatten(1),
    "ReLU": lambda g: normal(g, N, LENGTH, 4).relu(),
    "letters": lambda g: one_hot(whole(0, 4, g), 4).float(),
    "several of four": lambda g: (uniform(g, N, LENGTH, 4) < 0.3).float(),
    "dense": lambda g: normal(g, N, LENGTH, 3),
}


def drawn(made: Made) -> list[Probe]:
    generators = [torch.Generator().manual_seed(seed) for seed in range(DRAWS)]
    return [Probe(made(g)) for g in generators]


def said(probe: Probe) -> bool:
    return any(stream.notice for stream in probe.streams)


@pytest.mark.parametrize("name", PADDED)
def test_padding_is_found(name: str) -> None:
    assert all(probe.streams[0].padded for probe in drawn(PADDED[name]))


@pytest.mark.parametrize("name", MAY_BE)
def test_what_may_be_padding_is_left_and_said(name: str) -> None:
    probes = drawn(MAY_BE[name])
    assert not any(probe.padding or probe.streams[0].padded for probe in probes)
    assert all(said(probe) for probe in probes)


def test_what_only_looks_like_padding_is_none() -> None:
    probes = {name: drawn(made) for name, made in NONE.items()}
    for name, of_name in probes.items():
        assert not any(probe.padding or probe.streams[0].padded for probe in of_name), name
    false = [name for name, of_name in probes.items() for probe in of_name if said(probe)]
    assert len(false) <= 0.02 * DRAWS * len(NONE), false


def test_numbers_beside_their_channels_are_padded_where_it_was_said() -> None:
    g = torch.Generator().manual_seed(0)
    tokens, numbers = real(g), normal(g, N, LENGTH, 3)
    for x, axis in ((numbers, 1), (numbers.mT, 2)):
        padded = x * (tokens[..., None] if axis == 1 else tokens[:, None])
        (stream,) = Probe(padded, padding=0).streams
        assert (stream.axis, stream.length) == (axis, LENGTH)
        assert torch.equal(stream.tokens(N), tokens)
    with pytest.raises(InvalidInput, match="no token is 0; padding=None"):
        Probe(numbers.mT, padding=0)


def test_what_is_padding_of_all_is_padding_of_some() -> None:
    """Of a few samples alone, a decoder's first token or the axis could not be told."""
    for x in (started(torch.Generator().manual_seed(1)), vectors(torch.Generator()).mT):
        probe = Probe(x)
        rows = torch.tensor([4, 9])
        (few,), (stream,) = probe.take(rows).streams, probe.streams
        assert few.axis == stream.axis
        assert torch.equal(few.tokens(2), stream.tokens(N)[rows])
        (other,) = probe.with_inputs({"": torch.ones_like(x)}).streams
        assert torch.equal(other.tokens(N), stream.tokens(N))


def test_a_mask_that_says_that_all_are_real_is_believed() -> None:
    x = ids(torch.Generator().manual_seed(0))
    for name, value in (("attention_mask", 1), ("padding_mask", 0)):
        probe = Probe({"input_ids": x, name: torch.full_like(x, value)})
        assert not probe.padding
        assert not said(probe)


@pytest.mark.parametrize("every", [2, 3])
def test_padding_of_every_kth_sequence_of_many_is_found_in_any_order(every: int) -> None:
    """Questions and answers by turns: what is periodic in the rows is no less there."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 50, (1500, 12), generator=generator)
    lengths = torch.randint(3, 10, (1500,), generator=generator)
    lengths[torch.arange(1500) % every != every - 1] = 12
    ids[torch.arange(12) >= lengths[:, None]] = 0
    for rows in (torch.arange(1500), torch.randperm(1500, generator=generator)):
        assert Probe(ids[rows], torch.arange(1500) % 2).padding == {"": 0}


@pytest.mark.parametrize("fill", [0, -1])
def test_sorted_sequences_that_fall_to_a_token_at_the_end_are_no_sorted_ones(fill: int) -> None:
    """Days of visits in order, and counts that add up, of different lengths."""
    generator = torch.Generator().manual_seed(1)
    days = torch.randint(1, 400, (200, 40), generator=generator).sort(1).values
    added = torch.randint(0, 3, (200, 40), generator=generator).cumsum(1) + 1
    lengths = torch.randint(25, 41, (200, 1), generator=generator)
    for rows in (days, added, added.float()):
        padded = rows.masked_fill(torch.arange(40) >= lengths, fill)
        assert said(Probe(padded))
        assert not said(Probe(rows))
