"""What all tests share: one thread, so that small tensors stay fast and sums reproducible."""

import os

import matplotlib as mpl
import pytest
import torch
from hypothesis import settings

mpl.use("Agg")
settings.register_profile("untimed", deadline=None)  # how long a case takes says what else runs
settings.load_profile("untimed")
# of the processes that tests start as well: pools of threads that spin starve each other
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
