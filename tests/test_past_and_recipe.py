"""What lenses know of the training: the first look, the one before, samples and optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from ibtrace import Recipe
from ibtrace.capture.networks import Setting, Stacked
from ibtrace.capture.recipe import Part
from ibtrace.capture.view import NetworkView
from ibtrace.ensemble import Ensemble
from ibtrace.errors import ConfigError, LensFailed, Unsupported
from ibtrace.probe import Probe
from ibtrace.tracer import At, Keep, Tracer
from ibtrace.training import runner
from ibtrace.types import LensTags, ProbeLike, Quantity, Reading, View

N = 24
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
TRAVEL = Quantity("distance from the first look", "1", per="network")
STEP = Quantity("distance from the look before", "1", per="network")


@dataclass(frozen=True)
class Travelled:
    """How far the parameters are from the first look, and from the one before."""

    looks: int = 1

    @property
    def tags(self) -> LensTags:
        """What it reads."""
        needs = frozenset({"initial", "previous"})
        # mypy: plain texts, of the right words
        return LensTags((TRAVEL, STEP), "Nobody 2026", needs, "P", looks=self.looks)  # type: ignore[arg-type]

    def __call__(
        self, view: View, probe: ProbeLike, *, seed: int = 0
    ) -> Mapping[str, Mapping[str, Reading]]:
        before = view.previous
        readings = {TRAVEL.name: {"": Reading(_distance(view, view.initial), "1")}}
        if before is not None:
            readings[STEP.name] = {"": Reading(_distance(view, before), "1")}
        return readings


def _distance(one: View, other: View) -> Tensor:
    squares = [
        (value - other.parameters[name]).square().flatten(1).sum(1)
        for name, value in one.parameters.items()
    ]
    return torch.stack(squares).sum(0).sqrt()


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def move(model: nn.Module) -> None:
    """Along the first bias, by 1."""
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if name == "0.bias")[0] += 1.0


def readings(tracer: Tracer, quantity: Quantity) -> dict[int, float]:
    frame = tracer.trace.readings().query("quantity == @quantity.name")
    return dict(zip(frame["epoch"], frame["value"].round(5), strict=True))


def test_the_first_look_and_the_one_before_are_remembered() -> None:
    model = net()
    with Tracer(model, (X, Y), estimators="exact", lenses=Travelled(), every=2) as tracer:
        for epoch in range(1, 6):
            move(model)
            tracer.snapshot(epoch)
    assert readings(tracer, TRAVEL) == {0: 0, 2: 2, 4: 4, 5: 5}
    assert readings(tracer, STEP) == {2: 2, 4: 2, 5: 1}


def test_a_dear_lens_takes_every_other_look_and_the_last() -> None:
    model = net()
    with Tracer(model, (X, Y), estimators="exact", lenses=Travelled(looks=2), every=1) as tracer:
        for epoch in range(1, 6):
            move(model)
            tracer.snapshot(epoch)
    assert readings(tracer, TRAVEL) == {0: 0, 2: 2, 4: 4, 5: 5}
    with Tracer(
        model, (X, Y), estimators="exact", lenses=At(Travelled(looks=2), 1), every=1
    ) as tracer:
        tracer.snapshot(1)
    assert list(readings(tracer, TRAVEL)) == [0, 1]


def test_a_resumed_run_is_told_what_was_remembered(tmp_path: Path) -> None:
    model = net()
    how: dict[str, Any] = {"estimators": "exact", "lenses": Travelled(), "every": 1}
    with Tracer(model, (X, Y), keep=tmp_path, **how) as tracer:
        move(model)
        tracer.snapshot(1)
        state = tracer.state_dict()
    torch.save(state, tmp_path / "state.pt")
    move(model)
    keep = Keep(run=tmp_path, resume=True)
    with Tracer(model, (X, Y), keep=keep, **how) as tracer:
        tracer.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        tracer.snapshot(2)
    assert readings(tracer, TRAVEL) == {0: 0, 1: 1, 2: 2}
    assert readings(tracer, STEP) == {1: 1, 2: 1}
    with (
        pytest.warns(LensFailed, match=r"first look are not known.*load_state_dict"),
        Tracer(model, (X, Y), keep=keep, **how) as tracer,
    ):
        tracer.snapshot(3)


def raw(folder: Path) -> dict[str, Any]:
    (folder / "my_travel.py").write_text(Path(__file__).read_text())
    return {
        "data": {"class_path": "ibtrace.datasets.tishby"},
        "model": {
            "class_path": "ibtrace.models.MLP",
            "init_args": {"widths": [12, 3, 2], "activation": "tanh", "output": "logits"},
        },
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
        "epochs": 4,
        "seeds": 2,
        "batch_size": 512,
        "estimators": ["exact"],
        "every": 1,
        "lenses": [{"class_path": "my_travel.Travelled"}],
    }


def test_a_run_that_was_killed_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("ibtrace.training.loop._CHECKPOINT_SECONDS", 0.0)
    config = raw(tmp_path)
    whole = runner.run(config, tmp_path / "whole")[""].readings()
    saved = torch.save
    count = 0

    def dying(*args: Any, **kwargs: Any) -> None:
        nonlocal count
        saved(*args, **kwargs)
        count += 1
        if count == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        runner.run(config, tmp_path / "killed")
    monkeypatch.setattr(torch, "save", saved)
    again = runner.run(config, tmp_path / "killed", resume=True)[""].readings()
    columns = ["seed", "epoch", "quantity", "value"]
    assert again[columns].equals(whole[columns])
    assert len(whole.query("quantity == @STEP.name")) == 2 * 4


class TestRecipe:
    """Samples, batch and optimiser of the training."""

    ROWS: ClassVar[Tensor] = torch.tensor([[0, 1, 2, 5], [7, 3, 4, 9]])

    def view(self, recipe: Recipe) -> NetworkView:
        networks = Ensemble(lambda seed: net(), seeds=[3, 5])
        with torch.no_grad():
            for value in networks.named_parameters().values():
                value[1] += 0.5
        own = networks.named_parameters()
        stacked = Stacked(networks.template, own, {}, networks.seeds, own)
        return NetworkView(stacked, Probe(X, Y), Setting("cross_entropy", recipe=recipe))

    def test_each_network_is_seen_on_its_own_samples(self) -> None:
        view = self.view(Recipe(Part(Probe(X, Y), self.ROWS), (X[10:], Y[10:])))
        training, test = view.training, view.test
        assert training is not None
        assert test is not None
        assert (training.samples, test.samples) == (4, 14)
        for at, rows in enumerate(self.ROWS):
            alone = view.at({n: v[at : at + 1] for n, v in view.parameters.items()}, [at])
            own = NetworkView(alone.networks, Probe(X[rows], Y[rows]), Setting("cross_entropy"))
            torch.testing.assert_close(training.losses[at], own.losses[0])
            assert torch.equal(training.labels[at], Y[rows])
            assert torch.equal(training.inputs[at], X[rows])
            for name in own.parameters:
                torch.testing.assert_close(training.gradient[name][at], own.gradient[name][0])
                torch.testing.assert_close(
                    training.sample_gradients[name][at], own.sample_gradients[name][0]
                )
            torch.testing.assert_close(training.hessian[at], own.hessian[0])
            torch.testing.assert_close(training.input_jacobian[at], own.input_jacobian[0])
        torch.testing.assert_close(test.losses, view.losses[:, 10:])
        few = training.thinned(2)
        assert few.samples == 2
        assert few is training.thinned(2)
        assert few.losses.shape == (2, 2)

    def test_the_optimisers_state_is_read(self) -> None:
        networks = Ensemble(lambda seed: net(), seeds=[3, 5])
        own = networks.named_parameters()
        optimizer = torch.optim.AdamW(own.values(), lr=0.1, betas=(0.8, 0.9), weight_decay=0.3)
        stacked = Stacked(networks.template, own, {}, networks.seeds, own)
        setting = Setting("cross_entropy", recipe=Recipe(optimizer=optimizer, batch_size=7))
        view = NetworkView(stacked, Probe(X, Y), setting)
        state = view.optimizer
        assert state is not None
        assert (state.kind, state.lr, state.adam.betas, state.weight_decay) == (
            *("adamw", 0.1, (0.8, 0.9), 0.3),
        )
        assert (view.batch_size, state.steps, state.adam.second) == (7, 0, {})
        for value in own.values():
            value.grad = torch.full_like(value, 2.0)
        optimizer.step()
        state = view.optimizer
        assert state is not None
        assert state.steps == 1
        for name, value in own.items():
            torch.testing.assert_close(state.adam.second[name], torch.full_like(value, 0.4))

    def test_one_network_has_its_moments_first_dimension(self) -> None:
        model = net()
        optimizer = torch.optim.Adam(model.parameters())
        model(X).sum().backward()
        optimizer.step()
        setting = Setting(recipe=Recipe(optimizer=optimizer))
        state = NetworkView(Stacked.of_module(model), Probe(X, Y), setting).optimizer
        assert state is not None
        shapes = {name: (1, *value.shape) for name, value in model.named_parameters()}
        assert {n: tuple(v.shape) for n, v in state.adam.second.items()} == shapes

    def test_groups_that_differ_are_refused(self) -> None:
        model = net()
        first, *rest = model.parameters()
        groups: list[dict[str, Any]] = [{"params": [first], "lr": 0.1}, {"params": rest}]
        setting = Setting(recipe=Recipe(optimizer=torch.optim.SGD(groups, lr=0.2)))
        view = NetworkView(Stacked.of_module(model), Probe(X, Y), setting)
        with pytest.raises(Unsupported, match=r"groups of parameters have different settings"):
            _ = view.optimizer

    @pytest.mark.parametrize(
        ("given", "match"),
        [
            ({"batch_size": 0}, r"Recipe: batch_size must be at least 1, got 0"),
            ({"batch_size": 2.5}, r"Recipe: batch_size must be a whole number, got 2.5"),
            ({"optimizer": "adam"}, r"Recipe: optimizer must be torch's, got 'adam'"),
            ({"random": "yes"}, r"Recipe: random must be True or False, got 'yes'"),
        ],
    )
    def test_nonsense_is_refused(self, given: dict[str, Any], match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            Recipe(**given)
