"""Large models: memory stays bounded, and what is measured stays what it was."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ibtrace import cli
from ibtrace.capture import Look, looks, snapshot
from ibtrace.datasets import mnist
from ibtrace.errors import InvalidInput, LeftOut
from ibtrace.estimators import Binning, KozachenkoLeonenko
from ibtrace.models import CNN
from ibtrace.probe import Probe
from ibtrace.trace import Trace
from ibtrace.tracer import Tracer
from ibtrace.types import Estimate, ProbeLike

N, WIDTH = 200, 16


def deep(layers: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [module for _ in range(layers) for module in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    return nn.Sequential(*blocks)


def probe() -> Probe:
    x = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0))
    return Probe(x, (x[:, 0] > 0).long())


ONE = N * WIDTH * 4  # bytes of one layer


@pytest.mark.parametrize(("most", "passes"), [(5 * ONE, 1), (2 * ONE, 3), (ONE, 5)])
def test_no_more_than_max_bytes_is_held_and_the_rows_are_the_same(most: int, passes: int) -> None:
    parts = list(looks(deep(), probe(), Look(batch_size=64, max_bytes=most)))
    assert len(parts) == passes
    for part in parts:
        assert sum(layer.values.nbytes for layer in part.values()) <= most
    together = {name: layer.values for part in parts for name, layer in part.items()}
    expected = snapshot(deep(), probe())
    assert list(together) == list(expected)
    assert all(torch.equal(together[name], expected[name]) for name in expected)
    columns = ["epoch", "layer", "quantity", "bits", "flags"]
    bounded, free = (
        Tracer(
            deep(), probe(), estimators=["binning", "ksg"], look=Look(max_bytes=size)
        ).trace.frame()
        for size in (most, 2**31)
    )
    assert bounded[columns].equals(free[columns])


def test_only_the_layers_of_a_part_are_alive_while_it_is_measured() -> None:
    class Spy(Binning):
        alive: ClassVar[list[int]] = []

        def informations(
            self, t: Tensor, probe: ProbeLike, others: Sequence[ProbeLike] = (), *, seed: int = 0
        ) -> list[Estimate]:
            values = [o for o in gc.get_objects() if type(o) is Tensor and _like(o, t)]
            self.alive.append(len({v.untyped_storage().data_ptr() for v in values}))
            return super().informations(t, probe, others, seed=seed)

    Tracer(deep(), probe(), estimators=[Spy()])
    assert Spy.alive == [6]  # five layers, and the batch they are measured as
    Spy.alive.clear()
    Tracer(deep(), probe(), estimators=[Spy()], look=Look(max_bytes=2 * ONE))
    assert Spy.alive == [3, 3, 2]


def _like(value: Tensor, t: Tensor) -> bool:
    """Whether a tensor holds one layer's values, or the batch of them."""
    return value.shape[-2:] == t.shape[-2:] and value.dtype == t.dtype and not is_input(value)


def is_input(value: Tensor) -> bool:
    flat = value.flatten(0, -2)
    return len(flat) == N and torch.equal(flat, probe().features)


def test_a_layer_beyond_max_bytes_is_an_error_before_any_training() -> None:
    with pytest.raises(InvalidInput, match=r"'1': it needs 12,800 bytes .* max_bytes is 12,799"):
        Tracer(deep(), probe(), look=Look(layers=["1"], max_bytes=ONE - 1))
    with (
        pytest.warns(LeftOut, match="it needs 12,800 bytes"),
        pytest.raises(InvalidInput, match="no layer can be traced; layer '1': it needs 12,800"),
    ):
        Tracer(deep(), probe(), look=Look(max_bytes=ONE - 1))
    assert Tracer(
        deep(), probe(), look=Look(max_bytes=ONE - 1, max_width=4), estimators=["exact"]
    ).trace


def test_wide_layers_are_projected_alike_each_time_and_every_row_says_so() -> None:
    tracer = Tracer(
        deep(1), probe(), look=Look(max_width=5), estimators=["exact", "binning"], every=1
    )
    with tracer:
        tracer.snapshot(1)
    frame = tracer.trace.frame()
    assert frame.variable.str.endswith("5 random projections of 16").all()
    first, second = (frame[frame.epoch == epoch].bits.tolist() for epoch in (0, 1))
    assert first == second  # nothing was trained: the projection is the same
    (layer,) = next(looks(deep(1), probe(), Look(max_width=5))).values()
    expected = snapshot(deep(1), probe())["1"]
    assert layer.values.shape == (N, 5)
    assert layer.activation_range is None  # a projection of tanh leaves [-1, 1]
    frame_of = torch.linalg.lstsq(expected.double(), layer.values.double()).solution
    torch.testing.assert_close(frame_of.T @ frame_of, torch.eye(5).double(), atol=1e-5, rtol=0)


def test_reduced_precision_is_measured_and_named() -> None:
    model = deep(1).bfloat16()
    data = Probe(probe().features.bfloat16(), probe().y)
    tracer = Tracer(model, data, estimators=["exact"])
    frame = tracer.trace.frame()
    assert set(frame.variable) == {"bfloat16"}
    assert (frame[frame.quantity == "I(X;T)"].bits <= data.input_entropy).all()


# --- models of the sizes that people have ----------------------------------------------------


@pytest.mark.skipif(
    "IBTRACE_DATA" not in os.environ, reason="IBTRACE_DATA is not set to a folder with MNIST"
)
def test_a_million_parameter_cnn_on_mnist() -> None:
    torch.manual_seed(0)
    model = CNN()
    assert sum(parameter.numel() for parameter in model.parameters()) >= 1_000_000
    images = mnist("test", flatten=False)
    loader = DataLoader(TensorDataset(images.x, images.y), batch_size=500)
    tracer = Tracer(model, loader, estimators=["binning"], look=Look(max_bytes=2**25))
    frame = tracer.trace.frame()
    assert tracer.probe.n == 10_000
    assert frame.bits.between(0, tracer.probe.input_entropy + 1e-9).all()
    assert frame[frame.layer.str.startswith("maps")].variable.str.startswith("gap").all()


