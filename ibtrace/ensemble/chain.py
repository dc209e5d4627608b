"""Chains of linear layers and elementwise activations, for all seeds at once.

Activations lie in (seed, unit, sample) order: the long dimension is the innermost, products are
batched over seeds, and biases broadcast without a copy. The gradients are written out, which
saves a third of the time that autograd takes on networks this small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibtrace.capture import OUTPUT, WHOLE
from ibtrace.models.activations import BY_NAME
from ibtrace.numerics.losses import Loss, cross_entropy, nll

_DERIVED = ("tanh", "relu", "sigmoid", "softmax", "log_softmax")  # gradients written out below
_KINDS: dict[type[nn.Module], str] = {
    nn.Linear: "linear",
    nn.Identity: "identity",
    **{BY_NAME[name].modules[0]: name for name in _DERIVED},
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_threshold_backward = torch.ops.aten.threshold_backward.grad_input
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input


@dataclass(frozen=True)
class Stage:
    """One module of the chain.

    Args:
        name: The module's name in the network.
        kind: What it does.
        weight: Its weights, ``(seeds, out, in)``, if it is linear.
        bias: Its biases, ``(seeds, out)``, if it has them.
        in_place: Whether it may overwrite what it is given: the output of a linear layer, which
            no gradient needs.
    """

    name: str
    kind: str
    weight: Tensor | None = None
    bias: Tensor | None = None
    in_place: bool = False

    def forward(self, h: Tensor, *, keep: bool = False) -> Tensor:
        """The stage's output ``(seeds, out, batch)``; ``keep`` leaves ``h`` as it is."""
        if self.weight is not None:
            if self.bias is None:
                return torch.bmm(self.weight, h)
            return torch.baddbmm(self.bias.unsqueeze(-1), self.weight, h)
        in_place = self.in_place and not keep
        match self.kind:
            case "tanh":
                return h.tanh_() if in_place else h.tanh()
            case "relu":
                return h.relu_() if in_place else h.relu()
            case "sigmoid":
                return h.sigmoid_() if in_place else h.sigmoid()
            case "softmax":
                return h.softmax(1)
            case "log_softmax":
                return h.log_softmax(1)
        return h

    def backward(self, delta: Tensor, output: Tensor) -> Tensor:
        """The gradient before an elementwise stage from the one after it, which it overwrites."""
        match self.kind:
            case "tanh":
                _tanh_backward(delta, output, grad_input=delta)
            case "relu":
                _threshold_backward(delta, output, 0, grad_input=delta)
            case "sigmoid":
                _sigmoid_backward(delta, output, grad_input=delta)
            case "softmax":
                delta = (delta - (delta * output).sum(1, keepdim=True)) * output
            case "log_softmax":
                delta = delta - output.exp() * delta.sum(1, keepdim=True)
        return delta


