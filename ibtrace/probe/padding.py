"""Which inputs are the tokens of one sequence, and which of these are real, not padding."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ibtrace.errors import InvalidInput
from ibtrace.probe.named import LEFT_OUT, Named

_COMPANIONS = re.compile(
    r"(token_type|position|segment|lang|type)_?(ids|s)$|global_attention_mask$"
)
_OTHER_MASKS = re.compile(r"(head_mask|global_attention_mask|special_tokens_mask)$")
_MASK = re.compile(r"masks?(_?\d+)?$")
_LENGTHS = re.compile(r"(^|_)(lengths?|lens?|seqlens?)$")
_ONE_IS_REAL = re.compile(r"(attention|attn|input)_mask$")
_ONE_IS_PADDING = re.compile(r"pad(ding)?_mask$")
_DECODER = "decoder"
_NOBODY = "\0"
_LARGE = 1000.0


@dataclass(frozen=True, eq=False)
class Stream:
    """Inputs that stand for one sequence, and what is known of its padding.

    Args:
        inputs: Their names, the tokens first; ``("",)`` for a single tensor.
        length: Tokens in a sequence; 0 for what is no sequence.
        axis: The axis of the tokens.
        mask: The name of the input that marks the padding; empty if none does, though a token may.
        real: Which tokens are real, bool ``(n, length)``; None if all are, or if it is unclear.
        unclear: Whether a mask goes with it that cannot be read.
        told: Whether a mask says that all tokens are real.
        fill: The token that is padding, where no mask says which tokens are.
        left_out: Which tokens are not measured where each is a sample of its own, though the model
            sees them, bool ``(n, length)``; None if all real ones are.
        notice: What a trace has to say of padding that was found, or that there may be.
    """

    inputs: tuple[str, ...]
    length: int
    axis: int = 1
    mask: str = ""
    real: Tensor | None = None
    unclear: bool = False
    told: bool = False
    fill: float | None = None
    notice: str = ""
    left_out: Tensor | None = None

    def take(self, rows: slice | Tensor) -> Stream:
        """That of some of the samples: what is padding of all of them is padding of these."""
        left_out = None if self.left_out is None else self.left_out[rows]
        real = None if self.real is None else self.real[rows]
        if real is not None and bool(real.all()):
            real = None
        return replace(self, real=real, left_out=left_out)

    def to(self, device: torch.device | str) -> Stream:
        """The same on another device."""
        real, left_out = (v if v is None else v.to(device) for v in (self.real, self.left_out))
        return replace(self, real=real, left_out=left_out)

    def measured(self, n: int) -> Tensor:
        """Which of n sequences' tokens are samples where each is one, bool ``(n, length)``."""
        real = self.tokens(n)
        return real if self.left_out is None else real.to(self.left_out.device) & ~self.left_out

    def tokens(self, n: int) -> Tensor:
        """Which of n sequences' tokens are real, bool ``(n, length)``."""
        return torch.ones(n, self.length, dtype=torch.bool) if self.real is None else self.real

    def of_tokens(self, value: Tensor, real: Tensor) -> Tensor:
        """What one of its inputs says of the real tokens, ``(tokens in all, ...)``."""
        return value.movedim(self.axis, 1)[real]

    def padding(self, value: Tensor, rows: Tensor) -> Tensor | None:
        """The places of an input of some samples that are padding, bool of its shape; or None."""
        if self.real is None:
            return None
        where = ~self.real[rows]
        where = where.reshape(*where.shape, *(1,) * (value.dim() - 2))
        return where.expand(value.movedim(self.axis, 1).shape).movedim(1, self.axis)

    @property
    def padded(self) -> bool:
        """Whether some tokens are padding."""
        return self.real is not None


def without(sequences: Iterable[Stream], named: Sequence[Named]) -> list[Stream]:
    """The streams with what a named variable marks as left out, for all variables alike.

    Args:
        sequences: The streams.
        named: Variables, of whose tokens some may be marked.

    Raises:
        InvalidInput: If no token is left.
    """
    told = []
    for stream in sequences:
        marks = [each.left_out for each in named if each.tokens == stream.length]
        known = [mark for mark in marks if mark is not None]
        left_out = torch.stack(known).any(0) if known and stream.length else stream.left_out
        told.append(replace(stream, left_out=left_out))
        if left_out is not None and not bool(told[-1].measured(len(left_out)).any()):
            names = " or ".join(repr(each.name) for each in named if each.tokens == stream.length)
            raise InvalidInput(
                f"Probe: {names} leaves out every token; {LEFT_OUT} marks those that have no label"
            )
    return told


