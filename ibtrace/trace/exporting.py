"""Tables of numbers as files for other programs."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd


class Exported:
    """What has a frame of its numbers, written as Parquet and as CSV."""

    def frame(self) -> pd.DataFrame:
        """All numbers in tidy form."""
        raise NotImplementedError

    def to_parquet(self, path: str | os.PathLike[str]) -> int:
        """Write `frame` as Parquet; returns the number of rows written."""
        frame = self.frame()
        frame.to_parquet(Path(path), index=False)
        return len(frame)

    def to_csv(self, path: str | os.PathLike[str]) -> int:
        """Write `frame` as CSV; returns the number of rows written."""
        frame = self.frame()
        frame.to_csv(Path(path), index=False)
        return len(frame)
