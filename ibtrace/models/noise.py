"""Noise inside a network, of known law, so that the information in its layers is finite.

In a deterministic network I(X;T) is constant or infinite. With noise in the layer it is a
property of the network, and `ibtrace.estimators.NoisyChannel` measures it from the layer before
its noise; each module's ``channel`` is the estimator whose law is the module's own.
"""

from __future__ import annotations

import copy
import fnmatch
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ibtrace.errors import ConfigError, InvalidInput, UnknownName
from ibtrace.estimators.noisy_channel import NoisyChannel


class GaussianNoise(nn.Module):
    """Adds Gaussian noise: ``T + std · Z``, Z ~ N(0, 1), independent for each unit and sample.

    Its information is measured by ``NoisyChannel(noise_std=std, in_network=True)``. As with
    dropout, the noise comes from torch's global generator of the input's device, so
    ``torch.manual_seed`` sets it.

    Args:
        std: Standard deviation of the noise, at least 0.
        in_eval: Whether the noise is there in eval mode too. Without it, a snapshot sees the
            centres; with it, the network that is measured is the one that was trained (and the
            layers after this one are noisy given x).

    Raises:
        ConfigError: If std is negative or not finite.

    Example:
        >>> noise = GaussianNoise(0.1)
        >>> bool((noise(torch.zeros(3)) != 0).all()), noise.eval()(torch.zeros(3)).tolist()
        (True, [0.0, 0.0, 0.0])
    """

    def __init__(self, std: float = 0.1, *, in_eval: bool = False) -> None:
        super().__init__()
        self.std = _checked(type(self).__name__, std)
        self.in_eval = in_eval

    def forward(self, t: Tensor) -> Tensor:
        """``t`` with noise, of the same shape.

        Args:
            t: Floats of any shape.
        """
        if not (self.training or self.in_eval):
            return t
        return t + self.std * torch.randn_like(t)

    @property
    def channel(self) -> NoisyChannel:
        """The estimator of the information that this noise leaves."""
        return NoisyChannel(noise_std=self.std, in_network=True)

    def extra_repr(self) -> str:
        """The configuration, as the module's repr shows it."""
        return f"std={self.std:g}, in_eval={self.in_eval}"


class ContinuousDropout(nn.Module):
    """Multiplies by continuous noise, which makes I(X;T) finite where Bernoulli dropout does not.

    Laws, independent for each unit and sample, with Z ~ N(0, 1) (Adilova et al. 2023):

    - ``"multiplicative"``, Gaussian dropout (Srivastava et al. 2014): ``T · (1 + std · Z)``. A
      dropout rate p has the same variance as ``std = sqrt(p / (1 - p))``; see `of_rate`.
    - ``"lognormal"``, information dropout (Achille & Soatto 2018) with a fixed scale:
      ``T · exp(std · Z)``. Its mean is ``exp(std² / 2) T``: nothing rescales it.

    A unit at 0 stays at 0, as ReLU units often are: which of them are is information that the
    noise does not touch, and that ``NoisyChannel(noise=...)`` counts.

    The noise comes from torch's global generator of the input's device, as dropout's does.

    Args:
        std: Scale of the noise, at least 0.
        noise: ``"multiplicative"`` or ``"lognormal"``.
        in_eval: Whether the noise is there in eval mode too.

    Raises:
        ConfigError: If std is negative or not finite, or the law unknown.

    Example:
        >>> ContinuousDropout.of_rate(0.5)
        ContinuousDropout(std=1, noise=multiplicative, in_eval=False)
    """

    def __init__(
        self,
        std: float = 1.0,
        noise: Literal["multiplicative", "lognormal"] = "multiplicative",
        *,
        in_eval: bool = False,
    ) -> None:
        super().__init__()
        self.std = _checked(type(self).__name__, std)
        if noise not in ("multiplicative", "lognormal"):
            known = "'multiplicative' or 'lognormal'"
            raise ConfigError(f"ContinuousDropout: noise must be {known}, got {noise!r}")
        self.noise: Literal["multiplicative", "lognormal"] = noise
        self.in_eval = in_eval

    @classmethod
    def of_rate(cls, rate: float, *, in_eval: bool = False) -> ContinuousDropout:
        """Gaussian dropout with the variance of Bernoulli dropout at ``rate``.

        Raises:
            ConfigError: If the rate is not in [0, 1).
        """
        if not 0 <= rate < 1:
            raise ConfigError(f"ContinuousDropout: rate must lie in [0, 1), got {rate}")
        return cls((rate / (1 - rate)) ** 0.5, in_eval=in_eval)

    def forward(self, t: Tensor) -> Tensor:
        """``t`` with noise, of the same shape.

        Args:
            t: Floats of any shape.
        """
        if not (self.training or self.in_eval):
            return t
        noise = self.std * torch.randn_like(t)
        return t * (1 + noise) if self.noise == "multiplicative" else t * noise.exp()

    @property
    def channel(self) -> NoisyChannel:
        """The estimator of the information that this noise leaves."""
        return NoisyChannel(noise_std=self.std, noise=self.noise, in_network=True)

    def extra_repr(self) -> str:
        """The configuration, as the module's repr shows it."""
        return f"std={self.std:g}, noise={self.noise}, in_eval={self.in_eval}"


