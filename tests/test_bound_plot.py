"""The bound beneath the plane: the line is the curve, and the shade is where no T can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ibtrace import plots
from ibtrace.bounds import BottleneckCurve, Samples, gaussian_bottleneck
from ibtrace.errors import InvalidInput
from tests.test_plots import make_trace, texts


def bound(height: float = 0.95, samples: Samples | None = None) -> BottleneckCurve:
    """A curve from (0, 0) by (4, 0.8 of the height) to (12, the height)."""
    betas, x = np.array([2.0, 12.0, math.inf]), np.array([0.0, 4.0, 12.0])
    y = height * np.array([0, 0.8, 1.0])
    return BottleneckCurve(betas, x, y, 12.0, 1.0, height, samples=samples)


def colour_at(figure: Figure, axes: Axes, x: float, y: float) -> tuple[int, ...]:
    """The pixel that a place of the plane is drawn as."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    right, up = axes.transData.transform((x, y))
    return tuple(int(value) for value in pixels[pixels.shape[0] - 1 - int(up), int(right)][:3])


def test_the_line_is_the_curve_in_bits() -> None:
    curve = bound()
    axes = plots.information_plane(make_trace(), bound=curve).axes[0]
    (line,) = (line for line in axes.lines if line.get_label() == "bottleneck bound")
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert (x[0], x[-1]) == (0, 12)
    np.testing.assert_allclose(y, curve.at(x))


def test_the_shade_is_where_no_t_can_be() -> None:
    curve = bound()
    figure = plots.information_plane(make_trace(), bound=curve)
    axes = figure.axes[0]
    places = [(1.0, 0.8), (2.0, 0.9), (3.0, 0.05), (5.0, 0.5), (2.0, -0.02), (12.3, 0.3)]
    white = (255, 255, 255)
    for x, y in places:
        assert (colour_at(figure, axes, x, y) != white) == curve.impossible(x, y), (x, y)
    left, right = axes.get_xlim()
    assert left < 0 and right > 12  # noqa: PT018


def test_points_where_no_t_can_be_are_hollow() -> None:
    def hollow(curve: BottleneckCurve | None) -> int:
        plane = plots._plane.Plane(make_trace(), None, bound=curve)
        return int(plane.means["fails"].sum())

    assert hollow(bound(0.3)) > hollow(bound(2.0)) == hollow(None)
    figure = plots.information_plane(make_trace(), bound=bound(0.3))
    assert "fails a check" in texts(figure)


def test_the_legend_says_of_an_estimate_that_it_is_one() -> None:
    known = texts(plots.information_plane(make_trace(), bound=bound()))
    assert "bottleneck bound" in known and "no T can be here" in known  # noqa: PT018
    assert "estimate" not in known
    figure = plots.information_plane(make_trace(), bound=bound(samples=Samples(4096, 16, 2, 32)))
    assert "bottleneck bound, an estimate (N = 4,096; 16 × 2 values)" in texts(figure)
    assert "I(X;Y) = 0.95" in texts(figure) and "H(X) = 12" in texts(figure)  # noqa: PT018


def test_shares_of_entropy_have_their_own_units() -> None:
    trace = make_trace()
    trace.update_meta({"input_entropy": 12.0, "label_entropy": 0.5})
    axes = plots.information_plane(trace, bound=bound(), normalised=True).axes[0]
    (line,) = (line for line in axes.lines if line.get_label() == "bottleneck bound")
    assert np.asarray(line.get_xdata())[-1] == pytest.approx(1)
    assert np.asarray(line.get_ydata())[-1] == pytest.approx(1.9)


def test_a_continuous_x_has_no_end() -> None:
    curve = gaussian_bottleneck([[1, 0.8], [0.8, 1]], 1)
    figure = plots.information_planes({"a": make_trace(), "b": make_trace()}, bound=curve)
    for axes in figure.axes[:2]:
        assert colour_at(figure, axes, 4.0, 0.2) == (255, 255, 255)
        assert colour_at(figure, axes, 2.0, 0.85) != (255, 255, 255)


def test_what_is_no_curve_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"bound must be a curve, .* got float"):
        plots.information_plane(make_trace(), bound=0.5)  # type: ignore[arg-type]
