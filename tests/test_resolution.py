"""A resolution map finds the scales at which a layer falls: those, and no others."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ibtrace.errors import ConfigError, InvalidInput, RunError, UnknownName
from ibtrace.estimators import KDE, Binning, information
from ibtrace.plane import LayerResolution, Resolution, Rule
from ibtrace.plane.resolution import resolution
from ibtrace.plots import resolution_map
from ibtrace.trace import Trace
from ibtrace.trace.stored import thinned
from ibtrace.types import I_TY, I_XT
from tests.stored_traces import NARROW, WIDE, coded, codes, kept_trace, labels

WIDTHS = [2.0**k for k in range(-6, 3)]
FALLING = {0: WIDE, 1: WIDE, 5: NARROW, 20: NARROW}
FLAT = dict.fromkeys(FALLING, WIDE)


def mapped(folder: Path, looks: object = None, **arguments: object) -> LayerResolution:
    trace = kept_trace(folder, looks or coded(FALLING))  # type: ignore[arg-type]
    return trace.resolution(WIDTHS, **arguments).of("hidden")


def test_the_map_is_the_code_it_was_made_of(tmp_path: Path) -> None:
    """At width 2^k just the bits of size 2^k and more are told."""
    layer = mapped(tmp_path)
    for at, width in enumerate(WIDTHS):
        for look, places in enumerate(FALLING.values()):
            if look == 1:  # where each seed is a little off
                continue
            told = sum(2.0**place >= width for place in places)
            assert layer.about_x[at, :, look].tolist() == [told] * 5
            assert layer.about_y[at, :, look].tolist() == [1.0 * (width <= 1)] * 5


def test_a_fall_above_a_width_is_seen_at_just_those_widths(tmp_path: Path) -> None:
    layer = mapped(tmp_path)
    assert layer.bands == ((0.5, 2.0),)
    assert layer.falls.tolist() == [0.5 <= width <= 2 for width in WIDTHS]
    assert layer.excluded.tolist() == [not 0.5 <= width <= 2 for width in WIDTHS]
    assert np.allclose(layer.held_out[:, layer.falls], 1.0)
    assert layer.peaks.tolist() == [0] * len(WIDTHS)
    assert layer.decided.tolist() == [width <= 1 for width in WIDTHS]


def test_the_default_widths_reach_the_widest_look(tmp_path: Path) -> None:
    looks = coded(dict.fromkeys((0, 1, 5, 20), WIDE))
    for epoch, scale in ((0, 8.0), (1, 4.0), (5, 1.0), (20, 0.01)):
        for layers in looks[epoch]:
            layers["hidden"] *= scale
    layer = kept_trace(tmp_path, looks).resolution().of("hidden")
    assert layer.scales[-1] >= 8.0 * (2**1 + 2**0 + 2**-1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seeds": []}, "seeds must be a list with one at least"),
        ({"seeds": 0}, "seeds must be a list with one at least"),
        ({"scales": 0.1}, "give a list of scales, got 0.1"),
        ({"scales": "ab"}, "give a list of scales, got 'ab'"),
        ({"layers": []}, "layers must be a list with one at least"),
    ],
)
def test_what_is_no_list_is_refused(arguments: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=said):
        kept_trace(tmp_path, coded(FALLING)).resolution(**arguments)


def test_at_the_ceiling_of_a_sample_no_fall_is_excluded(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING), population=False)
    layer = trace.resolution(WIDTHS).of("hidden")
    at_ceiling = layer.mean_x[:, -1] >= 0.95 * layer.input_entropy
    assert at_ceiling.any()
    assert not layer.excluded[at_ceiling].any()
    assert layer.excluded[~at_ceiling & ~layer.falls].all()


def test_slopes_are_bits_for_each_halving(tmp_path: Path) -> None:
    layer = mapped(tmp_path)
    assert np.array_equal(layer.octaves, (range(8), range(1, 9)))
    first, last = layer.slopes[:, 0], layer.slopes[:, -1]
    # a bit of size 2^k is told from width 2^k on, and not yet at 2^(k+1)
    assert first.tolist() == [1.0 * (k in WIDE) for k in range(-6, 2)]
    assert last.tolist() == [1.0 * (k in NARROW) for k in range(-6, 2)]


def test_the_answer_in_words(tmp_path: Path) -> None:
    said = " ".join(str(kept_trace(tmp_path, coded(FALLING)).resolution(WIDTHS)).split())
    assert "hidden: I(X;T) falls, seen in bins of width 0.5 to 2 (most at 0.5, by" in said
    assert "1.00 bits [1.00, 1.00] after epoch 0); elsewhere a fall is excluded." in said
    assert "at 2 of the 3 scales at which the layer compresses" in said
    assert "at the others I(T;Y) is up to 1.00 bits short of H(Y)" in said
    assert "At 0.016, the finest, I(X;T) is 5.87 to 6.00 over training, of H(X) = 6" in said


def test_a_flat_curve_below_its_ceiling_does_not_fall(tmp_path: Path) -> None:
    layer = mapped(tmp_path, coded(FLAT))
    assert layer.excluded.all()
    assert not layer.falls.any()
    said = str(kept_trace(tmp_path / "b", coded(FLAT)).resolution(WIDTHS))
    assert "a fall above 0.1 bit is excluded in bins of width 0.016 to 4" in said


def test_a_fall_of_three_seeds_in_ten_is_neither_sure_nor_excluded(tmp_path: Path) -> None:
    layer = mapped(tmp_path, coded(FALLING, 10, falling=3))
    within = np.array([0.5 <= width <= 2 for width in WIDTHS])
    assert not layer.falls.any()
    assert layer.excluded.tolist() == (~within).tolist()
    # the mean fall is that of 3 seeds in 10
    assert np.allclose(layer.held_out[0, within], 0.3)


def test_a_fall_in_noise_is_found_at_the_same_widths(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    looks = coded(FALLING, 6)
    for seeds in looks.values():
        for layers in seeds:
            layers["hidden"] = layers["hidden"] + 2.0**-6 * torch.rand(64, 1, generator=generator)
    layer = mapped(tmp_path, looks)
    assert layer.bands == ((0.5, 2.0),)


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_show_nothing_surely(tmp_path: Path, seeds: int) -> None:
    layer = mapped(tmp_path, coded(FALLING, seeds))
    assert not layer.falls.any()
    assert not layer.excluded.any()
    said = str(kept_trace(tmp_path / "b", coded(FALLING, seeds)).resolution(WIDTHS))
    assert f"no fall can be sure of {seeds} seed" in said


def test_the_least_drop_moves_the_band(tmp_path: Path) -> None:
    assert mapped(tmp_path / "a", rule=Rule(least_drop=0.99)).falls.any()
    layer = mapped(tmp_path / "b", rule=Rule(least_drop=1.0))
    assert not layer.falls.any()


def test_random_labels_do_not_decide_at_fine_widths(tmp_path: Path) -> None:
    """Of a sample, classes told apart where each sample has a cell of its own are chance."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (64,), generator=generator)
    trace = kept_trace(tmp_path, coded(FALLING), y=y, population=False)
    found = trace.resolution(WIDTHS)
    layer = found.of("hidden")
    assert layer.mean_y[0, -1] > 0.95  # for all that the labels know nothing of T
    assert layer.null[0] == pytest.approx(layer.label_entropy)
    assert not layer.decided.any()
    assert "random labels would give up to" in " ".join(str(found).split())


