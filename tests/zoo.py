"""Models that people have, small: each with data, a loss and a training loop of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

CLASSES = 3
HOOKS = {name for name in vars(nn.Module()) if "_hooks" in name}
Inputs = Tensor | dict[str, Tensor] | tuple[Tensor, ...]


def mlp(width: int = 16) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3)
    )


class Residual(nn.Module):
    """Two convolutions around a shortcut, the one in-place ReLU used twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.norm1(self.conv1(x)))
        hidden = self.norm2(self.conv2(hidden))
        hidden += x
        out: Tensor = self.act(hidden)
        return out


class ResNet(nn.Module):
    def __init__(self, channels: int = 4, blocks: int = 2, image: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(image, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(True)
        )
        self.blocks = nn.Sequential(*(Residual(channels) for _ in range(blocks)))
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return out


class Recurrent(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, width, num_layers=2, dropout=0.2, batch_first=True)
        self.act = nn.Tanh()
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        out: Tensor = self.head(self.act(states[:, -1]))
        return out


def bert(hidden: int = 16, layers: int = 2, vocabulary: int = 40) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        num_labels=CLASSES,
    )
    model: nn.Module = transformers.BertForSequenceClassification(config)
    return model


def gpt2(hidden: int = 16, layers: int = 2, vocabulary: int = 40) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_embd=hidden,
        n_layer=layers,
        n_head=2,
        n_positions=64,
        num_labels=CLASSES,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model: nn.Module = transformers.GPT2ForSequenceClassification(config)
    return model


class Encoder(nn.Module):
    """torch's own transformer, which takes a fused path in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(x).mean(1))
        return out


class Dropouts(nn.Module):
    """Dropout of every kind; one of them, Monte Carlo dropout, also in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.maps = nn.Sequential(nn.Dropout2d(0.3), nn.ReLU(True), nn.FeatureAlphaDropout(0.2))
        self.fc1, self.fc2 = nn.Linear(4 * 36, 8), nn.Linear(8, CLASSES)
        self.drop, self.act = nn.Dropout(0.5, inplace=True), nn.SELU()
        self.alpha = nn.AlphaDropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(self.maps(self.conv(x)).flatten(1))
        hidden = self.alpha(self.act(self.fc1(hidden)))
        hidden = F.dropout(hidden, 0.1, training=True)
        return F.dropout(self.fc2(hidden), 0.1, self.training)


class Noisy(nn.Module):
    """Draws from every generator there is, its own included, in eval mode as well."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES)
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x: Tensor) -> Tensor:
        scale = np.random.rand() + random.random()
        hidden = self.act(self.fc1(x)) + 0.01 * scale * torch.randn(8)
        out: Tensor = self.fc2(hidden + 0.01 * torch.randn(8, generator=self.generator))
        return out


class Bookkeeping(nn.Module):
    """Keeps a record of its calls in every way that people keep one, and computes with it."""

    seen: Tensor
    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, CLASSES)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("last", torch.zeros(8), persistent=False)
        self.calls, self.history, self.sums = 0, [0.0], {"all": 0.0}
        self.total = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.fc1(x))
        with torch.no_grad():
            self.seen += len(x)
            self.last = hidden.mean(0)
            self.total += 1
        self.calls += 1
        self.newest = self.calls
        self.history.append(float(self.last.sum()))
        self.sums["all"] += self.history[-1]
        past = self.calls + self.seen + self.total + self.history[-2] + self.sums["all"]
        out: Tensor = self.fc2(hidden + self.last) + 1e-3 * past
        return out


class Spectral(nn.Module):
    """Spectral normalisation as a hook that sets attributes, and as a parametrisation."""

    def __init__(self) -> None:
        super().__init__()
        with_hook: Any = nn.utils.spectral_norm
        self.fc1, self.act = with_hook(nn.Linear(6, 8)), nn.ReLU()
        self.fc2 = nn.utils.parametrizations.spectral_norm(nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class LoRA(nn.Linear):
    """A low-rank adapter that merges into the weights for evaluation, as loralib's does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.merged = False
        self.down = nn.Parameter(torch.randn(2, inputs) / 2)
        self.up = nn.Parameter(torch.randn(outputs, 2) / 2)

    def train(self, mode: bool = True) -> LoRA:
        super().train(mode)
        if self.merged == mode:
            change = self.up @ self.down
            self.weight.data += -change if mode else change
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.merged else out + x @ self.down.T @ self.up.T


def lora() -> nn.Module:
    model = nn.Sequential(LoRA(6, 8), nn.Tanh(), LoRA(8, CLASSES))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith(("up", "down")))
    return model


class FrozenNorm(ResNet):
    """A ResNet whose stem's BatchNorm stays in eval mode, as in detection models."""

    def train(self, mode: bool = True) -> FrozenNorm:
        super().train(mode)
        self.stem[1].eval()
        return self


