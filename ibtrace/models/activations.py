"""The activations this package knows: one table of names, module types and ranges.

Whoever asks what a nonlinearity is called, which modules stand for it or between which values it
lies asks here: the capture of modules and of called functions, quantization, the networks of the
experiments and the batched chains.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

Ends = tuple[float | None, float | None]
"""The least and the greatest value; None where there is none."""


@dataclass(frozen=True)
class Activation:
    """A nonlinearity.

    Args:
        name: As `torch.nn.functional` spells it.
        modules: The module types that compute it.
        low: A lower bound of its values, with the default settings; None if there is none.
        high: An upper bound of its values.
        plain: Whether it acts unit by unit and needs no setting: what a network of the
            experiments can be told by name.
    """

    name: str
    modules: tuple[type[nn.Module], ...]
    low: float | None = None
    high: float | None = None
    plain: bool = True


# Lower bounds of curves with a minimum are rounded down.
TABLE: tuple[Activation, ...] = (
    Activation("tanh", (nn.Tanh,), -1.0, 1.0),
    Activation("relu", (nn.ReLU,), 0.0),
    Activation("sigmoid", (nn.Sigmoid,), 0.0, 1.0),
    Activation("softsign", (nn.Softsign,), -1.0, 1.0),
    Activation("hardtanh", (nn.Hardtanh,), -1.0, 1.0),
    Activation("hardsigmoid", (nn.Hardsigmoid,), 0.0, 1.0),
    Activation("relu6", (nn.ReLU6,), 0.0, 6.0),
    Activation("softplus", (nn.Softplus,), 0.0),
    Activation("elu", (nn.ELU,), -1.0),
    Activation("celu", (nn.CELU,), -1.0),
    Activation("selu", (nn.SELU,), -1.7581),
    Activation("gelu", (nn.GELU,), -0.171),
    Activation("silu", (nn.SiLU,), -0.2785),
    Activation("mish", (nn.Mish,), -0.3089),
    Activation("hardswish", (nn.Hardswish,), -0.375),
    Activation("leaky_relu", (nn.LeakyReLU,)),
    Activation("rrelu", (nn.RReLU,)),
    Activation("prelu", (nn.PReLU,)),
    Activation("tanhshrink", (nn.Tanhshrink,)),
    Activation("softshrink", (nn.Softshrink,)),
    Activation("hardshrink", (nn.Hardshrink,)),
    Activation("logsigmoid", (nn.LogSigmoid,), None, 0.0),
    Activation("threshold", (nn.Threshold,), plain=False),
    Activation("glu", (nn.GLU,), plain=False),
    Activation("softmax", (nn.Softmax, nn.Softmax2d), 0.0, 1.0, plain=False),
    Activation("softmin", (nn.Softmin,), 0.0, 1.0, plain=False),
    Activation("log_softmax", (nn.LogSoftmax,), None, 0.0, plain=False),
)

BY_NAME: dict[str, Activation] = {entry.name: entry for entry in TABLE}
BY_TYPE: dict[type[nn.Module], Activation] = {
    kind: entry for entry in TABLE for kind in entry.modules
}


def find(module: nn.Module) -> Activation | None:
    """The activation that a module computes, or None; a subclass counts as what it is made from.

    Example:
        >>> find(nn.ReLU6()).name, find(nn.Linear(2, 2))
        ('relu6', None)
    """
    return next((BY_TYPE[kind] for kind in type(module).__mro__ if kind in BY_TYPE), None)


def ends(module: nn.Module) -> Ends:
    """The least and the greatest value that a module can give, as it is set; None: unknown.

    A subclass with a forward method of its own may give anything.

    Example:
        >>> ends(nn.Hardtanh(-2.0, 3.0)), ends(nn.ReLU())
        ((-2.0, 3.0), (0.0, None))
    """
    known = find(module)
    if known is None or not _is_torchs(module):
        return None, None
    if isinstance(module, nn.Hardtanh):
        return float(module.min_val), float(module.max_val)
    if isinstance(module, nn.ELU | nn.CELU):
        return (-float(module.alpha), None) if module.alpha >= 0 else (None, None)
    return known.low, known.high


_PLAIN = (nn.Identity, nn.Flatten, nn.Dropout)
"""Modules that change no number in eval mode."""

_CONTRACTIONS = {"tanh", "relu", "softsign", "relu6", "celu", "tanhshrink", "softshrink"}
_ODD = {"tanh", "softsign", "tanhshrink", "softshrink", "hardshrink"}


def contracts(module: nn.Module) -> bool:
    """Whether a module, as it is set, has slopes of at most 1 and is 0 at 0; False if unknown.

    Example:
        >>> contracts(nn.ELU()), contracts(nn.ELU(alpha=3.0)), contracts(nn.Sigmoid())
        (True, False, False)
    """
    if type(module) in _PLAIN:
        return True
    if not _is_torchs(module):
        return False
    if isinstance(module, nn.ELU):
        return 0 <= module.alpha <= 1
    if isinstance(module, nn.LeakyReLU):
        return abs(module.negative_slope) <= 1
    if isinstance(module, nn.Hardtanh) and not isinstance(module, nn.ReLU6):
        return module.min_val <= 0 <= module.max_val
    known = find(module)
    return known is not None and known.name in _CONTRACTIONS


def odd(module: nn.Module) -> bool:
    """Whether a module, as it is set, is an activation with f(-z) = -f(z); False if unknown.

    Example:
        >>> odd(nn.Tanh()), odd(nn.ReLU()), odd(nn.Hardtanh(-1.0, 2.0)), odd(nn.Identity())
        (True, False, False, False)
    """
    if not _is_torchs(module):
        return False
    if isinstance(module, nn.Hardtanh) and not isinstance(module, nn.ReLU6):
        return bool(module.min_val == -module.max_val)
    known = find(module)
    return known is not None and known.name in _ODD


def is_plain(module: nn.Module) -> bool:
    """Whether a module changes no number in eval mode: an identity, a dropout, another shape."""
    return type(module) in _PLAIN


def _is_torchs(module: nn.Module) -> bool:
    """Whether a module is a known activation with torch's own forward method."""
    known = find(module)
    return known is not None and any(type(module).forward is k.forward for k in known.modules)


def closed_range(module: nn.Module) -> tuple[float, float] | None:
    """The range of a module whose values are bounded on both sides, else None."""
    low, high = ends(module)
    return None if low is None or high is None else (low, high)
