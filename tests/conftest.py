"""What all tests share: one thread, so that small tensors stay fast and sums reproducible."""

import matplotlib as mpl
import pytest
import torch
from hypothesis import settings

mpl.use("Agg")
settings.register_profile("untimed", deadline=None)  # how long a case takes says what else runs
settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