class Bounded(nn.Module):
    """Embeddings whose norm is bounded: looking a word up rescales its weights in place."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 8, max_norm=1.0)
        self.act, self.head = nn.GELU(), nn.Linear(8, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self.words(ids).mean(1)))
        return out


class Settings(dict[str, Any]):
    """A configuration that refuses every change, as that of a diffusers model does."""

    def refuse(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("this configuration is frozen")

    update = pop = popitem = clear = setdefault = __setitem__ = __delitem__ = refuse


class Configured(nn.Module):
    """Holds a locked dict, and writes into what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = Settings(width=8, seen=[0])
        self.fc1, self.act, self.fc2 = nn.Linear(6, 8), nn.Mish(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.settings["seen"].append(len(x))
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out + 1e-3 * len(self.settings["seen"])


class Unrolled(nn.Module):
    """Runs its layer as often as the longest sample of a batch asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        for _ in range(int(steps.max())):
            x = self.act(self.fc1(x))
        out: Tensor = self.fc2(x)
        return out


class LastBlocks(nn.Module):
    """Blocks on channels-last maps, as in ConvNeXt and Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 2, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(2))
        self.wide = nn.ModuleList(nn.Linear(4, 8) for _ in range(2))
        self.narrow = nn.ModuleList(nn.Linear(8, 4) for _ in range(2))
        self.act, self.head = nn.GELU(), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        for norm, wide, narrow in zip(self.norms, self.wide, self.narrow, strict=True):
            x = x + narrow(self.act(wide(norm(x))))
        out: Tensor = self.head(x.mean((1, 2)))
        return out


class Translator(nn.Module):
    """An encoder and a decoder, each with padding of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.targets = nn.Embedding(40, 8), nn.Embedding(40, 8)
        self.act, self.target_act, self.head = nn.Tanh(), nn.ReLU(), nn.Linear(8, CLASSES)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor,
    ) -> Tensor:
        weights = attention_mask[..., None].float()
        source = (self.act(self.words(input_ids)) * weights).sum(1) / weights.sum(1)
        target = self.target_act(self.targets(decoder_input_ids) + source[:, None])
        real = decoder_attention_mask[..., None].float()
        out: Tensor = self.head((target * real).sum(1) / real.sum(1))
        return out


class Experts(nn.Module):
    """Sends each token to one of two experts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.router, self.act = nn.Linear(3, 4), nn.Linear(4, 2), nn.Tanh()
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4)) for _ in range(2)
        )
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.act(self.embed(x)).flatten(0, 1)
        scores = self.router(tokens).softmax(1)
        out = torch.zeros_like(tokens)
        for i, expert in enumerate(self.experts):
            mine = scores.argmax(1) == i
            out[mine] = expert(tokens[mine]) * scores[mine, i, None]
        result: Tensor = self.head(out.unflatten(0, x.shape[:2]).mean(1))
        return result


class Resizing(nn.Module):
    """Observes ranges in a buffer that the first forward resizes, and uses them."""

    low: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(6, 8), nn.ELU(), nn.Linear(8, CLASSES)
        self.register_buffer("low", torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.fc1(x))
        smallest = hidden.detach().amin(0)
        if len(self.low):
            smallest = torch.minimum(self.low, smallest)
        self.low.resize_(8).copy_(smallest)
        out: Tensor = self.fc2(hidden - self.low)
        return out


class Functional(nn.Module):
    """Has weights only; all else is called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(8, 6) / 2)
        self.second = nn.Parameter(torch.randn(CLASSES, 8) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.dropout(F.relu(F.linear(x, self.first)), 0.1, self.training), self.second)


class VAE(nn.Module):
    """A classifier on a hidden layer that is drawn, in eval mode as well."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.scale, self.head = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, CLASSES)
        self.act = nn.Softsign()

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x)
        out: Tensor = self.head(self.act(mean + torch.randn_like(mean) * self.scale(x).exp()))
        return out


class Siamese(nn.Module):
    """Two inputs as one tuple or dict."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.head = nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES)

    def forward(self, pair: Any) -> Tensor:
        left, right = pair.values() if isinstance(pair, Mapping) else pair
        out: Tensor = self.head(self.act(self.fc(left)) * self.act(self.fc(right)))
        return out


class MessagePassing(nn.Module):
    """A graph network in plain torch: the mean over each node's neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        for fc in (self.fc1, self.fc2):
            x = fc(self.act(x) if fc is self.fc2 else x)
            mean = torch.zeros_like(x).index_add(0, target, x[source])
            x = x + mean / edge_index.shape[1]
        return x


