"""Sliced and Compressed: what is projected, how, and that the base gets nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ibtrace.errors import ConfigError, TooFewSamples, Unsupported
from ibtrace.estimators._inputs import check_pair, is_ids
from ibtrace.estimators.binning import Binning
from ibtrace.estimators.compressed import Compressed
from ibtrace.estimators.ksg import KSG
from ibtrace.estimators.ross import Ross
from ibtrace.estimators.sliced import Sliced
from ibtrace.numerics.projections import (
    content_order,
    first_equal,
    orthonormal,
    principal_components,
    tied_alike,
)
from ibtrace.types import Estimate, Estimator, Tags, label


@dataclass(frozen=True)
class Correlation:
    """I(X;Y) of normals from the sample covariance, in bits: a base without randomness."""

    stderr: float = math.nan

    tags: ClassVar[Tags] = Tags(estimand="I(X;Y)", reference="", question="density")

    @property
    def estimand(self) -> str:
        """As in the estimators under test."""
        return "T as a normal"

    def __call__(self, x: Tensor, y: Tensor, *, seed: int = 0) -> Estimate:
        """Half the log ratio of determinants."""
        check_pair("Correlation", x, y)
        shape = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
        both = torch.cat([x.expand(*shape, -1), y.expand(*shape, -1)], -1).double()
        both = both - both.mean(-2, keepdim=True)
        covariance, d = both.mT @ both, x.shape[-1]
        own = covariance[..., :d, :d].logdet() + covariance[..., d:, d:].logdet()
        bits = (own - covariance.logdet()) / math.log(4)
        stderr = torch.tensor(self.stderr)
        return Estimate(bits, stderr, diagnostics={"width": torch.tensor(d + y.shape[-1])})


def dependent(n: int = 300, dx: int = 5, dy: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dx, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, dy, generator=generator, dtype=torch.float64)
    return x, x @ torch.randn(dx, dy, generator=generator, dtype=torch.float64) + noise


# --- sliced ---------------------------------------------------------------------------------


@settings(max_examples=20)
@given(d=st.integers(1, 8), seed=st.integers(0, 1000), data=st.data())
def test_frames_are_orthonormal(d: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, d))
    frames = orthonormal(7, d, k, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(frames.mT @ frames, torch.eye(k).double().expand(7, k, k))


def test_frames_are_uniform() -> None:
    frames = orthonormal(20_000, 3, 2, torch.Generator().manual_seed(0))
    assert float(frames.mean(0).abs().max()) < 0.02
    second = (frames @ frames.mT).mean(0)  # k/d I by symmetry
    torch.testing.assert_close(second, 2 / 3 * torch.eye(3).double(), rtol=0, atol=0.02)
    angles = torch.atan2(frames[:, 1, 0], frames[:, 0, 0])
    assert np.histogram(angles.numpy(), 8)[0].min() > 2300  # 2500 in each of 8 sectors


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("base", [Correlation(0.1), KSG(k=4)], ids=label)
def test_sliced_is_a_loop_over_directions(base: Estimator, k: int) -> None:
    x, y = dependent()
    found = Sliced(base, directions=6, k=k)(x, y, seed=3)
    generator = torch.Generator().manual_seed(3)
    frames = orthonormal(6, 5, k, generator), orthonormal(6, 4, k, generator)
    slices = [base(x @ a, y @ b, seed=3) for a, b in zip(*frames, strict=True)]
    bits, stderr = (torch.stack([getattr(e, name) for e in slices]) for name in ("bits", "stderr"))
    torch.testing.assert_close(found.bits, bits.mean())
    total = 0.0
    for a in range(6):
        for b in range(6):
            alike = 1.0
            for value, frame in zip((x, y), frames, strict=True):
                both = torch.cat([value @ frame[a], value @ frame[b]], 1)
                alike *= float(both.T.corrcoef()[:k, k:].square().sum() / k) ** 3
            total += float(stderr[a] * stderr[b]) * alike
    assert float(found.stderr) == pytest.approx(math.sqrt(total) / 6)
    torch.testing.assert_close(found.diagnostics["directions_std"], bits.std())


def test_slices_of_a_shared_normal_have_the_mean_of_their_informations() -> None:
    """X = Y in three dimensions, normal: a slice has the correlation θᵀφ, uniform on [-1, 1]."""
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(1)).double()
    truth = (1 - math.log(2)) / math.log(2)  # -1/2 ∫ log2(1 - r²) dr over [0, 1]
    found = Sliced(Correlation(0.01), directions=2000)(x, x)
    over_directions = float(found.diagnostics["directions_std"]) / math.sqrt(2000)
    assert abs(float(found.bits) - truth) < 4 * math.hypot(over_directions, float(found.stderr))
    assert over_directions < 0.03


def test_ids_and_narrow_variables_are_not_projected() -> None:
    x, _ = dependent(dx=2, dy=2)
    ids = torch.arange(300) % 3
    assert torch.equal(Sliced(k=2)(x, ids).bits, KSG()(x, ids).bits)
    assert torch.equal(Sliced(k=5)(x, x + 1).bits, KSG()(x, x + 1).bits)
    found = Sliced(Ross(), directions=4)(ids, x, seed=2)
    frames = orthonormal(4, 2, 1, torch.Generator().manual_seed(2))
    expected = torch.stack([Ross()(ids, x @ frame).bits for frame in frames]).mean()
    torch.testing.assert_close(found.bits, expected)
    assert "width" in Sliced(Correlation(), k=3)(*dependent(dx=3)).diagnostics


def test_stderr_is_unknown_where_a_part_of_it_is() -> None:
    x, y = dependent()
    assert math.isnan(float(Sliced(Correlation())(x, y).stderr))
    one = Sliced(Correlation(0.1), directions=1)(x, y)
    assert float(one.stderr) == pytest.approx(0.1)
    assert math.isnan(float(one.diagnostics["directions_std"]))


@pytest.mark.parametrize(
    "estimator",
    [Sliced(directions=3), Compressed(dimensions=2), Compressed(KSG(), 2, "autoencoder", 8, 5)],
    ids=label,
)
def test_batches_are_loops_and_broadcast(estimator: Estimator) -> None:
    x, y = dependent(60)
    many = torch.stack([y, y.roll(1, 0), y.flip(0)])
    labels = torch.arange(60) % 3
    for other in (x, labels):
        found = estimator(other, many, seed=4)
        expected = [estimator(other, one, seed=4) for one in many]
        assert found.bits.shape == (3,)
        for name in ("bits", "stderr"):
            values = torch.stack([getattr(e, name) for e in expected])
            torch.testing.assert_close(getattr(found, name), values)
        for name, value in found.diagnostics.items():
            wanted = torch.stack([e.diagnostics[name] for e in expected])
            torch.testing.assert_close(value, wanted, equal_nan=True)
    both = estimator(x.expand(2, 1, 60, 5), many, seed=4)
    torch.testing.assert_close(both.bits, estimator(x, many, seed=4).bits.expand(2, 3))


def test_equal_rows_stay_equal() -> None:
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(40, 700, generator=generator)
    x = rows[torch.randint(40, (333,), generator=generator)]
    y = torch.randn(333, 2, generator=generator)
    for estimator in (
        Sliced(directions=3),
        Compressed(dimensions=2),
        Compressed(KSG(), 2, "autoencoder", 4, 3),
    ):
        assert bool(estimator(x, y).flags["ties_jittered"])
    first = first_equal(x)
    assert torch.equal(x[first], x)
    assert bool((first <= torch.arange(333)).all())
    values = torch.randn(333, 2, generator=generator)
    assert len(torch.unique(tied_alike(values, first), dim=0)) == len(torch.unique(x, dim=0))


# --- compressed -----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(200, 6), (9, 30)])
def test_principal_components_are_those_of_a_singular_value_decomposition(n: int, d: int) -> None:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0)) * torch.arange(1, d + 1)
    found = principal_components(x, 3)
    centred = x.double().numpy() - x.double().numpy().mean(0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(vt[np.arange(3), np.abs(vt[:3]).argmax(1)])
    expected = torch.from_numpy(u[:, :3] * s[:3] * signs)
    torch.testing.assert_close(found.scores, expected, rtol=1e-8, atol=1e-8)
    assert float(found.share) == pytest.approx((s[:3] ** 2).sum() / (s**2).sum())
    assert not bool(found.ambiguous)


def test_components_without_variance_are_exactly_zero() -> None:
    line = torch.linspace(-1, 1, 50)[:, None] * torch.tensor([[0.3, -0.1, 0.7, 1.1]])
    found = principal_components(line, 3)
    assert torch.equal(found.scores[:, 1:], torch.zeros(50, 2).double())
    assert float(found.share) == pytest.approx(1)
    still = principal_components(torch.full((50, 4), 0.1), 2)
    assert torch.equal(still.scores, torch.zeros(50, 2).double())
    assert float(still.share) == 1
    assert not bool(still.ambiguous)


def test_a_tie_at_the_cut_is_flagged() -> None:
    patterns = ((torch.arange(64)[:, None] >> torch.arange(6)) & 1).float()
    y = patterns[:, :1] + torch.rand(64, 1, generator=torch.Generator().manual_seed(0))
    assert bool(Compressed()(patterns, y).flags["ambiguous_subspace"])
    assert not bool(Compressed()(patterns * torch.arange(1, 7), y).flags["ambiguous_subspace"])


def test_compression_of_what_is_already_narrow_is_the_base() -> None:
    x, y = dependent(dx=3, dy=4)
    found = Compressed(dimensions=4)(x, y)
    assert torch.equal(found.bits, KSG()(x, y).bits)
    assert float(found.diagnostics["explained_x"]) == 1
    wide = Compressed(dimensions=3)(x, y)
    expected = KSG()(x, principal_components(y, 3).scores)
    torch.testing.assert_close(wide.bits, expected.bits)
    assert float(wide.diagnostics["explained_y"]) < 1


def test_information_in_few_directions_of_many_survives() -> None:
    x, y = dependent(1500, 3, 3)
    generator = torch.Generator().manual_seed(6)
    rotate = orthonormal(1, 40, 40, generator)[0]
    hidden = torch.cat([x, 1e-3 * torch.randn(1500, 37, generator=generator)], 1) @ rotate
    truth = float(KSG()(x, y).bits)
    assert float(Compressed(dimensions=3)(hidden, y).bits) == pytest.approx(truth, abs=0.05)
    assert float(KSG()(hidden, y).bits) == pytest.approx(truth, abs=0.1)  # the noise is small here
    loud = torch.cat([x, 30 * torch.randn(1500, 37, generator=generator)], 1) @ rotate
    assert float(Compressed(dimensions=3)(loud, y).bits) < 0.2  # variance is not information


def curve(n: int = 600) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    angle = 1.5 * math.pi * torch.rand(n, 1, generator=generator, dtype=torch.float64)
    circle = torch.cat([angle.cos(), angle.sin()], 1)
    return circle, angle


def test_an_autoencoder_follows_a_curve_where_pca_cannot() -> None:
    circle, angle = curve()
    pca = Compressed(dimensions=1)(circle, angle)
    trained = Compressed(dimensions=1, method="autoencoder", steps=600)(circle, angle)
    assert float(pca.diagnostics["explained_x"]) < 0.8
    assert float(trained.diagnostics["explained_x"]) > 0.95
    assert float(trained.bits) > float(pca.bits) + 0.5


def test_an_autoencoder_is_seeded_and_leaves_everything_alone() -> None:
    circle, angle = curve(300)  # more than a batch
    estimator = Compressed(dimensions=1, method="autoencoder", hidden=8, steps=30)
    before, state = circle.clone(), torch.get_rng_state()
    found = estimator(circle, angle, seed=1)
    assert torch.equal(circle, before)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.inference_mode():
        again = estimator(circle.clone(), angle.clone(), seed=1)
    assert torch.equal(found.bits, again.bits)
    assert not torch.equal(found.bits, estimator(circle, angle, seed=2).bits)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    shuffled = estimator(circle[order], angle[order], seed=1)
    torch.testing.assert_close(shuffled.bits, found.bits)


def test_the_content_order_follows_the_rows() -> None:
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    mixed = rows[torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(rows[content_order(rows)], mixed[content_order(mixed)])


# --- both -----------------------------------------------------------------------------------


def test_the_estimand_says_what_was_done() -> None:
    base = "T as a continuous variable, scaled as a whole"
    assert Sliced(k=2).estimand == f"{base}, sliced to 2-d projections"
    assert Compressed().estimand == f"{base}, compressed to 4 dimensions (PCA)"
    by_column = f"{base}, compressed to 4 dimensions (PCA) of T scaled column by column"
    assert Compressed(scale="column").estimand == by_column
    assert label(Sliced(KSG(k=5))) == "Sliced(base=KSG(k=5))"
    ids = torch.arange(10) % 2
    assert float(Sliced(Binning(bins=2))(ids, ids).bits) == pytest.approx(1)


def test_bad_configurations_and_bad_input_say_what_to_do() -> None:
    x, y = dependent(4)
    with pytest.raises(ConfigError, match=r"Sliced: base must be an estimator, got 'ksg'"):
        Sliced(base="ksg")  # type: ignore[arg-type]  # refused
    with pytest.raises(ConfigError, match="Compressed: base must be an estimator"):
        Compressed(base=KSG)  # type: ignore[arg-type]  # refused
    with pytest.raises(ConfigError, match="directions must be a whole number of at least 1"):
        Sliced(directions=0)
    with pytest.raises(ConfigError, match="dimensions must be a whole number, got True"):
        Compressed(dimensions=True)
    with pytest.raises(ConfigError, match="method must be 'pca' or 'autoencoder'"):
        Compressed(method="tsne")  # type: ignore[arg-type]  # refused
    with pytest.raises(TooFewSamples, match="at least 4 samples, got 3"):
        Compressed(dimensions=3)(x[:3], y[:3])
    with pytest.raises(Unsupported, match="x and y are both ids"):
        Sliced()(torch.arange(9), torch.arange(9))
    assert not is_ids(x)
