"""Curvature and Edge: reference networks, closed forms, torch's optimisers, and what has none."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Recipe
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.recipe import optimizer_state
from ibtrace.capture.view import NetworkView
from ibtrace.errors import ConfigError, Unsupported
from ibtrace.lenses import Curvature, Edge
from ibtrace.lenses.edge import preconditioner, threshold_of
from ibtrace.numerics import thresholds
from ibtrace.numerics.spectra import hutchinson, lanczos, rademacher
from ibtrace.probe import Probe
from ibtrace.types import Lens, OptimizerState, Reading
from tests.reference_networks import PROBE, Kind, after_descent, network, view_of

REFERENCE = {  # λ_max, λ_min, trace
    "tanh": (7.900314108, -1.150394219, 7.815182072),
    "relu": (2.016581287, -0.2840238015, 3.314210246),
}
DESCENDED = {  # the same after 200 steps, share of negative eigenvalues
    "tanh": (34.99226908, -0.07265062626, 68.34279666, 0.3741496599),
    "relu": (7.713957783, -0.1470569894, 18.05639865, 0.268707483),
}
NAMES = [
    "largest Hessian eigenvalue",
    "smallest Hessian eigenvalue",
    "Hessian trace",
    "negative eigenvalue share",
]


def read(lens: Lens, view: NetworkView, seed: int = 0) -> dict[str, Reading]:
    return {name: of[""] for name, of in lens(view, view._probe, seed=seed).items()}


def values(readings: dict[str, Reading], at: int = 0) -> list[float]:
    return [reading.value[at].item() for reading in readings.values()]


class Quadratic(nn.Module):
    """Outputs ½ Σ h w², whatever goes in, for a loss that is the output."""

    def __init__(self, h: list[float], w: float = 1.0) -> None:
        super().__init__()
        self.h: Tensor
        self.register_buffer("h", torch.tensor(h, dtype=torch.float64))
        self.w = nn.Parameter(torch.full((len(h),), w, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (self.h * self.w.square()).sum() / 2 + 0 * x[:, :1]


def quadratic_view(*models: Quadratic, **recipe: Any) -> NetworkView:
    each = [dict(model.named_parameters()) for model in models]
    own = {"w": models[0].w} if len(models) == 1 else {}
    return NetworkView(
        Stacked(
            models[0],
            {"w": torch.stack([one["w"].detach() for one in each])},
            {"h": torch.stack([model.get_buffer("h") for model in models])},
            range(len(models)),
            own,
        ),
        Probe(torch.ones(4, 1, dtype=torch.float64), torch.zeros(4)),
        Setting(lambda outputs, y: outputs.mean(), recipe=Recipe(**recipe)),
    )


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_reference_networks_to_ten_digits(kind: Kind) -> None:
    view = view_of(network(kind), after_descent(kind))
    readings = read(Curvature(), view)
    assert [*readings] == NAMES
    assert values(readings)[:3] == pytest.approx(REFERENCE[kind], rel=1e-9)
    assert values(readings, 1) == pytest.approx(DESCENDED[kind], rel=1e-9)
    assert readings[NAMES[0]].diagnostics["parameters"].tolist() == [294, 294]
    assert readings[NAMES[0]].flags["on_probe"].all()


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_products_alone_give_the_ends_and_a_trace_within_its_error(kind: Kind) -> None:
    readings = read(Curvature(exact=0, probes=40), view_of(network(kind)))
    assert [*readings] == NAMES[:3]
    assert values(readings)[:2] == pytest.approx(REFERENCE[kind][:2], rel=1e-6)
    assert not readings[NAMES[0]].flags["not_converged"].any()
    trace = readings["Hessian trace"]
    assert 0 < trace.stderr < 3
    assert abs(trace.value - REFERENCE[kind][2]) < 4 * trace.stderr


def test_largest_is_by_value_and_not_by_magnitude() -> None:
    view = quadratic_view(Quadratic([-5.0, 1, 2, 0]), Quadratic([3.0, 3, 3, -1]))
    for lens in (Curvature(density=True), Curvature(density=True, exact=0)):
        readings = read(lens, view)
        ends = [readings[name].value.tolist() for name in NAMES[:3]]
        assert ends == [pytest.approx(pair) for pair in ([2, 3], [-5, -1], [-2, 8])]
    exact = read(Curvature(density=True), view)["negative eigenvalue share"]
    assert exact.value.tolist() == [0.25, 0.25]
    bins = torch.stack([exact.diagnostics[f"bin {n + 1}"] for n in range(20)])
    assert bins.sum(0).tolist() == [1, 1]
    assert bins[[0, -1], 1].tolist() == [0.25, 0.75]


def test_quadrature_says_that_it_is_one() -> None:
    view = quadratic_view(Quadratic([*[-1.0] * 20, *[2.0] * 60]))
    share = read(Curvature(density=True, exact=0, probes=60), view)["negative eigenvalue share"]
    assert share.flags["quadrature"].all()
    assert abs(share.value - 0.25) <= 4 * share.stderr + 1e-9


def test_unconverged_ends_are_flagged() -> None:
    view = view_of(after_descent("tanh"))
    readings = read(Curvature(exact=0, steps=12, probes=2), view)
    smallest = readings["smallest Hessian eigenvalue"]
    assert smallest.flags["not_converged"].all()
    assert abs(smallest.value - DESCENDED["tanh"][1]) > 1e-3


def test_a_network_that_diverged_has_no_curvature_and_leaves_the_others_theirs() -> None:
    view = quadratic_view(Quadratic([1.0, 2.0]), Quadratic([1.0, 2.0], w=torch.nan))
    for lens in (Curvature(), Curvature(exact=0)):
        largest = read(lens, view)["largest Hessian eigenvalue"]
        assert largest.value[0].item() == pytest.approx(2)
        assert largest.value[1].isnan()
        assert largest.flags["diverged"].tolist() == [False, True]


def test_training_samples_are_read_where_they_are_known() -> None:
    rows = PROBE.x[:700], PROBE.labels[:700]
    known = read(Curvature(), view_of(network("tanh"), data=rows))
    alone = read(Curvature(), view_of(network("tanh"), probe=Probe(*rows)))
    assert values(known) == pytest.approx(values(alone))
    assert not known["Hessian trace"].flags["on_probe"].any()


# --- numerics -----------------------------------------------------------------------------------


def by(h: Tensor) -> Any:
    return lambda vectors: torch.einsum("sij,sj->si", h, vectors)


def test_lanczos_on_a_diagonal_and_gauss_weights() -> None:
    h = torch.diag(torch.arange(1.0, 11).double())[None]
    ritz = lanczos(by(h), torch.ones(1, 10).double(), 10)
    assert ritz.nodes[0].tolist() == pytest.approx(range(1, 11))
    assert ritz.weights[0].tolist() == pytest.approx([0.1] * 10)
    start = torch.randn(1, 10).double()
    ritz = lanczos(by(h), start, 4)
    moments = [(ritz.weights * ritz.nodes**k).sum().item() for k in (1, 2)]
    image = start @ h[0]
    wanted = torch.stack([(start * image).sum(), image.square().sum()]) / start.square().sum()
    assert moments == pytest.approx(wanted.tolist())


def test_lanczos_makes_no_ghosts_and_finds_all_of_a_multiple_eigenvalue() -> None:
    wide = torch.cat([torch.linspace(0, 1, 59), torch.tensor([1e4])]).double()
    h = torch.stack([torch.diag(wide), torch.diag(torch.tensor([5.0] * 30 + [1.0] * 30).double())])
    ritz = lanczos(by(h), torch.randn(2, 60).double(), 60)
    torch.testing.assert_close(ritz.nodes, torch.linalg.eigvalsh(h), rtol=1e-9, atol=1e-9)


def test_hutchinson_is_exact_on_a_diagonal() -> None:
    h = torch.diag(torch.arange(1.0, 11).double()).expand(2, 10, 10)
    mean, error = hutchinson(by(h), rademacher(7, 10, 3), 2)
    assert mean.tolist() == [55, 55]
    assert error.tolist() == [0, 0]


# --- the edge -----------------------------------------------------------------------------------

OPTIMIZERS: list[tuple[Any, dict[str, Any], float]] = [
    (torch.optim.SGD, {"lr": 0.1}, 20.0),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 38.0),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, 38 / 2.8),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.9}, 380.0),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.5, "dampening": 0.2}, 37.5),
    (torch.optim.SGD, {"lr": 0.1, "dampening": 0.5}, 20.0),
    (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.5}, 19.5),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}, 37.5),
]


def state_of(model: nn.Module, kind: Any, settings: dict[str, Any]) -> OptimizerState:
    optimizer = kind(model.parameters(), **settings)
    return optimizer_state(optimizer, dict(model.named_parameters()))


@pytest.mark.parametrize(("kind", "settings", "wanted"), OPTIMIZERS)
def test_torch_diverges_just_above_the_threshold(
    kind: Any, settings: dict[str, Any], wanted: float
) -> None:
    threshold = threshold_of(state_of(Quadratic([1.0]), kind, settings))
    assert threshold == pytest.approx(wanted)
    for share, grows in ((0.99, False), (1.01, True)):
        model = Quadratic([share * threshold])
        optimizer = kind(model.parameters(), **settings)
        for _ in range(3000):
            optimizer.zero_grad()
            model(torch.ones(1, 1)).sum().backward()
            optimizer.step()
        assert (model.w.abs().item() > 1) is grows


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_recurrence_of_adam_with_a_preconditioner_that_stands_still(decay: float) -> None:
    lr, beta = 0.1, 0.9
    threshold = thresholds.adam(lr, beta, decay)
    assert threshold == pytest.approx((2 - lr * decay) / 2 * 380)
    for share, grows in ((0.99, False), (1.01, True)):
        w, moment = 1.0, 0.0
        for _ in range(3000):
            moment = beta * moment + (1 - beta) * share * threshold * w
            w = (1 - lr * decay) * w - lr * moment
        assert (abs(w) > 1) is grows


def test_adams_preconditioner_and_sharpness() -> None:
    model = Quadratic([4.0, 1.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    optimizer.state[model.w] = {
        "step": torch.tensor(10.0),
        "exp_avg": torch.zeros(2).double(),
        "exp_avg_sq": torch.tensor([1.0, 0.01]).double(),
    }
    view = quadratic_view(model, optimizer=optimizer, batch_size=4)
    state = view.optimizer
    assert state is not None
    assert preconditioner(state, view)[0].tolist() == pytest.approx([6.527881, 0.652788], abs=1e-6)
    readings = read(Edge(), view)
    assert values(readings) == pytest.approx([1.531891, 1.531891 / 380], rel=1e-6)
    assert not readings["sharpness over threshold"].flags["minibatch"].any()
    optimizer.param_groups[0]["weight_decay"] = 0.5
    decayed = read(Edge(), view)["preconditioned sharpness"].value.item()
    assert decayed == pytest.approx(1.5 / 0.652788, rel=1e-6)


class Single(nn.Module):
    """A network that goes on in single precision, whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network("tanh").float()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.inner(x)
        return outputs.float()