def test_null_bits_are_those_of_binning(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING), population=False)
    layer = trace.resolution(WIDTHS).of("hidden")
    for width, null in zip(WIDTHS, layer.null, strict=True):
        about_y = Binning(width=width).plane(codes(NARROW)[None], trace.probe())[1]
        assert null == pytest.approx(about_y.diagnostics["null_bits"].item(), abs=1e-12)


def test_the_default_widths_span_the_layer_and_match_binning(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING))
    layer = trace.resolution().of("hidden")
    assert len(layer.scales) == 25
    assert layer.scales[-1] == 4.0  # the widest look spans more than 2
    assert np.allclose(np.diff(np.log2(layer.scales)), 0.5)
    probe = trace.probe()
    for at, width in enumerate(layer.scales):
        for look, epoch in enumerate(layer.epochs):
            t = trace.activations(int(epoch), 0)["hidden"]
            of_x, of_y = information(Binning(width=float(width)), t, probe)
            assert layer.about_x[at, 0, look] == of_x.bits
            assert layer.about_y[at, 0, look] == of_y.bits


@pytest.mark.parametrize("population", [True, False])
def test_noise_of_each_deviation_is_kde(tmp_path: Path, population: bool) -> None:
    looks = coded(FALLING, 2)
    for seeds in looks.values():
        for seed, layers in enumerate(seeds):
            layers["wide"] = torch.cat([layers["hidden"], codes(WIDE).flip(0) * seed], 1)
    trace = kept_trace(tmp_path, looks, population=population)
    deviations = [2.0**-9, 2.0**-4, 0.25, 0.3, 1.2]
    found = trace.resolution(deviations, reader="noise")
    for layer in found:
        assert np.isfinite(layer.about_x).all()
        for at, deviation in enumerate(deviations):
            for look, epoch in ((0, 0), (3, 20)):
                for seed in (1,):
                    t = trace.activations(epoch, seed)[layer.layer]
                    of_x, of_y = information(KDE(noise_variance=deviation**2), t, trace.probe())
                    assert layer.about_x[at, seed, look] == pytest.approx(
                        float(of_x.bits), abs=1e-8
                    )
                    assert layer.about_y[at, seed, look] == pytest.approx(
                        float(of_y.bits), abs=1e-8
                    )
    if not population:
        null = [
            float(
                information(
                    KDE(noise_variance=0.09), trace.activations(20, seed)["hidden"], trace.probe()
                )[1].diagnostics["null_bits"]
            )
            for seed in range(2)
        ]
        assert found.of("hidden").null[3] == pytest.approx(np.mean(null), abs=1e-8)


