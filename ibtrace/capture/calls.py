"""How networks are called on samples: all together, or where torch cannot, one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.func import functional_call

from ibtrace.capture.logits import Before, Called, Squash, last_squash
from ibtrace.capture.networks import Setting, Stacked, doubled
from ibtrace.capture.samples import Samples
from ibtrace.capture.transforms import Tensors, differentiable, each
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.errors import Unsupported
from ibtrace.probe import Inputs
from ibtrace.probe.inputs import mapped

FEW = 8
"""Samples on which it is seen what outputs look like."""

_log = logging.getLogger("ibtrace")

_Value = TypeVar("_Value")
_Result = TypeVar("_Result", Tensor, Tensors)
OfBatch = Callable[[Tensors, Inputs, Tensor], _Result]
"""Of one network: its tensors, a batch, and the labels that a loss takes (None: not asked for)."""


class Calls:
    """Networks of one architecture, called in eval mode on copies of their tensors' names.

    Everything happens inside `undisturbed`; several networks are computed together under ``vmap``.

    Args:
        networks: The networks.
        samples: What they see.
        setting: How they are called.

    Attributes:
        parameters: What is trained, ``{name: (s, ...)}``.
        fixed: The other parameters and the buffers, likewise.
        one_by_one: Whether torch was seen not to compute them together.
        in_double: Whether inputs that are numbers are handed on in double precision.
    """

    def __init__(self, networks: Stacked, samples: Samples, setting: Setting) -> None:
        self.template, self.samples, self.setting = networks.template, samples, setting
        self.parameters: Tensors = {}
        self.fixed: Tensors = {}
        self.take(networks)
        self.one_by_one = self.in_double = False

    def take(self, networks: Stacked, trained: Collection[str] | None = None) -> None:
        """Call these networks, of the same architecture, from now on.

        Args:
            networks: The networks.
            trained: Which parameters are taken for trained; None: those that are now.
        """
        if trained is None:
            own = self.template.named_parameters()
            trained = [name for name, value in own if value.requires_grad]
        held = {name: value.detach() for name, value in networks.parameters.items()}
        self.parameters = {n: value for n, value in held.items() if n in trained}
        self.fixed = {name: value for name, value in held.items() if name not in self.parameters}
        self.fixed |= {name: value.detach() for name, value in networks.buffers.items()}

    def learn(self, others: Calls) -> None:
        """Take over what was seen of other networks of this architecture."""
        if "_ending" in vars(others):
            vars(self)["_ending"] = others._ending
        self.one_by_one = others.one_by_one

    @property
    def trained(self) -> Tensors:
        """The parameters, where there must be some.

        Raises:
            Unsupported: If nothing is trained.
        """
        if not self.parameters:
            raise Unsupported(
                "no parameter of the network is trained (requires_grad is off for all), and this "
                "is of those that are"
            )
        return self.parameters

    @property
    def tensors(self) -> Tensors:
        """Parameters and buffers, ``{name: (s, ...)}``."""
        return {**self.parameters, **self.fixed}

    @property
    def squash(self) -> Squash | None:
        """What the networks make their outputs of logits by; None: they give logits.

        Raises:
            Unsupported: If the outputs are probabilities of which no logits are seen.
        """
        if isinstance(self._ending, Unsupported):
            raise Unsupported(*self._ending.args)
        return self._ending

    @property
    def squash_or_none(self) -> Squash | None:
        """The same; None where it is not known."""
        return None if isinstance(self._ending, Unsupported) else self._ending

    @cached_property
    def _ending(self) -> Squash | Unsupported | None:
        with undisturbed(self.template):
            try:
                return last_squash(self.template, self.samples.few(), self.setting.forward)
            except Unsupported as reason:
                return reason

    def see_the_end(self) -> None:
        """See how the networks end, once for all that `learn` of them."""
        _ = self._ending

    @cached_property
    def outputs(self) -> Tensor:
        """What the networks give on the samples, ``(s, n, ...)``."""
        return self.forward()

    @cached_property
    def logits(self) -> Tensor:
        """The outputs, or the logits that the networks make them of."""
        return self.outputs if self.squash is None else self.forward(before=self.squash)

    @property
    def logits_or_outputs(self) -> Tensor:
        """The logits; the outputs where none are seen."""
        return self.outputs if isinstance(self._ending, Unsupported) else self.logits

    def release(self) -> None:
        """Let go of outputs and logits, which can be computed again."""
        for name in ("outputs", "logits"):
            vars(self).pop(name, None)

    @property
    def first_outputs(self) -> Tensor:
        """The outputs of the first samples, a few at least: all where these are known already."""
        return self.outputs if "outputs" in vars(self) else self._few_outputs

    @cached_property
    def _few_outputs(self) -> Tensor:
        return self.forward(most=FEW)

    def call(self, batch: Inputs, tensors: Tensors, before: Before) -> Tensor:
        """The output of a network with these tensors, or what is ``before``: see `Called`."""
        # clones: a module that writes to its buffers even in eval mode must not reach ours
        own = {n: v.clone() if n in self.fixed else v for n, v in tensors.items()}
        named = {f"network.{name}": value for name, value in own.items()}
        if self.in_double:
            batch = mapped(batch, lambda name, value: doubled(value))
        called = Called(self.template, self.setting.forward, before)
        output: Tensor = functional_call(called, named, (batch,))
        return output

    def forward(self, before: Before = None, most: int | None = None) -> Tensor:
        """The outputs of all samples, ``(s, n, ...)``, or of the first if they can be parted."""

        def outputs(tensors: Tensors, batch: Inputs, _: Tensor) -> Tensor:
            return self.call(batch, tensors, before)

        def forward(one_by_one: bool) -> Tensor:
            size = self.setting.batch_size if most is None else most
            batches = [*self.samples.batches(size)][: None if most is None else 1]
            parts = [self.of_part(outputs, self.tensors, rows, one_by_one) for rows in batches]
            return torch.cat(parts, dim=1)

        return self.computed(forward)

    def computed(self, compute: Callable[[bool], _Value]) -> _Value:
        """``compute(one_by_one)`` of what calls the networks, undisturbed; see below."""

        def undisturbed_compute(one_by_one: bool) -> _Value:
            with undisturbed(self.template), differentiable(self.template):
                return compute(one_by_one)

        return self.together_if_possible(undisturbed_compute)

    def together_if_possible(self, compute: Callable[[bool], _Value]) -> _Value:
        """``compute(one_by_one)``: together, or where torch cannot, one by one.

        What it cannot it cannot of other samples and other weights either: what learns from these
        calls does not try.
        """
        if not self.one_by_one:
            try:
                return compute(False)
            except Exception:  # of many types; what is the user's own comes again
                _log.debug("not together", exc_info=True)
        value = compute(True)
        self.one_by_one = True
        return value

    def of_part(
        self,
        what: OfBatch[_Result],
        tensors: Mapping[str, Tensor],
        part: slice,
        one_by_one: bool,
        targets: Tensor | None = None,
    ) -> _Result:
        """``what(tensors, batch, labels)`` of each network, the results with the networks first.

        Args:
            what: Of one network.
            tensors: Of all networks, ``{name: (s, ...)}``.
            part: Which samples.
            one_by_one: Whether the networks are called one by one.
            targets: The labels of all samples of the probe that are handed on; None: none are.
        """
        samples = self.samples
        batch, where = samples.batch(part)
        y = None if targets is None else targets[where]
        cut = samples.cut(batch)

        def of_one(own: Tensors, parts: Tensors, labels: Tensor | None) -> _Result:
            whole = mapped(batch, lambda name, value: parts.get(name, value))
            return what(own, whole, cast("Tensor", labels))

        if samples.networks > 1:
            dims = (0, 0, None if y is None else 0) if samples.differ else (0, None, None)
            together: _Result = each(of_one, dims, dict(tensors), cut, y, one_by_one=one_by_one)
            return together
        first = {name: value[0] for name, value in tensors.items()}
        if samples.differ:
            cut = {name: value[0] for name, value in cut.items()}
            y = None if y is None else y[0]
        alone = of_one(first, cut, y)
        if isinstance(alone, Tensor):
            return alone[None]
        return {name: value[None] for name, value in alone.items()}