def compiled(backend: Any, build: Callable[[], nn.Module], in_place: bool = False) -> nn.Module:
    torch._dynamo.reset()
    model = build()
    if in_place:
        model.compile(backend=backend)
        return model
    wrapped: Any = torch.compile(model, backend=backend)
    return wrapped  # type: ignore[no-any-return]  # torch.compile gives a module for one


def channels_last() -> nn.Module:
    model = ResNet(image=4)
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.to(memory_format=torch.channels_last)
    return model


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Samples that are disturbed at random as they are read, by torch, NumPy and Python."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = np.random.rand() + random.random() + torch.rand(())
        return self.x[index] + 0.01 * noise, self.y[index]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def vectors(n: int) -> Inputs:
    return torch.randn(n, 6, generator=_generator())


def images(n: int, side: int = 8) -> Inputs:
    return torch.randn(n, 1, side, side, generator=_generator())


def strided_images(n: int) -> Inputs:
    return torch.randn(n, 4, 8, 8, generator=_generator()).to(memory_format=torch.channels_last)


def sequences(n: int, length: int = 5, width: int = 3) -> Inputs:
    return torch.randn(n, length, width, generator=_generator())


def words(n: int, length: int = 7, vocabulary: int = 40) -> Tensor:
    return torch.randint(3, vocabulary, (n, length), generator=_generator())


def sentences(n: int, length: int = 7, vocabulary: int = 40) -> Inputs:
    """Word ids padded on the right, with the mask that says so."""
    lengths = torch.randint(2, length + 1, (n, 1), generator=_generator())
    mask = (torch.arange(length) < lengths).long()
    return {"input_ids": words(n, length, vocabulary) * mask, "attention_mask": mask}