def streams(inputs: Mapping[str, Tensor]) -> list[Stream]:
    """The sequences, images and other things that a probe's inputs consist of.

    A mask belongs to the inputs of its length whose names begin as its own does:
    ``decoder_attention_mask`` to ``decoder_input_ids``, ``src_key_padding_mask`` to ``src``. One
    that belongs to none by name is that of the only input, or of the one whose own says the same,
    or unclear. So are numbers of tokens
    (``lengths``), and inputs that look like a mask of others, whatever they are called.

    Args:
        inputs: The inputs by name, ``(n, ...)``.
    """
    named = {name for name in inputs if is_mask(name)}
    masks = {n: value for n, value in inputs.items() if n in named or _seems_mask(n, inputs)}
    begins = {name: _begin(name) if name in named else _NOBODY for name in masks}
    contents: dict[str, list[str]] = {}
    names = [name for name in inputs if name not in masks]
    for name in sorted(names, key=lambda name: bool(_COMPANIONS.search(name))):
        owner = next((o for o in contents if _goes_with(name, o, inputs)), name)
        contents.setdefault(owner, []).append(name)
    known = sorted({*filter(None, begins.values()), _DECODER}, key=len, reverse=True)
    own: dict[str, list[str]] = {}
    axes: dict[str, int] = {}
    for owner in contents:
        begin = next((b for b in known if _last(owner).startswith(b)), "")
        own[owner] = [name for name in masks if begins[name] == begin]
        axes[owner] = _positions(inputs[owner], [masks[name] for name in own[owner]])
    for name in masks:  # nn.Transformer's mask of the memory says what that of the source does
        likewise = [names for names in own.values() if any(_alike(name, n, masks) for n in names)]
        if len(likewise) == 1 and not any(name in names for names in own.values()):
            likewise[0].append(name)
    homeless = [name for name in masks if not any(name in names for names in own.values())]
    for owner, value in inputs.items():
        if owner in own:
            own[owner] += homeless
            axes[owner] = _positions(value, [masks[name] for name in own[owner]])
    doubtful = set(homeless) if len(own) > 1 else set()
    lengths = {owner: inputs[owner].shape[axis] if axis else 0 for owner, axis in axes.items()}
    fitting = {m for o, names in own.items() for m in names if masks[m].shape[-1] == lengths[o]}
    return [
        _stream(
            tuple(members),
            lengths[owner],
            axes[owner],
            {  # a mask of another length goes with this one only if it fits none
                name: masks[name]
                for name in own[owner]
                if name not in fitting or masks[name].shape[-1] == lengths[owner]
            },
            doubtful,
        )
        for owner, members in contents.items()
    ]


def called(name: str) -> str:
    """What an input is called in a message: ``x``, ``x[0]``, ``input_ids``."""
    return f"x[{name}]" if name.isdigit() else name or "x"


def _positions(value: Tensor, masks: Iterable[Tensor]) -> int:
    """The axis of a sequence's positions, which a mask may tell: 1, or 2 of ``(n, channels, t)``.

    0 for what has none, or (an image) more than one.
    """
    lengths = {mask.shape[-1] for mask in masks if mask.dim() > 1}
    if value.dim() == 3 and value.shape[1] not in lengths and value.shape[2] in lengths:
        return 2
    return 1 if value.dim() in (2, 3) else 0


def is_mask(name: str) -> bool:
    """Whether an input of this name marks other inputs, and is no content of its own."""
    last = _last(name)
    return bool(_MASK.search(last)) and not _OTHER_MASKS.search(last)


def _seems_mask(name: str, inputs: Mapping[str, Tensor]) -> bool:
    """Whether an input without a mask's name marks padding, by its values.

    Numbers of tokens do; so do zeros and ones ``(n, tokens)`` beside contents as long, if they
    have no name or are bools, or each row changes once at most.
    """
    value, last = inputs[name], _last(name)
    contents = [v for n, v in inputs.items() if not is_mask(n) and not _binary(v)]
    if _LENGTHS.search(last):
        whole = value.numel() == len(value) and not value.is_floating_point()
        return whole and any(v is not value and v.dim() > 1 for v in contents)
    if _COMPANIONS.search(last) or _OTHER_MASKS.search(last) or value.dim() != 2:
        return False
    if not _binary(value) or not any(value.shape[1] in v.shape[1:3] for v in contents):
        return False
    once = bool(((value[:, 1:] != value[:, :-1]).sum(1) <= 1).all())
    return once or last.isdigit() or value.dtype == torch.bool


