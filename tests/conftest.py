"""What all tests share: one thread, so that small tensors stay fast and sums reproducible."""

import matplotlib as mpl
import pytest
import torch

mpl.use("Agg")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
