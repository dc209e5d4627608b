"""A figure shows what the trace holds, labelled, and leaves matplotlib as it found it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ibtrace import plots
from ibtrace.errors import InvalidInput, RunError, UnknownName
from ibtrace.plane import verdict
from ibtrace.plots._plane import Plane
from ibtrace.plots._style import epoch_norm
from ibtrace.trace import Trace
from ibtrace.types import I_TY, I_XT, Row

NAN = float("nan")
EPOCHS = (0, 1, 2, 5, 10, 30, 100, 300)


def make_trace(
    seeds: int = 3,
    layers: tuple[str, ...] = ("hidden1", "hidden2", "output"),
    *,
    quantities: tuple[str, ...] = (I_XT, I_TY),
    epochs: tuple[int, ...] = EPOCHS,
    fall: float = 2.0,
    ceilings: bool = True,
) -> Trace:
    meta = {"n": 4096, "label_entropy": 0.999, "layers": list(layers)} if ceilings else {}
    trace = Trace.create(meta=meta)
    rng = np.random.default_rng(0)
    for epoch in epochs:
        done = np.log1p(epoch) / np.log1p(300)
        trace.append(
            Row(
                *(seed, epoch, None, layer, quantity, estimator, "T in 30 bins on [-1, 1]"),
                *(bits + rng.normal(0, 0.02), NAN, NAN, NAN, "", {}, 0.0),
            )
            for seed in range(seeds)
            for depth, layer in enumerate(layers)
            for estimator in ("Binning", "KDE")
            for quantity, bits in ((I_XT, 10 - depth - fall * done), (I_TY, 0.9 * done))
            if quantity in quantities
        )
    return trace


def texts(figure: Figure) -> str:
    found = figure.findobj(mpl.text.Text)
    return "\n".join(item.get_text() for item in found if isinstance(item, mpl.text.Text))


def test_the_plane_says_what_it_shows() -> None:
    figure = plots.information_plane(make_trace())
    figure.draw_without_rendering()
    said = texts(figure)
    for word in ("I(X;T) (bits)", "I(T;Y) (bits)", "T in 30 bins on [-1, 1]", "Epoch"):
        assert word in said
    for word in ("log₂ N = 12", "H(Y) = 0.999", "hidden1", "hidden2", "output", "300"):
        assert word in said


def test_the_axes_of_points_that_coincide_do_not_show_rounding_errors() -> None:
    trace = Trace.create(meta={"layers": ["fc"], "n": 512})
    for epoch in (0, 1):
        bits = 3 + epoch * 1e-12
        trace.append(
            Row(0, epoch, None, "fc", quantity, "Exact", "T", bits, NAN, NAN, NAN, "", {}, 0.0)
            for quantity in (I_XT, I_TY)
        )
    axes = plots.information_plane(trace).axes[0]
    for low, high in (axes.get_xlim(), axes.get_ylim()):
        assert low < 3 < high
        assert high - low >= 0.1


def test_every_snapshot_is_one_line_through_all_layers() -> None:
    trace = make_trace()
    figure = plots.information_plane(trace)
    (lines,) = (item for item in figure.axes[0].collections if isinstance(item, LineCollection))
    segments = np.array(lines.get_segments())
    assert segments.shape == (len(EPOCHS), 3, 2)
    frame = trace.frame().query("estimator == 'Binning' and epoch == 5")
    means = frame.groupby(["layer", "quantity"])["bits"].mean().unstack()
    assert segments[3] == pytest.approx(means[[I_XT, I_TY]].to_numpy())


def offsets(artists: Iterable[Any]) -> set[tuple[float, float]]:
    """Where the marks among some artists stand."""
    marks = [artist for artist in artists if isinstance(artist, PathCollection)]
    return {(x, y) for mark in marks for x, y in np.asarray(mark.get_offsets()).round(9).tolist()}


def bits_of(points: pd.DataFrame) -> set[tuple[float, float]]:
    return {*map(tuple, points[[I_XT, I_TY]].round(9).to_numpy().tolist())}


@pytest.mark.parametrize("fall", [2.0, 9.0])  # of 9 bits, I(T;Y) is above I(X;T) in the end
def test_every_mark_stands_at_its_bits_with_inputs_across_and_labels_upwards(fall: float) -> None:
    trace = make_trace(fall=fall)
    of_plane = Plane(trace, "Binning")
    assert of_plane.means["fails"].any() == (fall == 9.0)
    (axes, _) = plots.information_plane(trace, "Binning").axes
    assert axes.get_xlabel().startswith(I_XT)
    assert axes.get_ylabel().startswith(I_TY)
    assert offsets(axes.collections) == bits_of(of_plane.means) | bits_of(of_plane.points)
    ceilings = [np.asarray(line.get_xydata(), float) for line in axes.lines]
    assert any((ends[:, 0] == 12).all() for ends in ceilings)
    assert any((ends[:, 1] == 0.999).all() for ends in ceilings)


def test_every_mark_of_a_film_stands_at_its_bits() -> None:
    of_plane = Plane(make_trace(), "Binning")
    drawn = of_plane.draw_until(Figure().subplots(), epoch_norm(300), 10)
    past, now = (of_plane.means[of_plane.means["epoch"].between(at, 10)] for at in (0, 10))
    seeds = of_plane.points[of_plane.points["epoch"] == 10]
    assert offsets(drawn) == bits_of(past) | bits_of(seeds)
    (line,) = (artist for artist in drawn if isinstance(artist, Line2D))
    assert np.asarray(line.get_xydata()) == pytest.approx(now[[I_XT, I_TY]].to_numpy())


def test_colour_is_logarithmic_and_has_a_place_for_epoch_0() -> None:
    figure = plots.information_plane(make_trace())
    (lines,) = (item for item in figure.axes[0].collections if isinstance(item, LineCollection))
    places = np.asarray(lines.norm(np.array([0.0, 1.0, 10.0, 100.0, 300.0])))
    assert places[0] == 0
    assert places[-1] == pytest.approx(1)
    assert np.diff(places).min() > 0.1


def test_planes_side_by_side_share_axes_and_colours() -> None:
    traces = {"tanh": make_trace(), "ReLU": make_trace(fall=0.0)}
    figure = plots.information_planes(traces)
    left, right, bar = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["tanh", "ReLU"]
    assert bar.get_ylabel() == "Epoch"


def test_the_plane_can_be_drawn_on_given_axes() -> None:
    figure = Figure()
    axes = figure.subplots(1, 2)
    assert plots.information_plane(make_trace(), "KDE", ax=axes[1]) is figure
    assert len(figure.axes) == 2
    assert not axes[0].collections


def test_curves_have_a_panel_for_each_quantity_and_a_line_for_each_layer() -> None:
    figure = plots.curves(make_trace(), "KDE")
    figure.draw_without_rendering()
    for axes, name in zip(figure.axes, (I_XT, I_TY), strict=True):
        assert axes.get_ylabel() == f"{name} (bits)"
        assert [line.get_label() for line in axes.lines][:3] == ["hidden1", "hidden2", "output"]
        assert axes.lines[0].get_xdata() == pytest.approx(EPOCHS)
    assert "KDE: T in 30 bins on [-1, 1]" in texts(figure)
    assert "80 % of seeds" in texts(figure)
    only = plots.curves(make_trace(quantities=(I_XT,)))
    assert len(only.axes) == 1


def test_drops_are_those_of_the_verdict() -> None:
    traces = {"tanh": make_trace(5), "ReLU": make_trace(5, fall=0.0)}
    (axes,) = plots.drops(traces).axes
    marks = [line for line in axes.lines if len(np.atleast_1d(line.get_xdata())) == 1]
    shown = [float(np.atleast_1d(mark.get_ydata())[0]) for mark in marks]
    findings = [finding for t in traces.values() for finding in verdict(t).findings]
    found = [finding for finding in findings if finding.estimator == "Binning"]
    assert shown == pytest.approx([finding.evidence.drop.mean for finding in found])
    assert {v.call for v in found} == {"compresses", "does not compress"}
    faces = [mark.get_markerfacecolor() for mark in marks]
    assert [str(face) == "white" for face in faces] == [v.call != "compresses" for v in found]
    assert [label.get_text() for label in axes.get_xticklabels()] == traces["tanh"].layers


@pytest.mark.parametrize(
    "trace",
    [
        make_trace(seeds=1),
        make_trace(layers=("only",)),
        make_trace(epochs=(0,)),
        make_trace(ceilings=False),
        make_trace(layers=tuple(f"encoder.block.{i}.dense" for i in range(14))),
    ],
    ids=["one seed", "one layer", "one snapshot", "no ceilings", "many layers"],
)
def test_small_and_large_traces_can_be_drawn(trace: Trace) -> None:
    for figure in (trace.plot(), plots.curves(trace), plots.drops(trace)):
        assert isinstance(figure, Figure)
        figure.draw_without_rendering()


def test_save_writes_png_and_pdf_the_same_each_time(tmp_path: Path) -> None:
    figure = plots.drops(make_trace())
    png, pdf = plots.save(figure, tmp_path / "new" / "binning-0.07")
    assert (png.name, pdf.name) == ("binning-0.07.png", "binning-0.07.pdf")
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert pdf.read_bytes()[:4] == b"%PDF"
    height, width = plt.imread(png).shape[:2]
    assert (width, height) == pytest.approx(figure.get_size_inches() * 200, abs=1)
    again = plots.save(plots.drops(make_trace()), tmp_path / "again")
    assert again[1].read_bytes() == pdf.read_bytes()
    with pytest.raises(RunError, match=r"cannot be (made|written) \("):
        plots.save(figure, png / "x")


def test_pyplot_settings_and_backend_are_left_alone(tmp_path: Path) -> None:
    trace = make_trace()
    with mpl.rc_context({"font.size": 13.0, "axes.spines.top": True, "pdf.fonttype": 3}):
        before = dict(mpl.rcParams)
        for figure in (trace.plot(), plots.curves(trace), plots.drops(trace)):
            figure.draw_without_rendering()
        plots.save(figure, tmp_path / "figure")
        assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_what_cannot_be_drawn_is_one_error() -> None:
    trace = make_trace()
    with pytest.raises(UnknownName, match=r"no estimator 'KSG' in the trace; it has Binning, KDE"):
        plots.information_plane(trace, "KSG")
    with pytest.raises(InvalidInput, match="the trace has no rows to draw; take a snapshot"):
        plots.curves(Trace.create())
    with pytest.raises(InvalidInput, match="there is no trace to draw"):
        plots.drops({})
    with pytest.raises(InvalidInput, match=r"Binning gave no pair of I\(X;T\) and I\(T;Y\)"):
        plots.information_plane(make_trace(quantities=(I_XT,)))


@pytest.mark.parametrize("estimator", [None, "KDE", "Binning"])
def test_drops_need_an_estimator_that_gave_i_xt(estimator: str | None) -> None:
    trace = make_trace(quantities=(I_TY,))
    kde = make_trace().frame().query("estimator == 'KDE' and quantity == @I_XT")
    kde = kde.rename(columns={"estimator": "instrument", "bits": "value"})
    rows: list[dict[str, Any]] = [
        {str(k): v for k, v in row.items()} for row in kde.to_dict("records")
    ]
    trace.append(Row(**row, diagnostics={}) for row in rows)
    if estimator == "Binning":
        with pytest.raises(InvalidInput, match=r"^Binning gave no I\(X;T\) to draw.*from KDE$"):
            plots.drops(trace, estimator)
        with pytest.raises(InvalidInput, match="Binning gave no"):
            plots.drops({"whole": make_trace(), "part": trace}, estimator)
        return
    assert plots.drops(trace, estimator).axes[0].get_legend_handles_labels()[1] == ["KDE"]


def test_each_ceiling_stands_on_its_own_axis() -> None:
    axes = plots.information_plane(make_trace()).axes[0]
    upright = {
        np.unique(np.asarray(line.get_xdata(), float)).item()
        for line in axes.lines
        if len(set(np.atleast_1d(line.get_xdata()))) == 1
    }
    level = {
        np.unique(np.asarray(line.get_ydata(), float)).item()
        for line in axes.lines
        if len(set(np.atleast_1d(line.get_ydata()))) == 1
    }
    assert (upright, level) == ({12.0}, {0.999})
    panels = dict(zip((I_XT, I_TY), plots.curves(make_trace()).axes, strict=True))
    for quantity, bits in ((I_XT, 12.0), (I_TY, 0.999)):
        lines = [np.unique(np.asarray(line.get_ydata(), float)) for line in panels[quantity].lines]
        assert [line.item() for line in lines if len(line) == 1] == [bits]


def test_a_band_holds_the_middle_80_percent_of_the_seeds() -> None:
    trace = make_trace(seeds=11)
    axes = plots.curves(trace).axes[0]
    table = trace.frame().query("estimator == 'Binning' and quantity == @I_XT")
    for band, layer in zip(axes.collections, trace.layers, strict=False):
        (path,) = band.get_paths()
        wide = table[table["layer"] == layer].pivot(index="epoch", columns="seed", values="bits")
        for epoch, seeds in wide.iterrows():
            vertices = np.asarray(path.vertices, float)
            drawn = vertices[vertices[:, 0] == epoch, 1]
            ordered = np.sort(seeds.to_numpy())  # of 11 seeds, 1 lies below the band and 1 above
            assert [drawn.min(), drawn.max()] == pytest.approx([ordered[1], ordered[9]])


def read(values: tuple[float, ...]) -> Trace:
    """A trace of one quantity of a lens, at epochs 0, 1, …, of three seeds."""
    trace = Trace.create(meta={"n": 8})
    trace.append(
        Row(
            *(seed, epoch, None, "", "height", "Heights", ""),
            *(value * (1 + seed / 10), NAN, NAN, NAN, "", {}, 0.0),
            unit="m",
        )
        for seed in range(3)
        for epoch, value in enumerate(values)
    )
    return trace


@pytest.mark.parametrize(("first", "scale"), [(0.01, "log"), (-0.01, "linear")])
def test_columns_share_a_logarithmic_axis_only_if_none_is_cut_off(first: float, scale: str) -> None:
    figure = plots.aligned({"one": read((1.0, 10.0, 100.0)), "two": read((first, 1.0, 2.0))})
    scales = {axes.get_yscale() for axes in figure.axes}
    assert scales == {scale}


def series(values: dict[int, tuple[float, ...]], **look: Any) -> plots.Series:
    """A series by its values at each x, one for each seed."""
    rows = [(seed, x, v) for x, of_x in values.items() for seed, v in enumerate(of_x)]
    return plots.Series("height", pd.DataFrame(rows, columns=["seed", "x", "value"]), **look)


def test_a_grid_has_a_column_for_each_run_and_bands_over_seeds() -> None:
    seen = series({0: (1.0, 2.0, 6.0), 1: (2.0, NAN, 4.0), 2: (3.0, 3.0, 3.0)}, look="curve")
    said = series({0: (1.0,), 2: (5.0,)}, look="theory")
    strips = [plots.Strip("height (m)"), plots.Strip("residual (m)", own=True)]
    figure = plots.grid({"a": [[seen, said], [seen]], "b": [[seen], [seen]]}, strips, "time (s)")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a  a", "b  b", "c", "d"]
    top, right, below, corner = figure.axes
    middle, theory = (np.asarray(line.get_ydata(), float).tolist() for line in top.lines)
    assert (middle, theory) == ([2.0, 3.0, 3.0], [1.0, 5.0])
    (path,) = top.collections[0].get_paths()
    ends = np.asarray(path.vertices)
    assert ends[ends[:, 0] == 0, 1].max() == pytest.approx(5.2)  # 80 % of 1, 2, 6
    assert top.get_shared_y_axes().joined(top, right)
    assert not below.get_shared_y_axes().joined(below, corner)
    assert "median and 80 % of seeds" in texts(figure)
    with pytest.raises(InvalidInput, match="for each of 2 strips"):
        plots.grid({"a": [[seen]]}, strips, "time (s)")


def test_a_grid_on_a_logarithmic_axis_leaves_0_out_and_marks_points_apart() -> None:
    seen = series({x: (1.0, 2.0) for x in range(400)}, look="points")
    figure = plots.grid({"": [[seen]]}, [plots.Strip("height")], "step", log_x=True)
    marked = np.asarray(figure.axes[0].lines[0].get_xdata(), float)
    assert marked[0] == 1
    assert 10 < len(marked) < 40
    assert (np.diff(np.log(marked)) > 0.03 * np.log(399)).all()


def test_a_map_of_disagreement_has_one_bar_for_each_half() -> None:
    figure = plots.disagreement_map(make_trace().frame())
    cells, *bars = figure.axes
    said = [bar.get_ylabel() for bar in bars]
    assert said == ["Mean |difference| (bits), below", "Rank correlation over epochs, above"]
    assert len(cells.texts) == 2  # one pair of estimators: a number in each half
