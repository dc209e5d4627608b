"""How a network is looked at: one object for what would else be forwarded through every call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ibtrace.capture.calling import Forward
from ibtrace.capture.functional import Functional
from ibtrace.capture.functional import check as check_functional
from ibtrace.capture.reduce import Reduce
from ibtrace.capture.reduce import check as check_reduce
from ibtrace.capture.targets import Layers, Selection, settled
from ibtrace.runtime.arguments import flag, require_function, whole

MAX_BYTES = 2**31
"""How much activation memory a look holds at a time, if nothing else is said."""


@dataclass(frozen=True)
class Look:
    """How a network is looked at: which layers, what T is of each, how the model is called.

    Args:
        layers: Which layers: names, patterns, types or a function, see `ibtrace.capture.resolve`.
            None means what stands out, at most twelve layers and the output, see
            `ibtrace.capture.defaults`; `ibtrace.layers` shows what there is. Of these, and of
            those that a pattern or a type means, what cannot be traced is left out with a warning
            (`ibtrace.errors.LeftOut`); a layer that is named has to be traced.
        exclude: Layers that are not to be traced, though they are meant by ``layers``.
        reduce: What T is where a layer gives more than a vector for each sample: ``flatten``,
            ``gap``, ``token:cls``, ``token:mean``, ``token:last``, ``tokens``, a callable, or a
            mapping of layer patterns to these; None averages positions. See
            `ibtrace.capture.reduce`.
        functional: Trace activation functions that are called (``F.relu``) as well: True, or
            globs of their names. See `ibtrace.capture.capture`.
        forward: How the model is called with a batch of the probe's x:
            ``lambda model, batch: model(batch, return_loss=False)``; None goes by the form of x.
            See `ibtrace.capture.call`.
        batch_size: Samples per forward of the probe; all of them where an input belongs to all
            together.
        max_bytes: Bytes of activations held at a time. Layers that do not fit together are looked
            at one part after the other, with a pass over the probe each (those that are kept on
            disk are held until they are written). A layer that does not fit by itself is not held
            at all where the estimators add up over batches (`Tags.adds_up`), and refused else.
            None: no limit.
        max_width: Project wider T to this many dimensions by a fixed random orthonormal frame,
            always the same for a layer's name and width.
        initial: Look at the network as it is when the tracer is made, as epoch 0.
        sharded: In distributed training, each rank gives its own part of the probe; the whole is
            theirs one after the other, by rank.

    Raises:
        ConfigError: If ``layers`` or ``exclude`` chooses no layers, a number is no positive whole
            one, ``forward`` cannot be called, or a flag is neither True nor False.
        UnknownName: If there is no such reduction.

    Example:
        >>> Look.of(["fc1", "fc2"]).layers
        ['fc1', 'fc2']
    """

    layers: Layers = None
    exclude: Any = ()
    reduce: Reduce = None
    functional: Functional = False
    forward: Forward | None = None
    batch_size: int = 512
    max_bytes: int | None = MAX_BYTES
    max_width: int | None = None
    initial: bool = True
    sharded: bool = False

    def __post_init__(self) -> None:
        check_reduce(self.reduce)
        check_functional(self.functional)
        if self.forward is not None:
            require_function("forward", self.forward, "a function of model and batch")
        for name in ("batch_size", "max_bytes", "max_width"):
            number = getattr(self, name)
            if number is not None or name == "batch_size":
                object.__setattr__(self, name, whole(name, number, least=1))
        for name in ("initial", "sharded"):
            object.__setattr__(self, name, flag(name, getattr(self, name)))
        # sets and iterators as lists, which can be read again
        excluding = not (isinstance(self.exclude, tuple) and not self.exclude)
        selection = Selection(self.layers, self.exclude) if excluding else self.layers
        object.__setattr__(self, "layers", settled(selection))
        object.__setattr__(self, "exclude", ())

    @classmethod
    def of(cls, look: Look | Layers) -> Look:
        """A look; a choice of layers alone stands for one with all else as it is by default."""
        return look if isinstance(look, Look) else cls(look)

    def at(self, layers: Layers) -> Look:
        """The same look at other layers."""
        return replace(self, layers=layers)

    @property
    def per_token(self) -> bool:
        """Whether some layer's samples are to be its tokens."""
        reduce = self.reduce
        return "tokens" in (reduce.values() if isinstance(reduce, Mapping) else (reduce,))
