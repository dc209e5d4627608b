"""Inputs that are read anew at each look: the numbers of a tensor, or an error; no copy of all."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ibtrace import Ensemble, Keep, Look, Probe, ReadAnew, Tracer, ngrams
from ibtrace.errors import ConfigError, InvalidInput, LensFailed, NonFinite, Unsupported
from ibtrace.estimators import KDE, KSG, Binning, Exact, Ross, SoftEntropy, Subsampled
from ibtrace.probe import read_anew
from ibtrace.runtime import distributed
from ibtrace.tracer._observer import Observer
from ibtrace.types import Estimator
from tests.decoders import Decoder, tokens

N = 60
ADDING: list[Estimator] = [SoftEntropy(points=6), Exact(), Binning(width=0.3)]


def samples() -> tuple[Tensor, Tensor]:
    """Inputs of which some are alike, one of them by its value alone (-0.0), and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 3, generator=generator)
    x[10:20] = x[30:40]
    x[0, 0], x[1] = 0.0, x[0]
    x[0, 0] = -0.0
    return x, torch.randint(3, (N,), generator=generator)


def loader(**arguments: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*samples()), batch_size=7, **arguments)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))


def rows(data: Any, estimators: Any, max_bytes: int | None = None, **arguments: Any) -> Any:
    model = arguments.pop("model", None) or network()
    look = arguments.pop("look", None) or Look(batch_size=16, max_bytes=max_bytes)
    tracer = Tracer(model, data, estimators=estimators, look=look, **arguments)
    frame = tracer.trace.frame()
    return frame.drop(columns=["seconds"])


