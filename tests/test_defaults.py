"""Asked for nothing, a tracer measures what can say something, in a time that it foresees."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ibtrace.capture import Look
from ibtrace.checkpoints import find
from ibtrace.datasets import digits
from ibtrace.ensemble import Ensemble
from ibtrace.errors import CostWarning
from ibtrace.estimators import (
    KDE,
    KSG,
    AdaptiveBinning,
    Binning,
    Ross,
    Subsampled,
    information,
    make,
)
from ibtrace.plane import ceilings, verdict
from ibtrace.probe import Probe
from ibtrace.runtime.schedule import Steps, log_spaced, schedule
from ibtrace.tracer import At, Tracer, _cost, default_estimators
from ibtrace.training import config
from ibtrace.types import I_TY, I_XT, Estimator, label
from tests.test_train import raw


def images(n: int = 600, width: int = 784) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 10
    centres = torch.randn(10, width, generator=draw)
    return centres[y] + torch.randn(n, width, generator=draw), y


def tokens(n: int = 600) -> tuple[dict[str, Tensor], Tensor]:
    y = torch.arange(n) % 2
    ids = torch.randint(0, 50, (n, 12), generator=torch.Generator().manual_seed(1))
    return {"ids": ids + 50 * y[:, None]}, y


def image_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


class TextNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.act, self.out = nn.Embedding(100, 16), nn.Tanh(), nn.Linear(16, 2)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.out(self.act(self.embed(ids).mean(1)))
        return out


@pytest.mark.parametrize(("net", "data"), [(image_net, images()), (TextNet, tokens())])
def test_on_images_and_texts_the_defaults_say_something(
    net: Callable[[], nn.Module], data: Any
) -> None:
    tracer = Tracer(net(), data)
    frame = tracer.trace.frame()
    hidden = frame[frame.layer != "output"]
    ceiling = math.log2(600)
    about_x = hidden[(hidden.quantity == I_XT) & ~hidden["flags"].str.contains("ceiling|dim")]
    graded = about_x[(about_x.bits > 0.05) & (about_x.bits < 0.95 * ceiling)]
    assert graded.estimator.nunique() >= 2  # more than one scale, neither at 0 nor at the ceiling
    assert hidden[(hidden.quantity == I_XT) & (hidden.estimator == "Exact")].bits.item() > 9
    classwise = hidden[(hidden.quantity == I_TY) & (hidden.estimator == "Ross")]
    assert (classwise.bits > 0.5).all()
    assert "dimensions, more than log2 N" in tracer.trace.meta["default_estimators"]
    assert "KSG" not in set(frame.estimator)


@pytest.mark.parametrize(("dimensions", "low"), [(1, True), (9, True), (10, False), (64, False)])
@pytest.mark.parametrize("labels", ["classes", "numbers", "none"])
def test_few_dimensions_keep_bins_and_neighbours(dimensions: int, low: bool, labels: str) -> None:
    x, y = images(512, dimensions)  # log2 N = 9
    of_labels: dict[str, Any] = {"classes": y, "numbers": y + 0.5, "none": None}
    chosen, why = default_estimators(Probe(x, of_labels[labels]))
    names = [label(estimator) for estimator in chosen]
    assert f"X has {dimensions} dimensions" in why
    if low:
        assert names == [label(Binning()), label(KSG())]
    else:
        assert "Exact" in names
        assert ("Ross" in names, "KSG" in names) == (labels == "classes", labels == "numbers")
    Tracer(nn.Linear(dimensions, 2), Probe(x, of_labels[labels]))  # each takes these labels


def embedded(model: nn.Module, batch: Any) -> Any:
    return model((batch["x"] if isinstance(batch, dict) else batch).int())


@pytest.mark.parametrize("labels", ["classes", "numbers", "none"])
@pytest.mark.parametrize("columns", [1, 2, 12])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("named", [False, True])
def test_renamed_tokens_are_as_informative(
    named: bool, kind: torch.dtype, columns: int, labels: str
) -> None:
    draw = torch.Generator().manual_seed(0)
    ids, names = torch.randint(0, 50, (300, columns), generator=draw), torch.randperm(50)
    embedding = nn.Embedding(50, 4)
    renamed = nn.Embedding(50, 4)
    renamed.weight.data[names] = embedding.weight.data
    y = {"classes": ids[:, 0] % 2, "numbers": ids.sum(1) + 0.5, "none": None}[labels]
    frames = []
    for net, x in ((embedding, ids), (renamed, names[ids])):
        x = x.to(kind)
        probe = Probe({"x": x, "attention_mask": torch.ones_like(x)} if named else x, y)
        frames.append(Tracer(net, probe, look=Look(forward=embedded)).trace.frame())
    old, new = (frame[frame.quantity == I_XT] for frame in frames)
    assert old.estimator.tolist() == new.estimator.tolist()
    assert "KSG" not in " ".join(old.estimator)
    assert len(old) >= 4
    np.testing.assert_allclose(old.bits, new.bits, rtol=1e-6)
    exact = old[old.estimator == "Exact"].bits.item()
    assert 5 < exact <= probe.input_entropy + 1e-6


def test_a_mask_is_no_name() -> None:
    x, y = images(512, 2)
    chosen, _ = default_estimators(Probe({"x": x, "attention_mask": torch.ones(512, 2).long()}, y))
    assert label(KSG()) in map(label, chosen)
    assert label(KSG()) in map(label, default_estimators(Probe(x > 0, y))[0])


@pytest.mark.parametrize("width", [2, 20])
def test_slow_estimators_have_a_limit_where_samples_are_tokens(width: int) -> None:
    x, y = images(300, width)
    assert not any(isinstance(e, Subsampled) for e in default_estimators(Probe(x, y))[0])
    chosen, why = default_estimators(Probe(x, y), per_token=True)
    slow = [e for e in chosen if isinstance(e, Subsampled)]
    assert len(slow) == len(chosen) - (1 if width == 2 else 2)
    assert "slow ones on at most 2000 samples" in why


def test_the_default_of_a_tracer_of_tokens_has_the_limit() -> None:
    x = torch.randn(30, 100, 3, generator=torch.Generator().manual_seed(0))  # 3000 tokens
    given: dict[str, Any] = {"look": Look(layers=["0"], reduce="tokens")}
    frame = Tracer(nn.Sequential(nn.Tanh()), (x, torch.arange(30) % 2), **given).trace.frame()
    slow = frame.estimator.str.contains("KDE|Ross")
    assert set(frame[slow].samples) == {2000}
    assert set(frame[~slow].samples) == {3000}


def test_the_default_is_one_for_tracer_checkpoints_and_configuration(tmp_path: Path) -> None:
    net, data = image_net(), images()
    live = Tracer(net, data).trace.estimators
    torch.save({"model": net.state_dict(), "epoch": 0}, tmp_path / "net.pt")
    assert find(tmp_path / "net.pt")
    after = Tracer.from_checkpoints(net, tmp_path / "net.pt", data)
    assert after.trace.estimators == live
    left_out = {key: value for key, value in raw(epochs=1, seeds=1).items() if key != "estimators"}
    experiment = config.build(left_out)
    assert experiment.tracing()["estimators"] is None
    (named,) = config.build({**left_out, "estimators": "exact"}).tracing()["estimators"]
    assert label(named) == "Exact"


# --- a part of the samples ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [KSG(), Ross(), KDE(), Binning(), AdaptiveBinning(), *map(make, ("mixed_ksg", "npeet"))],
    ids=label,
)
def test_a_subsample_is_the_estimator_on_those_samples(estimator: Estimator) -> None:
    x = torch.randn(45, 3, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    y = torch.arange(90) // 15  # equal inputs have other labels, and other T
    t = torch.tanh(x[:, :2] + y[:, None])[None].repeat(2, 1, 1)
    part = Subsampled(estimator, samples=60, seed=4)
    rows = part._rows(90, t.device)
    assert len(rows.unique()) == 60
    assert not torch.equal(rows, Subsampled(estimator, samples=60, seed=5)._rows(90, t.device))
    expected = information(estimator, t[:, rows], Probe(x[rows], y[rows]))
    for estimate, other in zip(information(part, t, Probe(x, y)), expected, strict=True):
        torch.testing.assert_close(estimate.bits, other.bits, equal_nan=True)
        assert estimate.diagnostics["samples"].tolist() == [60, 60]
    whole = information(Subsampled(estimator, samples=90), t, Probe(x, y))
    for estimate, other in zip(whole, information(estimator, t, Probe(x, y)), strict=True):
        torch.testing.assert_close(estimate.bits, other.bits, equal_nan=True)
    assert "on 60 samples" in label(part)
    assert "at most 60 drawn samples" in part.estimand


def test_many_samples_are_measured_in_part_and_the_rows_say_so() -> None:
    x, y = images(2500, 20)
    trace = Tracer(nn.Sequential(nn.Linear(20, 4), nn.Tanh()), (x, y)).trace
    samples = trace.frame().groupby("estimator").samples.unique()
    for name, numbers in samples.items():
        slow = "KDE" in str(name) or "Ross" in str(name)
        assert numbers.tolist() == [2000 if slow else 2500], name
        assert ("on 2000 samples" in str(name)) == slow
    estimands = trace.frame().groupby("estimator").estimand.first()
    assert estimands.str.contains("at most 2000 drawn samples").sum() == 3
    assert "at most 2000 samples" in trace.meta["default_estimators"]


def test_the_ceiling_of_a_part_is_that_of_its_samples() -> None:
    x, y = images(256, 30)
    net = nn.Sequential(nn.Linear(30, 8), nn.Tanh())
    part = Subsampled(KDE(noise_variance=1e-6), samples=64)
    with Tracer(net, (x, y), estimators=part, every=1) as tracer:
        for epoch in range(1, 4):
            tracer.snapshot(epoch)
    frame = tracer.trace.frame()
    assert frame[frame.quantity == I_XT].bits.max() == pytest.approx(6.0, abs=1e-3)
    assert {finding.call for finding in verdict(tracer.trace).findings} == {"inconclusive"}
    assert ceilings(tracer.trace, frame)[I_XT] == (6.0, "log₂ N = 6")


# --- what it costs ------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [None, 1, [5, 10], lambda epoch: epoch < 4])
def test_a_slow_look_is_foreseen_before_training(
    every: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cost, "SLOW_LOOK", 0.0)
    with pytest.warns(CostWarning, match=r"a look takes .* s, .* of them KSG.* min: measure fewer"):
        tracer = Tracer(image_net(), images(), estimators=["exact", "ksg"], every=every)
    tracer.snapshot(1, force=True)  # said once


@pytest.mark.parametrize(("every", "looks", "last"), [([5, 10], 2, 10), (10, 10, 100)])
def test_the_looks_that_are_foreseen_are_those_of_the_schedule(
    every: Any, looks: int, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 300))  # an estimate takes five minutes
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    said = f"the {looks} looks up to epoch {last} are {5 * looks} min"
    with pytest.warns(CostWarning, match=f"a look takes 300.0 s, 300.0 of them Exact; {said}"):
        Tracer(image_net(), images(), estimators="exact", every=every, look="1")


def test_an_instrument_with_a_schedule_of_its_own_is_foreseen_by_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(0, 10_000, 300))  # an estimate takes five minutes
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    said = r"300.0 of them Exact \(at 2 looks\); the 10 looks up to epoch 100 are 10 min"
    with pytest.warns(CostWarning, match=f"a look takes 300.0 s, {said}"):
        Tracer(image_net(), images(), estimators=At("exact", [50, 100]), every=10, look="1")


def seldom(step: int) -> bool:
    return step % 1000 == 0


@given(
    when=st.one_of(
        st.integers(1, 30),
        st.lists(st.integers(0, 200), min_size=1),
        st.sampled_from([log_spaced(), log_spaced(150, 9), seldom]),
    ),
    horizon=st.integers(1, 300),
    steps=st.booleans(),
)
def test_looks_are_counted_as_the_schedule_says(when: Any, horizon: int, steps: bool) -> None:
    asked = Steps(when) if steps else schedule(when)
    assert _cost._counted(asked, horizon) == sum(asked(at) for at in range(1, horizon + 1))


@pytest.mark.parametrize("own", [None, 3, [7, 2**40], seldom])
def test_a_look_far_away_is_foreseen_without_asking_of_all_before(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cost, "SLOW_LOOK", 0.0)
    exact = "exact" if own is None else At("exact", Steps(own))
    with pytest.warns(CostWarning, match=f"the 1 looks up to step {2**40} are"):
        Tracer(image_net(), images(), estimators=exact, every=Steps([2**40]), look="1")


def test_a_quick_look_is_not_warned_of() -> None:
    Tracer(image_net(), images(), estimators="exact", every=[1])


def test_seconds_are_shared_by_the_numbers_they_bought(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 4))  # each estimate takes four seconds
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    x, y = images(64, 5)
    nets = Ensemble(lambda seed: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4)), (0, 1))
    frame = Tracer(nets, (x, y), estimators=["exact"], look=["0", "2"]).trace.frame()
    assert frame.groupby(["seed", "layer"]).ngroups == 4
    assert frame.seconds.tolist() == [1.0] * len(frame)  # two layers of two seeds at once
    alone = Tracer(nets.template, (x, y), estimators=["exact"], look=["0"]).trace.frame()
    assert alone.seconds.tolist() == [4.0] * len(alone)


@pytest.mark.slow
def test_the_defaults_of_a_large_mlp_end() -> None:
    """The issue's own case: 83 s a snapshot, without a word, for a 784-64-10 MLP at N = 20,000."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    frame = Tracer(net, images(20_000)).trace.frame()
    assert frame.groupby("estimator").seconds.sum().max() < 10


def test_digits_show_more_than_their_ceiling() -> None:
    data = digits()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    frame = Tracer(net, data).trace.frame()
    bits = frame[(frame.quantity == I_XT) & (frame.layer == "1")].set_index("estimator").bits
    assert bits["Exact"] == pytest.approx(math.log2(1797), abs=0.01)
    assert ((bits > 0.3) & (bits < 10)).sum() >= 3
