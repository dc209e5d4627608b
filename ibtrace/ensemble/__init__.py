"""Many seeds trained and looked at in one pass.

Example:
    >>> import torch
    >>> from ibtrace.datasets import Batches, split, tishby
    >>> from ibtrace.models import MLP
    >>> data, seeds = tishby(), [0, 1, 2]
    >>> nets = Ensemble(lambda seed: MLP(init="idnns"), seeds)
    >>> optimizer = fuse(torch.optim.Adam(nets.parameters(), lr=4e-4))
    >>> train = [split(data.y, 0.8, seed=seed)[0] for seed in seeds]
    >>> batches = Batches(data.x, data.y, train, seeds, batch_size=512)
    >>> for x, y in batches:
    ...     loss = nets.backward(x, y, nll)
    ...     optimizer.step()
    >>> loss.shape
    torch.Size([3])
"""

from __future__ import annotations

from ibtrace.ensemble.optimizers import fuse as fuse
from ibtrace.ensemble.optimizers import require_elementwise as require_elementwise
from ibtrace.ensemble.resume import restore_training as restore_training
from ibtrace.ensemble.resume import training_state as training_state
from ibtrace.ensemble.stacked import Ensemble as Ensemble
from ibtrace.numerics.losses import LOSSES as LOSSES
from ibtrace.numerics.losses import Loss as Loss
from ibtrace.numerics.losses import cross_entropy as cross_entropy
from ibtrace.numerics.losses import mse as mse
from ibtrace.numerics.losses import nll as nll