def _binary(value: Tensor) -> bool:
    return value.dtype == torch.bool or bool(((value == 0) | (value == 1)).all())


def real_tokens(name: str, mask: Tensor) -> Tensor | None:
    """What a mask says, as bool ``(n, tokens)``, True for what is real; None if it is unclear.

    ``attention_mask`` is 1 for real tokens, ``key_padding_mask`` is 1 for padding; a mask that is
    added to attention scores is 0 for real tokens and very negative for padding. ``(n, 1, 1,
    tokens)`` is read as ``(n, tokens)``. Other names, forms and values are unclear.

    Args:
        name: The input's name.
        mask: Its value.
    """
    if mask.dim() < 2 or any(size != 1 for size in mask.shape[1:-1]):
        return None
    flat = mask.reshape(len(mask), mask.shape[-1])
    if flat.is_floating_point() and bool((flat < 0).any()):
        added = bool(((flat == 0) | (flat < -_LARGE)).all())
        return flat == 0 if added else None
    if bool((flat < 0).any()) or (flat.is_floating_point() and bool((flat != flat.round()).any())):
        return None
    if _ONE_IS_PADDING.search(_last(name)):
        return flat == 0
    return flat != 0 if _ONE_IS_REAL.search(_last(name)) else None


def _alike(name: str, other: str, masks: Mapping[str, Tensor]) -> bool:
    """Whether two masks say the same, of tokens that are not all real."""
    real, other_real = (real_tokens(each, masks[each]) for each in (name, other))
    return (
        real is not None
        and other_real is not None
        and torch.equal(real, other_real)
        and not bool(real.all())
    )


def altered(value: Tensor, where: Tensor | None = None) -> Tensor:
    """Other contents that are as possible as these: each value is the least or the greatest.

    Args:
        value: Any tensor.
        where: Only there, bool of its shape.
    """
    if value.dtype == torch.bool:
        other = ~value
    else:
        other = torch.where(value != value.min(), value.min(), value.max())
    return other if where is None else torch.where(where, other, value)


def _stream(
    names: tuple[str, ...],
    length: int,
    axis: int,
    masks: Mapping[str, Tensor],
    doubtful: Container[str],
) -> Stream:
    """A stream with what its masks say together; those whose they are is in doubt say nothing."""
    telling = {
        name: mask
        for name, mask in masks.items()
        if bool((mask != mask.flatten()[0]).any())
        or (mask.numel() == len(mask) and bool((mask < length).any()))
    }
    read = {
        name: None if name in doubtful else real_tokens(name, mask)
        for name, mask in telling.items()
    }
    real = [tokens for tokens in read.values() if tokens is not None]
    readable = len(real) == len(read) and all(t.shape[1] == length for t in real)
    if not readable or not all(torch.equal(real[0], tokens) for tokens in real):
        return Stream(names, length, axis, ", ".join(read), unclear=True)
    by_mask = [real_tokens(name, mask) for name, mask in masks.items() if name not in doubtful]
    told = any(tokens is not None and bool(tokens.all()) for tokens in by_mask)
    mask = next(iter(read), "")
    return Stream(names, length, axis, mask, real[0] if real else None, told=told)


def _goes_with(name: str, owner: str, inputs: Mapping[str, Tensor]) -> bool:
    """Whether an input only says something of another one's tokens."""
    if not _COMPANIONS.search(name) or inputs[name].shape[:2] != inputs[owner].shape[:2]:
        return False
    return name.startswith(_DECODER) == owner.startswith(_DECODER)


def _begin(mask: str) -> str:
    """``decoder_`` for ``decoder_attention_mask``."""
    last = _last(mask)
    known = _ONE_IS_REAL.search(last) or re.search(r"(key_)?pad(ding)?_mask$", last)
    begin = last[: known.start()] if known else _MASK.sub("", last)
    return begin.removesuffix("key_").rstrip("_")


def _last(name: str) -> str:
    return name.rpartition(".")[2]