@pytest.mark.parametrize("several", [False, True])
def test_the_share_of_a_network_in_single_precision_is_that_in_double(several: bool) -> None:
    model = after_descent("tanh").float()
    count = 2 if several else 1
    stacked = {n: v.detach().expand(count, *v.shape) for n, v in model.named_parameters()}
    seeds = [*range(count)]
    y = PROBE.labels[:500]
    shares = []
    for kind in (torch.float32, torch.float64):
        own = {name: value.to(kind) for name, value in stacked.items()}
        probe = Probe(PROBE.x[:500].to(kind), y)
        view = NetworkView(Stacked(model.to(kind), own, {}, seeds), probe, Setting("cross_entropy"))
        shares.append(read(Curvature(), view)["negative eigenvalue share"])
    single, double = shares
    assert single.value.tolist() == double.value.tolist()
    assert not single.flags["single_precision"].any()


def test_a_network_that_stays_in_single_precision_says_so() -> None:
    probe = Probe(PROBE.x[:100].float(), PROBE.labels[:100])
    view = NetworkView(Stacked.of_module(Single()), probe, Setting("cross_entropy"))
    share = read(Curvature(), view)["negative eigenvalue share"]
    assert share.flags["single_precision"].all()
    assert view.hessian.dtype == torch.float32


