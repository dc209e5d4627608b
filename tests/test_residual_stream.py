"""The default layers of encoders and decoders: the stream after the embedding and each block."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ibtrace
from ibtrace.capture import Look, looks, snapshot
from ibtrace.errors import RunError, UnknownName
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer

N, LENGTH, WORDS, WIDTH = 8, 6, 30, 8
SIZES = {"hidden_size": WIDTH, "intermediate_size": 12, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "vocab_size": WORDS}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
Y = torch.arange(N) % 2


def ids(length: int = LENGTH) -> Tensor:
    return torch.randint(3, WORDS, (N, length), generator=torch.Generator().manual_seed(0))


def built(config: str, model: str, **fields: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    network: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**fields))
    return network


def gpt2(**fields: Any) -> nn.Module:
    sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "vocab_size": WORDS, "n_positions": 16}
    return built("GPT2Config", "GPT2LMHeadModel", **{**sizes, **SPECIAL, **fields})


def t5() -> nn.Module:
    sizes = {"d_model": WIDTH, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2}
    special = {"decoder_start_token_id": 0, "vocab_size": WORDS}
    return built("T5Config", "T5ForConditionalGeneration", **sizes, **special)


def vit() -> nn.Module:
    sizes = {name: SIZES[name] for name in SIZES if name != "vocab_size"}
    return built("ViTConfig", "ViTForImageClassification", image_size=8, patch_size=4, **sizes)


def own() -> nn.Module:
    """A decoder as one writes it oneself: no class of a library, blocks in a sequence."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.up = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 12)
            self.down = nn.Sequential(nn.GELU(), nn.Linear(12, WIDTH))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x + self.down(self.up(self.norm(x))).cumsum(1)
            return out

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.blocks = nn.Sequential(Block(), Block())
            self.head = nn.Linear(WIDTH, WORDS, bias=False)
            self.head.weight = self.words.weight

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
            out: Tensor = self.head(self.blocks(x))
            return out

    torch.manual_seed(0)
    return Decoder()


def two_layers(kind: str, head: str, **fields: Any) -> Callable[[], nn.Module]:
    return lambda: built(f"{kind}Config", f"{kind}{head}", **SIZES, **fields)


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "gpt2": (gpt2, "transformer.h"),
    "llama": (two_layers("Llama", "ForCausalLM", num_key_value_heads=1), "model.layers"),
    "qwen": (two_layers("Qwen2", "ForCausalLM", num_key_value_heads=1), "model.layers"),
    "pythia": (two_layers("GPTNeoX", "ForCausalLM", **SPECIAL), "gpt_neox.layers"),
    "bert": (two_layers("Bert", "ForMaskedLM"), "bert.encoder.layer"),
    "own": (own, "blocks"),
}


