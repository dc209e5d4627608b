"""Networks of one architecture, their parameters stacked over seeds.

Each network is the one that its seed would give if trained alone; only the arithmetic is shared.
Chains of linear layers and elementwise activations take batched matrix products (`chain`); every
other architecture runs under `torch.func.vmap`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from ibtrace import capture
from ibtrace.ensemble import looks
from ibtrace.ensemble.chain import Chain
from ibtrace.errors import ConfigError, InvalidInput, RunError
from ibtrace.numerics.losses import Loss
from ibtrace.runtime.arguments import different_seeds, flag, require_instance, shown

_Result = TypeVar("_Result")


class Ensemble:
    """The networks of several seeds, trained and looked at together.

    Args:
        build: Makes the network of a seed. It is called with torch's global generator seeded by
            that seed; the generator is put back afterwards.
        seeds: The seeds, all different.
        fast: Whether chains of linear layers may take batched products; False always uses vmap.

    Raises:
        ConfigError: If there is no seed, one twice or one that is no seed; or if ``build`` makes no
            network.
        InvalidInput: If the networks are not of one shape.

    Example:
        >>> nets = Ensemble(lambda seed: nn.Linear(3, 2), seeds=[0, 1, 2])
        >>> nets(torch.zeros(3, 5, 3)).shape
        torch.Size([3, 5, 2])
        >>> nets(torch.zeros(7, 3), shared=True).shape
        torch.Size([3, 7, 2])
    """

    template: nn.Module
    """A network of the same structure, by which layers are chosen; its numbers mean nothing."""

    def __init__(
        self, build: Callable[[int], nn.Module], seeds: Sequence[int], *, fast: bool = True
    ) -> None:
        self.seeds = different_seeds("Ensemble: seeds", seeds)
        if not callable(build):
            raise ConfigError(f"Ensemble: build must be a function f(seed), got {shown(build)}")
        fast = flag("Ensemble: fast", fast)
        members = [_built(build, seed) for seed in self.seeds]
        _require_alike(members, self.seeds)
        self.template = copy.deepcopy(members[0])
        stacked, self._buffers = stack_module_state(members)
        self._parameters = {
            name: nn.Parameter(p.detach(), requires_grad=p.requires_grad)
            for name, p in stacked.items()
        }
        self._chain = Chain.of(self.template, self._parameters) if fast else None
        device = next((p.device for p in self._parameters.values()), torch.device("cpu"))
        self._generator = torch.Generator(device).manual_seed(self.seeds[0])

    @property
    def fast(self) -> bool:
        """Whether the networks are a chain that takes batched products."""
        return self._chain is not None

    @property
    def training(self) -> bool:
        """Whether the networks are in training mode."""
        return self.template.training

    def parameters(self) -> list[nn.Parameter]:
        """The parameters, stacked over seeds; for an optimiser that works elementwise.

        See `ibtrace.ensemble.require_elementwise`. Clipping by a norm over all parameters would
        mix the seeds as well.
        """
        return list(self._parameters.values())

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """``{name: (seeds, ...)}``, named as in one network."""
        return dict(self._parameters)

    def named_buffers(self) -> dict[str, Tensor]:
        """``{name: (seeds, ...)}``, named as in one network."""
        return dict(self._buffers)

    def train(self, mode: bool = True) -> Ensemble:
        """Put dropout, batch normalisation and the like into training (or eval) mode."""
        self.template.train(mode)
        return self

    def eval(self) -> Ensemble:
        """Put the networks into eval mode."""
        return self.train(False)

    def __call__(self, x: Tensor, *, shared: bool = False) -> Tensor:
        """The outputs of all networks, ``(seeds, batch, ...)``.

        Random layers (dropout) draw from a generator of the ensemble's own.

        Args:
            x: A batch for each network, ``(seeds, batch, ...)``.
            shared: x is one batch ``(batch, ...)`` for all of them.

        Raises:
            InvalidInput: If x does not have one batch for each seed.
        """
        self._require_batches(x, shared)
        if self._chain is not None and x.dim() == (2 if shared else 3) and self._chain.takes(x):
            return self._chain.forward(x)
        with self._own_randomness():
            output: Tensor = self._each(lambda net, x: net(x), self._buffers, x, shared)
            return output

    def backward(self, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
        """The mean loss of each network on its batch; its gradients are left in ``.grad``.

        What was in ``.grad`` is replaced, so no ``zero_grad`` is needed.

        Args:
            x: Inputs, ``(seeds, batch, ...)``.
            y: Targets, ``(seeds, batch, ...)``.
            loss: See `ibtrace.ensemble.LOSSES`.

        Returns:
            The loss of each seed, ``(seeds,)``, detached.

        Raises:
            InvalidInput: If x or y does not have one batch for each seed.
        """
        self._require_batches(x, False)
        self._require_batches(y, False)
        parameters = self.parameters()
        if self._chain is not None and x.dim() == 3 and self._chain.takes(x):
            value, gradients = self._chain.gradients(x, y, loss)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if parameter.requires_grad:
                    parameter.grad = gradient
            return value
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        value = loss(self(x), y)
        slopes = torch.autograd.grad(value.sum(), trained, allow_unused=True)
        for parameter, maybe in zip(trained, slopes, strict=True):
            # torch's fused steps read gradients as if laid out like their parameter
            parameter.grad = None if maybe is None else maybe.contiguous()
        return value.detach()

    def activations(
        self, x: Tensor, layers: capture.Layers = None, *, batch_size: int = 512
    ) -> dict[str, Tensor]:
        """The activations of all networks on the same inputs, in eval mode, without gradients.

        Args:
            x: Inputs for all of them, ``(n, ...)``.
            layers: See `ibtrace.capture.resolve`; None for every activation and the output.
            batch_size: Samples per forward.

        Returns:
            ``{layer: (seeds, n, ...)}`` in the order of the forward pass.

        Raises:
            UnknownName: If a layer does not exist, or is not reached; lists those that are.
            InvalidInput: If a layer's output does not have the samples first.
        """
        targets = capture.resolve(self.template, layers)
        names = {target.name for target in targets}
        if self._chain is not None and self._chain.shows(names, x):
            look = looks.through_chain(self._chain, names, capture.is_default(layers))
        else:
            look = looks.through_hooks(self.template, self._every, layers, x[:2])
        stored: dict[str, Tensor] = {}
        with capture.undisturbed(self.template):
            for start in range(0, len(x), batch_size):
                batch = x[start : start + batch_size].clone()  # a forward may change it in place
                for name, value in look(batch).items():
                    if value.dim() < 2 or value.shape[1] != len(batch):
                        raise InvalidInput(
                            f"layer {name!r} gave shape {tuple(value.shape[1:])} for {len(batch)} "
                            "samples; choose a layer whose output has the samples first"
                        )
                    if start == 0:
                        shape = (len(self.seeds), len(x), *value.shape[2:])
                        stored[name] = value.new_empty(shape)
                    if stored[name].shape[2:] != value.shape[2:]:
                        raise InvalidInput(
                            f"layer {name!r} gave {tuple(stored[name].shape[2:])} a sample in the "
                            f"first batch and {tuple(value.shape[2:])} in a later one"
                        )
                    stored[name][:, start : start + len(batch)] = value
        return stored

    def member(self, i: int) -> nn.Module:
        """A copy of the network of ``seeds[i]``, by itself and in the ensemble's mode."""
        network = copy.deepcopy(self.template)
        held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        with torch.no_grad():
            for name, stacked in {**self._parameters, **self._buffers}.items():
                held[name].copy_(stacked[i])
        return network

    def state_dict(self) -> dict[str, Any]:
        """A copy of parameters, buffers and the state of the random generator."""
        return {
            "seeds": list(self.seeds),
            "parameters": {name: p.detach().clone() for name, p in self._parameters.items()},
            "buffers": {name: b.detach().clone() for name, b in self._buffers.items()},
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that `state_dict` gave; the parameters stay the same objects.

        Args:
            state: The state, of networks of the same architecture and seeds.

        Raises:
            RunError: If it is the state of other networks.
        """
        if tuple(state["seeds"]) != self.seeds:
            raise RunError(f"Ensemble of seeds {self.seeds} cannot load {tuple(state['seeds'])}")
        for own, saved in ((self._parameters, "parameters"), (self._buffers, "buffers")):
            shapes = {name: tuple(value.shape) for name, value in own.items()}
            if {name: tuple(value.shape) for name, value in state[saved].items()} != shapes:
                raise RunError(f"Ensemble: the saved {saved} are those of another architecture")
            with torch.no_grad():
                for name, value in own.items():
                    value.copy_(state[saved][name])
        self._generator.set_state(state["generator"].cpu())

    def _each(
        self,
        what: Callable[[nn.Module, Tensor], _Result],
        buffers: dict[str, Tensor],
        x: Tensor,
        shared: bool,
    ) -> _Result:
        """``what(network, x)`` for each network under vmap."""
        caller = _Caller(self.template, what)

        def of_network(
            _: Tensor, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
        ) -> Any:
            inside = {f"network.{name}": value for name, value in (parameters | buffers).items()}
            return functional_call(caller, inside, (x,))

        every = vmap(of_network, in_dims=(0, 0, 0, None if shared else 0), randomness="different")
        # vmap needs something to map over, and a network may have no parameters
        seeds = torch.arange(len(self.seeds), device=x.device)
        result: _Result = every(seeds, dict(self._parameters), buffers, x)
        return result

    def _every(self, what: looks.See, x: Tensor) -> dict[str, Tensor]:
        """``what(network, x)`` for each network on shared inputs."""
        # clones: a module that writes to its buffers even in eval mode must not reach ours
        buffers = {name: value.clone() for name, value in self._buffers.items()}
        return self._each(what, buffers, x, shared=True)

    def _require_batches(self, x: Tensor, shared: bool) -> None:
        if not shared and (x.dim() < 2 or len(x) != len(self.seeds)):
            raise InvalidInput(
                f"Ensemble of {len(self.seeds)} seeds needs as many batches, got shape "
                f"{tuple(x.shape)}; use shared=True for one batch for all"
            )

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Let random layers draw from the ensemble's generator instead of torch's global one."""
        if not self.template.training:
            yield
            return
        device = self._generator.device
        cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            _set_state(device, self._generator.get_state())
            yield
            state = torch.cuda.get_rng_state(device) if cuda else torch.get_rng_state()
            self._generator.set_state(state)


class _Caller(nn.Module):
    """Calls a function on a network whose tensors `functional_call` can replace."""

    def __init__(self, network: nn.Module, what: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.network = network
        self.what = what

    def forward(self, x: Tensor) -> Any:
        return self.what(self.network, x)


def _set_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _built(build: Callable[[int], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(seed)
        require_instance("Ensemble: what build makes", network, nn.Module, "a torch.nn.Module")
        return network


def _require_alike(members: Sequence[nn.Module], seeds: Sequence[int]) -> None:
    def shapes(network: nn.Module) -> dict[str, Any]:
        named = [*network.named_parameters(), *network.named_buffers()]
        return {name: (tuple(value.shape), value.dtype) for name, value in named}

    first = shapes(members[0])
    for seed, member in zip(seeds, members, strict=True):
        if type(member) is not type(members[0]) or shapes(member) != first:
            raise InvalidInput(
                f"Ensemble: the network of seed {seed} differs in shape from that of seed "
                f"{seeds[0]}; build must make the same architecture for each seed"
            )
