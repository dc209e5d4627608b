"""Networks that train and run at b bits, so that the information in their layers is exact.

With at most 2^b values per unit, T is a discrete variable, and on enumerated inputs
`ibtrace.estimators.Exact` gives I(X;T) without any binning or noise (Lorenzen et al. 2022).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.models import activations

Range = tuple[float, float] | None

_FLOAT32_BITS = 32
_LEFT = "log_softmax"
_BEFORE_TRAINING = 6.0  # the range of an unbounded activation of which nothing is known yet


def round_to_grid(values: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Values moved to the nearest of 2^bits equally spaced levels from ``low`` to ``high``.

    Gradients pass straight through where a value lies in the range, and are 0 beyond it (the
    straight-through estimator, Bengio et al. 2013).

    Args:
        values: Floats of any shape.
        low: The lowest level, a scalar.
        high: The highest level, a scalar above ``low``; where it equals ``low``, there is one.
        bits: The number of levels is 2^bits.

    Example:
        >>> grid = torch.tensor(-1.0), torch.tensor(1.0)
        >>> round_to_grid(torch.tensor([-3.0, -0.4, 0.2, 1.0]), *grid, bits=2)
        tensor([-1.0000, -0.3333,  0.3333,  1.0000])
    """
    inside = torch.maximum(torch.minimum(values, high), low)
    step: Tensor = (high - low) / (2**bits - 1)
    numbers = ((inside - low) / torch.where(step > 0, step, 1.0)).round()
    level: Tensor = (low + numbers * step).detach()
    # Exactly the level: to add the rounding error to the value would not always give it.
    return level + (inside - inside.detach())


class Quantizer(nn.Module):
    """Rounds activations to 2^bits levels on a range that is fixed, or follows the batches.

    A range that is not given is a moving average of the smallest and largest value of the batches
    seen in training mode, as in quantization-aware training (Jacob et al. 2018): the first
    batch sets it, each later one moves it by ``momentum``. It is part of the state dictionary and
    stays as it is in eval mode. Before any training it is [-6, 6], cut where the activation has a
    bound of its own (a ReLU: [0, 6]). 0 is always in it.

    Args:
        bits: The number of levels is 2^bits.
        fixed: The range, if it is known.
        start: The range before any training, if it is not.
        momentum: Weight of a new batch in the moving average.

    Example:
        >>> quantizer = Quantizer(2, fixed=(-1.0, 1.0))
        >>> quantizer(torch.tensor([0.9, 0.1, -0.2]))
        tensor([ 1.0000,  0.3333, -0.3333])
    """

    low: Tensor
    high: Tensor
    batches: Tensor

    def __init__(
        self,
        bits: int,
        fixed: tuple[float, float] | None = None,
        *,
        start: tuple[float, float] = (-_BEFORE_TRAINING, _BEFORE_TRAINING),
        momentum: float = 0.01,
    ) -> None:
        super().__init__()
        self.bits = bits
        self.fixed = fixed
        self.momentum = momentum
        low, high = fixed or start
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, values: Tensor) -> Tensor:
        """Values on the grid, of the same shape and type.

        Args:
            values: Activations of any shape.
        """
        if self.fixed is None and self.training:
            self._follow(values.detach())
        low, high = self.low.to(values.dtype), self.high.to(values.dtype)
        return round_to_grid(values, low, high, self.bits)

    @torch.no_grad()
    def _follow(self, values: Tensor) -> None:
        ends = values.amin().clamp(max=0), values.amax().clamp(min=0)
        weight = torch.where(self.batches > 0, self.momentum, 1.0)
        for end, new in zip((self.low, self.high), ends, strict=True):
            end.add_(weight * (new.to(end.dtype) - end))
        self.batches.add_(1)

    def extra_repr(self) -> str:
        """The configuration, as the module's repr shows it."""
        return f"bits={self.bits}, range={self.fixed or 'running'}"


