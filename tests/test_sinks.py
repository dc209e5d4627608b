"""What a trace holds, a tracking service holds too: the same numbers under readable names."""

from __future__ import annotations

import inspect
import json
import random
import re
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from matplotlib.image import imread
from torch import Tensor, nn

from ibtrace.capture import Look
from ibtrace.ensemble import Ensemble
from ibtrace.estimators import KSG, Binning
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Sink, Tracer
from tests.arguments import grouped

Numbers = dict[str, dict[int, float]]
"""``{name: {epoch: value}}``"""

Image = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Connections to other machines fail, the services work offline; W&B's process ends."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        assert host in ("localhost", "127.0.0.1", "::1"), f"connects to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the only store of mlflow-skinny
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(48, 4, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def trace_with(sink: Sink, model: Any = None, **arguments: Any) -> Trace:
    """Six epochs of a network that changes."""
    model = net() if model is None else model
    options: dict[str, Any] = {"estimators": ["exact", "ksg"], "every": [2], **arguments}
    with Tracer(model, data(), **grouped(sinks=[sink], **options)) as tracer:
        for epoch in range(1, 7):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.1)
            tracer.snapshot(epoch, train_loss=1 / epoch if epoch < 6 else float("nan"))
    return tracer.trace


def held(trace: Trace, seeds: bool = False) -> Numbers:
    """What a service must hold, by the documented names."""
    numbers: Numbers = defaultdict(dict)
    for row in trace.frame().to_dict("records"):
        quantity = {"I(X;T)": "I_XT", "I(T;Y)": "I_TY"}[row["quantity"]]
        end = f"/seed{row['seed']}" if seeds else ""
        name = f"{quantity}/{row['layer']}/{row['estimator']}{end}"
        numbers[name][row["epoch"]] = row["bits"]
    for row in trace.scalars().query("layer == ''").to_dict("records"):
        end = f"/seed{row['seed']}" if seeds else ""
        numbers[f"scalars/{row['name']}{end}"][row["epoch"]] = row["value"]
    return dict(numbers)


# --- what each service holds --------------------------------------------------------------------