def test_adam_counts_the_steps_of_each_parameter() -> None:
    model = network("tanh")
    first = next(model.parameters()).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(20):
        first.requires_grad_(step >= 15)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(PROBE.x[:200]), PROBE.labels[:200]).backward()
        optimizer.step()
    view = view_of(model, data=(PROBE.x[:200], PROBE.labels[:200]), optimizer=optimizer)
    view.networks = Stacked.of_module(model)
    state = view.optimizer
    assert state is not None
    assert state.steps == 20
    scale = preconditioner(state, view)[0]
    naive = []
    for value, steps in zip(model.parameters(), [5, *[20] * 11], strict=True):
        v = optimizer.state[value]["exp_avg_sq"] / (1 - 0.999**steps)
        naive.append(((1 - 0.9**steps) * (v.sqrt() + 1e-8)).flatten())
    torch.testing.assert_close(scale, torch.cat(naive))


@pytest.mark.parametrize("kind", ["tanh", "relu"])
@pytest.mark.parametrize(("optimizer", "settings", "threshold"), OPTIMIZERS)
def test_reference_networks_over_the_threshold(
    kind: Kind, optimizer: Any, settings: dict[str, Any], threshold: float
) -> None:
    rows = PROBE.x[:200], PROBE.labels[:200]
    model = network(kind)
    stacked = view_of(model, data=rows, optimizer=optimizer(model.parameters(), **settings))
    stacked.networks = Stacked.of_module(model)
    readings = read(Edge(), stacked)
    largest = read(Curvature(), stacked)["largest Hessian eigenvalue"].value.item()
    assert values(readings) == pytest.approx([largest, largest / threshold], rel=1e-6)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_what_the_optimiser_does_not_train_is_no_part_of_its_curvature(kind: Any) -> None:
    model = network("tanh")
    own = dict(model.named_parameters())
    head = {name: value for name, value in own.items() if name.startswith("fc6")}
    optimizer = kind(head.values(), lr=0.1)
    if kind is torch.optim.Adam:
        for value in head.values():
            value.grad = torch.ones_like(value)
        with torch.no_grad():
            held = {name: value.clone() for name, value in head.items()}
            optimizer.step()
            for name, value in head.items():
                value.copy_(held[name])
    rows = PROBE.x[:300], PROBE.labels[:300]
    view = view_of(model, probe=Probe(*rows), optimizer=optimizer)
    view.networks = Stacked.of_module(model)
    count = sum(value.numel() for value in head.values())
    block = view.hessian[0][-count:, -count:]  # the head comes last
    wanted = torch.linalg.eigvalsh(block)[-1].item()
    if kind is torch.optim.Adam:  # after one step with slopes of 1: P = (1 - β₁)(1 + ε)
        wanted /= 0.1 * (1 + 1e-8)
    assert values(read(Edge(), view))[0] == pytest.approx(wanted, rel=1e-6)