def test_noise_sees_the_fall_near_the_widths_of_bins(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING))
    layer = trace.resolution([2.0**k for k in range(-9, 3)], reader="noise").of("hidden")
    ((low, high),) = layer.bands
    assert 2.0**-4 < low < high
    assert "in noise of deviation" in " ".join(str(trace.resolution(reader="noise")).split())


def test_some_samples_are_those_of_the_probe(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING))
    layer = trace.resolution(WIDTHS, samples=16).of("hidden")
    assert layer.input_entropy == 4.0
    some, rows = thinned(trace.probe(), 16)
    assert not some.population
    of_x, of_y = information(Binning(width=0.5), codes(WIDE)[rows], some)
    assert layer.about_x[WIDTHS.index(0.5), 0, 0] == of_x.bits
    assert layer.about_y[WIDTHS.index(0.5), 0, 0] == of_y.bits
    assert (layer.null > 0).any()  # a sample of X is not its law


def test_tables_hold_every_number(tmp_path: Path) -> None:
    found = kept_trace(tmp_path, coded(FALLING)).resolution(WIDTHS)
    frame = found.frame()
    assert frame.columns.tolist() == ["layer", "width", "seed", "epoch", I_XT, I_TY]
    assert len(frame) == len(WIDTHS) * 5 * 4
    (row,) = frame.query("width == 2 and seed == 3 and epoch == 5").to_dict("records")
    assert (row[I_XT], row[I_TY]) == (0.0, 0.0)
    (row,) = frame.query("width == 2 and seed == 3 and epoch == 0").to_dict("records")
    assert (row[I_XT], row[I_TY]) == (1.0, 0.0)
    table = found.table()
    (row,) = table.query("width == 1").to_dict("records")
    assert [row[name] for name in ("peak_bits", "final_bits", "held_out")] == [2.0, 1.0, 1.0]
    assert [*table["falls"]].count(True) == 3


def test_layers_seeds_and_looks_are_chosen(tmp_path: Path) -> None:
    looks = coded(FALLING)
    for seeds in looks.values():
        for layers in seeds:
            layers["other"] = codes(WIDE)
            layers["tokens"] = torch.arange(64)[:, None]
    trace = kept_trace(tmp_path, looks)
    found = trace.resolution(WIDTHS)
    assert [layer.layer for layer in found] == ["hidden", "other"]
    assert "Left out: tokens, integers" in str(found)
    one = trace.resolution(WIDTHS, layers=["other"], seeds=[4, 1], looks=2)
    assert one.seeds == {"other": (4, 1)}
    assert one.of("other").epochs.tolist() == [0, 20]
    with pytest.raises(UnknownName, match="no layer 'hidden' in the resolution map; it has other"):
        one.of("hidden")
    with pytest.raises(InvalidInput, match="tokens hold integers: symbols have no resolution"):
        trace.resolution(layers=["tokens"])
    with pytest.raises(InvalidInput, match="no activations of 'x' are kept; they are of hidden"):
        trace.resolution(layers=["x"])
    with pytest.raises(InvalidInput, match="seed 7 has no activations; those that have"):
        trace.resolution(seeds=[7])


