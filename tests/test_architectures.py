"""Real architectures, small and with random weights: T of each layer, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ibtrace.capture import Look, is_activation, looks
from ibtrace.probe import Probe

transformers = pytest.importorskip("transformers")

N, LENGTH, SHORT, WORDS = 6, 7, 5, 40
Case = tuple[nn.Module, dict[str, Tensor], dict[str, str]]
"""A model, its inputs, and the mask (or the place of the channels) of layers by their prefix."""

CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__] = make
    return make


def built(name: str, **fields: Any) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(**fields)
    model: nn.Module = getattr(transformers, f"{name}Model")(config)
    return model


def tokens(length: int = LENGTH) -> Tensor:
    return torch.randint(3, WORDS - 1, (N, length))


def mask(length: int = LENGTH) -> Tensor:
    lengths = torch.arange(N)[:, None] % (length - 1) + 2
    return (torch.arange(length) < lengths).long()


def images() -> Tensor:
    return torch.randn(N, 3, 16, 32)


LAYERS = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
LAYERS["num_attention_heads"] = 2
SEQUENCES = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
SEQUENCES |= {"decoder_attention_heads": 2, "d_model": 8, "encoder_ffn_dim": 12}
SEQUENCES |= {"decoder_ffn_dim": 12, "vocab_size": WORDS}


@case
def t5() -> Case:
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2}
    x = {"input_ids": tokens(), "attention_mask": mask()}
    x |= {"decoder_input_ids": tokens(SHORT), "decoder_attention_mask": mask(SHORT)}
    masks = {"encoder": "attention_mask", "decoder": "decoder_attention_mask"}
    return built("T5", vocab_size=WORDS, **sizes), x, masks | {"output": masks["decoder"]}


@case
def bart() -> Case:
    x = {"input_ids": tokens(), "attention_mask": mask(), "decoder_input_ids": tokens()}
    return built("Bart", **SEQUENCES), x, {"encoder": "attention_mask"}


@case
def whisper() -> Case:
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    special["decoder_start_token_id"] = 1
    net = built("Whisper", num_mel_bins=4, max_source_positions=10, **SEQUENCES, **special)
    return net, {"input_features": torch.randn(N, 4, 20), "decoder_input_ids": tokens(SHORT)}, {}


@case
def bert() -> Case:
    x = {"input_ids": tokens(), "attention_mask": mask(), "token_type_ids": tokens() % 2}
    return built("Bert", vocab_size=WORDS, **LAYERS), x, {"": "attention_mask"}


@case
def gpt2() -> Case:
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": WORDS}
    net = built("GPT2", bos_token_id=1, eos_token_id=2, **sizes)
    return net, {"input_ids": tokens(), "attention_mask": mask()}, {"": "attention_mask"}


@case
def clip() -> Case:
    text = {**LAYERS, "vocab_size": WORDS, "bos_token_id": 1, "eos_token_id": WORDS - 1}
    vision = {**LAYERS, "image_size": 16, "patch_size": 8}
    net = built("CLIP", text_config=text, vision_config=vision)
    x = {"input_ids": tokens(), "attention_mask": mask(), "pixel_values": torch.randn(N, 3, 16, 16)}
    return net, x, {"text_model": "attention_mask"}


@case
def swin() -> Case:
    sizes = {"image_size": 32, "patch_size": 4, "embed_dim": 4, "window_size": 2}
    net = built("Swin", depths=[1, 2], num_heads=[1, 2], **sizes)
    return net, {"pixel_values": torch.randn(N, 3, 32, 32)}, {}


@case
def convnext() -> Case:
    net = built("ConvNext", num_stages=2, hidden_sizes=[4, 8], depths=[1, 1])
    stages = {f"encoder.stages.{at}": "first" for at in (0, 1)}
    inside = {f"encoder.stages.{at}.layers": "last" for at in (0, 1)}
    return net, {"pixel_values": images()}, {**stages, **inside, "output": "first"}


@case
def wav2vec() -> Case:
    convolutions = {"conv_dim": (4, 4), "conv_kernel": (4, 2), "conv_stride": (2, 2)}
    groups = {"num_conv_pos_embeddings": 2, "num_conv_pos_embedding_groups": 2}
    net = built("Wav2Vec2", **LAYERS, **convolutions, **groups)
    channels = {"feature_extractor": "first", "encoder.pos_conv_embed": "first"}
    return net, {"input_values": torch.randn(N, 60)}, channels


@case
def mamba() -> Case:
    sizes = {"hidden_size": 8, "state_size": 4, "num_hidden_layers": 1, "vocab_size": WORDS}
    return built("Mamba", **sizes), {"input_ids": tokens()}, {"layers.0.mixer": "first"}


def raw(model: nn.Module, x: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """What the layers gave in one forward, by hooks of one's own."""
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            parts = output.values() if isinstance(output, Mapping) else output
            first = output if isinstance(output, Tensor) else next(iter(parts))
            seen.setdefault(name, first.clone())

        return keep

    for name in names:
        module = model if name == "output" else model.get_submodule(name)
        module.register_forward_hook(hook(name))
    with torch.no_grad():
        model.eval()(**x)
    return seen


def by_hand(output: Tensor, told: str, x: Mapping[str, Tensor]) -> Tensor:
    if output.dim() < 3:
        return output
    if told == "first":
        return output.flatten(2).mean(2)
    values = output.flatten(1, -2)
    real = x[told].bool() if told in x else torch.ones(values.shape[:2], dtype=torch.bool)
    return torch.stack([v[r].mean(0) for v, r in zip(values, real, strict=True)])


def _is_activation(name: str, module: nn.Module) -> bool:
    return is_activation(module)


@pytest.mark.filterwarnings("ignore:left out of the trace")
@pytest.mark.parametrize("name", CASES)
def test_t_is_the_mean_over_a_layers_own_real_positions(name: str) -> None:
    torch.manual_seed(0)
    model, x, told = CASES[name]()
    probe = Probe(x, torch.arange(N) % 2)
    stream = looks(model, probe, Look(batch_size=4))
    inside = Look(_is_activation, batch_size=4)  # of a Mamba they are called functions
    activations = () if name == "mamba" else looks(model, probe, inside)
    parts = [part for look in (stream, activations) for part in look]
    layers = {name: layer for part in parts for name, layer in part.items()}
    by_module = {layer.module or name: layer for name, layer in layers.items()}
    modules = {"output", *dict(model.named_modules())}
    single = {name: layer for name, layer in by_module.items() if name in modules}
    outputs = raw(model, x, list(single))
    assert len(single) > (0 if name == "mamba" else 1)
    for layer, captured in single.items():
        prefix = max((p for p in told if layer.startswith(p)), key=len, default=None)
        expected = by_hand(outputs[layer], "" if prefix is None else told[prefix], x)
        torch.testing.assert_close(captured.values, expected, msg=partial("{1}: {0}".format, layer))
