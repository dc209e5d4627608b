"""Which layers are traced where nobody chose any: found by what a forward of a few samples shows.

These stand out: activations, as modules (by their class, or because they act on each value alone
and not linearly) and as called functions; the last hidden states of recurrent layers; the blocks of
a residual stream (modules of one class side by side, whose output has the shape of their input);
and the network's output.

Of an encoder or a decoder of tokens the residual stream stands for all: after the embedding and
after each block (`ibtrace.capture.streams`), and the output only where it is one row a sample.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ibtrace.capture.functional import Functional, asked_for, functional_calls
from ibtrace.capture.hooks import bare
from ibtrace.capture.streams import INPUT, Passage, may_be_block, residual_names
from ibtrace.capture.targets import Defaults, Target, is_activation, named_layers, output_name, stem
from ibtrace.errors import InvalidInput
from ibtrace.models.activations import BY_NAME
from ibtrace.numerics.types import numeric

MOST = 12
"""How many layers beside the output a default trace has at most: as many as a plot can show."""

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_FEW_WEIGHTS = 8

Kind = Literal["activation", "called", "asked", "recurrent", "block", "stream", "output"]


@dataclass(frozen=True)
class Candidate:
    """A layer that stands out.

    Args:
        name: Its name in a trace, with the number of the call.
        kind: As what.
        repeats: Earlier candidates whose very tensor it gives.
        shown: What it is called in a trace, where that is not its name.
        dims: How many axes its tensor has.
    """

    name: str
    kind: Kind
    repeats: tuple[str, ...] = ()
    shown: str = ""
    dims: int = 0


@contextmanager
def candidates(
    model: nn.Module,
    functional: Functional = False,
    excluded: Callable[[str, nn.Module | None], bool] = lambda name, module: False,
) -> Iterator[list[Candidate]]:
    """Hooks that fill a list with what stands out, in the order of a forward pass.

    Args:
        model: The module that is called, once, inside.
        functional: Called activations that the user asked for, whatever they are.
        excluded: Whether a layer is not to be among them.

    Yields:
        The list; complete when the context is left.
    """
    watch = _Watch(model, functional, excluded)
    with watch.hooks():
        yield watch.found
    watch.settle_blocks()
    watch.settle_streams()


class _Watch:
    """What is seen of one forward pass."""

    def __init__(
        self,
        model: nn.Module,
        functional: Functional,
        excluded: Callable[[str, nn.Module | None], bool],
    ) -> None:
        self.model, self.functional, self.excluded = model, functional, excluded
        self.found: list[Candidate] = []
        self.layers = named_layers(model)
        self._calls: Counter[str] = Counter()
        self._tensors: list[tuple[weakref.ref[Tensor], int, str]] = []
        self._given: dict[str, list[Any]] = {}
        self._keeps_shape: set[tuple[str, type]] = set()
        self._trying = False
        self._passages: list[Passage] = []
        self._own: set[int] = set()
        self._parents: dict[str, nn.Module] = {**self.layers, "": model}
        self._last: tuple[str, weakref.ref[Tensor]] | None = None

    @contextmanager
    def hooks(self) -> Iterator[None]:
        by_module = {id(m): (name, m) for name, m in reversed(self.layers.items())}
        by_module[id(self.model)] = (output_name(self.model), self.model)
        with ExitStack() as stack:
            for name, module in by_module.values():
                if isinstance(module, torch.jit.ScriptModule):
                    continue
                before, after = self._before(name), self._after(name)
                handle = module.register_forward_pre_hook(before, with_kwargs=True)
                stack.callback(handle.remove)
                stack.callback(module.register_forward_hook(after).remove)
            stack.enter_context(functional_calls(self.model, True, self._called))
            yield

    def settle_blocks(self) -> None:
        """Keep the outermost blocks of families that somewhere keep the shape of their input."""
        blocks = {c.name for c in self.found if c.kind == "block" and self._in_a_stream(c.name)}
        inner = {b for b in blocks if any(_is_inside(b, other) for other in blocks)}
        self.found[:] = [c for c in self.found if c.kind != "block" or c.name in blocks - inner]

    def settle_streams(self) -> None:
        """Put what stands for a residual stream first, by the names of a trace."""
        names = residual_names(self._passages, self._parents)
        stream = []
        for name, shown in names.items():
            module = None if INPUT in name else self.layers[stem(name)]
            if not self.excluded(name, module) and not self.excluded(shown, None):
                stream.append(Candidate(name, "stream", shown=shown))
        self.found[:] = [*stream, *(c for c in self.found if c.name not in names)]

    def _in_a_stream(self, name: str) -> bool:
        return _family(stem(name), self.layers[stem(name)]) in self._keeps_shape

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            values = [*args, *kwargs.values()]
            if module is self.model:
                self._own = {id(v) for each in values for v in _parts(each)}
            given = next((v for v in values if isinstance(v, Tensor)), None)
            if given is not None and _may_be_activation(module) and not self._trying:
                given = given.clone()
            self._given.setdefault(name, []).append(given)

        return hook

    def _after(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            given = self._given[name].pop()
            if self._trying:
                return
            if module is self.model and not isinstance(module, nn.RNNBase):
                self._add(name, "output", _first(name, module, output))
                return
            if isinstance(module, nn.RNNBase):
                self._recurrent(name, module, output)
                return
            tensor = _first(name, module, output)
            if may_be_block(name, module, self._parents):
                self._passed(name, module, given, tensor)
            if is_activation(module) or self._acts(module, given, tensor):
                self._drop_inside(name)
                self._add(name, "activation", tensor)
            elif isinstance(module, nn.RNNCellBase):
                self._add(name, "recurrent", tensor)
            elif _may_be_block(name, module, self.layers):
                if given is not None and tensor is not None and given.shape == tensor.shape:
                    self._keeps_shape.add(_family(name, module))
                self._add(name, "block", tensor)

        return hook

    def _passed(self, name: str, module: nn.Module, given: Any, gave: Tensor | None) -> None:
        """Take down a call of what may be a block of a residual stream."""
        if not isinstance(given, Tensor) or not given.is_floating_point() or gave is None:
            return
        last, self._last = self._last, (name, weakref.ref(given))
        shared = last is not None and last[0] != name and last[1]() is given
        call = sum(passage.name == name for passage in self._passages)
        shapes = tuple(given.shape), tuple(gave.shape)
        own = id(given) in self._own
        self._passages.append(Passage(name, call, module, *shapes, own, shared))

    def _called(self, name: str, tensor: Tensor, bounds: tuple[float, float] | None) -> None:
        if self._trying:
            return
        if asked_for(name, self.functional):
            self._add(name, "asked", tensor)
        elif BY_NAME[name.rpartition(".")[2]].plain:
            self._add(name, "called", tensor)

    def _recurrent(self, name: str, module: nn.RNNBase, output: Any) -> None:
        """The last state of each of its layers and directions, then its outputs at every step."""
        states = output[1][0] if isinstance(module, nn.LSTM) else output[1]
        path = "[1][0]" if isinstance(module, nn.LSTM) else "[1]"
        for layer, state in enumerate(states if states.dim() == 3 else ()):
            self._add(f"{name}{path}[{layer}]", "recurrent", state)
        kind: Kind = "output" if module is self.model else "recurrent"
        self._add(name, kind, _first(name, module, output))

    def _add(self, name: str, kind: Kind, tensor: Tensor | None) -> None:
        call = self._calls[name]
        self._calls[name] += 1
        full = f"{name}:{call}" if call else name
        if tensor is None or self.excluded(full, self.layers.get(name)):
            return
        version = -1 if tensor.is_inference() else tensor._version
        earlier = tuple(n for r, v, n in self._tensors if r() is tensor and v == version)
        self._tensors.append((weakref.ref(tensor), version, full))
        self.found.append(Candidate(full, kind, earlier, dims=tensor.dim()))

    def _drop_inside(self, name: str) -> None:
        """What an activation is made of does not stand for itself."""
        self.found[:] = [c for c in self.found if not _is_inside(c.name, name)]

    def _acts(self, module: nn.Module, given: Any, output: Tensor | None) -> bool:
        """Whether a module acts on each value alone, always alike and not linearly."""
        if not isinstance(given, Tensor) or output is None or given.shape != output.shape:
            return False
        real = given.is_floating_point() and not output.is_complex()
        if not real or not _may_be_activation(module):
            return False
        if given.numel() < 4 or any(r() is output for r, _, _ in self._tensors):
            return False
        if bare(given) is not given:  # in the model's own vmap, which cannot compare values
            given, result = bare(given), self._tried(module, bare(given))
            if result is None:
                return False
            output = result
        given, output = numeric(given), numeric(output)
        rolled = self._tried(module, given.flatten().roll(1).view_as(given))
        wider, mirrored = (self._tried(module, by * given) for by in (10, -10))
        if rolled is None or wider is None or mirrored is None or rolled.shape != output.shape:
            return False
        if not torch.equal(rolled, output.flatten().roll(1).view_as(output)):
            return False
        tried = torch.stack([given, 10 * given, -10 * given])
        return not _is_affine(tried, torch.stack([output, wider, mirrored]))

    def _tried(self, module: nn.Module, values: Tensor) -> Tensor | None:
        """What a module makes of other values; None if it does not take them."""
        self._trying = True
        try:
            result = module.forward(values.clone())
        except Exception:  # then it is no function of each value alone
            return None
        finally:
            self._trying = False
        return numeric(result) if isinstance(result, Tensor) else None


def _is_affine(x: Tensor, y: Tensor) -> bool:
    """Whether ``y = a x + b`` fits."""
    x, y = (t.detach().flatten().double() for t in (x, y))
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y) / (x @ x).clamp(min=1e-300)
    return bool((y - slope * x).abs().max() <= 1e-4 * y.abs().max())


def _may_be_activation(module: nn.Module) -> bool:
    weights = sum(1 if nn.parameter.is_lazy(p) else p.numel() for p in module.parameters())
    return weights <= _FEW_WEIGHTS and not isinstance(module, _CONTAINERS)


def _parts(value: Any) -> Iterable[Any]:
    """What an argument of a call is, or holds."""
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (tuple, list)) else [value]


def _family(name: str, module: nn.Module) -> tuple[str, type]:
    return name.rpartition(".")[0], type(module)


def _may_be_block(name: str, module: nn.Module, layers: dict[str, nn.Module]) -> bool:
    """Whether it has parts, weights, and another of its class at its side."""
    if isinstance(module, _CONTAINERS) or not any(True for _ in module.children()):
        return False
    if not any(True for _ in module.parameters()):
        return False
    family = _family(name, module)
    side_by_side = [n for n, m in layers.items() if type(m) is type(module)]
    return sum(_family(n, module) == family for n in side_by_side) > 1


def _is_inside(name: str, outer: str) -> bool:
    return stem(name).startswith(f"{stem(outer)}.")


def _first(name: str, module: nn.Module, output: Any) -> Tensor | None:
    try:
        return Target(name, module).tensor(output)
    except InvalidInput:
        return None


def all_of(candidates: Sequence[Candidate]) -> Defaults:
    """All that stands out."""
    names = tuple(c.name for c in candidates)
    called = (stem(c.name) for c in candidates if c.kind in ("called", "asked"))
    return Defaults(names, frozenset(names), tuple(dict.fromkeys(called)))


def default_choice(candidates: Sequence[Candidate], troubled: Callable[[str], bool]) -> Defaults:
    """The layers to trace of those that stand out: all, or `MOST` of them spread over depth.

    Where there is a residual stream of tokens, it is the stream, whole. Else, where they are too
    many, activations inside the blocks of a residual stream give way to the
    blocks, and of what is left every so many is taken, the first and the last among them.

    Args:
        candidates: What stands out.
        troubled: Whether a layer cannot be traced; such a one takes no other's place.
    """
    if stream := [c for c in candidates if c.kind == "stream"]:
        return _streams(candidates, stream)
    inner = [c for c in candidates if c.kind not in ("output", "asked")]
    distinct = [c for c in inner if not c.repeats or c.kind != "block"]
    fine = [c for c in distinct if not troubled(c.name)]
    traced = fine
    if len(fine) > MOST:
        blocks = [c.name for c in inner if c.kind == "block" and not troubled(c.name)]
        acts = ("activation", "called")
        traced = [
            c
            for c in inner
            if not troubled(c.name)
            and not (c.kind in acts and any(_is_inside(c.name, block) for block in blocks))
        ]
    if len(traced) > MOST:
        traced = [traced[round(i * (len(traced) - 1) / (MOST - 1))] for i in range(MOST)]
    names = {c.name for c in traced} | {c.name for c in distinct if troubled(c.name)}
    names |= {c.name for c in candidates if c.kind == "asked"}
    # of a module that runs again and again the last call may be another in another batch
    again = {stem(c.name) for c in candidates if c.name != stem(c.name)}
    alone = {name for name in names if stem(name) not in again}
    outputs = {c.name for c in candidates if c.kind == "output"}
    doubled = frozenset(alone.intersection(*(c.repeats for c in candidates if c.kind == "output")))
    doubled = doubled if outputs else frozenset()
    names |= set() if doubled else outputs
    note = _note(len(traced), len(fine), bool(outputs) and names <= outputs)
    selection = all_of([c for c in candidates if c.name in names])
    known = frozenset(c.name for c in candidates)
    return replace(selection, known=known, doubled=doubled, note=note)


def _streams(candidates: Sequence[Candidate], stream: Sequence[Candidate]) -> Defaults:
    """The residual streams, what was asked for, and the output where it is one row a sample."""
    of_samples = [c for c in candidates if c.kind == "output" and c.dims < 3]
    asked = [c for c in candidates if c.kind == "asked"]
    first, last = stream[0], stream[-1]
    note = (
        f"Traced is the residual stream, after the embedding and after each block: {first.shown} "
        f"is {first.name!r}, … {last.shown} is {last.name!r}; choose others by look= "
        "(ibtrace.layers(model, x) lists all)."
    )
    shown = {c.name: c.shown for c in stream}
    calls = {c.name: c.name[len(stem(c.name)) :] for c in stream if INPUT not in c.name}
    given = {f"{stem(name)}{INPUT}{call}" for name, call in calls.items()}  # of every call of one
    known = frozenset({*given, *(c.name for c in candidates)})
    return replace(all_of([*stream, *asked, *of_samples]), known=known, shown=shown, note=note)


def _note(traced: int, fine: int, only_output: bool) -> str:
    if traced < fine:
        return (
            f"Traced are {traced} of {fine} layers that stand out, spread over depth, and the "
            "output; choose others by look= (ibtrace.layers(model, x) lists all)."
        )
    if only_output:
        return (
            "Only the output is traced: no activation, recurrent layer or residual block was "
            "found; choose others by look= (ibtrace.layers(model, x) lists all)."
        )
    return ""