def test_what_has_no_threshold_says_so() -> None:
    model = Quadratic([1.0])
    with pytest.raises(Unsupported, match="the optimiser is not known"):
        read(Edge(), quadratic_view(model))
    for optimizer, said in (
        (torch.optim.RMSprop(model.parameters()), "no threshold is known of rmsprop"),
        (torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=21), "weight decay of 21"),
        (torch.optim.SGD(model.parameters(), lr=0.0), "learning rate of 0"),
        (torch.optim.SGD(model.parameters(), lr=0.1, maximize=True), "climbs"),
        (_of_another_package(model), r"no threshold is known of tests\.test_lens_curvature\.adam"),
        (_with_a_setting_of_its_own(model), r"has settings \['clip'\]"),
        (_two_decays(model), "groups of parameters have different settings"),
    ):
        with pytest.raises(Unsupported, match=said):
            read(Edge(), quadratic_view(model, optimizer=optimizer))


class Adam(torch.optim.Adam):
    """Of whose steps nothing is known but the name."""


def _of_another_package(model: nn.Module) -> torch.optim.Optimizer:
    return Adam(model.parameters())


def _with_a_setting_of_its_own(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["clip"] = 1.0
    return optimizer


def _two_decays(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
    optimizer.add_param_group({"params": [], "decoupled_weight_decay": True})
    return optimizer


@pytest.mark.skipif(
    "decoupled_weight_decay" not in signature(torch.optim.Adam).parameters, reason="torch from 2.7"
)
def test_adam_that_decays_apart_from_the_gradient_is_adamw() -> None:
    model = Quadratic([4.0, 1.0])
    fields: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.5}
    for amsgrad in (False, True):
        made = (
            torch.optim.AdamW(model.parameters(), amsgrad=amsgrad, **fields),
            torch.optim.Adam(
                model.parameters(), amsgrad=amsgrad, decoupled_weight_decay=True, **fields
            ),
        )
        edges = []
        for optimizer in made:
            moments = torch.tensor([1.0, 0.01]).double()
            optimizer.state[model.w] = {
                "step": torch.tensor(10.0),
                "exp_avg": torch.zeros(2).double(),
                "exp_avg_sq": moments,
                **({"max_exp_avg_sq": 4 * moments} if amsgrad else {}),
            }
            edges.append(values(read(Edge(), quadratic_view(model, optimizer=optimizer))))
        # the largest squared gradients are 4 times as large, and P twice
        wanted = 1.531891 / (2 if amsgrad else 1)
        assert edges[0] == pytest.approx([wanted, wanted / (1.95 * 1.9 / 0.01)], rel=1e-6)
        assert edges[1] == edges[0]


def test_what_schedules_take_down_changes_no_step() -> None:
    model = Quadratic([1.0])
    optimizer = torch.optim.SGD([("w", model.w)], lr=0.1, momentum=0.9)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)
    assert read(Edge(), quadratic_view(model, optimizer=optimizer))


