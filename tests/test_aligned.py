"""The figure of everything on one axis: which quantities it shows, and what its rules stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import ibtrace
from ibtrace import lenses, plots
from ibtrace.trace import Trace
from ibtrace.types import I_XT, Row

NAN = float("nan")
Key = tuple[str, str, str]
"""Quantity, instrument, layer."""


def traced(curves: Mapping[Key, Sequence[float]], order: Sequence[str] = ()) -> Trace:
    """A trace of curves at epochs 0, 1, …, one seed, with the quantities in an order."""
    trace = Trace.create(meta={"n": 8, "quantities": list(order)})
    trace.append(
        Row(
            *(0, epoch, None, layer, quantity, instrument, ""),
            *(value, NAN, NAN, NAN, "", {}, 0.0),
            unit="bits" if quantity == I_XT else "1",
        )
        for (quantity, instrument, layer), values in curves.items()
        for epoch, value in enumerate(values)
    )
    return trace


def panels(figure: Figure) -> list[str]:
    """What the panels show, from the top."""
    labels = [axes.get_ylabel() for axes in figure.axes]
    return [label.replace("\n", " ") for label in labels if label]


def legends(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_lens_shows_the_first_quantity_of_its_tags_that_changes() -> None:
    curves: dict[Key, Sequence[float]] = {
        ("broken", "A", ""): (NAN, NAN, NAN),
        ("constant", "A", ""): (2.0, 2.0, 2.0 + 4e-16),
        ("rounding", "A", ""): (1e-16, 0.0, 2e-16),
        ("z moves", "A", ""): (1.0, 2.0, 3.0),
        ("a moves", "A", ""): (1.0, 2.0, 3.0),
        ("still", "B", ""): (1.0, 1.0, 1.0),
    }
    order = [name for name, _, _ in curves]
    assert panels(plots.aligned(traced(curves, order))) == ["z moves"]
    assert panels(plots.aligned(traced(curves), ["rounding"])) == ["rounding"]  # if it is asked for


def test_a_lens_that_an_event_shows_leaves_the_room_to_others() -> None:
    curves: dict[Key, Sequence[float]] = {
        (I_XT, "Binning", "a"): (1.0, 2.0, 1.0),
        ("dead share", "Saturation", "a"): (0.0, 0.1, 0.2),
        ("saturated share", "Saturation", "a"): (0.0, 0.1, 0.2),
        ("rate", "Other", ""): (1.0, 2.0, 3.0),
    }
    shown = panels(plots.aligned(traced(curves)))
    assert shown == ["I(X;T) by Binning (bits)", "saturated share", "rate"]


def test_the_trace_keeps_the_order_of_the_tags() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(60, 4), torch.arange(60) % 2
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    # a lens may return its quantities in any order, as NTK does
    recipe = ibtrace.Recipe((x, y))
    tracer = ibtrace.Tracer(model, (x, y), estimators=["binning"], lenses=["ntk"], recipe=recipe)
    tags = [quantity.name for quantity in lenses.make("ntk").tags.quantities]
    read = [quantity for quantity in tracer.trace.meta["quantities"] if quantity in tags]
    assert len(read) == len(tags) - 1  # all but the velocity, which needs a look before
    assert read == [quantity for quantity in tags if quantity in read]


def test_a_rule_is_of_the_curve_that_is_drawn() -> None:
    drawn, other = (0.0, 1.0, 5.0, 1.0, 0.0), (0.0, 5.0, 1.0, 1.0, 0.0)
    trace = traced({(I_XT, "Binning", "a"): drawn, (I_XT, "KDE", "a"): other})
    figure = plots.aligned(trace)
    rules = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [np.asarray(rule.get_xdata())[0] for rule in rules] == [2]
    assert legends(figure)[-1] == "1: peak of I(X;T) of a"


def test_layers_of_a_rule_are_told_by_column_where_they_differ() -> None:
    rising, flat = (0.0, 0.2, 0.4), (0.0, 0.0, 0.0)

    def of(first: Sequence[float], second: Sequence[float]) -> Trace:
        information = {(I_XT, "Binning", name): flat for name in ("a", "b", "out")}
        shares = {("saturated share", "S", "a"): first, ("saturated share", "S", "b"): second}
        return traced({**information, **shares})

    figure = plots.aligned({"one": of(rising, flat), "two": of(flat, rising)})
    assert "5: onset of saturation of a (one), b (two)" in legends(figure)
    figure = plots.aligned({"one": of(flat, rising), "two": of(flat, rising)})
    assert "5: onset of saturation of b" in legends(figure)


def test_numbers_of_rules_never_touch_and_titles_are_level() -> None:
    falls, late = (2.0, 2.0, 2.0, 0.5, 0.5, 0.5), (2.0, 2.0, 2.0, 2.0, 2.0, 0.5)
    curves: dict[Key, Sequence[float]] = {
        ("gradient SNR", "G", "fc"): falls,
        ("NC1 within over between classes", "N", "a"): falls,
        ("saturated share", "S", "a"): (0.0, 0.0, 0.0, 0.5, 0.5, 0.5),
    }
    apart = {**curves, ("gradient SNR", "G", "fc"): late}
    figure = plots.aligned({"together": traced(curves), "apart": traced(apart)})
    figure.draw_without_rendering()
    for axes in figure.axes[:2]:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 3
        for at, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:at])
    tops = [axes._left_title.get_window_extent().y0 for axes in figure.axes[:2]]  # type: ignore[attr-defined]
    assert tops[0] == pytest.approx(tops[1])


def test_a_layer_and_its_module_share_one_line_of_the_legend() -> None:
    curves: dict[Key, Sequence[float]] = {}
    for layer, module in (("act1", "fc1"), ("out", "fc2")):
        curves[(I_XT, "Binning", layer)] = (1.0, 2.0, 1.0)
        curves[("gradient SNR", "G", module)] = (2.0, 3.0, 4.0)
    curves[("norm", "N", "fc1")] = (1.0, 1.0, 1.0)
    figure = plots.aligned(traced(curves))
    assert [text for text in legends(figure) if "act1" in text or "fc1" in text][:1] == [
        "act1, fc1"
    ]
    figure = plots.aligned(traced(curves), [I_XT])
    assert not any("fc1" in text for text in legends(figure))  # not drawn


def test_a_logarithmic_axis_has_few_ticks_and_plain_numbers() -> None:
    figure = plots.aligned(traced({("rate", "R", ""): (0.2, 1.0, 8.0)}))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    seen = [
        text.get_text()
        for text in axes.get_yticklabels(which="both")
        if low <= text.get_position()[1] <= high and text.get_text()
    ]
    assert seen == ["0.3", "1", "3"]
    assert mpl.rcParams["font.size"] == mpl.rcParamsDefault["font.size"]