def unrolled(n: int, grows: bool = False) -> Inputs:
    """Vectors, of which the first half asks for more steps, or the second."""
    x = vectors(n)
    assert isinstance(x, Tensor)
    steps = torch.where(torch.arange(n) < n // 2, 3, 2)
    return {"x": x, "steps": steps.flip(0) if grows else steps}


def translations(n: int) -> Inputs:
    source, target = sentences(n), sentences(n, 5)
    assert isinstance(source, dict)
    assert isinstance(target, dict)
    return {**source, **{f"decoder_{name}": value.flip(0) for name, value in target.items()}}


def pairs(n: int) -> Any:
    return vectors(n), torch.randn(n, 6, generator=_generator()).flip(0)


def named_pairs(n: int) -> Any:
    return dict(zip(("left", "right"), pairs(n), strict=True))


def ring(n: int) -> Inputs:
    """Nodes of which each has an edge to the next."""
    x, nodes = vectors(n), torch.arange(n)
    assert isinstance(x, Tensor)
    return {"x": x, "edge_index": torch.stack([nodes, (nodes + 1) % n])}


@dataclass(frozen=True)
class Case:
    """One model of the zoo.

    Args:
        build: Makes the model; draws its weights from torch's global generator.
        inputs: Makes n inputs, always the same.
        around: A context for the whole training.
        layers: What to trace.
        loader: Train and trace on a shuffled loader with workers.
        left_out: Layers that a default trace says it cannot take.
        whole: Whether a batch is all samples.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs] = vectors
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    layers: Any = None
    loader: bool = False
    left_out: tuple[str, ...] = ()
    whole: bool = False

    def data(self, n: int) -> tuple[Inputs, Tensor]:
        """As many inputs and labels."""
        return self.inputs(n), torch.arange(n) % CLASSES

    def model(self, seed: int = 0) -> nn.Module:
        """The model with weights of a seed; the global generators are seeded."""
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        return self.build().train()


ZOO: dict[str, Case] = {
    "mlp": Case(mlp),
    "resnet": Case(ResNet, images),
    "lstm": Case(Recurrent, sequences, layers=["lstm", "act", "output"]),
    "bert": Case(bert, sentences),
    "gpt2": Case(gpt2, sentences),
    "encoder": Case(Encoder, partial(sequences, width=4), layers=["encoder.layers.0", "output"]),
    "dropouts": Case(Dropouts, images),
    "noisy": Case(Noisy),
    "bookkeeping": Case(Bookkeeping, left_out=("output",)),
    "spectral norm": Case(Spectral),
    "lora": Case(lora),
    "frozen norm": Case(FrozenNorm, images),
    "bounded embedding": Case(Bounded, words),
    "loader": Case(mlp, loader=True),
    "autocast": Case(ResNet, images, partial(torch.autocast, "cpu", dtype=torch.bfloat16)),
    "compiled": Case(partial(compiled, "eager", ResNet), images),
    "channels last": Case(channels_last, strided_images),
    "locked dict": Case(Configured),
    "shrinking unroll": Case(Unrolled, unrolled, left_out=("act:2",)),
    "growing unroll": Case(Unrolled, partial(unrolled, grows=True), left_out=("act:2",)),
    "channels-last blocks": Case(LastBlocks, images),
    "two masks": Case(Translator, translations),
    "experts": Case(Experts, sequences, left_out=("experts.0.1", "experts.1.1")),
    "resized buffer": Case(Resizing, left_out=("output",)),
    "functional": Case(Functional),
    "vae": Case(VAE),
    "tuple": Case(Siamese, pairs),
    "dict": Case(Siamese, named_pairs),
    "graph": Case(MessagePassing, ring, whole=True),
}


def logits(model: nn.Module, x: Inputs) -> Tensor:
    """The class scores that a model gives, whatever it wraps them in."""
    spread = isinstance(x, Mapping) and "left" not in x
    out: Any = model(**x) if spread and isinstance(x, Mapping) else model(x)
    found: Tensor = getattr(out, "logits", out)
    return found


def part(x: Inputs, chosen: slice) -> Inputs:
    if isinstance(x, tuple):
        return tuple(v[chosen] for v in x)
    return {k: v[chosen] for k, v in x.items()} if isinstance(x, Mapping) else x[chosen]


def batches(case: Case, n: int = 12, size: int = 4) -> Iterator[tuple[Inputs, Tensor]]:
    """The training batches of one epoch."""
    if case.loader:
        yield from loader(case, n, size)
        return
    x, y = case.data(n)
    if case.whole:
        yield from [(x, y)] * (n // size)
        return
    for start in range(0, n, size):
        yield part(x, slice(start, start + size)), y[start : start + size]


def loader(case: Case, n: int = 12, size: int = 4) -> DataLoader[tuple[Tensor, Tensor]]:
    x, y = case.data(n)
    assert isinstance(x, Tensor)
    return DataLoader(Samples(x, y), size, shuffle=True, num_workers=2)


@dataclass
class Run:
    """A training and all that it leaves behind."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    losses: list[float]
    generators: Any


def train(
    case: Case,
    after: Callable[[nn.Module, int], object] | None = None,
    begun: Callable[[torch.optim.Optimizer], object] | None = None,
) -> Run:
    """Train for an epoch; ``after(model, step)`` is called before the first step and after each.

    ``begun`` is given the optimiser before anything else.
    """
    model = case.model()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    if begun:
        begun(optimizer)
    losses: list[float] = []
    with case.around():
        if after:
            after(model, 0)
        for step, (x, y) in enumerate(batches(case), start=1):
            optimizer.zero_grad()
            loss = F.cross_entropy(logits(model, x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if after:
                after(model, step)
    return Run(model, optimizer, losses, generators())


def differences(one: Run, other: Run) -> set[str]:
    """In what two trainings differ: losses, generators, optimiser, or a mark of the model."""
    found = {
        name
        for name in ("losses", "generators")
        if plain(getattr(one, name)) != plain(getattr(other, name))
    }
    if plain(one.optimizer.state_dict()) != plain(other.optimizer.state_dict()):
        found.add("optimizer")
    mine, theirs = marks(one.model), marks(other.model)
    return found | {name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name)}


def generators() -> Any:
    """The state of the global generators."""
    return plain([torch.get_rng_state(), np.random.get_state(), random.getstate()])


def settings() -> dict[str, Any]:
    """What a library could change of torch and NumPy as a whole, and leave changed."""
    hooks = [name for name in vars(nn.modules.module) if name.startswith("_global_")]
    return {
        "hooks": {name: plain(getattr(nn.modules.module, name)) for name in hooks},
        "modes": torch._C._len_torch_function_stack(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "fused transformers": torch.backends.mha.get_fastpath_enabled(),
        "stance": torch._dynamo.eval_frame._stance.stance,
        "threads": torch.get_num_threads(),
        "type": torch.get_default_dtype(),
        "numpy errors": np.geterr(),
    }


def marks(model: nn.Module) -> dict[str, Any]:
    """Everything that can be seen of a model, as plain values: two alike models compare equal."""
    return {
        f"{name}/{key}": plain([*value.values()] if key in HOOKS else value)
        for name, module in model.named_modules(remove_duplicate=False)
        for key, value in vars(module).items()
        if key != "_torchdynamo_wrapper_id"  # an address
    }


def plain(value: Any) -> Any:
    """A value as one that compares by content: tensors with gradients, generators, containers."""
    if isinstance(value, Tensor):
        form = type(value).__name__, str(value.dtype), tuple(value.shape), value.stride()
        graph = value.requires_grad, type(value.grad_fn).__name__
        local = value.to_local() if isinstance(value, DTensor) else value
        held = local.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
        return form, graph, held, plain(value.grad) if value.is_leaf else None
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return value
    return type(value).__name__