class Chain:
    """The stages of a network that is a plain chain.

    Args:
        stages: In the order of the forward pass.
    """

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages
        self._first = next(s.weight for s in stages if s.weight is not None)

    @classmethod
    def of(cls, module: nn.Module, parameters: Mapping[str, Tensor]) -> Chain | None:
        """The network as a chain, or None if it is anything else.

        Args:
            module: The network of one seed.
            parameters: ``{name: (seeds, ...)}``.
        """
        leaves = list(_leaves(module, ""))
        modules = [leaf for _, leaf in leaves]
        plain = all(type(leaf) in _KINDS and not _hooked(leaf) for leaf in modules)
        linear = [f"{name}.weight".lstrip(".") for name, m in leaves if type(m) is nn.Linear]
        known = linear and all(name in parameters for name in linear)
        repeated = len({id(leaf) for leaf in modules}) < len(modules)
        rows = all(_over_units(leaf) for leaf in modules)
        inner = any(isinstance(leaf, (nn.Softmax, nn.LogSoftmax)) for leaf in modules[:-1])
        if not (plain and known and rows) or repeated or inner:
            return None
        stages: list[Stage] = []
        for name, leaf in leaves:
            kind = _KINDS[type(leaf)]
            prefix = f"{name}." if name else ""
            weight = parameters[f"{prefix}weight"] if kind == "linear" else None
            bias = parameters.get(f"{prefix}bias") if kind == "linear" else None
            after_linear = bool(stages) and stages[-1].kind == "linear"
            stages.append(Stage(name, kind, weight, bias, after_linear))
        return cls(stages)

    def takes(self, x: Tensor) -> bool:
        """Whether inputs ``(seeds, batch, units)`` or, shared, ``(batch, units)`` suit it."""
        fits = x.shape[-1] == self._first.shape[-1] and x.dtype == self._first.dtype
        return fits and x.dim() in (2, 3)

    @property
    def output_name(self) -> str:
        """What the whole network's output is called."""
        return WHOLE if any(stage.name == OUTPUT for stage in self.stages) else OUTPUT

    def shows(self, names: set[str], x: Tensor) -> bool:
        """Whether all of these layers on shared inputs ``(n, units)`` are outputs of stages."""
        stages = {stage.name for stage in self.stages}
        return names <= {*stages, self.output_name, WHOLE} and x.dim() == 2 and self.takes(x)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(seeds, batch, units)`` of inputs as `takes` takes them."""
        h = self._columns(x)
        for stage in self.stages:
            h = stage.forward(h)
        return h.transpose(1, 2)

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Each stage's output by its name, ``(seeds, batch, units)``."""
        h, held = self._columns(x), {}
        for stage in self.stages:
            h = stage.forward(h, keep=True)
            held[stage.name] = h.transpose(1, 2)
        return held

    @torch.no_grad()
    def gradients(self, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, list[Tensor]]:
        """The loss of each seed and its gradients.

        Args:
            x: ``(seeds, batch, units)``.
            y: ``(seeds, batch)``.
            loss: Any `Loss`. `nll` after a softmax and `cross_entropy` of a linear layer's output
                have a closed form, which is exact even where a probability underflows.

        Returns:
            The loss ``(seeds,)`` and the gradients of each linear stage's weight and bias, in the
            order of the forward pass.
        """
        held = [self._columns(x)]
        for stage in self.stages:
            held.append(stage.forward(held[-1]))
        value, delta, left = self._at_the_end(held[-1], y, loss)
        grads: list[Tensor] = []
        for k in range(left - 1, -1, -1):
            stage = self.stages[k]
            if stage.weight is None:
                delta = stage.backward(delta, held[k + 1])
                continue
            if stage.bias is not None:
                grads.append(delta.sum(-1))
            grads.append(torch.bmm(delta, held[k].transpose(1, 2)))
            if k:
                delta = torch.bmm(stage.weight.transpose(1, 2), delta)
        return value, grads[::-1]

    def _at_the_end(self, out: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, int]:
        """The loss, its gradient, and how many stages lie before the place of that gradient."""
        kind = self.stages[-1].kind
        if loss is nll and kind == "softmax":
            rows = y.unsqueeze(1)
            tiny = torch.finfo(out.dtype).tiny
            value = out.gather(1, rows).clamp_min_(tiny).log_().mean((1, 2)).neg_()
            return value, _minus_one_hot(out, rows), len(self.stages) - 1
        if loss is cross_entropy and kind == "linear":
            rows = y.unsqueeze(1)
            log_p = out.log_softmax(1)
            value = log_p.gather(1, rows).mean((1, 2)).neg_()
            return value, _minus_one_hot(log_p.exp_(), rows), len(self.stages)
        with torch.enable_grad():
            leaf = out.detach().requires_grad_()
            value = loss(leaf.transpose(1, 2), y)
            (delta,) = torch.autograd.grad(value.sum(), leaf)
        # the stages overwrite the gradient, so it must own its memory
        delta = delta.clone(memory_format=torch.contiguous_format)
        return value.detach(), delta, len(self.stages)

    def _columns(self, x: Tensor) -> Tensor:
        """Inputs in (seed, unit, sample) order."""
        if x.dim() == 2:
            return x.T.expand(len(self._first), *x.T.shape)
        return x.transpose(1, 2)


def _minus_one_hot(p: Tensor, rows: Tensor) -> Tensor:
    """(p - onehot) / batch, in the memory of p: the gradient of the mean loss by the logits."""
    minus_one = p.new_full((1, 1, 1), -1.0).expand(rows.shape)
    return p.scatter_add_(1, rows, minus_one).mul_(1 / rows.shape[-1])


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules in the order of the forward pass, sequences taken apart."""
    if type(module).forward is not nn.Sequential.forward or _hooked(module):
        yield name, module
        return
    for child, inner in module._modules.items():
        if inner is not None:
            yield from _leaves(inner, f"{name}.{child}" if name else child)


def _hooked(module: nn.Module) -> bool:
    return any(getattr(module, hooks) for hooks in _HOOKS)


def _over_units(module: nn.Module) -> bool:
    """Whether a softmax normalises over the units of a sample (anything else does not matter)."""
    return not isinstance(module, (nn.Softmax, nn.LogSoftmax)) or module.dim in (-1, 1)
