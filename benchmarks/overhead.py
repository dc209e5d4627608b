"""What a look costs: beside the bare forward, a training, its memory, and what others do.

Delve and torchlens are timed where they are installed.
"""

from __future__ import annotations

import importlib
import logging
import operator
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from timing import by_turns, keep, ratios
from torch import nn
from torch.nn import functional as F

from ibtrace import Probe, Tracer
from ibtrace.capture import Evidence, Layers, Look, call, looks, read_layers
from ibtrace.models import CNN, MLP
from ibtrace.runtime.schedule import log_spaced

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests import zoo

N, BATCH, ROUNDS = 1000, 512, 15
LENGTH, VOCABULARY = 32, 1000
EPOCHS, SAMPLES = 100, 10_000
ESTIMATORS = {"binning": ["binning"], "ksg": ["ksg"], "binning, ksg (default)": ["binning", "ksg"]}

MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], zoo.Inputs]]] = {
    "MLP 784-512-256-128-10": (
        lambda: MLP((784, 512, 256, 128, 10), "relu", "logits"),
        lambda n: torch.randn(n, 784),
    ),
    "CNN, 2 blocks, 28x28": (CNN, lambda n: torch.randn(n, 1, 28, 28)),
    "ResNet, 3 blocks, 28x28": (
        lambda: zoo.ResNet(channels=16, blocks=3),
        partial(zoo.images, side=28),
    ),
    "LSTM, 2 layers": (
        lambda: zoo.Recurrent(width=64),
        partial(zoo.sequences, length=LENGTH),
    ),
    "BERT, 2 layers of 64": (
        lambda: zoo.bert(hidden=64, vocabulary=VOCABULARY),
        partial(zoo.sentences, length=LENGTH, vocabulary=VOCABULARY),
    ),
    "GPT-2, 2 layers of 64": (
        lambda: zoo.gpt2(hidden=64, vocabulary=VOCABULARY),
        partial(zoo.sentences, length=LENGTH, vocabulary=VOCABULARY),
    ),
}


def made(name: str, n: int = N) -> tuple[nn.Module, Probe]:
    """A model and its probe."""
    torch.manual_seed(0)
    build, inputs = MODELS[name]
    return build(), Probe(inputs(n), torch.arange(n) % zoo.CLASSES)


def forward(model: nn.Module, probe: Probe) -> None:
    """The probe through the model, and nothing else."""
    with torch.no_grad():
        for start in range(0, probe.n, BATCH):
            call(model, probe.batch(slice(start, start + BATCH)))


def look(model: nn.Module, probe: Probe, layers: Layers, evidence: Evidence) -> None:
    for _ in looks(model, probe, Look(layers, batch_size=BATCH), evidence=evidence):
        pass


def captures() -> dict[str, Any]:
    """A look at the default layers against the bare forward: the models, then the tests' zoo."""
    found = {}
    for name in MODELS:
        model, probe = made(name)
        found[name] = against_bare_forward(model, probe)
    for name, case in zoo.ZOO.items():
        model, probe = case.model(), Probe(*case.data(N))
        found[f"tests: {name}"] = against_bare_forward(model, probe, case.layers)
    return found


def against_bare_forward(model: nn.Module, probe: Probe, layers: Layers = None) -> dict[str, Any]:
    model.eval()
    evidence = read_layers(model, probe, layers)  # once for a trace
    ways = {
        "capture": partial(look, model, probe, layers, evidence),
        "bare forward": partial(forward, model, probe),
    }
    return ratios(by_turns(ways, ROUNDS), *ways)


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, data: Probe) -> None:
    """One epoch of training in batches of 128."""
    for start in range(0, data.n, 128):
        batch = data.take(slice(start, start + 128))
        optimizer.zero_grad()
        x = batch.inputs.get("", batch.inputs)
        F.cross_entropy(zoo.logits(model, x), batch.labels).backward()
        optimizer.step()


def shares() -> dict[str, Any]:
    """What snapshots of 1,000 samples add to 100 epochs on 10,000, by the medians of both.

    The schedule is the default one; each epoch is followed by one snapshot of each tracer.
    """
    due = sum(map(log_spaced(), range(EPOCHS + 1)))
    found = {}
    for name in ("MLP 784-512-256-128-10", "CNN, 2 blocks, 28x28"):
        (model, data), (_, probe) = made(name, SAMPLES), made(name)
        optimizer = torch.optim.Adam(model.parameters())
        tracers = {
            label: Tracer(model, probe, estimators=chosen, every=1)
            for label, chosen in ESTIMATORS.items()
        }
        ways: dict[str, Callable[[], object]] = {"epoch": partial(epoch, model, optimizer, data)}
        for label, tracer in tracers.items():
            ways[label] = partial(tracer.snapshot, 1, force=True)
        times = {k: statistics.median(v["cpu"]) for k, v in by_turns(ways, 5).items()}
        found[name] = {
            "epoch of 10,000 (CPU s)": round(times["epoch"], 3),
            "snapshots in 100 epochs": due,
            **{
                label: {
                    "snapshot (CPU s)": round(times[label], 3),
                    "added to 100 epochs of 10,000 (%)": round(_percent(times, label, due), 1),
                    "added to 100 epochs of 60,000 (%)": round(_percent(times, label, due) / 6, 1),
                }
                for label in tracers
            },
        }
    return found


