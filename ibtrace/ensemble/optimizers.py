"""Optimisers for stacked parameters: only those that treat every number by itself."""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ibtrace.errors import Unsupported

_Optimizer = TypeVar("_Optimizer", bound=Optimizer)


def require_elementwise(optimizer: Optimizer) -> None:
    """Raise if an optimiser would let one seed's gradients move another seed's parameters.

    The optimiser's class is tried out, with its options, on two small tensors stacked and apart:
    Adam, SGD, RMSprop … pass; LBFGS, Adafactor, Muon and others that use norms or shapes of a
    whole parameter do not.

    Args:
        optimizer: Any optimiser; it is not touched.

    Raises:
        Unsupported: If it does not work elementwise, or cannot be tried.
    """
    kind = type(optimizer)
    advice = "train each seed alone, or use Adam, AdamW, SGD or RMSprop"
    try:
        together = _tried(optimizer, slice(None))
        apart = torch.cat([_tried(optimizer, slice(0, 1)), _tried(optimizer, slice(1, 2))])
    except Exception as error:
        message = str(error).split("\n")[0]
        raise Unsupported(
            f"{kind.__name__} cannot train several seeds at once ({message}); {advice}"
        ) from error
    if not torch.allclose(together, apart, rtol=1e-4, atol=1e-7):
        raise Unsupported(
            f"{kind.__name__} is not elementwise, one seed would steer the others; {advice}"
        )


def fuse(optimizer: _Optimizer) -> _Optimizer:
    """The same optimiser, with torch's fused step where it has one and nothing else was chosen.

    One kernel for all parameters: for the 12-bit network a step of Adam takes a third of the time.

    Args:
        optimizer: Any optimiser, before its first step.
    """
    for group in optimizer.param_groups:
        free = group.get("foreach") is None and not group.get("differentiable", False)
        floats = all(p.is_floating_point() for p in group["params"])
        if "fused" in group and group["fused"] is None and free and floats and not optimizer.state:
            group["fused"] = True
    return optimizer


def _tried(optimizer: Optimizer, seeds: slice) -> Tensor:
    """Where three steps lead from a fixed start, for some of two seeds."""
    kind, group = type(optimizer), optimizer.param_groups[0]
    accepted = inspect.signature(kind).parameters
    options = {name: value for name, value in group.items() if name in accepted}
    del options["params"]
    if not isinstance(options.get("lr"), Tensor) and options.get("lr") == 0:
        options["lr"] = 1e-2  # a warm-up starts at 0, where every optimiser looks elementwise
    generator = torch.Generator().manual_seed(0)
    start, *gradients = (torch.randn(2, 3, 4, generator=generator) for _ in range(4))
    device = group["params"][0].device
    parameter = torch.nn.Parameter(start[seeds].to(device))
    trial = kind([parameter], **options)
    for gradient in gradients:
        parameter.grad = gradient[seeds].to(device)
        trial.step()
    return parameter.detach().cpu()
