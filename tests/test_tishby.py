"""The 12-bit task is the published one, and has the symmetries of the icosahedron."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from torch import Tensor

from ibtrace.datasets import LabelNoise, label_information, tishby
from ibtrace.datasets.tishby import THRESHOLD, invariant, patterns, vertices
from ibtrace.errors import InvalidInput

PUBLISHED = "371b2b46a5052b4f69f7991ca141fb5afa1ac364ef7beb81ec900eecac2f86d9"


def symmetries() -> list[tuple[int, ...]]:
    """The icosahedron's group as permutations of the bits: those that keep every angle.

    An image of one vertex and two of its neighbours that touch fixes a symmetry, so the search
    goes over images of three vertices and extends each by the angles.
    """
    gram = (vertices() @ vertices().T).round(decimals=6)
    frame = _face(gram)
    found = []
    for image in itertools.permutations(range(12), 3):
        if not torch.equal(gram[list(image)][:, list(image)], gram[frame][:, frame]):
            continue
        angles = gram[:, list(image)]
        matches = [(angles == gram[v, frame]).all(1).nonzero()[:, 0].tolist() for v in range(12)]
        assert all(len(match) == 1 for match in matches)
        found.append(tuple(match[0] for match in matches))
    return found


def _face(gram: Tensor) -> list[int]:
    """Three vertices that touch one another."""
    near = gram[gram < 0.99].max()
    return next(
        list(face)
        for face in itertools.combinations(range(12), 3)
        if all(gram[a, b] == near for a, b in itertools.combinations(face, 2))
    )


GROUP = symmetries()


def test_labels_are_the_published_ones() -> None:
    y = tishby().y
    assert int(y.sum()) == 2118
    packed = np.packbits(y.numpy().astype(np.uint8)).tobytes()
    assert hashlib.sha256(packed).hexdigest() == PUBLISHED


@given(row=st.integers(0, 4095))
def test_row_r_is_the_binary_form_of_r(row: int) -> None:
    written = "".join(str(int(bit)) for bit in tishby().x[row])
    assert written == f"{row:012b}"


def test_types_and_shape() -> None:
    data = tishby()
    assert (data.x.dtype, data.y.dtype, data.classes) == (torch.float32, torch.int64, 2)
    assert data.x.shape == (4096, 12)
    assert len(data) == 4096


def test_vertices_are_an_icosahedron() -> None:
    gram = vertices() @ vertices().T
    torch.testing.assert_close(gram.diagonal(), torch.ones(12, dtype=torch.float64))
    values, counts = gram.round(decimals=9).unique(return_counts=True)
    torch.testing.assert_close(values, torch.tensor([-1, -(5**-0.5), 5**-0.5, 1]).double())
    assert counts.tolist() == [12, 60, 60, 12]


def test_the_group_has_120_elements_and_is_closed() -> None:
    assert len(GROUP) == len(set(GROUP)) == 120
    composed = {tuple(a[b[v]] for v in range(12)) for a in GROUP[::7] for b in GROUP}
    assert composed == set(GROUP)


def test_labels_are_constant_under_every_symmetry() -> None:
    data = tishby()
    weights = 2 ** torch.arange(11, -1, -1)
    for symmetry in GROUP:
        moved = (data.x[:, list(symmetry)].long() * weights).sum(1)
        assert torch.equal(data.y[moved], data.y)


def test_another_permutation_of_the_bits_is_no_symmetry() -> None:
    data = tishby()
    swapped = [1, 0, *range(2, 12)]
    assert tuple(swapped) not in GROUP
    moved = (data.x[:, swapped].long() * 2 ** torch.arange(11, -1, -1)).sum(1)
    assert not torch.equal(data.y[moved], data.y)


def test_there_are_64_power_spectrum_classes() -> None:
    """Two patterns have one power spectrum if their points make the same angles equally often."""
    x = patterns()
    gram = (vertices() @ vertices().T).round(decimals=6)
    spectrum = torch.stack([((x @ (gram == a).double()) * x).sum(1) for a in gram.unique()], 1)
    classes, ids = spectrum.unique(dim=0, return_inverse=True)
    assert len(classes) == 64
    y = tishby().y.double()
    ones, sizes = torch.zeros(64).double(), torch.zeros(64).double()
    share = ones.index_add(0, ids, y) / sizes.index_add(0, ids, torch.ones_like(y))
    assert set(share.tolist()) == {0.0, 1.0}


def test_the_threshold_lies_in_the_gap() -> None:
    data = tishby()
    f = invariant(data.x)
    below, above = float(f[data.y == 0].max()), float(f[data.y == 1].min())
    assert (round(below, 4), round(above, 4)) == (7.5628, 7.7013)
    assert below < THRESHOLD < above


def test_information_of_the_published_labels_is_their_entropy() -> None:
    p = 2118 / 4096
    entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
    assert label_information() == pytest.approx(entropy, abs=1e-12)
    assert entropy == pytest.approx(0.99916, abs=1e-5)


@given(gamma=st.floats(0.01, 200))
def test_information_under_noise_equals_the_sum_over_the_table(gamma: float) -> None:
    f = invariant(patterns()).numpy()
    p1 = expit(gamma * (f - THRESHOLD))
    joint = np.stack([1 - p1, p1], 1) / 4096
    product = joint.sum(0) / 4096
    terms = joint[joint > 0] * np.log2((joint / product)[joint > 0])
    noise = LabelNoise(gamma)
    assert label_information(noise) == pytest.approx(terms.sum(), abs=1e-9)


def test_information_is_099_bits_at_the_papers_noise_and_grows_with_gamma() -> None:
    assert label_information(LabelNoise(54.5)) == pytest.approx(0.99, abs=5e-4)
    bits = [label_information(LabelNoise(gamma)) for gamma in (0.1, 1, 10, 100, 1000)]
    assert bits == sorted(bits)
    assert bits[0] < 0.05
    assert bits[-1] == pytest.approx(label_information(), abs=1e-6)


def test_noisy_labels_follow_their_law() -> None:
    gamma = 2.0
    expected = expit(gamma * (invariant(patterns()).numpy() - THRESHOLD))
    drawn = torch.stack([tishby(LabelNoise(gamma, seed)).y for seed in range(400)]).double()
    error = drawn.mean(0).numpy() - expected
    z = error / np.sqrt(np.maximum(expected * (1 - expected), 1e-3) / 400)
    assert abs(z.mean()) < 0.1
    assert z.std() == pytest.approx(1, abs=0.15)


def test_noisy_labels_are_a_function_of_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again = tishby(LabelNoise(5, seed=3)), tishby(LabelNoise(5, seed=3))
    other = tishby(LabelNoise(5, seed=4))
    assert torch.equal(first.y, again.y)
    assert not torch.equal(first.y, other.y)
    assert torch.equal(torch.get_rng_state(), state)
    assert "gamma=5" in first.name


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.nan])
def test_gamma_must_be_above_0(gamma: float) -> None:
    with pytest.raises(InvalidInput, match="gamma must be above 0"):
        LabelNoise(gamma)