class _Weights:
    """A layer whose forward pass sees its weights on a grid of 2^bits - 1 levels."""

    weight_bits: int

    def grid_weight(self, weight: Tensor) -> Tensor:
        """The weights on levels from -max|w| to max|w|, 0 among them."""
        largest = weight.detach().abs().amax()
        count = 2**self.weight_bits - 2
        step = torch.where(largest > 0, 2 * largest / count, 1.0)
        return (weight.detach() / step).round() * step + (weight - weight.detach())


class QuantizedLinear(_Weights, nn.Linear):
    """A linear layer that runs with quantized weights; what is trained is the full ones."""

    def forward(self, input: Tensor) -> Tensor:
        """The layer's output with its weights on their grid.

        Args:
            input: As the layer takes it.
        """
        return nn.functional.linear(input, self.grid_weight(self.weight), self.bias)


class _QuantizedConv(_Weights):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # mypy: of the convolution it is mixed into
        forward: Any = super()._conv_forward  # type: ignore[misc]
        out: Tensor = forward(input, self.grid_weight(weight), bias)
        return out


class QuantizedConv1d(_QuantizedConv, nn.Conv1d):
    """A convolution that runs with quantized weights."""


class QuantizedConv2d(_QuantizedConv, nn.Conv2d):
    """A convolution that runs with quantized weights."""


class QuantizedConv3d(_QuantizedConv, nn.Conv3d):
    """A convolution that runs with quantized weights."""


_OF_SEVERAL_PARTS = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)

_QUANTIZED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: QuantizedLinear,
    nn.Conv1d: QuantizedConv1d,
    nn.Conv2d: QuantizedConv2d,
    nn.Conv3d: QuantizedConv3d,
}


def quantize(
    model: nn.Module,
    bits: int,
    *,
    weights: bool = True,
    ranges: Mapping[type[nn.Module], Range] | None = None,
    leave: Collection[type[nn.Module]] = (),
) -> nn.Module:
    """A copy of a model that trains and runs at b bits (Lorenzen et al. 2022).

    Every activation module gives values on a grid of 2^bits levels per layer: on the activation's
    own range where it is bounded (tanh [-1, 1], sigmoid and softmax [0, 1]), else on a range that
    follows the training batches (see `Quantizer`). Weights of linear layers and convolutions
    are rounded in the forward pass to 2^bits - 1 levels on ±max|w|; biases are not. Gradients go
    straight through the rounding.

    Names of layers and parameters stay as they are, so that a trace of ``hidden1`` is a trace
    of quantized values. Activations are those of `ibtrace.models.activations`. Refused by name,
    because values or weights would stay continuous unnoticed: a module without parts that is
    neither an activation nor torch's own, recurrent layers, attention, and (with
    ``weights=True``) a module with a weight matrix that is not one of the layers above or of which
    another class or a parametrization makes something else. Not quantized: biases,
    one-dimensional weights (norms), embeddings, logits that no activation follows, log-softmax,
    and activations that a forward method calls as functions. A quantized softmax rounds small
    probabilities to 0, of which a logarithm takes no gradient: train on logits where bits are few.

    Differences from Lorenzen et al.'s code: theirs has tanh on the range of each batch, in eval
    mode too, and leaves the weights of tanh layers as they are (``weights=False`` here, which
    leaves all). At 32 bits the copy is the model: its float32 values are what `Exact` counts.

    Args:
        model: Any module; left as it is.
        bits: 2 to 16, or 32.
        weights: Whether to quantize weights as well as activations.
        ranges: Further activation types, each with its range; None follows the batches.
        leave: Module types that stay as they are.

    Returns:
        The copy, in the same mode and on the same device.

    Raises:
        ConfigError: If bits is none of these.
        InvalidInput: If the model has no activation module, a module that would stay continuous
            unnoticed, or is quantized already.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 1), nn.Tanh())
        >>> inputs = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> len(quantize(net, bits=4)(inputs).unique()) <= 16
        True
    """
    if type(bits) is not int or bits not in (*range(2, 17), _FLOAT32_BITS):
        raise ConfigError(f"quantize: bits must be 2 to 16, or 32, got {bits!r}")
    if any(isinstance(module, Quantizer) for module in model.modules()):
        raise InvalidInput("quantize: the model is quantized already; quantize the original")
    for module in model.modules():
        if not isinstance(module, tuple(leave)):
            _require_known(module, weights and bits != _FLOAT32_BITS)
    quantized = copy.deepcopy(model)
    place = next((p.device for p in quantized.parameters()), None)
    quantizers = {
        module: quantizer.to(place).train(module.training)
        for module in quantized.modules()
        if not isinstance(module, tuple(leave))
        and (quantizer := _quantizer(module, bits, ranges or {})) is not None
    }
    if not quantizers:
        raise InvalidInput(
            "quantize: the model has no activation module; use modules such as nn.Tanh() "
            "instead of functions"
        )
    if bits == _FLOAT32_BITS:
        return quantized
    for module, quantizer in quantizers.items():
        module.add_module("quantizer", quantizer)
        module.register_forward_hook(_on_output)
    for module in quantized.modules():
        if weights and type(module) in _QUANTIZED:
            # a change of class keeps names, parameters and optimiser states as they are
            module.__class__ = _QUANTIZED[type(module)]
            # mypy: a module's attribute, by nn.Module a tensor
            module.weight_bits = bits  # type: ignore[assignment]
    return quantized


