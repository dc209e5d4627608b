"""The residual stream of an encoder or a decoder, found by structure: no class is known by name.

Blocks lie side by side in a list or a sequence of modules and hand on one tensor of
``(samples, tokens, width)`` whose shape none of them changes. The stream is what the first block is
given, ``embedding``, and what each block gives, ``block0``, ``block1`` …; where a network has
several, of an encoder and a decoder, their names begin with what tells them apart
(``decoder.block0``). Stacks that change a shape, convolutions with their channels first, parallel
heads, and blocks that are given the model's own input are no such stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

INPUT = ":input"
"""What the name of a module ends in where what it is given is meant, not what it gives."""


@dataclass(frozen=True)
class Passage:
    """One call of a module that may be a block.

    Args:
        name: The module's name.
        call: How often it was called before in this forward.
        module: The module.
        given: The shape of the first tensor that it was given, if that holds numbers.
        gave: The shape of its output.
        own: Whether it was given a tensor that the caller gave to the model.
        shared: Whether another module was given that very tensor just before.
    """

    name: str
    call: int
    module: nn.Module
    given: tuple[int, ...]
    gave: tuple[int, ...]
    own: bool = False
    shared: bool = False

    @property
    def parent(self) -> str:
        """The name of the list that it lies in."""
        return self.name.rpartition(".")[0]

    @property
    def keeps(self) -> bool:
        """Whether it hands on a stream of tokens: ``(samples, tokens, width)``."""
        return len(self.given) == 3 and self.given == self.gave and self._mixes_width()

    @property
    def changes(self) -> bool:
        """Whether it hands on something of another length or width."""
        return len(self.given) == len(self.gave) == 3 and self.given != self.gave

    def _mixes_width(self) -> bool:
        """Whether the last axis is that of its weights (not of a convolution's positions)."""
        if any(isinstance(part, _BatchNorm) for part in self.module.modules()):
            return False
        weights = (w for w in self.module.parameters() if not is_lazy(w))
        return any(self.given[-1] in weight.shape for weight in weights)


def may_be_block(name: str, module: nn.Module, parents: Mapping[str, nn.Module]) -> bool:
    """Whether a module has parts and weights, and lies in a list or a sequence of modules.

    Args:
        name: Its name.
        module: The module.
        parents: Every module by its name, the model by ``""``.
    """
    parent = parents.get(name.rpartition(".")[0])
    listed = isinstance(parent, (nn.ModuleList, nn.Sequential)) and bool(name)
    holds = any(True for _ in module.children()) and any(True for _ in module.parameters())
    return listed and holds and not isinstance(module, (nn.ModuleList, nn.ModuleDict))


def residual_names(passages: Sequence[Passage], parents: Mapping[str, nn.Module]) -> dict[str, str]:
    """``{name by module: name in a trace}`` of the layers of every residual stream.

    Args:
        passages: Every call of what may be a block, in the order of the forward.
        parents: Every module by its name, the model by ``""``.
    """
    groups: dict[str, list[Passage]] = {}
    for passage in passages:
        groups.setdefault(passage.parent, []).append(passage)
    streams: dict[str, list[Passage]] = {}
    settled: list[str] = []  # of what lies inside a block, or a stack that is none, nothing is one
    for parent, group in sorted(groups.items(), key=lambda item: item[0].count(".")):
        if any(f"{parent}.".startswith(f"{name}.") for name in settled):
            continue
        if _is_stream(group, parents[parent]):
            streams[parent] = [passage for passage in group if passage.keeps]
        if parent in streams or any(passage.changes for passage in group):
            settled += [passage.name for passage in group]
    streams = {parent: streams[parent] for parent in groups if parent in streams}
    prefixes = _prefixes([*streams])
    names: dict[str, str] = {}
    for parent, group in streams.items():
        names |= _named(group, prefixes[parent])
    return names


def _is_stream(group: Sequence[Passage], parent: nn.Module) -> bool:
    blocks = [passage for passage in group if passage.keeps]
    fewest = 1 if isinstance(parent, nn.ModuleList) else 2
    if len(blocks) < fewest or len({block.given[-1] for block in blocks}) > 1:
        return False
    other = any(p.changes or p.shared for p in group)
    return not other and not blocks[0].own


def _named(blocks: Sequence[Passage], prefix: str) -> dict[str, str]:
    """The names of one stream; of a second pass through it with the number of the call."""
    order = list(dict.fromkeys(block.name for block in blocks))
    names = {}
    for at, block in enumerate(blocks):
        call = f":{block.call}" if block.call else ""
        if len(order) == 1:  # one block, called again and again
            place, again = at, ""
        else:
            place, again = order.index(block.name), call
        if place == 0:
            names[f"{block.name}{INPUT}{call}"] = f"{prefix}embedding{again}"
        names[f"{block.name}{call}"] = f"{prefix}block{place}{again}"
    return names


def _prefixes(parents: Sequence[str]) -> dict[str, str]:
    """What names of each stream begin with: where the paths of their lists first part."""
    if len(parents) < 2:
        return dict.fromkeys(parents, "")
    paths = [parent.split(".") for parent in parents]
    same = 0
    while len({path[same] if same < len(path) else "" for path in paths}) == 1:
        same += 1
    first = [path[same] if same < len(path) else "" for path in paths]
    apart = len(set(first)) == len(first) and all(first)
    words = first if apart else list(parents)
    return {parent: f"{word}." for parent, word in zip(parents, words, strict=True)}