def test_a_seed_that_diverged_is_left_out_and_named(tmp_path: Path) -> None:
    looks = coded(FALLING)
    looks[20][2]["hidden"] = torch.full((64, 1), torch.nan)
    found = kept_trace(tmp_path, looks).resolution(WIDTHS)
    assert found.seeds == {"hidden": (0, 1, 3, 4)}
    assert found.of("hidden").bands == ((0.5, 2.0),)
    assert "Left out, for its values are not all finite: hidden of seed 2." in str(found)


def test_a_network_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    looks = coded(FALLING)
    for seeds in looks.values():
        seeds[4] = seeds[2]
    found = kept_trace(tmp_path, looks).resolution(WIDTHS)
    assert found.seeds == {"hidden": (0, 1, 2, 3)}
    assert "Seed 4 is seed 2 over again" in str(found)


def test_without_labels_there_is_no_word_of_classes(tmp_path: Path) -> None:
    trace = kept_trace(tmp_path, coded(FALLING), y=torch.empty(64, 0))
    found = trace.resolution(WIDTHS)
    assert np.isnan(found.of("hidden").about_y).all()
    assert found.of("hidden").bands == ((0.5, 2.0),)
    assert "classes" not in str(found)


def test_continuous_labels_are_binned_as_binning_does(tmp_path: Path) -> None:
    y = torch.linspace(0, 1, 64)[:, None] ** 2
    trace = kept_trace(tmp_path, coded(FALLING), y=y)
    layer = trace.resolution(WIDTHS).of("hidden")
    of_y = Binning(width=0.5).plane(codes(WIDE)[None], trace.probe())[1]
    assert layer.about_y[WIDTHS.index(0.5), 0, 0] == of_y.bits
    assert "classes" not in str(trace.resolution(WIDTHS))


def test_work_sent_to_other_processes_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = kept_trace(tmp_path, coded(FALLING, 3))
    alone = trace.resolution(WIDTHS).frame()

    def sent(function: object, tasks: object, jobs: int) -> Iterator[object]:
        assert jobs == 2
        for task in pickle.loads(pickle.dumps(tasks)):
            yield pickle.loads(pickle.dumps(function))(*task)

    monkeypatch.setattr("ibtrace.trace.resolving.results", sent)
    assert trace.resolution(WIDTHS, jobs=2).frame().equals(alone)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"scales": [1.0]}, InvalidInput, r"give two scales above 0 or more, got \[1.0\]"),
        ({"scales": [1.0, -1.0]}, InvalidInput, "give two scales above 0"),
        ({"scales": [1.0, np.inf]}, InvalidInput, "give two scales above 0"),
        ({"reader": "kde"}, ConfigError, "reader must be bins or noise, got 'kde'"),
        ({"samples": 65}, InvalidInput, "n must lie between 2 and the probe's 64 samples"),
        ({"looks": 1}, ConfigError, "looks"),
        ({"jobs": 0}, ConfigError, "jobs"),
    ],
)
def test_a_wrong_argument_is_refused(
    tmp_path: Path, arguments: dict[str, object], error: type[Exception], match: str
) -> None:
    trace = kept_trace(tmp_path, coded(FALLING))
    with pytest.raises(error, match=match):
        trace.resolution(**arguments)  # type: ignore[arg-type]


def test_a_trace_without_activations_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="keeps no activations: train with store_activations"):
        Trace.create(tmp_path).resolution()