def _quantizer(
    module: nn.Module, bits: int, ranges: Mapping[type[nn.Module], Range]
) -> Quantizer | None:
    """What rounds a module's output; None if the module is no activation.

    Raises:
        InvalidInput: If it may be one.
    """
    kind, known = type(module), activations.find(module)
    if kind in ranges:
        return Quantizer(bits, ranges[kind])
    if known is None and _may_be_one(module):
        name = kind.__name__
        raise InvalidInput(
            f"quantize: {name} may be an activation, and is not in ibtrace.models.activations; "
            f"give ranges={{{name}: (low, high)}} (None: unknown), or leave=[{name}] if it is none"
        )
    if known is None or known.name == _LEFT:
        return None
    low, high = activations.ends(module)
    start = (
        -_BEFORE_TRAINING if low is None else min(low, 0.0),
        _BEFORE_TRAINING if high is None else max(high, 0.0),
    )
    return Quantizer(bits, activations.closed_range(module), start=start)


def _may_be_one(module: nn.Module) -> bool:
    """Whether a module that is none of torch's own has nothing but a function of each unit."""
    foreign = not type(module).__module__.startswith("torch.nn.")
    return foreign and not any(module.children()) and not _has_matrix(module)


def _has_matrix(module: nn.Module) -> bool:
    return any(weight.dim() > 1 for weight in module.parameters(recurse=False))


def _require_known(module: nn.Module, weights: bool) -> None:
    """Raise if a module would stay continuous unnoticed."""
    name = type(module).__name__
    if isinstance(module, _OF_SEVERAL_PARTS):
        raise InvalidInput(
            f"quantize: the values inside {name} would stay continuous; build it of linear layers "
            f"and activation modules, or leave=[{name}]"
        )
    # A subclass, or a parametrization, may make something else of its weights.
    known = type(module) in _QUANTIZED or isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    if weights and (parametrize.is_parametrized(module) or (_has_matrix(module) and not known)):
        raise InvalidInput(
            f"quantize: the weights of {name} would stay continuous, for it is none of "
            f"{', '.join(kind.__name__ for kind in _QUANTIZED)} as they are; use one of these, "
            f"or leave=[{name}], or weights=False"
        )


def _on_output(module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    """The hook of a quantized activation; a function of the module alone, so that it pickles."""
    quantizer: Any = module.quantizer
    result: Tensor = quantizer(output)
    return result