def assert_same(anew: pd.DataFrame, held: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(anew, held, check_exact=False, rtol=0, atol=1e-10)


class Counting:
    """Batches of labels and inputs; how many are alive at once is counted."""

    def __init__(self, size: int) -> None:
        self.size, self.passes, self.most = size, 0, 0
        self.alive: set[int] = set()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        x, y = samples()
        for at in range(0, N, self.size):
            batch = x[at : at + self.size].clone()
            key = id(batch)
            self.alive.add(key)
            weakref.finalize(batch, self.alive.discard, key)
            self.most = max(self.most, len(self.alive))
            yield batch, y[at : at + self.size]


@pytest.mark.parametrize("max_bytes", [None, 40])
def test_the_numbers_are_those_of_the_same_samples_in_a_tensor(max_bytes: int | None) -> None:
    held = rows(samples(), ADDING, max_bytes)
    x, y = samples()
    for data in (
        ReadAnew(loader()),
        ReadAnew(loader(shuffle=True)),
        (ReadAnew(x.numpy()), y),
        ReadAnew([(x[:1], y[:1]), (x[1:59], y[1:59]), (x[59:], y[59:])]),
        ReadAnew(TensorDataset(x, y)),
        Probe(ReadAnew(Counting(N))),
    ):
        assert_same(rows(data, ADDING, max_bytes), held)


def test_estimators_of_symbols_take_it_where_t_is_held() -> None:
    estimators = [KDE(noise_variance=0.1), Ross(), Binning(), Subsampled(Exact(), samples=30)]
    assert_same(rows(ReadAnew(loader()), estimators), rows(samples(), estimators))
    assert_same(rows((ReadAnew(samples()[0]), None), [KDE()]), rows((samples()[0], None), [KDE()]))


def test_distances_between_inputs_need_these() -> None:
    for estimator in (KSG(), Subsampled(KSG())):
        with pytest.raises(Unsupported, match=r"(?s)KSG.*read anew at each look .* binning, kde"):
            rows(ReadAnew(loader()), [estimator])
    default = rows(ReadAnew(loader()), None)
    assert {*default["estimator"]}.isdisjoint({"ksg", "Subsampled(ksg)"})


def test_ids_are_those_of_equal_values() -> None:
    x, _ = samples()
    ids = Probe(ReadAnew(loader())).x_ids
    whole = Probe(x, None).x_ids
    assert torch.equal(ids[:, None] == ids, whole[:, None] == whole)
    assert int(ids[0]) == int(ids[1])  # -0.0 is 0.0


def test_tokens_are_those_of_a_tensor_padding_left_out() -> None:
    whole = tokens()
    look = Look(reduce="tokens", batch_size=7, max_bytes=1000)
    x, y = whole.x, whole.y
    context, after = ngrams(x, 2, mask=x > 0), ngrams(x, 1, ahead=True, mask=x > 0)
    model = Decoder()
    batches = DataLoader(TensorDataset(x), batch_size=8)
    for labels, sources in ((y, None), ({"next": after}, {"context": context})):
        more: dict[str, Any] = {"sources": sources, "padding": 0}
        anew = Probe(ReadAnew(batches), labels, **more)
        held = Probe(x, labels, **more)
        kwargs: dict[str, Any] = {"model": model, "look": look}
        assert_same(rows(anew, ADDING, **kwargs), rows(held, ADDING, **kwargs))


class Masked(nn.Module):
    """Reads a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 4)
        self.out = nn.Linear(4, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.out(self.words(input_ids) * attention_mask[..., None])
        return out


@pytest.mark.parametrize("reduce", ["tokens", "token:mean"])
def test_masks_are_kept(reduce: str) -> None:
    ids = tokens().x
    x = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    y = torch.arange(len(ids)) % 3
    batches = [{k: v[a : a + 8] for k, v in x.items()} | {"labels": y[a : a + 8]} for a in (0, 8)]
    batches += [{k: v[16:] for k, v in x.items()} | {"labels": y[16:]}]
    kwargs: dict[str, Any] = {"model": Masked(), "look": Look(reduce=reduce, batch_size=9)}
    assert_same(rows(ReadAnew(batches), ADDING, **kwargs), rows((x, y), ADDING, **kwargs))


def test_padding_has_to_be_stated() -> None:
    x = tokens(sequences=60).x
    x[::3, 4:] = x[1::3, 3:] = 0
    with pytest.raises(InvalidInput, match=r"not searched for padding, .* show some .*padding=0"):
        Probe(ReadAnew([x]))
    assert Probe(ReadAnew([x]), padding=None).streams[0].real is None
    real = Probe(ReadAnew([x]), padding=0).streams[0].real
    whole = Probe(x, padding=0).streams[0].real
    assert real is not None
    assert whole is not None
    assert torch.equal(real, whole)


class Shuffled:
    """Samples in an order of their own at each pass, or of another number."""

    def __init__(self, change: str) -> None:
        self.change, self.passes = change, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = samples()
        self.passes += 1
        if self.passes > 2:  # the first reading, and the look at the first ones for padding
            if self.change == "order":
                x[[50, 55]], y[[50, 55]] = x[[55, 50]], y[[55, 50]]
            if self.change == "value":
                x[50, 1] += 1e-7
            if self.change == "more":
                x, y = x[torch.arange(N + 1) % N], y[torch.arange(N + 1) % N]
            if self.change == "fewer":
                x, y = x[:50], y[:50]
        yield from zip(x.split(7), y.split(7), strict=True)
        if self.change == "batch" and self.passes > 2:
            yield x[:1], y[:1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("order", "sample 50 is another one than it was"),
        ("value", "sample 50 is another one than it was"),
        ("more", "more than 60 samples come"),
        ("batch", "more than 60 samples come"),
        ("fewer", "50 of 60 samples come"),
    ],
)
@pytest.mark.parametrize("max_bytes", [None, 40])
def test_other_samples_than_before_are_an_error_and_no_number(
    change: str, words: str, max_bytes: int | None
) -> None:
    rows(ReadAnew(Shuffled("")), ADDING, max_bytes)
    data = ReadAnew(Shuffled(change))
    with pytest.raises(InvalidInput, match=f"{words}, .*shuffle=False, no random augmentation"):
        rows(data, ADDING, max_bytes)


class Used:
    """Its iterator is always the same one."""

    def __init__(self) -> None:
        self._batches = iter([samples()])

    def __iter__(self) -> Iterator[Any]:
        return self._batches


def test_what_is_read_only_once_is_refused() -> None:
    x, y = samples()
    for used in ((batch for batch in [(x, y)]), iter([(x, y)]), map(list, [(x, y)]), Used()):
        with pytest.raises(InvalidInput, match=r"used up when it has been read, .*begins anew"):
            ReadAnew(used)


def test_workers_that_stay_are_neither_started_nor_taken_for_what_is_used_up() -> None:
    data = loader(num_workers=2, persistent_workers=True)
    assert len(ReadAnew(data)) == N
    assert data._iterator is None


class Failing(Dataset[Any]):
    """Its disk is away for a while, at one sample."""

    away = -1

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        if index == self.away:
            raise OSError("no disk")
        x, y = samples()
        return x[index], y[index]


@given(away=st.integers(0, N - 1), size=st.integers(1, N), first=st.integers(0, N - 1))
@settings(max_examples=30)
def test_what_failed_to_be_read_is_read_when_it_is_there_again(
    away: int, size: int, first: int
) -> None:
    data = Failing()
    anew = ReadAnew(DataLoader(data, batch_size=size))
    data.away = away
    with pytest.raises(OSError, match="no disk"):
        anew.rows(slice(None))
    data.away = -1
    assert torch.equal(anew.rows(slice(first, None)), samples()[0][first:])


def test_no_samples_are_read_of_nothing_and_a_copy_reads_for_itself() -> None:
    anew = ReadAnew(loader())
    for none in (slice(0, 0), slice(N, None), torch.zeros(N, dtype=torch.bool), torch.arange(0)):
        assert anew.rows(none).shape == (0, 3)
    whole = samples()[0]
    assert torch.equal(anew.rows(slice(10)), whole[:10])  # and the reading goes on
    for other in (copy.deepcopy(anew), pickle.loads(pickle.dumps(anew)), anew):
        assert torch.equal(other.rows(slice(10, N)), whole[10:])


@given(seed=st.integers(0, 2**20))
@settings(max_examples=20)
def test_any_samples_in_any_order_are_those_of_the_tensor(seed: int) -> None:
    generator, anew = torch.Generator().manual_seed(seed), ReadAnew(loader())
    whole = samples()[0]
    for size in torch.randint(1, N, (5,), generator=generator).tolist():
        chosen = torch.randint(N, (size,), generator=generator)
        for some in (chosen, slice(N - size, N), slice(size // 2, size), torch.arange(N) < size):
            assert torch.equal(anew.rows(some), whole[some])


def test_what_is_no_batches_is_refused() -> None:
    x, y = samples()
    for wrong in ((x, y), {"x": x}, "file.pt"):
        with pytest.raises(InvalidInput, match="give a loader, a data set or a list of batches"):
            ReadAnew(wrong)
    with pytest.raises(InvalidInput, match="data must be"):
        ReadAnew(3)
    with pytest.raises(InvalidInput, match="ReadAnew gave 1"):
        ReadAnew([(x[:1], y[:1])])
    with pytest.raises(InvalidInput, match=r"is \(3,\) torch.float32 in the first batch"):
        ReadAnew([x, x[:, :2]])
    with pytest.raises(NonFinite, match="x has 3 NaN"):
        ReadAnew([x, x[:1] * torch.nan])
    with pytest.raises(InvalidInput, match="first, got"):
        ReadAnew([{"a": x, "b": x[:3]}])
    with pytest.raises(ConfigError, match="no whole"):
        Probe(ReadAnew([x]), whole=["x"])
    with pytest.raises(InvalidInput, match="same number of samples"):
        Probe(ReadAnew([x]), y[1:])


def test_what_needs_all_inputs_says_so(tmp_path: Path) -> None:
    data = ReadAnew(loader())
    with pytest.raises(Unsupported, match=r"read anew at each look .*Keep\(activations=True\)"):
        rows(data, ADDING, keep=Keep(tmp_path / "run", activations=True))
    with pytest.raises(Unsupported, match="tokens of x are numbers that are read anew"):
        rows(
            (ReadAnew(torch.randn(8, 5, 3)), None),
            ADDING,
            model=nn.Sequential(nn.Linear(3, 4)),
            look=Look(reduce="tokens"),
        )


def test_lenses_read_what_they_need_or_say_why_not() -> None:
    lenses = ["linear_probe", "flatness"]
    probe, held = Probe(ReadAnew(loader())), Probe(*samples())
    told = []
    for data in (probe, held):
        loss: Any = "cross_entropy"
        tracer = Tracer(network(), data, estimators=[Exact()], lenses=lenses, loss=loss)
        told.append(tracer.trace.readings().drop(columns=["seconds"]))
    assert len(told[1])
    assert_same(told[0], told[1])
    with pytest.warns(LensFailed, match="read anew"):
        Tracer(network(), probe, estimators=[Exact()], lenses="sensitivity")


def test_parts_on_ranks_and_ensembles_need_it_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(ReadAnew(loader()))
    nets = Ensemble(lambda seed: network(), [0, 1])
    with pytest.raises(Unsupported, match="an Ensemble is called with all samples at once"):
        Observer(nets, probe, Look())
    monkeypatch.setattr(distributed, "running", lambda: True)
    with pytest.raises(Unsupported, match=r"sharded=True needs each rank's part .* in memory"):
        Observer(network(), probe, Look(sharded=True))


def test_few_batches_are_alive_at_a_time() -> None:
    batches = Counting(3)
    probe = Probe(ReadAnew(batches))
    assert batches.most <= 3
    look = Look(batch_size=4, max_bytes=40)
    tracer = Tracer(network(), probe, estimators=ADDING, look=look, every=1)
    assert batches.most <= 6  # of 20: those of one forward, and the one being read
    before = batches.passes
    tracer.snapshot(1)
    assert batches.passes == before + 5  # what is held; of two layers one each, and the errors


PEAK = """
import resource, torch
from ibtrace import ReadAnew
torch.set_num_threads(1)
class Batches:
    def __iter__(self):
        for first in range(0, 20_000, 200):
            x = torch.full((200, 4096), 1.0)
            x[:, 0] = torch.arange(first, first + 200)
            yield x, torch.arange(200) % 3
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
ReadAnew([next(iter(Batches()))])
before = peak()
assert ReadAnew(Batches()).ids.unique().numel() == 20_000
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_inputs() -> None:
    """Nor by holes that the little which is kept leaves between large batches."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1  # GiB, of 0.31 that are read


def test_a_file_is_read_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_anew, "_AT_ONCE", 8)
    x, y = samples()
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_same(rows((ReadAnew(mapped), y), ADDING), rows((x, y), ADDING))
    anew = ReadAnew(mapped)
    assert torch.equal(anew.rows(torch.tensor([50, 3, 50])), x[[50, 3, 50]])
    assert torch.equal(anew.rows(slice(40, 44)), x[40:44])
    assert torch.equal(anew.rows(slice(41, 42)), x[41:42])


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Samples with noise that is drawn when they are read, as augmentations are."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = samples()
        noise = torch.randn(3) + float(np.random.rand())
        return F.relu(x[index] + noise), y[index]


def test_reading_moves_no_generator_and_draws_the_same_each_time() -> None:
    model = nn.Sequential(network(), nn.Dropout(0.5)).train()
    torch.manual_seed(3)
    own = torch.Generator().manual_seed(5)
    state, numpys, of_loader = torch.get_rng_state(), np.random.get_state(), own.get_state()
    batches = DataLoader(Noisy(), batch_size=7, shuffle=True, generator=own)
    probe = Probe(ReadAnew(batches))
    look = Look(["0"], batch_size=16, functional=True)
    frame = rows(probe, ADDING, model=model, look=look)
    assert torch.equal(torch.get_rng_state(), state)
    assert repr(np.random.get_state()) == repr(numpys)
    assert torch.equal(own.get_state(), of_loader)
    assert {*frame["layer"]} == {"0"}  # the relu is of the data