@pytest.mark.parametrize(("batch", "flagged"), [(10, True), (20, False)])
def test_a_batch_is_held_against_all_training_samples_not_those_that_are_read(
    batch: int, flagged: bool
) -> None:
    model = network("tanh")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = PROBE.x[:20], PROBE.labels[:20]
    view = view_of(model, data=rows, optimizer=optimizer, batch_size=batch)
    view.networks = Stacked.of_module(model)
    edge = read(Edge(steps=2, samples=5), view)["sharpness over threshold"]
    assert edge.diagnostics["samples"].item() == 5
    assert bool(edge.flags["minibatch"].all()) is flagged


def test_before_adams_first_step_there_is_no_preconditioner() -> None:
    model = Quadratic([1.0, 2.0])
    view = quadratic_view(model, optimizer=torch.optim.Adam(model.parameters()))
    edge = read(Edge(), view)["sharpness over threshold"]
    assert edge.value.isnan().all()
    assert edge.flags["no_step"].all()
    assert edge.flags["minibatch"].all()  # a batch that is not known


def test_wrong_fields_are_refused() -> None:
    for lens, fields in (
        (Curvature, {"probes": 1}),
        (Curvature, {"steps": 0}),
        (Curvature, {"density": 1}),
        (Edge, {"steps": 2.5}),
        (Edge, {"samples": 0}),
    ):
        with pytest.raises(ConfigError, match=f"{lens.__name__}: {next(iter(fields))}"):
            lens(**fields)
