"""What must not matter, and what must stay as it was."""

from __future__ import annotations

import itertools
import random
import unittest
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ibtrace.errors import InvalidInput
from ibtrace.probe import Probe
from ibtrace.problems import GaussianChannel
from ibtrace.testing._applies import EXAMPLES, accepted_kinds, examples, tied_examples
from ibtrace.testing._state import generators_restored, global_state
from ibtrace.types import Estimate, Estimator, Kind, Plane


def check_symmetry(estimator: Estimator) -> None:
    """Where the tags say so, swapping x and y changes nothing."""
    if not estimator.tags.symmetric:
        raise unittest.SkipTest(f"{estimator!r} is not symmetric by its tags")
    accepted = accepted_kinds(estimator)
    for x, y in examples(estimator):
        if (_kind(y), _kind(x)) in accepted:
            bits, expected = estimator(y, x).bits, estimator(x, y).bits
            _same(estimator, bits, expected, "swapping x and y changes it", 1e-6)


def check_row_order(estimator: Estimator) -> None:
    """The order of the samples does not matter."""
    for x, y in examples(estimator):
        order = torch.from_numpy(np.random.default_rng(4).permutation(len(x)))
        bits, expected = estimator(x[order], y[order]).bits, estimator(x, y).bits
        _same(estimator, bits, expected, "permuting the rows changes it", 1e-7)


def check_scale(estimator: Estimator) -> None:
    """Unless the tags say why not, multiplying x or y by a constant changes nothing."""
    reason = estimator.tags.scale_dependence
    if reason:
        raise unittest.SkipTest(f"{estimator!r} depends on the scale: {reason}")
    for example in examples(estimator):
        x, y = (v.double() if v.is_floating_point() else v for v in example)
        expected = estimator(x, y, seed=9).bits
        for factor, (a, b) in itertools.product((1e-6, 1e3, 1e6), ((1, 0), (0, 1), (1, 1))):
            pair = [v * factor if v.is_floating_point() and on else v for v, on in ((x, a), (y, b))]
            bits = estimator(pair[0], pair[1], seed=9).bits
            message = f"multiplying {'x' * a}{'y' * b} by {factor:g} changes it"
            _same(estimator, bits, expected, message, 1e-6)


def check_seed(estimator: Estimator) -> None:
    """The same seed gives the same result, whatever the global generators hold."""
    for x, y in examples(estimator):
        first = estimator(x, y, seed=5)
        with generators_restored():
            torch.manual_seed(123)
            np.random.seed(123)
            random.seed(123)
            again = estimator(x, y, seed=5)
        _same(estimator, again.bits, first.bits, "the same seed gives two results", 0.0)


def check_global_state(estimator: Estimator) -> None:
    """Global generators and torch's settings are as they were."""
    for x, y in examples(estimator) + tied_examples(estimator):
        before = global_state()
        estimator(x, y, seed=6)
        changed = [name for name, value in global_state().items() if value != before[name]]
        assert not changed, f"{estimator!r} changes global state: {', '.join(changed)}"


def check_inputs(estimator: Estimator) -> None:
    """The tensors passed in are not written to, with and without ties."""
    for pair in examples(estimator) + tied_examples(estimator):
        before = [(value.clone(), value._version) for value in pair]
        estimator(*pair, seed=7)
        for name, value, (copied, version) in zip("xy", pair, before, strict=True):
            unchanged = torch.equal(value, copied) and value._version == version
            assert unchanged, f"{estimator!r} modifies {name}"


def check_batch(estimator: Estimator) -> None:
    """Leading dimensions are independent problems, and those of x and y broadcast."""
    for kinds in accepted_kinds(estimator):
        pairs = [EXAMPLES[kinds].sample(n=60, seed=s) for s in range(6)]
        x, y = (torch.stack(values).unflatten(0, (2, 3)) for values in zip(*pairs, strict=True))
        shared = x[0, 0].expand_as(x)
        cases = [(x, x, "a batch"), (x[0, 0], shared, "an x shared by a batch")]
        # Two batches of ids look like rows of integers, and are refused.
        for given, each, what in cases[1:] if kinds == ("discrete", "discrete") else cases:
            together = estimator(given, y, seed=8)
            for name, value in _parts(together):
                shape = tuple(value.shape)
                message = f"{what} of shape (2, 3) gives {name} of shape {shape}"
                assert shape == (2, 3), f"{estimator!r}: {message}"
            cells = itertools.product(range(2), range(3))
            looped = torch.stack([estimator(each[c], y[c], seed=8).bits for c in cells])
            message = f"{what} is not a loop"
            _same(estimator, together.bits, looped.unflatten(0, (2, 3)), message, 1e-6)


