"""The information plane in motion: one frame a snapshot, as GIF or MP4."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter
from matplotlib.artist import Artist

from ibtrace.errors import ConfigError, InvalidInput, MissingDependency
from ibtrace.plots._plane import Plane, planes_figure
from ibtrace.plots._style import as_mapping, styled
from ibtrace.runtime.files import written_whole
from ibtrace.types import TraceLike

_DPI = 110
_LAST = 1.5  # seconds that the last frame stands: the end of training is what is asked for


@styled
def animate(
    traces: TraceLike | Mapping[str, TraceLike],
    path: str | os.PathLike[str],
    estimator: str | None = None,
    *,
    frames: int = 100,
    seconds: float = 8.0,
) -> Path:
    """Write the information plane of one run or of several as a film over training.

    A frame is a snapshot: faint points are the seeds, marks their mean, a line joins the layers,
    and each layer draws the trail of its mean behind it. Axes, ceilings and colours are those of
    `information_planes` and stand still.

    Args:
        traces: The run, or runs by name, which are drawn side by side.
        path: A ``.gif``, or an ``.mp4`` where ffmpeg is installed.
        estimator: The estimator's label; the first of each trace by default.
        frames: At most so many, evenly spaced in log(1 + epoch) where there are more snapshots.
        seconds: How long the film is, without the last frame's stand.

    Returns:
        The file.

    Raises:
        ConfigError: If the path has another suffix, or frames or seconds make no film.
        InvalidInput: If there are fewer than two snapshots, or no pair of I(X;T) and I(T;Y).
        MissingDependency: If an MP4 is asked for and ffmpeg is not installed.
        RunError: If the file cannot be written.
        UnknownName: If a trace lacks the estimator.
    """
    file = Path(path)
    if frames < 2 or not 0 < seconds < np.inf:
        raise ConfigError(f"frames={frames}, seconds={seconds}: needs 2 frames and some seconds")
    planes = {name: Plane(trace, estimator) for name, trace in as_mapping(traces).items()}
    shown = _spread(set().union(*(plane.means["epoch"] for plane in planes.values())), frames)
    if len(shown) < 2:
        raise InvalidInput(f"a film needs two snapshots, the trace has {len(shown)}; draw a plane")
    rate = max(1, round(len(shown) / seconds))
    writer = _writer(file, rate)
    figure, axes, norm = planes_figure(planes)
    clock = next(iter(planes.values())).clock
    for panel in axes:
        panel.set_autoscale_on(False)
    title = figure.suptitle(" ", fontsize=9)
    with written_whole(file) as part, writer.saving(figure, str(part), _DPI):
        artists: list[Artist] = []
        for epoch in shown:
            for artist in artists:
                artist.remove()
            artists = [
                artist
                for panel, plane in zip(axes, planes.values(), strict=True)
                for artist in plane.draw_until(panel, norm, epoch)
            ]
            title.set_text(f"{clock} {epoch:,}")
            writer.grab_frame()
        for _ in range(round(_LAST * rate)):
            writer.grab_frame()
    return file


def _spread(epochs: Iterable[int], frames: int) -> list[int]:
    """The epochs, or as many of them, the first and the last included, even in log(1 + epoch)."""
    known = np.array(sorted(epochs))
    if len(known) <= frames:
        return [int(epoch) for epoch in known]
    places = np.log1p(known)
    wanted = np.linspace(places[0], places[-1], frames)
    nearest = np.abs(places[None] - wanted[:, None]).argmin(axis=1)
    return [int(epoch) for epoch in known[np.unique(nearest)]]


def _writer(file: Path, rate: int) -> AbstractMovieWriter:
    """Who writes a file of this suffix.

    Raises:
        ConfigError: If it is neither GIF nor MP4.
        MissingDependency: If it is an MP4 and ffmpeg is not installed.
    """
    if file.suffix == ".gif":
        return PillowWriter(fps=rate)
    if file.suffix != ".mp4":
        raise ConfigError(f"{file}: a film is a .gif or an .mp4; give the path one of these")
    if not FFMpegWriter.isAvailable():
        raise MissingDependency(f"{file}: MP4 needs ffmpeg, which is not installed; take a .gif")
    # most players show no other colours
    return FFMpegWriter(fps=rate, extra_args=["-pix_fmt", "yuv420p"])
