"""Real architectures traced with default arguments: what is seen of each, and what is left out.

The models are built from their configurations, small and with random weights; nothing is
downloaded. A library that is not installed is a row that says so, and so is a model that fails.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import environment, marked
from torch import Tensor, nn

from ibtrace import Tracer
from ibtrace.errors import LeftOut

N, LENGTH, WORDS = 64, 12, 100
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "diffusers", "torch_geometric")
LIBRARIES += ("sentence-transformers",)
RESULTS = Path(__file__).parent / "results" / "real_models.json"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- real models: begin -->\n", "<!-- real models: end -->\n"

GRAPH_NETS = ("GCN", "GraphSAGE", "GAT", "GIN")

Made = tuple[nn.Module, Any]
"""A model and its inputs."""

MODELS: dict[tuple[str, str], Callable[[], Made]] = {}


def model(library: str, name: str) -> Callable[[Callable[[], Made]], Callable[[], Made]]:
    """Enter what makes a model and its inputs into the table."""

    def enter(make: Callable[[], Made]) -> Callable[[], Made]:
        MODELS[library, name] = make
        return make

    return enter


def images(side: int = 32) -> Tensor:
    return torch.randn(N, 3, side, side)


def tokens(length: int = LENGTH) -> Tensor:
    return torch.randint(3, WORDS, (N, length))


def padding(length: int = LENGTH) -> Tensor:
    """1 for real tokens; at least two of each sample's are."""
    return (torch.arange(length) < torch.randint(2, length + 1, (N, 1))).long()


def text() -> dict[str, Tensor]:
    return {"input_ids": tokens(), "attention_mask": padding()}


def torchvision(name: str, side: int = 64, **fields: Any) -> Made:
    return importlib.import_module("torchvision").models.get_model(name, **fields), images(side)


def timm(name: str, side: int = 64, **fields: Any) -> Made:
    return importlib.import_module("timm").create_model(name, **fields), images(side)


TORCHVISION: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "densenet121": {},
    "efficientnet_b0": {},
    "mobilenet_v3_small": {},
    "inception_v3": {"side": 96, "init_weights": False},
    "googlenet": {"init_weights": False},
    "convnext_tiny": {},
    "swin_t": {},
    "vit_b_16": {"image_size": 64},
}
TIMM: dict[str, dict[str, Any]] = {
    "resnet10t": {},
    "convnext_atto": {},
    "mobilevit_xxs": {},
    "poolformer_s12": {},
    "caformer_s18": {},
    "mixer_s32_224": {"img_size": 64},
    "resmlp_12_224": {"img_size": 64},
    "vit_tiny_patch16_224": {"img_size": 64},
    "swin_tiny_patch4_window7_224": {"img_size": 56, "side": 56},
}
MODELS |= {
    ("torchvision", name): partial(torchvision, name, **f) for name, f in TORCHVISION.items()
}
MODELS |= {("timm", name): partial(timm, name, **f) for name, f in TIMM.items()}


def transformer(name: str, configuration: str, **fields: Any) -> nn.Module:
    library = importlib.import_module("transformers")
    built: nn.Module = getattr(library, name)(getattr(library, configuration)(**fields))
    return built


@model("transformers", "T5")
def _t5() -> Made:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    net = transformer("T5Model", "T5Config", vocab_size=WORDS, **sizes)
    decoder = {"decoder_input_ids": tokens(8), "decoder_attention_mask": padding(8)}
    return net, {**text(), **decoder}


@model("transformers", "BART")
def _bart() -> Made:
    layers = {"encoder_layers": 2, "decoder_layers": 2}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    net = transformer("BartModel", "BartConfig", vocab_size=WORDS, **layers, **heads, **sizes)
    return net, {**text(), "decoder_input_ids": tokens()}


@model("transformers", "CLIP")
def _clip() -> Made:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    sizes["num_attention_heads"] = 2
    written = {**sizes, "vocab_size": WORDS, "bos_token_id": 1, "eos_token_id": WORDS - 1}
    seen = {**sizes, "image_size": 32, "patch_size": 8}
    net = transformer("CLIPModel", "CLIPConfig", text_config=written, vision_config=seen)
    return net, {**text(), "pixel_values": images()}