def bert() -> Any:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=50, intermediate_size=64, num_labels=2, **sizes)
    return transformers.BertForSequenceClassification(config)


def gpt2() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2, num_labels=2, pad_token_id=0
    )
    return transformers.GPT2ForSequenceClassification(config)


def sentences(n: int = 40) -> Probe:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 50, (n, 9), generator=generator)
    lengths = torch.randint(3, 10, (n, 1), generator=generator)
    mask = (torch.arange(9) < lengths).long()
    return Probe({"input_ids": tokens * mask, "attention_mask": mask}, tokens[:, 0] % 2)


@pytest.mark.parametrize(
    ("build", "layers", "blocks"),
    [
        (bert, ["bert.encoder.layer.*.output", "output"], "bert.encoder.layer.0.output"),
        (gpt2, ["transformer.h.*.mlp", "output"], "transformer.h.0.mlp"),
    ],
)
@pytest.mark.parametrize("reduce", [None, "token:cls", "token:last", "tokens"])
def test_transformers_are_traced_by_their_arguments(
    build: Callable[[], Any], layers: list[str], blocks: str, reduce: str | None
) -> None:
    torch.manual_seed(0)
    model, data = build(), sentences()
    with Tracer(
        model, data, look=Look(layers=layers, reduce=reduce), estimators=["exact"]
    ) as tracer:
        pass
    frame = tracer.trace.frame()
    mine = frame[(frame.layer == blocks) & (frame.quantity == "I(X;T)")]
    assert mine.variable.item() == (reduce or "token:mean")
    assert mine.bits.item() > 0
    captured = tracer.trace.meta["captured"]
    assert captured[blocks]["shape"] == [9, 32]
    assert captured["output"]["shape"] == [2]
    model.eval()
    with torch.no_grad():
        logits = model(**data.inputs).logits
    torch.testing.assert_close(snapshot(model, data, "output")["output"], logits)


def test_padding_never_reaches_a_token_reduction() -> None:
    torch.manual_seed(0)
    model, data = bert(), sentences()
    other = dict(data.inputs)
    other["input_ids"] = torch.where(data.inputs["attention_mask"] == 1, other["input_ids"], 7)
    for reduce in ("token:mean", "token:last", "token:cls"):
        one, two = (
            next(
                looks(
                    model,
                    Probe(x, data.y),
                    Look(layers="bert.encoder.layer.1.output", reduce=reduce),
                )
            )
            for x in (data.inputs, other)
        )
        for name, layer in one.items():
            torch.testing.assert_close(two[name].values, layer.values)


MY_BERT = """
import torch
import transformers
from ibtrace.datasets import Dataset

def sentences() -> Dataset:
    x = torch.randint(1, 50, (120, 9), generator=torch.Generator().manual_seed(0))
    return Dataset("sentences", x, (x[:, 0] > 25).long(), classes=2)

class Classifier(torch.nn.Module):
    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        config = transformers.BertConfig(
            vocab_size=50, hidden_size=hidden, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, num_labels=2,
        )
        self.bert = transformers.BertForSequenceClassification(config)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.bert(input_ids).logits
"""

MY_BERT_YAML = """
model: {class_path: my_bert.Classifier, init_args: {hidden: 16}}
data: {class_path: my_bert.sentences}
optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1.0e-3}}
epochs: 2
seeds: 1
snapshots: [0, 1, 2]
batch_size: 40
layers: [bert.bert.encoder.layer.*.output, output]
reduce: {"**.output": "token:cls"}
estimators: [kde]
"""


def test_a_small_bert_from_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("my_bert.py").write_text(MY_BERT)
    Path("my_bert.yaml").write_text(MY_BERT_YAML)
    assert cli.main(["run", "my_bert.yaml", "--quiet"]) == 0
    frame = Trace.load("runs/my_bert").frame()
    assert frame.epoch.unique().tolist() == [0, 1, 2]
    first = frame[(frame.layer == "bert.bert.encoder.layer.0.output") & (frame.epoch == 0)]
    assert set(first.variable) == {"token:cls"}
    assert first.bits.between(0, math.log2(120)).all()
    assert "bert.bert.encoder.layer.1.output" in capsys.readouterr().out


@pytest.mark.parametrize("n", [500, 2000])
@pytest.mark.parametrize("jitters", [(1e-4, 0.02), (1e-3, 0.03), (0.02, 1e-4)])
def test_entropies_of_clusters_whose_jitters_differ_are_right_or_flagged(
    n: int, jitters: tuple[float, float]
) -> None:
    """Four clusters of x that are those of y: 2 bits, of which the entropies lose up to all."""
    generator = torch.Generator().manual_seed(0)
    cluster = torch.randint(4, (n, 1), generator=generator).double()
    x, y = (cluster + by * torch.randn(n, 1, generator=generator) for by in jitters)
    estimate = KozachenkoLeonenko()(x, y)
    assert abs(float(estimate.bits) - 2) < 0.2 or bool(estimate.flags["scales_apart"])


@pytest.mark.parametrize("rho", [0.0, 0.75, 0.99])
def test_entropies_of_normals_do_not_hang_on_their_scales(rho: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 600, 1, generator=generator).double()
    estimate = KozachenkoLeonenko()(x, rho * x + (1 - rho**2) ** 0.5 * noise)
    assert not bool(estimate.flags["scales_apart"])