def tensorboard_holds(folder: Path) -> tuple[Numbers, dict[str, list[int]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()
    for tag in tags["images"]:
        for event in events.Images(tag):
            assert event.width > 100
            assert event.encoded_image_string.startswith(b"\x89PNG")
    numbers = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in tags["scalars"]}
    assert all(len(events.Scalars(tag)) == len(numbers[tag]) for tag in numbers)
    return numbers, {tag: [e.step for e in events.Images(tag)] for tag in tags["images"]}


def wandb_records(folder: Path) -> Iterator[Any]:
    """The records of an offline run: protocol buffers in the log format of LevelDB."""
    record = import_module("wandb.proto.wandb_internal_pb2").Record
    sys.modules["wandb"].teardown()  # a run is on disk when W&B's process has ended
    (file,) = folder.rglob("*.wandb")
    written, at, parts = file.read_bytes(), 7, b""  # seven bytes say what the file is
    while at + 7 <= len(written):
        left = 32768 - at % 32768  # a block's last bytes are padding if no header fits
        _, size, kind = struct.unpack_from("<IHB", written, at)
        if left < 7:
            at += left
            continue
        parts += written[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record.FromString(parts)
            parts = b""


def wandb_holds(folder: Path) -> tuple[Numbers, dict[str, list[int]]]:
    numbers: Numbers = defaultdict(dict)
    images: dict[str, list[int]] = defaultdict(list)
    for record in wandb_records(folder):
        items = {
            tuple(item.nested_key) or (item.key,): json.loads(item.value_json)
            for item in record.history.item
        }
        for (name, *part), value in items.items():
            epoch = items.get(("ibtrace/epoch",), -1)
            if part == ["path"]:
                (file,) = folder.rglob(Path(value).name)
                assert imread(file).shape[0] > 100
                images[name].append(epoch)
            elif not part and not name.startswith(("_", "ibtrace/")):
                assert epoch not in numbers[name]
                numbers[name][epoch] = float(value)
    return dict(numbers), dict(images)


def mlflow_holds(sink: Any) -> tuple[Numbers, dict[str, list[int]]]:
    client, run = sink.client, sink.run_id
    numbers = {}
    for name in client.get_run(run).data.metrics:
        history = client.get_metric_history(run, name)
        numbers[name] = {metric.step: metric.value for metric in history}
        assert len(history) == len(numbers[name])
    images = {}
    for folder in client.list_artifacts(run, "information_plane"):
        files = [file.path for file in client.list_artifacts(run, folder.path)]
        for file in files:
            assert imread(client.download_artifacts(run, file)).shape[0] > 100
        images[folder.path] = [int(re.findall(r"epoch(\d+)\.png", file)[0]) for file in files]
    return numbers, images


# --- a sink of each service, and how to read back what it wrote ---------------------------------

Made = tuple[Any, Callable[[], tuple[Numbers, dict[str, list[int]]]]]


def tensorboard(folder: Path, **options: Any) -> Made:
    pytest.importorskip("tensorboard")
    from ibtrace.integrations.tensorboard import TensorBoard

    return TensorBoard(folder, **options), lambda: tensorboard_holds(folder)


def wandb(folder: Path, **options: Any) -> Made:
    pytest.importorskip("wandb")
    from ibtrace.integrations.wandb import WandB

    folder.mkdir()
    return WandB(dir=folder, **options), lambda: wandb_holds(folder)


def mlflow(folder: Path, **options: Any) -> Made:
    pytest.importorskip("mlflow")
    from ibtrace.integrations.mlflow import MLflow

    sink = MLflow(tracking_uri=folder.as_uri(), **options)
    return sink, lambda: mlflow_holds(sink)


SERVICES = [tensorboard, wandb, mlflow]
CHOSEN = {
    "Exact": "exact",
    "KSG(k=5)": KSG(k=5),
    "Binning(bins=4, range='trace')": Binning(bins=4, range="trace"),
}
FOR_MLFLOW = {
    "KSG(k=5)": "KSG_k_5",
    "Binning(bins=4, range='trace')": "Binning_bins_4_range_trace",
}


def assert_same(found: Numbers, expected: Numbers) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].keys() == values.keys(), name
        for epoch, value in values.items():
            kept = np.float32(found[name][epoch])  # TensorBoard keeps 32 bits
            np.testing.assert_equal(kept, np.float32(value), name)


@pytest.mark.slow
@pytest.mark.parametrize("make", SERVICES)
def test_a_service_holds_what_the_trace_holds(make: Callable[..., Made], tmp_path: Path) -> None:
    sink, read = make(tmp_path / "out")
    trace = trace_with(sink, estimators=list(CHOSEN.values()), run=tmp_path / "run")
    assert trace.estimators == [*CHOSEN]
    assert sorted(trace.frame().epoch.unique()) == [0, 2, 6]
    expected = held(trace)
    assert expected["scalars/train_loss"].keys() == set(range(1, 7))
    names = FOR_MLFLOW if make is mlflow else {}

    def named(name: str) -> str:
        group, _, last = name.rpartition("/")
        return f"{group}/{names.get(last, last)}"

    numbers, images = read()
    assert_same(numbers, {named(name): values for name, values in expected.items()})
    assert images == {named(f"information_plane/{name}"): [6] for name in CHOSEN}


@pytest.mark.parametrize("make", SERVICES)
def test_images_come_as_often_as_asked(make: Callable[..., Made], tmp_path: Path) -> None:
    sink, read = make(tmp_path / "out", image_every=2)
    trace_with(sink, estimators=["exact"], every=1)  # snapshots of the epochs 0 to 6
    (epochs,) = read()[1].values()
    assert sorted(epochs)[:3] == [1, 3, 5]
    assert set(epochs) == {1, 3, 5, 6}


@pytest.mark.parametrize("make", SERVICES)
def test_several_seeds_have_names_of_their_own(make: Callable[..., Made], tmp_path: Path) -> None:
    sink, read = make(tmp_path / "out")
    ensemble = Ensemble(lambda seed: net(), seeds=(3, 8))
    with Tracer(ensemble, data(), estimators=["exact"], every=1, keep=Keep(sinks=sink)) as tracer:
        tracer.snapshot(1, train_loss=torch.tensor([0.25, 0.5]), learning_rate=0.125)
    numbers, _ = read()
    assert_same(numbers, held(tracer.trace, seeds=True))
    assert numbers["scalars/train_loss/seed8"] == {1: 0.5}
    assert numbers["scalars/learning_rate/seed3"] == {1: 0.125}


@pytest.mark.parametrize("make", SERVICES)
def test_training_draws_the_same_numbers_beside_a_service(
    make: Callable[..., Made], tmp_path: Path
) -> None:
    def state() -> list[Any]:
        return [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]

    before = state()
    sink, _ = make(tmp_path / "out", image_every=1)
    model = net()
    drawn = state()
    assert drawn[:2] == before[:2]
    trace_with(sink, model, estimators=["exact"])
    assert state() == drawn


def test_a_second_part_of_a_run_sends_its_own_and_what_the_service_lacks(tmp_path: Path) -> None:
    for seed in (0, 1):
        sink, read = tensorboard(tmp_path / f"out{seed}")
        trace = trace_with(sink, estimators=["exact"], run=tmp_path / "run", seed=seed)
    numbers, _ = read()
    expected = {name: v for name, v in held(trace, seeds=True).items() if name.endswith("seed1")}
    assert_same(numbers, expected)


@pytest.mark.parametrize("make", SERVICES)
def test_a_sink_that_was_sent_nothing_closes(make: Callable[..., Made], tmp_path: Path) -> None:
    sink, read = make(tmp_path / "out")
    with Tracer(net(), data(), estimators="exact", look=Look(initial=False), keep=Keep(sinks=sink)):
        pass
    assert read() == ({}, {})


@pytest.mark.parametrize("make", SERVICES)
def test_estimates_of_the_whole_trace_alone_are_sent(
    make: Callable[..., Made], tmp_path: Path
) -> None:
    sink, read = make(tmp_path / "out")
    trace = trace_with(sink, estimators=Binning(bins=4, range="trace"), run=tmp_path / "run")
    assert sum(map(len, read()[0].values())) == sum(map(len, held(trace).values()))


# --- what is opened here is closed here ---------------------------------------------------------


def test_tensorboard_closes_its_own_writer_only(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    from ibtrace.integrations.tensorboard import TensorBoard

    before = set(threading.enumerate())
    trace_with(TensorBoard(tmp_path / "own"))
    assert set(threading.enumerate()) <= before  # those of a test before may have ended meanwhile
    with SummaryWriter(str(tmp_path / "theirs")) as writer:
        trace = trace_with(TensorBoard(writer))
        assert_same(tensorboard_holds(tmp_path / "theirs")[0], held(trace))
        writer.add_scalar("still open", 1.0, 0)
    assert "still open" in tensorboard_holds(tmp_path / "theirs")[0]
    assert len(list((tmp_path / "theirs").iterdir())) == 1  # a closed writer opens another file


def test_wandb_finishes_its_own_run_only(tmp_path: Path) -> None:
    package = pytest.importorskip("wandb")
    from ibtrace.integrations.wandb import WandB

    trace_with(WandB(dir=tmp_path))
    assert package.run is None
    with package.init(dir=tmp_path) as run:
        for sink in (WandB(run), WandB()):
            trace_with(sink)
            assert sink.run is package.run is run
        run.log({"still open": 1.0})


def test_wandb_metrics_have_the_epoch_as_their_axis(tmp_path: Path) -> None:
    sink, _ = wandb(tmp_path / "out")
    trace_with(sink)
    metrics = {
        record.metric.glob_name: record.metric.step_metric
        for record in wandb_records(tmp_path / "out")
        if record.WhichOneof("record_type") == "metric" and record.metric.glob_name
    }
    groups = ("I_XT", "I_TY", "scalars", "information_plane")
    assert metrics == {f"{group}/*": "ibtrace/epoch" for group in groups}


def test_mlflow_ends_its_own_run_only(tmp_path: Path) -> None:
    package = pytest.importorskip("mlflow")
    from ibtrace.integrations.mlflow import MLflow

    own = MLflow(tracking_uri=tmp_path.as_uri(), experiment="mine")
    trace_with(own)
    assert own.client.get_run(own.run_id).info.status == "FINISHED"
    home = own.client.get_experiment_by_name("mine").experiment_id
    again = MLflow(tracking_uri=tmp_path.as_uri(), experiment="mine")
    theirs = MLflow(again.run_id, tracking_uri=tmp_path.as_uri())
    trace_with(theirs)
    assert theirs.run_id == again.run_id
    assert own.client.get_run(again.run_id).info.status == "RUNNING"
    before = package.get_tracking_uri()
    package.set_tracking_uri(tmp_path.as_uri())
    try:
        with package.start_run(experiment_id=home) as run:
            assert MLflow().run_id == run.info.run_id
    finally:
        package.set_tracking_uri(before)


# --- what failed is called failed ---------------------------------------------------------------


def mlflow_status(folder: Path, sink: Any) -> str:
    return str(sink.client.get_run(sink.run_id).info.status)


def wandb_status(folder: Path, sink: Any) -> str:
    codes = {r.exit.exit_code for r in wandb_records(folder) if r.HasField("exit")}
    return {(0,): "FINISHED", (1,): "FAILED"}[tuple(codes)]


def fails(block: Callable[[], object]) -> None:
    with pytest.raises((ArithmeticError, OSError), match="a mistake"):
        block()


def mistake(*_: Any) -> None:
    raise OSError("a mistake")


@pytest.mark.parametrize(("make", "status"), [(mlflow, mlflow_status), (wandb, wandb_status)])
@pytest.mark.parametrize("failing", ["nothing", "the training", "the last look", "the sending"])
def test_a_run_says_whether_its_training_failed(
    make: Callable[..., Made],
    status: Callable[[Path, Any], str],
    failing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "out"
    sink, _ = make(folder)
    model = net()
    every = [1] if failing == "the last look" else [1, 2]
    broken: list[bool] = []
    model.register_forward_hook(lambda *_: mistake() if broken else None)

    def training() -> None:
        with Tracer(
            model, data(), estimators="exact", every=every, keep=Keep(sinks=sink)
        ) as tracer:
            tracer.snapshot(1)
            tracer.snapshot(2)
            if failing == "the training":
                raise ArithmeticError("a mistake of the user's")
            if failing == "the last look":
                broken.append(True)
            if failing == "the sending":
                tracer.log(2, train_loss=0.5)
                monkeypatch.setattr(sink, "send", mistake)

    training() if failing == "nothing" else fails(training)
    assert status(folder, sink) == ("FINISHED" if failing == "nothing" else "FAILED")


def test_an_mlflow_run_that_nobody_closes_ends_with_its_process(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    script = f"""
        from ibtrace.integrations.mlflow import MLflow
        from tests.test_sinks import Keep, Tracer, data, net
        sink = MLflow(tracking_uri={tmp_path.as_uri()!r})
        Tracer(net(), data(), estimators="exact", keep=Keep(sinks=sink))
        print(sink.run_id)
        raise SystemExit("a mistake of the user's")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a mistake of the user's" in ended.stderr
    from ibtrace.integrations.mlflow import MLflow

    sink = MLflow(ended.stdout.split()[-1], tracking_uri=tmp_path.as_uri())
    assert mlflow_status(tmp_path, sink) == "FAILED"


@pytest.mark.parametrize("leaf", ["tensorboard", "wandb", "mlflow"])
def test_the_examples_run_as_printed(
    leaf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smoke test: they run and leave something; what, the tests above say."""
    package = pytest.importorskip(leaf)
    monkeypatch.chdir(tmp_path)
    x, y = data()
    given: dict[str, Any] = {"model": net(), "x": x, "y": y, "epochs": 2}
    given["train_one_epoch"] = lambda model: None
    module = import_module(f"ibtrace.integrations.{leaf}")
    kind = {"tensorboard": "TensorBoard", "wandb": "WandB", "mlflow": "MLflow"}[leaf]
    documented = inspect.getdoc(getattr(module, kind)) or ""
    example = textwrap.dedent(documented.split("Example::\n")[1])
    if leaf == "mlflow":
        package.set_tracking_uri((tmp_path / "store").as_uri())
    exec(compile(example, leaf, "exec"), given)
    assert any(tmp_path.rglob("*" if leaf != "tensorboard" else "events*"))