def check_plane(estimator: Estimator) -> None:
    """``plane(t, probe)``, where there is one, gives what two calls give."""
    if not isinstance(estimator, Plane):
        raise unittest.SkipTest(f"{estimator!r} has no plane: it is called twice")
    channel = GaussianChannel(tuple((float(i), float(i % 3)) for i in range(8)), 0.7)
    ids, noisy = channel.sample(80, seed=10)
    takes_labels = ("continuous", "discrete") in accepted_kinds(estimator)
    labels = ids // 2 if takes_labels else noisy[:, :1] + noisy[:, 1:].sin()
    # Inputs repeat, so that an estimator that needs classes finds them in X too.
    probe = Probe(torch.tensor(channel.points, dtype=noisy.dtype)[ids], labels)
    t = torch.stack([(noisy / 8).tanh(), noisy.flip(1)])
    first, second = estimator.plane(t, probe, seed=11)
    wanted = estimator(t, labels, seed=11).bits
    _same(estimator, second.bits, wanted, "I(T;Y) of plane is not that of a call", 1e-6)
    message = f"{estimator!r}: I(X;T) of plane, {first.bits.tolist()} bits, is not that of a call"
    assert any(_close(first, other) for other in _calls(estimator, probe, t)), message


def check_precision(estimator: Estimator) -> None:
    """The same numbers held as float32 and as float64 give the same result, to 1e-3 bit."""
    for pair, shift in itertools.product(examples(estimator), (0, 100)):
        # Far from zero, squared distances by ‖a‖² + ‖b‖² − 2ab cancel in float32.
        single = [(v + shift).float() if v.is_floating_point() else v for v in pair]
        double = [value.double() if value.is_floating_point() else value for value in single]
        bits = estimator(single[0], single[1]).bits
        expected = estimator(double[0], double[1]).bits
        what = f"float32 and float64 differ on data around {shift}"
        _same(estimator, bits, expected, what, 1e-3)


def check_device(estimator: Estimator) -> None:
    """On a CUDA device the result is there, and the same to 1e-3 bit."""
    if not torch.cuda.is_available():
        raise unittest.SkipTest("no CUDA device here")
    for x, y in examples(estimator):
        bits = estimator(x.cuda(), y.cuda(), seed=9).bits
        assert bits.is_cuda, f"{estimator!r} moves the result from CUDA to {bits.device}"
        _same(estimator, bits, estimator(x, y, seed=9).bits, "CUDA and CPU differ", 1e-3)


def _calls(estimator: Estimator, probe: Probe, t: Tensor) -> Iterator[Estimate]:
    """I(X;T) by a call with X as features and, if they are taken, as ids."""
    for x in (probe.features, probe.x_ids):
        try:
            yield estimator(x, t, seed=11)
        except InvalidInput:
            continue


def _close(estimate: Estimate, expected: Estimate) -> bool:
    return estimate.bits.shape == expected.bits.shape and bool(
        torch.allclose(estimate.bits, expected.bits, rtol=0, atol=1e-6)
    )


def _same(estimator: Estimator, bits: Tensor, expected: Tensor, what: str, atol: float) -> None:
    bits, expected = bits.cpu(), expected.cpu()
    same = bits.shape == expected.shape and bool(((bits - expected).abs() <= atol).all())
    assert same, f"{estimator!r}: {what}: {bits.tolist()} and {expected.tolist()} bits"


def _parts(estimate: Estimate) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of an estimate, with its name."""
    yield from (("bits", estimate.bits), ("stderr", estimate.stderr))
    yield from estimate.flags.items()
    yield from estimate.diagnostics.items()


def _kind(value: Tensor) -> Kind:
    return "continuous" if value.is_floating_point() else "discrete"
