"""The curve of a trace's own probe: recorded, drawn, told by the verdict, and its faults called."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ibtrace import cli
from ibtrace.bounds import bottleneck, curve_of, joint_record
from ibtrace.errors import InvalidInput
from ibtrace.plane import to_bound
from ibtrace.probe import Probe
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Tracer
from ibtrace.types import I_TY, I_XT

matplotlib.use("Agg")
N = 96


def noisy(n: int = N) -> tuple[Tensor, Tensor]:
    """X: one of 6 values; Y: a coin whose chance hangs on X."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(6, (n,), generator=generator)
    chance = torch.tensor([0.05, 0.2, 0.5, 0.8, 0.9, 0.97])
    return x, torch.bernoulli(chance[x], generator=generator).long()


def traced(run: Path | None = None, *, population: bool = False, seeds: int = 1) -> Trace:
    x, y = noisy()
    probe = Probe(torch.eye(6)[x], y, population=population)
    for seed in range(seeds):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 2))
        keep = Keep(run)
        with Tracer(net, probe, estimators=["exact"], every=1, seed=seed, keep=keep) as tracer:
            tracer.snapshot(1)
    return tracer.trace


@pytest.mark.parametrize("known", [False, True])
def test_a_record_gives_the_curve_of_its_ids(known: bool) -> None:
    x, y = noisy()
    record = joint_record(x, y, known=known)
    assert record is not None
    curve, direct = curve_of(record), bottleneck(x=x, y=y)
    at = np.linspace(0, direct.h_x, 50)
    np.testing.assert_allclose(curve.at(at), direct.at(at), atol=1e-5)
    assert (curve.h_x, curve.h_y) == pytest.approx((direct.h_x, direct.h_y), abs=1e-12)
    assert curve.samples == (None if known else direct.samples)


def test_inputs_of_one_law_are_one_row_of_a_record() -> None:
    x, y = torch.arange(3000), torch.arange(3000) % 3  # each X once, and Y a function of it
    record = joint_record(x, y, known=False)
    assert record is not None
    assert len(record["counts"]) == 3
    curve = curve_of(record)
    assert curve.h_x == pytest.approx(math.log2(3000))
    assert curve.at(1.0) == pytest.approx(1.0, abs=1e-6)
    assert curve.at(9.0) == pytest.approx(math.log2(3), abs=1e-6)
    many = torch.randint(99, (20_000,)), torch.randint(99, (20_000,))
    assert joint_record(*many, known=False) is None
    with pytest.raises(InvalidInput, match="the record of the joint law is torn"):
        curve_of({"counts": [[1]]})


def test_the_curve_of_a_trace_is_drawn_in_bits_and_told() -> None:
    trace = traced()
    curve = trace.bound()
    assert curve.samples is not None
    assert curve.samples[:3] == (N, 6, 2)
    axes = trace.plot(bound=True).axes[0]
    (line,) = [each for each in axes.lines if "bottleneck bound" in str(each.get_label())]
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    np.testing.assert_allclose(y, curve.at(x), atol=1e-9)
    assert y.max() == pytest.approx(curve.i_xy, abs=1e-9)
    assert "an estimate (N = 96; 6 × 2 values)" in str(line.get_label())
    assert not any("bottleneck" in str(each.get_label()) for each in trace.plot().axes[0].lines)
    said = str(trace.verdict(bound=True))
    assert "below the bottleneck curve of an estimate of the law, of N = 96 samples" in said
    assert "bottleneck" not in str(trace.verdict())
    whole = traced(population=True)
    assert whole.bound().samples is None
    assert "of the law of X and Y, which is known" in " ".join(
        str(whole.verdict(bound=True)).split()
    )


def test_distances_are_those_of_the_points_and_faults_are_called() -> None:
    trace = traced()
    curve, frame = trace.bound(), trace.frame()
    for place in trace.verdict(bound=curve).to_bound:
        own = frame[(frame.layer == place.layer) & (frame.epoch == 1)].set_index("quantity").bits
        distance = curve.distance(own[I_XT], own[I_TY])
        assert place.distance == pytest.approx(distance)
        assert place.distance > -1e-6
        assert (place.above, place.points) == (0, 2)
    raised = frame.assign(bits=frame.bits.where(frame.quantity != I_TY, curve.i_xy + 0.05))
    exact = to_bound(raised.assign(stderr=0.0), curve)
    assert all(place.above == 2 and place.distance < 0 for place in exact)
    unsure = to_bound(raised.assign(stderr=0.05), curve)  # within two standard errors
    assert all(place.above == 0 for place in unsure)


def test_a_trace_without_a_law_says_so() -> None:
    x = torch.randint(9, (20, 4), generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Embedding(9, 3), nn.Tanh())
    trace = Tracer(net, (x, torch.randn(20)), estimators=["exact"], look=["1"]).trace
    for ask in (trace.bound, lambda: trace.plot(bound=True), lambda: trace.verdict(bound=True)):
        with pytest.raises(InvalidInput, match="does not tell the joint law of X and Y"):
            ask()


def test_the_commands_draw_and_tell_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traced(tmp_path / "run", seeds=2)
    assert cli.main(["plot", str(tmp_path / "run"), "--bound"]) == 0
    assert (tmp_path / "run" / "information_plane-exact.png").exists()
    assert cli.main(["verdict", str(tmp_path / "run"), "--bound"]) == 0
    assert "below the bottleneck curve" in capsys.readouterr().out
    assert cli.main(["plot", str(tmp_path / "run"), "--bound", "--animate"]) != 0