@model("transformers", "Swin")
def _swin() -> Made:
    sizes = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "window_size": 4}
    net = transformer("SwinModel", "SwinConfig", depths=[2, 2], num_heads=[2, 2], **sizes)
    return net, images()


@model("transformers", "ConvNeXt")
def _convnext() -> Made:
    net = transformer(
        "ConvNextModel", "ConvNextConfig", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2
    )
    return net, images()


@model("transformers", "ViT")
def _vision() -> Made:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    net = transformer(
        "ViTModel", "ViTConfig", image_size=32, patch_size=8, num_attention_heads=2, **sizes
    )
    return net, images()


@model("transformers", "Whisper")
def _whisper() -> Made:
    layers = {"encoder_layers": 2, "decoder_layers": 2, "max_source_positions": 20}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_mel_bins": 8}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    special["decoder_start_token_id"] = 1
    net = transformer(
        "WhisperModel", "WhisperConfig", vocab_size=WORDS, **layers, **heads, **sizes, **special
    )
    return net, {"input_features": torch.randn(N, 8, 40), "decoder_input_ids": tokens(8)}


@model("transformers", "Wav2Vec2")
def _wav2vec() -> Made:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    convs = {"conv_dim": (8, 8), "conv_kernel": (8, 4), "conv_stride": (4, 2)}
    groups = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    net = transformer(
        "Wav2Vec2Model", "Wav2Vec2Config", num_attention_heads=2, **sizes, **convs, **groups
    )
    return net, {"input_values": torch.randn(N, 400)}


@model("transformers", "Mamba")
def _mamba() -> Made:
    sizes = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}
    return transformer("MambaModel", "MambaConfig", vocab_size=WORDS, **sizes), tokens()


@model("transformers", "BERT")
def _bert() -> Made:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    net = transformer("BertModel", "BertConfig", vocab_size=WORDS, num_attention_heads=2, **sizes)
    return net, text()


@model("transformers", "GPT-2")
def _gpt2() -> Made:
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2}
    special = {"bos_token_id": 1, "eos_token_id": 2}
    return transformer("GPT2Model", "GPT2Config", vocab_size=WORDS, **sizes, **special), text()


@model("transformers", "Llama")
def _llama() -> Made:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    net = transformer("LlamaModel", "LlamaConfig", vocab_size=WORDS, num_attention_heads=2, **sizes)
    return net, text()


@model("transformers", "Mixtral (experts)")
def _mixtral() -> Made:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4}
    net = transformer("MixtralModel", "MixtralConfig", vocab_size=WORDS, **sizes, **heads)
    return net, text()


@model("transformers", "SegFormer")
def _segformer() -> Made:
    fields = {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1]}
    fields |= {"hidden_sizes": [8, 16], "patch_sizes": [7, 3], "strides": [4, 2]}
    fields |= {"num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 16}
    return transformer("SegformerModel", "SegformerConfig", **fields), images()


@model("diffusers", "UNet2D")
def _unet() -> Made:
    kinds = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D")}
    kinds["up_block_types"] = ("AttnUpBlock2D", "UpBlock2D")
    sizes = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1}
    net = importlib.import_module("diffusers").UNet2DModel(
        **kinds, **sizes, norm_num_groups=4, attention_head_dim=4
    )
    return net, {"sample": images(16), "timestep": torch.randint(0, 1000, (N,))}


@model("diffusers", "AutoencoderKL")
def _autoencoder() -> Made:
    net = importlib.import_module("diffusers").AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, sample_size=16
    )
    return net, {"sample": images(16)}


@model("diffusers", "DiT")
def _dit() -> Made:
    net = importlib.import_module("diffusers").DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=3,
        out_channels=3,
        num_layers=2,
        sample_size=16,
        patch_size=4,
        norm_num_groups=1,
        num_embeds_ada_norm=10,
    )
    steps = {"timestep": torch.randint(0, 1000, (N,)), "class_labels": torch.randint(0, 10, (N,))}
    return net, {"hidden_states": images(16), **steps}


def graph() -> Any:
    edges = torch.randint(0, N, (2, 4 * N))
    data = importlib.import_module("torch_geometric.data")
    return data.Data(x=torch.randn(N, 8), edge_index=edges)