def inject_noise(
    model: nn.Module,
    layers: str | Sequence[str],
    std: float = 0.1,
    *,
    in_eval: bool = False,
    make: Callable[[float], nn.Module] | None = None,
) -> nn.Module:
    """A copy of a model with noise after some of its layers.

    A layer ``hidden1`` becomes a sequence of ``hidden1.clean``, the layer as it was, and
    ``hidden1.noise``. A trace of ``hidden1.clean`` sees the centres of the noise, which is what
    `NoisyChannel` takes; a trace of ``hidden1`` sees what the next layer sees. Keys of the state
    dictionary change accordingly.

    Args:
        model: Any module; left as it is.
        layers: Names of submodules, or globs (``hidden*``).
        std: Standard deviation of the noise.
        in_eval: Whether the noise is there in eval mode too.
        make: Makes the noise module of a layer from ``std``, instead of `GaussianNoise`;
            ``in_eval`` is then its own affair.

    Returns:
        The copy, in the same mode and on the same device.

    Raises:
        UnknownName: If a name or glob matches no layer; lists the layers there are.
        InvalidInput: If one chosen layer contains another.
        ConfigError: If std is negative or not finite.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
        >>> noisy = inject_noise(net, "1", std=0.1)
        >>> [name for name, _ in noisy.named_modules()]
        ['', '0', '1', '1.clean', '1.noise']
    """
    noisy = copy.deepcopy(model)
    for name in _noisy_modules(noisy, [layers] if isinstance(layers, str) else layers):
        parent, _, child = name.rpartition(".")
        layer = noisy.get_submodule(name)
        noise = make(std) if make else GaussianNoise(std, in_eval=in_eval)
        wrapped = nn.Sequential(OrderedDict(clean=layer, noise=noise.train(layer.training)))
        wrapped.training = layer.training
        setattr(noisy.get_submodule(parent), child, wrapped)
    return noisy


def _noisy_modules(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    noisy: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            known = ", ".join(names) or "none"
            raise UnknownName(f"inject_noise: no layer matches {pattern!r}; there are: {known}")
        noisy.update(dict.fromkeys(matching))
    for outer in noisy:
        inner = next((name for name in noisy if name.startswith(f"{outer}.")), None)
        if inner is not None:
            raise InvalidInput(f"inject_noise: layer {inner!r} is inside {outer!r}; choose one")
    return list(noisy)


def _checked(name: str, std: float) -> float:
    if not 0 <= std < float("inf"):
        raise ConfigError(f"{name}: std must be finite and at least 0, got {std}")
    return std
