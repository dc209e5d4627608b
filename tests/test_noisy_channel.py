"""NoisyChannel: integrated truths, KDE's bounds, naive twins; and the modules that make noise."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ibtrace.errors import ConfigError, InvalidInput, TooFewSamples, UnknownName, Unsupported
from ibtrace.estimators.kde import KDE
from ibtrace.estimators.noisy_channel import Noise, NoisyChannel
from ibtrace.models.noise import ContinuousDropout, GaussianNoise, inject_noise
from ibtrace.probe import Probe
from ibtrace.problems.channel import GaussianChannel
from ibtrace.types import label

LAWS: list[Noise] = ["additive", "multiplicative", "lognormal"]
CHANNELS = [
    GaussianChannel(((-3.0,), (-1.0,), (1.0,), (3.0,)), 1.0),
    GaussianChannel(((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.3)), 0.7),
    GaussianChannel(((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)), 0.4),
]


def random_layer(n: int = 40, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("problem", CHANNELS, ids=lambda problem: problem.name)
def test_the_interval_covers_the_integrated_truth(problem: GaussianChannel) -> None:
    points, ids = torch.tensor(problem.points), torch.arange(len(problem.points))
    estimator = NoisyChannel(problem.noise_sd)  # few samples: the draws have a floor
    found = [estimator(ids, points, seed=seed) for seed in range(200)]
    covered = [bool(e.lower <= problem.bits <= e.upper) for e in found]
    assert sum(covered) >= 180
    spread = torch.stack([e.bits for e in found]).std()
    assert float(found[0].stderr) == pytest.approx(float(spread), rel=0.3)


@settings(max_examples=20)
@given(std=st.floats(0.05, 3.0), classes=st.integers(2, 30), seed=st.integers(0, 99))
def test_kde_brackets_it(std: float, classes: int, seed: int) -> None:
    t = random_layer(seed=seed)
    y = torch.randint(classes, (40,), generator=torch.Generator().manual_seed(seed))
    for ids in (torch.arange(40), y):
        estimate, bounds = NoisyChannel(std, samples=30)(ids, t), KDE(std**2)(ids, t)
        margin = 5 * float(estimate.stderr) + 1e-9
        assert float(bounds.lower) - margin <= float(estimate.bits)
        assert float(estimate.bits) <= float(bounds.upper) + margin


def component_density(law: Noise, y: float, centre: float, std: float) -> float:
    """The density of one noisy unit; of a unit at 0, the mass at 0."""
    if law == "additive":
        return math.exp(-(((y - centre) / std) ** 2) / 2) / std
    if centre == 0 or y == 0:
        return float(centre == y)
    if law == "multiplicative":
        scale = abs(std * centre)
        return math.exp(-(((y - centre) / scale) ** 2) / 2) / scale
    if y / centre < 0:
        return 0.0
    return math.exp(-((math.log(y / centre) / std) ** 2) / 2) / (std * abs(y))


def naive_information(law: Noise, t: Tensor, ids: Tensor, std: float, draws: int) -> list[float]:
    """E log2 p_c(y) / p(y), one draw and one component at a time."""
    rng, values = np.random.default_rng(0), []
    for i in range(len(t)):
        for _ in range(draws):
            z = rng.standard_normal(t.shape[1])
            own = t[i].numpy()
            factor = {"additive": own + std * z, "multiplicative": own * (1 + std * z)}
            y = factor[law] if law in factor else own * np.exp(std * z)
            p = np.array(
                [
                    math.prod(
                        component_density(law, a, b, std)
                        for a, b in zip(y, row.tolist(), strict=True)
                    )
                    for row in t
                ]
            )
            values.append(math.log2(p[(ids == ids[i]).numpy()].mean() / p.mean()))
    return values


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("classes", [4, 12])
def test_it_equals_its_naive_twin(law: Noise, classes: int) -> None:
    t = random_layer(12, 2, seed=3).relu()  # some units at 0, some rows equal
    t[5] = t[2]
    t[7, 0] = -t[8, 0]
    ids = torch.arange(12) % classes
    naive = naive_information(law, t, ids, std=0.6, draws=150)
    found = NoisyChannel(0.6, samples=300, noise=law)(ids, t)
    error = math.hypot(np.std(naive) / len(naive) ** 0.5, float(found.stderr))
    assert float(found.bits) == pytest.approx(np.mean(naive), abs=4 * error)
    assert error < 0.04


def test_which_units_are_zero_passes_through_multiplicative_noise() -> None:
    patterns = ((torch.arange(8)[:, None] >> torch.arange(3)) & 1).float()
    for law in LAWS[1:]:
        assert float(NoisyChannel(5.0, noise=law)(torch.arange(8), patterns).bits) == 3
    signs = torch.tensor([[-1.0], [1.0]])
    exact = NoisyChannel(5.0, noise="lognormal")(torch.arange(2), signs)
    assert float(exact.bits) == pytest.approx(1)
    mixed = NoisyChannel(5.0, noise="multiplicative")(torch.arange(2), signs)
    assert float(mixed.bits) < 0.2


def test_it_does_not_depend_on_the_order_of_samples_or_on_where_zero_is() -> None:
    t, y = random_layer().round(decimals=1), torch.arange(40) % 3
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for ids in (torch.arange(40), y):
        plain = NoisyChannel(0.3)(ids, t)
        torch.testing.assert_close(NoisyChannel(0.3)(ids[order], t[order]).bits, plain.bits)
        torch.testing.assert_close(NoisyChannel(0.3)(t, ids).bits, plain.bits)
        far = NoisyChannel(0.3)(ids, t + 2.0**20)
        torch.testing.assert_close(far.bits, plain.bits, rtol=0, atol=1e-6)


def test_draws_are_stratified_over_distinct_rows() -> None:
    few = torch.tensor([[0.0], [1.0], [1.0], [1.0]]).repeat(25, 1)
    estimate = NoisyChannel(0.5, samples=6)(torch.arange(100), few)
    assert float(estimate.diagnostics["centres"]) == 2
    assert float(estimate.diagnostics["ceiling"]) == pytest.approx(math.log2(100))
    problem = GaussianChannel(((0.0,), (1.0,)), 0.5)
    weighted = NoisyChannel(0.5, samples=900)(torch.arange(2), torch.tensor([[0.0], [1.0]]))
    assert bool(weighted.lower <= problem.bits <= weighted.upper)
    assert float(estimate.bits) < float(weighted.bits)  # three to one holds less than one to one


def test_repeated_noisy_passes_share_an_id() -> None:
    """With noise below the layer too, T given x is a mixture, not a point."""
    t = torch.tensor([[-1.0], [1.0], [1.0], [3.0]])
    apart = NoisyChannel(0.5, samples=2000)(torch.arange(4), t)
    shared = NoisyChannel(0.5, samples=2000)(torch.tensor([0, 0, 1, 1]), t)
    assert float(shared.bits) < float(apart.bits) - 0.4


@pytest.mark.parametrize("law", LAWS)
def test_plane_is_two_calls_and_batches_are_loops(law: Noise) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(2, (30, 3), generator=generator).float()
    t = torch.randn(2, 3, 30, 4, generator=generator)
    probe = Probe(x, torch.randint(4, (30,), generator=generator))
    estimator = NoisyChannel(0.4, noise=law)
    for found, other in zip(estimator.plane(t, probe), (x, probe.labels), strict=True):
        for i in range(2):
            for j in range(3):
                one = estimator(other, t[i, j])
                for name in ("bits", "stderr", "lower", "upper"):
                    torch.testing.assert_close(getattr(found, name)[i, j], getattr(one, name))


def test_a_constant_layer_holds_nothing_and_far_points_hold_everything() -> None:
    still = NoisyChannel()(torch.arange(9), torch.full((9, 2), 3.0))
    assert float(still.bits) == pytest.approx(0, abs=1e-12)
    assert bool(still.flags["constant"])
    spread = NoisyChannel()(torch.arange(9), torch.arange(9.0)[:, None])
    assert float(spread.bits) == pytest.approx(math.log2(9), abs=1e-3)
    assert bool(spread.flags["near_ceiling"])
    wide = NoisyChannel(0.1)(torch.arange(50), 30 * random_layer(50, 2000))
    assert float(wide.bits) == pytest.approx(math.log2(50), abs=1e-9)


def test_inputs_gradients_and_generators_are_left_alone() -> None:
    t = random_layer().requires_grad_()
    before, state = t.detach().clone(), torch.get_rng_state()
    estimate = NoisyChannel()(torch.arange(40), t)
    assert not estimate.bits.requires_grad
    assert torch.equal(t, before)
    assert torch.equal(torch.get_rng_state(), state)
    single = NoisyChannel()(torch.arange(40), t.detach().float())
    assert float(single.bits) == pytest.approx(float(estimate.bits), abs=1e-5)


def test_bad_input_and_bad_configuration_say_what_to_do() -> None:
    t, ids = random_layer(8), torch.arange(8)
    with pytest.raises(Unsupported, match="give the layer as floats"):
        NoisyChannel()(ids, ids)
    with pytest.raises(Unsupported, match="t must be floats"):
        NoisyChannel().plane(ids, Probe(t, ids))
    with pytest.raises(TooFewSamples, match="at least 2"):
        NoisyChannel()(ids[:1], t[:1])
    with pytest.raises(ConfigError, match="noise_std must be positive"):
        NoisyChannel(noise_std=0.0)
    with pytest.raises(ConfigError, match="samples must be a whole number >= 2"):
        NoisyChannel(samples=1)
    with pytest.raises(ConfigError, match="noise must be one of"):
        NoisyChannel(noise="pink")  # type: ignore[arg-type]  # refused


def test_the_estimand_says_the_law() -> None:
    assert NoisyChannel(0.5).estimand == "T + N(0, 0.25)"
    assert NoisyChannel(0.5, noise="multiplicative").estimand == "T · N(1, 0.25)"
    assert NoisyChannel(0.5, noise="lognormal").estimand == "T · exp N(0, 0.25)"


# --- the modules ----------------------------------------------------------------------------

MODULES: list[GaussianNoise | ContinuousDropout] = [
    GaussianNoise(0.3),
    ContinuousDropout(0.3),
    ContinuousDropout(0.3, "lognormal"),
]


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_noise_has_its_law_in_training_and_is_off_in_eval(
    module: GaussianNoise | ContinuousDropout,
) -> None:
    t = torch.full((200_000,), -2.0, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noisy = module(t)
    if isinstance(module, GaussianNoise):
        z = (noisy + 2) / 0.3
    else:
        factor = noisy / -2
        z = (factor - 1) / 0.3 if module.noise == "multiplicative" else factor.log() / 0.3
    assert float(z.mean()) == pytest.approx(0, abs=0.01)
    assert float(z.std()) == pytest.approx(1, abs=0.01)
    assert float(z.pow(4).mean()) == pytest.approx(3, abs=0.1)
    quiet = copy.deepcopy(module).eval()
    assert quiet(t) is t
    loud = type(module)(0.3, in_eval=True).eval()
    assert not torch.equal(loud(t), t)


def test_channels_are_the_modules_own_laws() -> None:
    assert label(MODULES[0].channel) == "NoisyChannel(noise_std=0.3, in_network=True)"
    assert MODULES[1].channel == NoisyChannel(0.3, noise="multiplicative", in_network=True)
    assert MODULES[2].channel == NoisyChannel(0.3, noise="lognormal", in_network=True)
    assert ContinuousDropout.of_rate(0.2).std == 0.5


def small_net() -> nn.Sequential:
    net = nn.Sequential()
    for name, layer in {"fc1": nn.Linear(4, 5), "tanh1": nn.Tanh(), "fc2": nn.Linear(5, 2)}.items():
        net.add_module(name, layer)
    return net


def test_injected_noise_sits_after_the_named_layers_of_a_copy() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x = small_net(), torch.randn(6, 4)
        noisy = inject_noise(net, ["tanh*"], std=0.2)
        assert [n for n, _ in net.named_modules()] == ["", "fc1", "tanh1", "fc2"]
        assert not torch.equal(noisy(x), noisy(x))
        assert torch.equal(noisy.eval()(x), net.eval()(x))
        loud = inject_noise(net, "tanh1", std=0.2, in_eval=True)
        assert not loud.training
        seen: dict[str, Tensor] = {}
        for name in ("tanh1", "tanh1.clean"):
            module = loud.get_submodule(name)
            module.register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out}))
        loud(x)
        assert torch.equal(seen["tanh1.clean"], net[:2](x))
        assert not torch.equal(seen["tanh1.clean"], seen["tanh1"])
    made = inject_noise(net, "tanh1", std=0.5, make=lambda std: ContinuousDropout(std, "lognormal"))
    assert made.get_submodule("tanh1.noise").channel == NoisyChannel(
        0.5, noise="lognormal", in_network=True
    )
    assert torch.equal(pickle.loads(pickle.dumps(noisy))(x), noisy(x))


def test_a_noisy_network_still_trains() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = inject_noise(small_net(), "tanh1", std=0.1)
        x = torch.randn(64, 4)
        y = (x[:, 0] > 0).long()
        optimiser = torch.optim.Adam(net.parameters(), 0.02)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimiser.step()
        assert float((net.eval()(x).argmax(1) == y).double().mean()) > 0.9


def test_impossible_noise_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"no layer matches 'relu.*there are: fc1, tanh1, fc2"):
        inject_noise(small_net(), ["tanh1", "relu*"])
    with pytest.raises(InvalidInput, match=r"'0.fc1' is inside '0'"):
        inject_noise(nn.Sequential(small_net()), ["0", "0.fc1"])
    with pytest.raises(ConfigError, match="std must be finite and at least 0"):
        GaussianNoise(-1)
    with pytest.raises(ConfigError, match="noise must be"):
        ContinuousDropout(1, "bernoulli")  # type: ignore[arg-type]  # refused
    with pytest.raises(ConfigError, match="rate must lie in"):
        ContinuousDropout.of_rate(1.0)