def _percent(times: Mapping[str, float], label: str, due: int) -> float:
    return 100 * due * times[label] / (EPOCHS * times["epoch"])


def whole_runs() -> dict[str, Any]:
    """100 epochs with rows on disk: CPU seconds inside the tracer against those outside."""
    name = "MLP 784-512-256-128-10"

    def run(estimators: Sequence[str]) -> tuple[float, float]:
        (model, data), (_, probe) = made(name, SAMPLES), made(name)
        optimizer = torch.optim.Adam(model.parameters())
        begin, tracing = time.process_time(), 0.0
        with tempfile.TemporaryDirectory() as folder:
            tracer = None
            for count in range(EPOCHS + 1):
                if count:
                    epoch(model, optimizer, data)
                start = time.process_time()
                if tracer is None:
                    tracer = Tracer(model, probe, keep=folder, estimators=estimators)
                else:
                    tracer.snapshot(count)
                tracing += time.process_time() - start
        return tracing, time.process_time() - begin - tracing

    found = {}
    for label, estimators in ESTIMATORS.items():
        tracing, training = run(estimators)
        found[label] = {
            "training (CPU s)": round(training, 1),
            "tracing (CPU s)": round(tracing, 1),
            "added (%)": round(100 * tracing / training, 1),
        }
    return {f"{name}, 100 epochs of 10,000": found}


def memory() -> dict[str, Any]:
    """The peak of a process that trains for an epoch, with a snapshot and without."""
    found = {}
    for name in MODELS:
        peaks = {}
        for way in ("untraced", "traced"):
            command = [sys.executable, __file__, "peak", name, way]
            said = subprocess.run(command, capture_output=True, check=True, text=True)
            peaks[f"{way} (MiB)"] = round(int(said.stdout) / 1024)
        found[name] = peaks
    return found


def peak(name: str, traced: bool) -> int:
    """KiB that this process has held at most by the end of an epoch on 2,000 samples (Linux)."""
    (model, data), (_, probe) = made(name, 2000), made(name)
    epoch(model, torch.optim.Adam(model.parameters()), data)
    if traced:
        Tracer(model, probe, every=1).snapshot(1)
    # not ru_maxrss, which a process has from the one that started it
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def peers() -> dict[str, Any]:
    """The same layers of the same probe, looked at by others, as multiples of the bare forward."""
    found: dict[str, Any] = {}
    for name in list(MODELS)[:4]:
        model, probe = made(name)
        model.eval()
        kinds = (nn.Linear, nn.Conv2d, nn.LSTM)  # those that Delve looks at
        layers = [n for n, m in model.named_modules() if isinstance(m, kinds)]
        tracer = Tracer(model, probe, look=layers, estimators=["binning"], every=1)
        ways: dict[str, Callable[[], object]] = {
            "bare forward": partial(forward, model, probe),
            "ibtrace, activations": partial(
                look, model, probe, layers, read_layers(model, probe, layers)
            ),
            "ibtrace, rows by binning": partial(tracer.snapshot, 1),
        }
        missing = {}
        for peer, start in {"torchlens": by_torchlens, "delve": by_delve}.items():
            try:
                ways[f"{peer} {version(peer)}"] = start(made(name)[0].eval(), probe, layers)
            except Exception as error:
                missing[peer] = f"does not run here: {type(error).__name__}: {error}"
        times = {way: t["cpu"] for way, t in by_turns(ways, 7).items()}
        found[name] = missing | {
            way: round(
                statistics.median(
                    a / b for a, b in zip(seconds, times["bare forward"], strict=True)
                ),
                2,
            )
            for way, seconds in times.items()
        }
    return found


def by_torchlens(model: nn.Module, probe: Probe, layers: Sequence[str]) -> Callable[[], object]:
    """Activations of the layers from its log of the whole forward."""
    torchlens = importlib.import_module("torchlens")
    chosen = reduce(operator.or_, map(torchlens.module, layers))

    def work() -> None:
        with torch.no_grad():
            for x in probe.inputs[""].split(BATCH):
                torchlens.trace(model, x, save=chosen)

    work()
    return work


def by_delve(model: nn.Module, probe: Probe, layers: Sequence[str]) -> Callable[[], object]:
    """Layer saturation from covariances that its hooks sum up."""
    delve = importlib.import_module("delve")
    logging.getLogger("delve").setLevel(logging.WARNING)
    folder = tempfile.mkdtemp()
    tracker = delve.SaturationTracker(
        folder, save_to="csv", modules=model, device="cpu", conv_method="mean"
    )
    if set(tracker.layers) != {name.replace(".", "-") for name in layers}:
        raise ValueError(f"it looks at {', '.join(tracker.layers)}")

    def work() -> None:
        forward(model, probe)
        tracker.add_saturations(save=False)

    work()
    return work


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["peak"]:
        print(peak(sys.argv[2], sys.argv[3] == "traced"))
        return
    parts = {f.__name__: f for f in (captures, shares, whole_runs, memory, peers)}
    keep("overhead", {name: part() for name, part in parts.items()})


if __name__ == "__main__":
    main()
