"""A quantity of a lens is drawn and told with its unit, as a mean over seeds and its interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

from ibtrace import cli, plots
from ibtrace.errors import InvalidInput, UnknownName
from ibtrace.reports.quantities import quantities
from ibtrace.reports.reporting import figures, report
from ibtrace.trace import Scalar, Trace
from ibtrace.types import I_TY, I_XT, Row

NAN = float("nan")
LAYERS = ["hidden1", "output"]
EPOCHS = (0, 1, 2, 5, 10, 30)
DEAD, HEIGHT, NOISE = "dead share", "largest value", "gradient noise"


def value(quantity: str, seed: int, epoch: int, layer: str = "") -> float:
    return len(quantity) / (1 + epoch) + 0.1 * seed**2 + len(layer)


def rows(seed: int, epoch: int) -> list[Row]:
    def row(quantity: str, layer: str, instrument: str, unit: str, **more: Any) -> Row:
        number = value(quantity, seed, epoch, layer)
        fixed: dict[str, Any] = {"stderr": NAN, "lower": NAN, "upper": NAN, "seconds": 0.0}
        fixed |= {"flags": "", "estimand": "", "step": None, "diagnostics": {}, **more}
        return Row(seed, epoch, **fixed, layer=layer, quantity=quantity, instrument=instrument,
                   value=number, unit=unit)  # fmt: skip

    read = [row(NOISE, "", "Noise", "nats²")]
    for layer in LAYERS:
        read += [row(q, layer, "Binning", "bits", estimand="T in bins") for q in (I_XT, I_TY)]
        read += [row(DEAD, layer, "Saturation", "1")]
        read += [row(HEIGHT, layer, "Height", "V", flags="wide" if epoch == 30 else "")]
    return read


def dead(epoch: int, instrument: str, number: float) -> Row:
    """The dead share of the output by some instrument."""
    numbers = (number, NAN, NAN, NAN)
    return Row(0, epoch, None, "output", DEAD, instrument, "", *numbers, "", {}, 0.0, "1")


def make(folder: Path | None = None, seeds: int = 3) -> Trace:
    trace = Trace.create(folder, meta={"n": 64, "layers": LAYERS})
    for seed in range(seeds):
        for epoch in EPOCHS:
            trace.append(
                rows(seed, epoch), [Scalar(seed, epoch, "", "train_loss", 1 / (1 + epoch))]
            )
    return trace


def texts(figure: Figure) -> list[str]:
    return [item.get_text() for item in figure.findobj(Text) if isinstance(item, Text)]


@pytest.mark.parametrize(
    ("quantity", "axis", "names"),
    [
        (HEIGHT, "largest value (V)", LAYERS),
        (NOISE, "gradient noise (nats²)", ["network"]),
        (DEAD, "dead share", LAYERS),
        (I_XT, "I(X;T) (bits)", LAYERS),
        ("train_loss", "train_loss", ["network"]),
    ],
)
def test_a_figure_has_the_unit_on_its_axis_and_a_curve_for_each_layer(
    quantity: str, axis: str, names: list[str]
) -> None:
    figure = plots.readings(make(), quantity)
    (axes,) = figure.axes
    assert axes.get_ylabel() == axis
    assert axes.get_xlabel() == "Epoch"
    assert [line.get_label() for line in axes.lines] == names
    assert {*names, "80 % of seeds"} <= {*texts(figure)}


def test_a_curve_is_the_mean_over_seeds() -> None:
    axes = plots.readings(make(), HEIGHT).axes[0]
    for line in axes.lines:
        layer = str(line.get_label())
        means = [np.mean([value(HEIGHT, s, epoch, layer) for s in range(3)]) for epoch in EPOCHS]
        assert line.get_xdata() == pytest.approx(EPOCHS)
        assert line.get_ydata() == pytest.approx(means)
    (band, _) = axes.collections
    ends = band.get_paths()[0].get_extents()
    at_start = [value(HEIGHT, seed, 0, "hidden1") for seed in range(3)]
    assert ends.ymax == pytest.approx(np.quantile(at_start, 0.9))


def test_one_seed_has_no_band() -> None:
    figure = plots.readings(make(seeds=1), DEAD)
    assert not figure.axes[0].collections
    assert "80 % of seeds" not in texts(figure)


def test_of_two_instruments_the_first_or_the_named_is_drawn() -> None:
    trace = Trace.create(meta={"n": 64})
    for epoch in (0, 1):
        trace.append(
            dead(epoch, name, number)
            for name, number in (("Saturation(0.9)", 0.25), ("Saturation(0.5)", 0.75))
        )
    for instrument, number in ((None, 0.25), ("Saturation(0.5)", 0.75)):
        figure = plots.readings(trace, DEAD, instrument)
        assert figure.axes[0].lines[0].get_ydata() == pytest.approx([number] * 2)
        assert (instrument or "Saturation(0.9)") in texts(figure)


def test_what_cannot_be_drawn_is_refused() -> None:
    trace = make()
    with pytest.raises(UnknownName, match="no quantity 'height' in the trace; it has gradient no"):
        plots.readings(trace, "height")
    with pytest.raises(UnknownName, match="dead share was not read by 'Height', but by Saturation"):
        plots.readings(trace, DEAD, "Height")
    empty = Trace.create()
    empty.append([Row(0, 0, None, "", "x", "Lens", "", NAN, NAN, NAN, NAN, "", {}, 0.0, "V")])
    with pytest.raises(InvalidInput, match="Lens gave no finite x to draw"):
        plots.readings(empty, "x")


def test_the_text_has_the_mean_over_seeds_and_students_interval() -> None:
    text = quantities(make())
    assert "largest value in V by Height, epoch 0 → 30; mean over 3 seeds [95 % interval]" in text
    assert "dead share by Saturation, epoch 0 → 30; mean over 3 seeds [95 % interval]" in text
    assert "gradient noise in nats² by Noise" in text
    for epoch in (0, 30):
        numbers = np.array([value(HEIGHT, seed, epoch, "hidden1") for seed in range(3)])
        half = stats.t.ppf(0.975, 2) * numbers.std(ddof=1) / 3**0.5
        mean = numbers.mean()
        assert f"{mean:.4g} [{mean - half:.4g}, {mean + half:.4g}]" in text
    assert "(wide)" in text
    assert "I(X;T)" not in text
    assert "train_loss" not in text


def test_the_text_of_one_seed_has_no_interval() -> None:
    text = quantities(make(seeds=1))
    assert "1 seed, no interval" in text
    assert f"network  {value(NOISE, 0, 0):.4g} → {value(NOISE, 0, 30):.4g}" in text


def test_a_seed_that_is_not_there_at_the_end_is_told() -> None:
    trace = make()
    trace.truncate(5, seeds=[1])
    assert "(2 of 3 seeds)" in quantities(trace)
    assert "(2 of 3 seeds, wide)" in quantities(trace)


def test_a_lens_that_failed_is_told_and_a_trace_without_lenses_says_nothing() -> None:
    trace = Trace.create(meta={"lenses_failed": {"Noise": "ValueError: no loss"}})
    assert "Noise failed: ValueError: no loss" in quantities(trace)
    assert quantities(Trace.create()) == ""


def test_a_report_holds_every_quantity(tmp_path: Path) -> None:
    traces = {"tanh": make(), "relu": make()}
    printed = report(traces, tmp_path)
    stored = (tmp_path / "report.txt").read_text()
    for quantity in (DEAD, HEIGHT, NOISE):
        for name in traces:
            file = tmp_path / f"readings-{name}-{quantity.replace(' ', '_')}.png"
            assert file.exists()
            assert str(file) in printed
        assert printed.count(f"{quantity} ") >= 2
        assert stored.count(f"{quantity} ") >= 2
    assert "\ntanh\n====\nOther quantities\n" in stored


def test_two_lenses_of_one_quantity_get_a_file_each(tmp_path: Path) -> None:
    trace = make()
    trace.append([dead(0, "Saturation(0.5)", 0.5)])
    drawn = {path.name for path in figures({"": trace}, tmp_path)}
    assert {"readings-dead_share-saturation.png"} < drawn
    assert {"readings-dead_share-saturation_0.5.png"} < drawn


def test_the_command_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "run")
    assert cli.main(["plot", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    for name in ("dead_share", "largest_value", "gradient_noise"):
        assert (tmp_path / "out" / f"readings-{name}.png").exists()
        assert f"readings-{name}.png" in said