def raw(model: nn.Module, x: Any, names: list[str]) -> dict[str, Tensor]:
    """What modules gave, or were given, by hooks of the test's own."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, args: tuple[Any, ...], output: Any = None) -> None:
            value = args if output is None else output
            seen[name] = (value if isinstance(value, Tensor) else value[0]).clone()

        return keep

    for name in names:
        module = model.get_submodule(name.removesuffix(":input"))
        if name.endswith(":input"):
            module.register_forward_pre_hook(hook(name))
        else:
            module.register_forward_hook(hook(name))
    with torch.no_grad():
        model.eval()(**x) if isinstance(x, dict) else model.eval()(x)
    return seen


@pytest.mark.parametrize("name", MODELS)
def test_it_is_traced_after_the_embedding_and_after_each_block(name: str) -> None:
    make, stack = MODELS[name]
    modules = [f"{stack}.0:input", f"{stack}.0", f"{stack}.1"]
    (layers,) = looks(make(), Probe(ids(), Y, padding=None))
    assert list(layers) == ["embedding", "block0", "block1"]
    assert [layer.module for layer in layers.values()] == modules
    for (_, layer), expected in zip(
        layers.items(), raw(make(), ids(), modules).values(), strict=True
    ):
        torch.testing.assert_close(layer.values, expected.mean(1))


def test_an_encoder_of_pictures_keeps_its_output_of_classes() -> None:
    x = torch.randn(N, 3, 8, 8)
    assert [*snapshot(vit(), Probe(x, Y))] == ["embedding", "block0", "block1", "output"]


@pytest.mark.filterwarnings("ignore:.*left out of the trace")
def test_the_streams_of_an_encoder_and_a_decoder_are_told_apart() -> None:
    x = {"input_ids": ids(), "decoder_input_ids": ids(4)}
    (layers,) = looks(t5(), Probe(x, Y, padding=None))
    assert {name: layer.module for name, layer in layers.items()} == {
        f"{part}.{name}": f"{part}.{module}"
        for part in ("encoder", "decoder")
        for name, module in (
            ("embedding", "block.0:input"),
            ("block0", "block.0"),
            ("block1", "block.1"),
        )
    }


def test_states_of_a_mamba_like_model_are_one_too() -> None:
    sizes = {"hidden_size": WIDTH, "state_size": 4, "num_hidden_layers": 2, "vocab_size": WORDS}
    model = built("MambaConfig", "MambaForCausalLM", **sizes)
    (layers,) = looks(model, Probe(ids(), Y, padding=None))
    assert [layer.module.rpartition(".")[2] for layer in layers.values()] == ["0:input", "0", "1"]


def test_a_block_that_runs_again_and_again_is_a_block_each_time() -> None:
    fields = {**SIZES, "num_hidden_layers": 3, "embedding_size": 4}
    model = built("AlbertConfig", "AlbertModel", **fields)
    assert [*snapshot(model, Probe(ids(), Y))] == ["embedding", "block0", "block1", "block2"]


def test_all_blocks_of_a_deep_one_are_traced() -> None:
    assert len(snapshot(gpt2(n_layer=15), Probe(ids(), Y))) == 16


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (["transformer.h.1"], ["transformer.h.1"]),
        (["block1"], ["block1"]),
        (["block*"], ["block0", "block1"]),
        (["embedding", "transformer.h.0"], ["embedding", "transformer.h.0"]),
    ],
)
def test_layers_are_chosen_by_their_modules_and_by_their_names_in_a_trace(
    layers: list[str], names: list[str]
) -> None:
    probe = Probe(ids(), Y)
    assert [*snapshot(gpt2(), probe, layers)] == names
    assert Tracer(gpt2(), probe, estimators="exact", look=layers).trace.layers == names


def test_exclusions_and_reductions_take_both_names() -> None:
    probe = Probe(ids(), Y)
    look = Look(exclude="embedding", reduce={"block1": "flatten", "**": "token:last"})
    (layers,) = looks(gpt2(), probe, look)
    shapes = {name: tuple(layer.values.shape) for name, layer in layers.items()}
    assert shapes == {"block0": (N, WIDTH), "block1": (N, LENGTH * WIDTH)}
    (by_module,) = looks(gpt2(), probe, Look(reduce={"transformer.h.0": "flatten"}))
    assert by_module["block0"].variable == "flatten"
    tracer = Tracer(gpt2(), probe, estimators="exact", look=Look(reduce={"block1": "flatten"}))
    assert tracer.trace.meta["captured"]["block1"]["variable"] == "flatten"
    with pytest.raises(UnknownName, match="no layer matches 'blok1'; the layers are: transformer,"):
        snapshot(gpt2(), probe, ["blok1"])


def test_a_trace_and_the_table_of_layers_name_the_module() -> None:
    tracer = Tracer(gpt2(), (ids(), Y), estimators="exact")
    captured = tracer.trace.meta["captured"]
    assert captured["block1"]["module"] == "transformer.h.1"
    assert captured["embedding"]["module"] == "transformer.h.0:input"
    assert "embedding is 'transformer.h.0:input'" in str(tracer.verdict())
    table = ibtrace.layers(gpt2(), ids())
    rows = {row.layer: row.shown for row in table.rows if row.default}
    assert rows == {
        "transformer.h.0:input": "embedding",
        "transformer.h.0": "block0",
        "transformer.h.1": "block1",
    }
    assert "as block1" in str(table)


def test_a_run_holds_one_module_under_a_name(tmp_path: Any) -> None:
    class Named(nn.Module):
        """Its own embedding bears the name."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.rest = nn.Embedding(WORDS, WIDTH), own().get_submodule("blocks")

        def forward(self, tokens: Tensor) -> Tensor:
            out: Tensor = self.rest(2 * self.embedding(tokens))
            return out

    torch.manual_seed(0)
    first, second = Named(), Named()
    with Tracer(first, (ids(), Y), estimators="exact", keep=tmp_path):
        pass
    with pytest.raises(RunError, match="'embedding' is another T"):
        Tracer(second, (ids(), Y), estimators="exact", keep=tmp_path, look="embedding", seed=1)


def test_what_is_no_stream_is_traced_as_before() -> None:
    class Convolutions(nn.Module):
        """Blocks whose last axis is time."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(3, 5, 1)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.Sequential(nn.Conv1d(5, 5, 3, padding=1), nn.Tanh()))
                for _ in range(2)
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for block in self.blocks:
                x = x + block(x)
            return x.mean(2)

    layers = snapshot(Convolutions(), Probe(torch.randn(N, 3, 7), Y))
    assert "block0" not in layers
    assert "output" in layers

    class Heads(nn.Module):
        """Parallel parts, which are given one tensor."""

        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(WORDS, WIDTH)
            self.heads = nn.ModuleList(own().get_submodule("blocks.0") for _ in range(2))

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.words(tokens)
            return torch.stack([head(x) for head in self.heads]).mean(0)

    assert "block0" not in snapshot(Heads(), Probe(ids(), Y))


def test_heads_of_generation_and_tied_embeddings_cause_no_trouble() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tied in (True, False):
            model = gpt2(tie_word_embeddings=tied)
            tracer = Tracer(model, (ids(), Y), estimators="exact")
            assert tracer.trace.layers == ["embedding", "block0", "block1"]