def test_one_look_has_no_map(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needs a layer, 2 scales and 2 looks, got 1 layers"):
        kept_trace(tmp_path, coded({0: WIDE})).resolution(WIDTHS)


def made(
    curves: np.ndarray[tuple[int, ...], np.dtype[np.float64]], scales: list[float]
) -> Resolution:
    """A map of given curves ``(scales, seeds, epochs)``."""
    return resolution(
        {"a": curves},
        {"a": np.ones_like(curves)},
        {"a": np.zeros(len(scales))},
        scales=scales,
        seeds=range(curves.shape[1]),
        epochs=range(curves.shape[2]),
        entropies={"a": (6.0, 1.0)},
    )


def test_bands_part_where_a_width_between_does_not_fall() -> None:
    curves = np.full((4, 3, 4), 3.0)
    curves[[0, 1, 3], :, 2:] = 1.0
    curves[:, :, 1] -= [0.0, 0.1, 0.2]
    layer = made(curves, [0.1, 0.2, 0.4, 0.8]).of("a")
    assert layer.bands == ((0.1, 0.2), (0.8, 0.8))
    assert "in bins of width 0.1 to 0.2 and 0.8 (" in " ".join(
        str(made(curves, [0.1, 0.2, 0.4, 0.8])).split()
    )


def test_one_seed_that_falls_while_nine_rise_excludes_no_fall() -> None:
    """The mean rises surely; what the one lost for good is seen by the lasting drop alone."""
    curves = np.repeat([[[4.0, 4.0, 4.0, 7.0]]], 10, axis=1).repeat(2, axis=0)
    curves[:, 0] = [4.0, 4.0, 2.0, 2.0]
    curves[:, :, 1] += 0.01 * np.arange(10)
    layer = made(curves, [0.1, 0.2]).of("a")
    assert (layer.held_out[2] < 0.1).all()
    assert not layer.excluded.any()


def test_the_labels_of_the_codes_are_the_digit_of_size_one() -> None:
    assert torch.equal(labels(), (codes(WIDE)[:, 0] % 2 >= 1).long())
    assert torch.equal(labels(), (codes(NARROW)[:, 0] % 2 >= 1).long())


# --- the figure -----------------------------------------------------------------------------


def drawn_map(tmp_path: Path, layers: str | None = None) -> Figure:
    looks = coded(FALLING)
    for seeds in looks.values():
        for each in seeds:
            each["other"] = codes(WIDE)
    return resolution_map(kept_trace(tmp_path, looks).resolution(WIDTHS), layers)


def test_the_figure_shows_the_map(tmp_path: Path) -> None:
    drawn: Any = drawn_map(tmp_path, "hidden").axes
    heat, classes, falls, slopes = drawn[:4]
    layer = kept_trace(tmp_path / "again", coded(FALLING)).resolution(WIDTHS).of("hidden")
    for axes, bits in ((heat, layer.mean_x), (classes, layer.mean_y)):
        (mesh,) = (each for each in axes.collections if isinstance(each, QuadMesh))
        assert np.array_equal(np.asarray(mesh.get_array()).reshape(bits.shape), bits)
        corners: Any = mesh.get_coordinates()
        for at, width in enumerate(WIDTHS):  # each width is inside its own row of cells
            assert corners[at, 0, 1] < width < corners[at + 1, 0, 1]
        for at, epoch in enumerate(layer.epochs):
            assert corners[0, at, 0] <= epoch < corners[0, at + 1, 0]
    (peaks,) = heat.lines
    assert peaks.get_xydata().tolist() == [[0, 0.5], [0, 1], [0, 2]]
    (told,) = classes.lines
    assert np.allclose(told.get_ydata(), 2**0.5)  # classes are told up to width 1
    curve = falls.lines[0]
    assert np.array_equal(curve.get_xdata(), layer.held_out[0])
    assert np.array_equal(curve.get_ydata(), WIDTHS)
    for axes in (falls, slopes):  # the band, to the middle of its neighbours
        (band,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
        ends = band.get_y(), band.get_y() + band.get_height()
        assert np.allclose(ends, (0.5 / 2**0.5, 2 * 2**0.5))
    first, _, last = slopes.lines[:3]
    assert first.get_xdata().tolist() == layer.slopes[:, 0].tolist()
    assert last.get_xdata().tolist() == layer.slopes[:, -1].tolist()
    assert np.allclose(first.get_ydata(), np.array(WIDTHS[:-1]) * 2**0.5)


def test_every_layer_has_a_row_and_one_colour_is_one_number(tmp_path: Path) -> None:
    drawn: Any = drawn_map(tmp_path).axes
    rows = [drawn[at : at + 4] for at in (0, 4)]
    assert [row[0].get_ylabel().split()[0] for row in rows] == ["hidden", "other"]
    assert len({row[0].collections[0].norm.vmax for row in rows}) == 1
    assert len({row[1].collections[0].norm.vmax for row in rows}) == 1
    assert rows[0][3].get_xlabel() == "" != rows[1][3].get_xlabel()
    with pytest.raises(UnknownName, match="no layer 'x' in the resolution map"):
        drawn_map(tmp_path / "b", "x")
