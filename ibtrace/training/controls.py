"""Controls: an experiment again, without that which its networks could learn by.

- *shuffled labels*: the labels are permuted among the samples. Whatever I(X;T) does then, no rule
  about X is its reason. I(T;Y) is with the labels as permuted, on which the network was trained;
  only on held-out samples (``probe: {part: test}``) it is with the true ones.
- *linear*: the network of the same widths with ``activation: linear``. No unit can saturate.
- *frozen*: the random network as initialised, which takes no step.

All else is the subject's: seeds, initial weights, split, batches, layers, instruments, looks.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ibtrace.capture import OUTPUT
from ibtrace.datasets import shuffled
from ibtrace.ensemble import Ensemble
from ibtrace.errors import ConfigError
from ibtrace.training.experiment import Experiment

_SAMPLES = 32
_TOLERANCE = 1e-3
_EVERY = "**"
_AT_THE_END = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)


def applied(experiment: Experiment) -> Experiment:
    """The experiment with what its ``control`` asks for: itself where it is none.

    Args:
        experiment: As its configuration describes it.

    Raises:
        ConfigError: If it is to be a linear control, and its networks are not linear.
        InvalidInput: If its labels are to be shuffled, and that changes nothing.
    """
    control = experiment.control
    if control is None or control.kind == "frozen":
        return experiment
    if control.kind == "linear":
        require_linear(experiment)
        return experiment
    return replace(experiment, data=shuffled(experiment.data))


def require_linear(experiment: Experiment) -> None:
    """Raise unless all that a network computes before its output is an affine function of x.

    Tried on inputs: f(a) + f(b) - f(c) = f(a + b - c) for every module, but for a softmax, a
    log-softmax or a sigmoid that gives the network's output.

    Args:
        experiment: Of which one network is tried, as initialised.

    Raises:
        ConfigError: If it is none, or cannot be tried.
    """
    x, count = experiment.data.x, min(_SAMPLES, len(experiment.data.x) // 3)
    if experiment.look.forward is not None or not x.is_floating_point() or not count:
        raise ConfigError("whether a network is linear can be tried where it is called with floats")
    a, b, c = x[: 3 * count].double().to(experiment.training.device).split(count)
    with torch.random.fork_rng():
        network = Ensemble(lambda seed: experiment.training.network().double(), [0])
    inputs = torch.cat([a, b, c, a + b - c])
    outputs = network.eval()(inputs, shared=True)
    values = network.activations(inputs, _EVERY)
    last = {name for name, each in values.items() if torch.equal(each, outputs)}
    modules = dict(network.template.named_modules())
    normalised = any(isinstance(modules.get(name), _AT_THE_END) for name in last)
    for name, each in {**values, OUTPUT: outputs}.items():
        if not (normalised and name in {*last, OUTPUT}):
            _require_affine(name, each[0])


def _require_affine(name: str, values: Tensor) -> None:
    """Raise unless the fourth quarter of the rows is the first and second less the third."""
    a, b, c, together = values.double().chunk(4)
    if (a + b - c - together).abs().max() > _TOLERANCE * values.abs().max():
        raise ConfigError(
            f"layer {name} is no affine function of x, though the activation is linear: something "
            "else (a pooling, a rounding, a function of the model's own) is nonlinear"
        )
