"""Seeds of one run are of one architecture, and measured alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.ensemble import Ensemble
from ibtrace.errors import RunError
from ibtrace.tracer import Keep, Tracer
from ibtrace.tracer._architecture import architecture, first_difference

X = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > 0).long()


def mlp(
    _seed: int = 0,
    *,
    hidden: int = 6,
    act: Callable[[], nn.Module] = nn.Tanh,
    first: Callable[..., nn.Module] = nn.Linear,
) -> nn.Sequential:
    last = nn.Linear(hidden, 2)
    return nn.Sequential(first(5, hidden), act(), last)


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def traced(run: Path, model: Any, **changes: Any) -> Tracer:
    arguments = {"estimators": ["binning", "exact"], "every": 1, "look": "2", **changes}
    with Tracer(model, (X, Y), keep=Keep(run, resume="seed" not in changes), **arguments) as tracer:
        pass
    return tracer


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a width": (partial(mlp, hidden=7), r"0 is Linear\(in_features=5, out_features=6.*7"),
    "an activation": (partial(mlp, act=nn.ReLU), r"1 is Tanh\(\) in the run, ReLU\(.*\) now"),
    "a setting": (partial(mlp, act=partial(nn.Dropout, 0.1)), r"Dropout\(p=0\.1"),
    "a class": (partial(mlp, first=Doubled), r"0 is Linear.*Doubled"),
    "a bias": (partial(mlp, first=partial(nn.Linear, bias=False)), "bias=False"),
    "a type": (lambda: mlp().double(), "float32.*float64"),
    "a layer": (lambda: nn.Sequential(*mlp(), nn.Tanh()), r"3 is not there in the run"),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("seed", [{}, {"seed": 1}])
def test_another_model_does_not_join_a_run(tmp_path: Path, other: str, seed: Any) -> None:
    make, match = OTHERS[other]
    before = traced(tmp_path, mlp(), seed=0).trace.frame()
    with pytest.raises(RunError, match="another model: .*" + match):
        traced(tmp_path, make(), **seed)
    assert traced(tmp_path, mlp(), seed=2).trace.frame().query("seed == 0").equals(before)


TORCHS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "a nonlinearity": (lambda: nn.RNN(5, 6), lambda: nn.RNN(5, 6, nonlinearity="relu")),
    "heads": (lambda: nn.MultiheadAttention(8, 1), lambda: nn.MultiheadAttention(8, 8)),
    "an order": (
        lambda: nn.TransformerEncoderLayer(8, 2, 8),
        lambda: nn.TransformerEncoderLayer(8, 2, 8, norm_first=True),
    ),
    "a function": (
        lambda: nn.TransformerEncoderLayer(8, 2, 8),
        lambda: nn.TransformerEncoderLayer(8, 2, 8, activation="gelu"),
    ),
}


@pytest.mark.parametrize("setting", TORCHS)
def test_settings_that_torch_does_not_print_are_told_apart(setting: str) -> None:
    one, other = TORCHS[setting]
    assert architecture(one()) == architecture(one())
    assert first_difference(architecture(one()), architecture(other()))


def test_the_same_model_joins_however_it_is_wrapped(tmp_path: Path) -> None:
    traced(tmp_path, mlp(), seed=0)
    traced(tmp_path, torch.compile(mlp(), backend="eager"), seed=1)
    traced(tmp_path, nn.DataParallel(mlp()), seed=2)
    lazy = mlp(first=lambda _, hidden: nn.LazyLinear(hidden))
    with pytest.warns(UserWarning, match="lazy"):
        traced(tmp_path, lazy, seed=3)
    assert traced(tmp_path, Ensemble(mlp, seeds=[4, 5])).trace.seeds == [0, 1, 2, 3, 4, 5]


class Remembers(nn.Module):
    """Holds what it has seen, in a buffer that grows."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()
        self.register_buffer("seen", torch.zeros(0, 5))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = torch.cat([self.seen, x])
        out: Tensor = self.net(x)
        return out


def test_a_buffer_that_has_grown_is_no_other_model(tmp_path: Path) -> None:
    model = Remembers()
    traced(tmp_path, model, seed=0, look="net.2")
    model(X)
    assert traced(tmp_path, model, look="net.2").trace.seeds == [0]


@pytest.mark.parametrize("seed", [{}, {"seed": 1}])
def test_other_instruments_are_named(tmp_path: Path, seed: Any) -> None:
    traced(tmp_path, mlp(), seed=0, lenses="saturation")
    with pytest.warns(UserWarning, match="goes on") as warned:
        tracer = traced(tmp_path, mlp(), estimators=["binning", "ksg"], lenses="norms", **seed)
    said = [str(w.message) for w in warned if "goes on" in str(w.message)]
    assert ["without Exact and with KSG as well" in said[0], "estimators" in said[0]] == [True] * 2
    assert "without Saturation and with Norms as well" in said[1]
    assert set(tracer.trace.meta["configurations"]) == {"Binning(bins=30)", "Exact", "KSG"}
