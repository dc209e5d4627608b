"""TensorBoard: information per layer as scalars over epochs, the information plane as an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ibtrace.integrations._sink import Numbers, Pixels
from ibtrace.runtime.optional import require

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Numbers):
    """A sink that writes TensorBoard event files.

    Args:
        writer_or_log_dir: A ``SummaryWriter`` of yours, which is flushed and left open, or the
            folder for a new one, which is closed when the trace is complete.
        image_every: Write the information planes at every so many snapshots; None: at the end only.

    Raises:
        MissingDependency: If TensorBoard is not installed.

    Example::

        from ibtrace import Keep, Tracer
        from ibtrace.integrations.tensorboard import TensorBoard

        keep = Keep(sinks=[TensorBoard("logs")])
        with Tracer(model, data=(x, y), keep=keep) as tracer:
            for epoch in range(1, epochs + 1):
                train_one_epoch(model)
                tracer.snapshot(epoch)
    """

    def __init__(
        self, writer_or_log_dir: SummaryWriter | str | Path, *, image_every: int | None = None
    ) -> None:
        super().__init__(image_every)
        self._own = isinstance(writer_or_log_dir, (str, Path))
        if isinstance(writer_or_log_dir, (str, Path)):
            module = require("tensorboard", "torch.utils.tensorboard")
            self.writer: SummaryWriter = module.SummaryWriter(str(writer_or_log_dir))
        else:
            self.writer = writer_or_log_dir

    def send(self, epoch: int, numbers: Mapping[str, float], images: Mapping[str, Pixels]) -> None:
        """Write the numbers and images with the epoch as their step."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, epoch)
        for name, image in images.items():
            self.writer.add_image(name, image, epoch, dataformats="HWC")

    def finish(self, failed: bool) -> None:
        """Close the writer, or flush the caller's; event files have no word for a failure."""
        if self._own:
            self.writer.close()
        else:
            self.writer.flush()
