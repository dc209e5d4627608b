"""What is global: random generators and torch's settings."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def global_state() -> dict[str, object]:
    """What a call must leave as it was, by name."""
    return {
        "torch's generator": tuple(torch.get_rng_state().tolist()),
        "numpy's generator": pickle.dumps(np.random.get_state()),
        "python's generator": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradient mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


@contextmanager
def generators_restored() -> Iterator[None]:
    """A block after which the global generators are as they were before it."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
