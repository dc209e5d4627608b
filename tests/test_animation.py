"""A film of the information plane shows what each snapshot holds, and nothing of what follows."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from PIL import Image, ImageSequence

from ibtrace import cli, plots
from ibtrace.errors import ConfigError, InvalidInput, MissingDependency, UnknownName
from ibtrace.plots._animation import _spread
from ibtrace.plots._plane import Plane, planes_figure
from ibtrace.plots._style import epoch_norm
from ibtrace.types import I_TY, I_XT
from tests.test_plots import EPOCHS, make_trace


def test_a_frame_holds_the_seeds_of_its_epoch_and_the_means_up_to_it() -> None:
    trace = make_trace()
    plane = Plane(trace, None)
    _, (axes,), norm = planes_figure({"": plane})
    for epoch in (0, 7, 300):
        last = max(known for known in EPOCHS if known <= epoch)
        trail, line, seeds, *marks = plane.draw_until(axes, norm, epoch)
        frame = trace.frame().query("estimator == 'Binning'")
        mean = frame.groupby(["epoch", "layer", "quantity"])["bits"].mean().unstack()
        assert isinstance(trail, PathCollection)
        assert isinstance(seeds, PathCollection)
        np.testing.assert_allclose(
            np.sort(np.asarray(trail.get_offsets())[:, 0]), np.sort(mean.loc[:epoch, I_XT])
        )
        now = frame.query("epoch == @last").pivot(
            index=["seed", "layer"], columns="quantity", values="bits"
        )
        np.testing.assert_allclose(
            np.sort(np.asarray(seeds.get_offsets()), axis=0), np.sort(now[[I_XT, I_TY]], axis=0)
        )
        at = np.array([np.asarray(mark.get_offsets())[0] for mark in marks])  # type: ignore[attr-defined] # collections
        np.testing.assert_allclose(at, mean.loc[last].loc[trace.layers, [I_XT, I_TY]])
        assert tuple(line.get_color()) == tuple(plots._style.EPOCHS(norm(last)))  # type: ignore[attr-defined] # a line
    assert plane.draw_until(axes, norm, -1) == []


def test_a_gif_has_a_frame_for_each_snapshot_and_its_axes_stand_still(tmp_path: Path) -> None:
    runs = {"tanh": make_trace(fall=1.0), "relu": make_trace(fall=4.0)}
    file = plots.animate(runs, tmp_path / "film.gif", seconds=4)
    assert file == tmp_path / "film.gif"
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]
    with Image.open(file) as film:
        durations, frames = [], []
        for frame in ImageSequence.Iterator(film):
            durations.append(frame.info["duration"])
            frames.append(np.asarray(frame.convert("L"), dtype=float))
    assert len(frames) == len(EPOCHS)
    assert durations[:-1] == [500] * (len(EPOCHS) - 1)
    assert durations[-1] == 2000  # the end stands
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(frames))
    dark = [grey < 60 for grey in frames]  # spines, ticks, text
    still = np.logical_and.reduce(dark)
    assert still.sum() > 0.5 * max(pixels.sum() for pixels in dark)


def test_of_many_snapshots_a_film_takes_an_even_few_with_both_ends() -> None:
    assert _spread({3, 1, 2}, 5) == [1, 2, 3]
    shown = _spread(range(8001), 50)
    assert len(shown) <= 50
    assert (shown[0], shown[-1]) == (0, 8000)
    steps = np.diff(np.log1p(shown))
    assert steps[5:].max() < 2 * np.log1p(8000) / 49


def test_a_layer_that_a_snapshot_lacks_leaves_a_gap() -> None:
    trace = make_trace(layers=("a", "b"), epochs=(0, 1))
    plane = Plane(trace, None)
    plane.means = plane.means.query("not (epoch == 1 and layer == 'a')")
    _, (axes,), _ = planes_figure({"": plane})
    *_, a, b = plane.draw_until(axes, epoch_norm(1), 1)
    assert np.isnan(np.ma.filled(a.get_offsets(), np.nan)).all()  # type: ignore[attr-defined] # collections
    assert np.isfinite(b.get_offsets()).all()  # type: ignore[attr-defined]


def test_what_makes_no_film_is_refused(tmp_path: Path) -> None:
    trace = make_trace()
    with pytest.raises(ConfigError, match=r"film.avi: a film is a .gif or an .mp4"):
        plots.animate(trace, tmp_path / "film.avi")
    with pytest.raises(ConfigError, match=r"frames=1, seconds=8\.0: needs 2 frames"):
        plots.animate(trace, tmp_path / "film.gif", frames=1)
    with pytest.raises(InvalidInput, match="needs two snapshots, the trace has 1"):
        plots.animate(make_trace(epochs=(0,)), tmp_path / "film.gif")
    with pytest.raises(InvalidInput, match="gave no pair"):
        plots.animate(make_trace(quantities=(I_XT,)), tmp_path / "film.gif")
    with pytest.raises(UnknownName, match="no estimator 'KSG'"):
        plots.animate(trace, tmp_path / "film.gif", "KSG")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("ffmpeg") is not None, reason="ffmpeg is installed")
def test_an_mp4_without_ffmpeg_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=r"MP4 needs ffmpeg, .*; take a .gif"):
        plots.animate(make_trace(), tmp_path / "film.mp4")


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffmpeg is not installed")
def test_an_mp4_has_a_frame_for_each_snapshot_and_those_that_stand(tmp_path: Path) -> None:
    file = plots.animate(make_trace(), tmp_path / "film.mp4", seconds=4)
    count = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames"]
    told = subprocess.run([*count, "-of", "csv=p=0", file], capture_output=True, check=True)
    assert int(told.stdout) == len(EPOCHS) + 3


def test_the_command_films_the_planes_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = make_trace(seeds=1, epochs=(0, 1))
    trace.save(tmp_path / "mine")
    out = tmp_path / "films"
    command = ["plot", str(tmp_path / "mine"), "--animate", "--out", str(out)]
    assert cli.main([*command, "--estimator", "KDE"]) == 0
    assert capsys.readouterr().out.split() == [str(out / "information_plane-kde.gif")]
    with pytest.raises(SystemExit, match="2"):
        cli.main([*command[:3], "avi"])