def graph_net(name: str) -> Made:
    models = importlib.import_module("torch_geometric.nn.models")
    return getattr(models, name)(8, 16, num_layers=2, out_channels=4), graph()


MODELS |= {("torch_geometric", name): partial(graph_net, name) for name in GRAPH_NETS}


@model("sentence_transformers", "SentenceTransformer of BERT")
def _sentences() -> Made:
    library = importlib.import_module("sentence_transformers")
    modules = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    hugging = importlib.import_module("transformers")
    with tempfile.TemporaryDirectory() as folder:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(WORDS - 5))]
        Path(folder, "vocab.txt").write_text("\n".join(words))
        hugging.BertTokenizer(str(Path(folder, "vocab.txt"))).save_pretrained(folder)
        _bert()[0].save_pretrained(folder)
        read = modules.Transformer(folder)
    pool = modules.Pooling(16)
    return library.SentenceTransformer(modules=[read, pool], device="cpu"), (text(),)


@model("torch", "LSTM, sequence first")
def _lstm() -> Made:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.LSTM(8, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.cell(x.transpose(0, 1))[0][-1])
            return out

    return Reader(), torch.randn(N, N, 8)


@model("torch", "GRU")
def _gru() -> Made:
    return nn.GRU(8, 16, batch_first=True), torch.randn(N, LENGTH, 8)


@model("torch", "TransformerEncoder")
def _encoder() -> Made:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2), torch.randn(N, LENGTH, 8)


@model("torch", "Transformer")
def _transformer() -> Made:
    net = nn.Transformer(8, 2, 2, 2, 16, batch_first=True)
    masks = {
        "src_key_padding_mask": padding() == 0,
        "tgt_key_padding_mask": padding(8) == 0,
    }
    masks["memory_key_padding_mask"] = masks["src_key_padding_mask"]
    return net, {"src": torch.randn(N, LENGTH, 8), "tgt": torch.randn(N, 8, 8), **masks}


def traced(library: str, name: str) -> dict[str, Any]:
    """What a default trace sees of a model."""
    row: dict[str, Any] = {"library": library, "model": name}
    torch.manual_seed(0)
    try:
        net, x = MODELS[library, name]()
    except Exception as error:
        return {**row, "failed": f"cannot be built: {type(error).__name__}: {error}"}
    y = torch.arange(N) % 2
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tracer = Tracer(net, (x, y))
        except Exception as error:
            return {**row, "failed": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - start
    captured = tracer.trace.meta["captured"]
    left_out = [str(w.message) for w in caught if issubclass(w.category, LeftOut)]
    others = {str(w.message) for w in caught if w.category is UserWarning}
    return {
        **row,
        "layers": len(captured),
        "seconds": round(seconds, 2),
        "variables": {name: layer["variable"] for name, layer in captured.items()},
        "shapes": {name: layer["shape"] for name, layer in captured.items()},
        "skipped": [text.removeprefix("left out of the trace: ") for text in left_out],
        "warnings": sorted(others),
    }


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows as lines of Markdown."""
    yield "| library | model | layers | T is | seconds | left out, and why |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        names = f"| {row['library']} | {row['model']} |"
        if "failed" in row:
            yield f"{names} failed | | | {row['failed']} |"
            continue
        kinds = sorted(set(row["variables"].values()) - {""})
        skipped = "<br>".join(row["skipped"]) or "nothing"
        yield f"{names} {row['layers']} | {', '.join(kinds)} | {row['seconds']:.1f} | {skipped} |"


def main() -> None:
    """Trace every model, print and write the table; of libraries or models named, only print it."""
    torch.set_num_threads(1)
    rows = []
    chosen = sys.argv[1:]
    for library, name in MODELS:
        if chosen and library not in chosen and name not in chosen:
            continue
        rows.append(traced(library, name))
        print(*list(table(rows[-1:]))[2:], flush=True)
    if chosen:
        return
    told = {"environment": environment(LIBRARIES), "samples": N, "models": rows}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    README.write_text(marked(README.read_text(), "real models", "\n".join(table(rows)) + "\n"))


if __name__ == "__main__":
    main()
