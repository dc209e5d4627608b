"""Inside a training framework a tracer sees what it would see outside, and changes nothing."""

from __future__ import annotations

import inspect
import random
import re
import sys
import textwrap
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from ibtrace.errors import ConfigError, MissingDependency, UnknownName
from ibtrace.integrations._callback import Traced
from ibtrace.probe import Probe
from ibtrace.runtime.optional import require
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Tracer
from tests.arguments import grouped

pytestmark = [
    # Lightning walks data loaders with a torch function that torch has deprecated.
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)`:FutureWarning"),
    # Ignite compiles a metric with TorchScript when it is imported.
    pytest.mark.filterwarnings(r"ignore:`torch.jit.\w+` is deprecated:DeprecationWarning"),
]

N, D = 64, 5
KEY = ["layer", "quantity", "estimator"]


class Done(NamedTuple):
    """What a training left behind."""

    model: nn.Module
    optimizer: Any
    generators: list[Any]
    callback: Any


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(D, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.4), nn.Linear(6, 2)
    )


def seed_everything() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)


def generators() -> list[Any]:
    return [torch.get_rng_state(), str(np.random.get_state()), str(random.getstate())]


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True)


# --- Lightning ----------------------------------------------------------------------------------


def lightning_module(fails_at: int | None = None) -> Any:
    """A small module; it can be made to fail when an epoch begins."""
    from lightning.pytorch import LightningModule

    class Classifier(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x)
            return out

        def training_step(self, batch: tuple[Tensor, Tensor], at: int) -> Tensor:
            if self.current_epoch == fails_at:
                raise FloatingPointError("a mistake of the user's")
            loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
            self.log("train_loss", loss, on_step=False, on_epoch=True)
            self.log("step", float(self.current_epoch), on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 1e-2)

    return Classifier()


def lightning_trainer(*callbacks: Any, epochs: int = 3, kind: Any = None) -> Any:
    if kind is None:
        from lightning.pytorch import Trainer as kind
    return kind(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def train_with_lightning(traced: bool, **arguments: Any) -> Done:
    pytest.importorskip("lightning")
    from ibtrace.integrations.lightning import IBTrace

    seed_everything()
    module = lightning_module()
    callback = IBTrace(data(), module="net", **grouped(**arguments)) if traced else None
    trainer = lightning_trainer(*([callback] if callback else []))
    trainer.fit(module, loader())
    return Done(module.net, trainer.optimizers[0], generators(), callback)


# --- Hugging Face -------------------------------------------------------------------------------


class Tokens(TorchDataset[dict[str, Tensor]]):
    """Synthetic sentences; the class is whether the first token is of the upper half."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(2)
        self.ids = torch.randint(2, 40, (32, 7), generator=draw)
        self.mask = torch.ones_like(self.ids)
        self.mask[::3, 5:] = 0
        self.labels = (self.ids[:, 0] > 20).long()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, at: int) -> dict[str, Tensor]:
        named = {"input_ids": self.ids[at], "attention_mask": self.mask[at]}
        return {**named, "labels": self.labels[at]}

    def probe(self) -> tuple[dict[str, Tensor], Tensor]:
        return {"input_ids": self.ids, "attention_mask": self.mask}, self.labels


def bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    config: Any = BertConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
    config.num_labels = 2
    return BertForSequenceClassification(config)


def huggingface_trainer(model: Any, folder: Path, *callbacks: Any, **options: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    arguments = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "logging_strategy": "epoch",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        **options,
    }
    return Trainer(
        model,
        TrainingArguments(str(folder), **arguments),
        train_dataset=Tokens(),
        eval_dataset=Tokens(),
        callbacks=list(callbacks),
    )


def train_with_huggingface(traced: bool, bf16: bool = False, **arguments: Any) -> Done:
    pytest.importorskip("transformers")
    from ibtrace.integrations.huggingface import IBTrace

    seed_everything()
    callback = IBTrace(Tokens().probe(), **grouped(**arguments)) if traced else None
    with TemporaryDirectory() as folder:
        callbacks = [callback] if callback else []
        trainer = huggingface_trainer(bert(), Path(folder), *callbacks, bf16=bf16)
        trainer.train()
    plain = bert()  # accelerate leaves its autocast around the trained one
    plain.load_state_dict(trainer.model.state_dict())
    return Done(plain, trainer.optimizer, generators(), callback)


def train_with_huggingface_bf16(traced: bool, **arguments: Any) -> Done:
    return train_with_huggingface(traced, bf16=True, **arguments)


# --- Ignite -------------------------------------------------------------------------------------


def ignite_engine(model: nn.Module) -> tuple[Any, torch.optim.Optimizer]:
    pytest.importorskip("ignite")
    from ignite.engine import create_supervised_trainer
    from ignite.metrics import RunningAverage

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    engine = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy)
    RunningAverage(output_transform=float).attach(engine, "loss")
    return engine, optimizer


def train_with_ignite(traced: bool, **arguments: Any) -> Done:
    from ibtrace.integrations.ignite import IBTrace

    seed_everything()
    model = net()
    engine, optimizer = ignite_engine(model)
    callback = IBTrace(model, data(), **grouped(**arguments)) if traced else None
    if callback:
        callback.attach(engine)
    engine.run(loader(), max_epochs=3)
    return Done(model, optimizer, generators(), callback)


# --- what holds for all -------------------------------------------------------------------------

FRAMEWORKS: list[Callable[..., Done]] = [
    train_with_lightning,
    train_with_huggingface,
    train_with_huggingface_bf16,
    train_with_ignite,
]
CHOSEN: dict[str, Any] = {"estimators": ["binning", "ksg"], "every": [1]}


def same(one: Any, other: Any) -> bool:
    """Equality to the last bit, through dictionaries and lists."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def rows(trace: Trace, epoch: int) -> pd.DataFrame:
    frame = trace.frame()
    return frame[frame.epoch == epoch].set_index(KEY)[["bits", "stderr", "flags", "estimand"]]


@pytest.mark.slow
@pytest.mark.parametrize("train", FRAMEWORKS)
def test_a_traced_training_is_identical_to_an_untraced_one(train: Callable[..., Done]) -> None:
    traced, bare = train(True, **CHOSEN), train(False)
    assert len(traced.callback.trace) > 0
    assert same(traced.model.state_dict(), bare.model.state_dict())
    assert same(traced.optimizer.state_dict(), bare.optimizer.state_dict())
    assert same(traced.generators, bare.generators)


@pytest.mark.parametrize("train", FRAMEWORKS)
def test_the_rows_are_those_of_a_tracer_on_the_same_weights(train: Callable[..., Done]) -> None:
    done = train(True, **CHOSEN)
    trace = done.callback.trace
    assert sorted(trace.frame().epoch.unique()) == [0, 1, 3]  # the last one though it was not due
    with Tracer(done.model, done.callback.tracer.probe, **CHOSEN) as plain:
        pass
    pd.testing.assert_frame_equal(rows(trace, 3), rows(plain.trace, 0), check_exact=True)
    assert not rows(trace, 3).bits.equals(rows(trace, 1).bits)
    assert {v.layer for v in done.callback.verdict()} == set(trace.layers)
    with pytest.raises(ConfigError, match="this tracer is closed"):
        done.callback.tracer.snapshot(4)


@pytest.mark.parametrize("train", FRAMEWORKS)
def test_the_numbers_of_the_framework_are_stored(train: Callable[..., Done]) -> None:
    trace = train(True, **CHOSEN).callback.trace
    scalars = trace.scalars()
    losses = scalars[scalars.name.isin(["train_loss", "loss"])]
    assert {1, 2, 3} <= set(losses.epoch)
    assert np.isfinite(losses.value).all()
    steps = trace.frame().groupby("epoch").step.first()
    assert steps[1] == 4


def test_a_name_that_the_tracer_needs_is_stored_with_an_underscore() -> None:
    scalars = train_with_lightning(True, **CHOSEN).callback.trace.scalars()
    assert scalars[scalars.name == "step_"].value.tolist() == [0.0, 1.0, 2.0]


def test_mistakes_are_found_when_they_are_made() -> None:
    with pytest.raises(TypeError, match="estimator"):
        Traced(data(), estimator=["binning"])
    with pytest.raises(ConfigError, match="Traced has no trace yet; start the training first"):
        _ = Traced(data()).trace


# --- Lightning ----------------------------------------------------------------------------------


def test_the_whole_lightning_module_is_traced_by_default() -> None:
    pytest.importorskip("lightning")
    from ibtrace.integrations.lightning import IBTrace

    callback = IBTrace(DataLoader(TensorDataset(*data()), batch_size=10), estimators=["exact"])
    lightning_trainer(callback, epochs=1).fit(lightning_module(), loader())
    assert callback.trace.layers == ["net.2", "output"]
    with pytest.raises(UnknownName, match=r"no submodule 'nett'; the submodules are: net, net\.0"):
        lightning_trainer(IBTrace(data(), module="nett")).fit(lightning_module(), loader())


def test_an_exception_in_fit_leaves_the_trace(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from ibtrace.integrations.lightning import IBTrace

    callback = IBTrace(data(), estimators=["exact"], every=1, keep=tmp_path / "run")
    with pytest.raises(FloatingPointError, match="a mistake of the user's"):
        lightning_trainer(callback).fit(lightning_module(fails_at=2), loader())
    for trace in (callback.trace, Trace.load(tmp_path / "run")):
        assert sorted(trace.frame().epoch.unique()) == [0, 1, 2]
    with pytest.raises(ConfigError, match="this tracer is closed"):
        callback.tracer.snapshot(3)


def test_a_fit_from_a_checkpoint_goes_on_with_the_trace(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from ibtrace.integrations.lightning import IBTrace

    def fit(epochs: int, ckpt_path: Path | None = None, run: Path | None = tmp_path / "run") -> Any:
        callback = IBTrace(data(), estimators=["exact"], every=[2], keep=run)
        trainer = lightning_trainer(callback, epochs=epochs)
        trainer.fit(lightning_module(), loader(), ckpt_path=ckpt_path)
        return trainer, callback.trace

    trainer, first = fit(2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    kept = rows(first, 0), rows(first, 2)
    fit(3, tmp_path / "two.ckpt")
    assert sorted(first.frame().epoch.unique()) == [0, 2, 3]
    _, last = fit(5, tmp_path / "two.ckpt")  # once more: what lay after the checkpoint is forgotten
    assert sorted(last.frame().epoch.unique()) == [0, 2, 5]
    for before, epoch in zip(kept, (0, 2), strict=True):
        pd.testing.assert_frame_equal(rows(last, epoch), before, check_exact=True)
    for run in (None, tmp_path / "other"):  # no trace of the epochs before
        assert fit(4, tmp_path / "two.ckpt", run)[1].frame().epoch.unique().tolist() == [4]


@pytest.mark.slow
def test_the_callback_works_under_both_names_of_lightning() -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("pytorch_lightning")
    from pytorch_lightning import LightningModule, Trainer

    from ibtrace.integrations.lightning import IBTrace

    class Classifier(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, batch: tuple[Tensor, Tensor], at: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 1e-2)

    callback = IBTrace(data(), module="net", estimators=["exact"])
    lightning_trainer(callback, epochs=1, kind=Trainer).fit(Classifier(), loader())
    assert sorted(callback.trace.frame().epoch.unique()) == [0, 1]


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_a_lightning_module_without_a_forward_asks_for_its_network(
    name: str,
) -> None:
    package = pytest.importorskip(name)
    from ibtrace.integrations import lightning

    # mypy: imported at run time
    class Classifier(package.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = net(), nn.Linear(2, 2)

    callback = lightning.IBTrace(data(), estimators=["exact"])
    trainer: Any = SimpleNamespace(current_epoch=0, global_step=0)
    with pytest.raises(ConfigError, match=r"no forward .* by module=.* 'encoder', 'head'"):
        callback.on_train_start(trainer, Classifier())


# --- what is left where training fails ----------------------------------------------------------


class Recorder:
    """A sink that says how often it was closed."""

    closed = 0
    failed: bool | None = None

    def write(self, trace: Trace, rows: Any, scalars: Any) -> None:
        """Nothing is kept."""

    def close(self, trace: Trace, failed: bool) -> None:
        """Counted."""
        self.closed += 1
        self.failed = failed


def fail(*_: Any, **__: Any) -> None:
    raise FloatingPointError("a mistake of the user's")


def failing_lightning(callback: Any, folder: Path) -> None:
    lightning_trainer(callback).fit(lightning_module(fails_at=2), loader())


def failing_ignite(callback: Any, folder: Path) -> None:
    engine, _ = ignite_engine(callback.model)
    callback.attach(engine)
    from ignite.engine import Events

    engine.add_event_handler(Events.EPOCH_STARTED(once=3), fail)
    engine.run(loader(), max_epochs=3)


def failing_huggingface(callback: Any, folder: Path) -> None:
    from transformers import TrainerCallback

    class Failing(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.epoch == 2:
                fail()

    with callback:
        huggingface_trainer(bert(), folder, callback, Failing()).train()


@pytest.mark.parametrize("framework", ["lightning", "huggingface", "ignite"])
def test_a_training_that_fails_closes_the_sinks_and_keeps_its_rows(
    framework: str, tmp_path: Path
) -> None:
    pytest.importorskip("transformers" if framework == "huggingface" else framework)
    module = import_module(f"ibtrace.integrations.{framework}")
    sink = Recorder()
    options: dict[str, Any] = {"every": 1, "sinks": sink, "run": tmp_path / "run"}
    given = {"lightning": (data(),), "ignite": (net(), data()), "huggingface": (Tokens(),)}
    callback = module.IBTrace(*given[framework], estimators="exact", **grouped(**options))
    with pytest.raises(FloatingPointError, match="a mistake of the user's"):
        globals()[f"failing_{framework}"](callback, tmp_path / "out")
    assert (sink.closed, sink.failed) == (1, True)
    for trace in (callback.trace, Trace.load(tmp_path / "run")):
        assert sorted(trace.frame().epoch.unique()) == [0, 1, 2]


def test_an_exception_that_the_user_handles_in_ignite_stays_handled() -> None:
    engine, _ = ignite_engine(model := net())
    from ignite.engine import Events

    from ibtrace.integrations.ignite import IBTrace

    handled: list[str] = []
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: handled.append(str(error)))
    callback = IBTrace(model, data(), estimators="exact", keep=Keep(sinks=[sink := Recorder()]))
    callback.attach(engine)
    engine.add_event_handler(Events.EPOCH_STARTED(once=2), fail)
    engine.run(loader(), max_epochs=3)
    assert handled == ["a mistake of the user's"]
    assert sink.closed == 1


def test_a_training_that_follows_a_failed_one_closes_its_sinks_first() -> None:
    sink = Recorder()
    callback = Traced(data(), estimators="exact", keep=Keep(sinks=sink))
    callback._start(net(), 0, 0)
    callback._start(net(), 0, 0)
    assert (sink.closed, sink.failed) == (1, True)
    callback._finish()
    callback._abandon()
    assert (sink.closed, sink.failed) == (2, False)


# --- Hugging Face -------------------------------------------------------------------------------


def test_what_the_trainer_logs_is_stored_with_its_epoch(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from ibtrace.integrations.huggingface import IBTrace

    callback = IBTrace(Tokens(), estimators=["exact"])
    options = {"logging_strategy": "steps", "logging_steps": 3, "num_train_epochs": 2}
    trainer = huggingface_trainer(bert(), tmp_path, callback, eval_strategy="epoch", **options)
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    logged = {
        (int(np.ceil(entry["epoch"])), name): float(value)
        for entry in trainer.state.log_history[:-1]  # but for the evaluation after it
        for name, value in entry.items()
        if name not in ("epoch", "step")
    }
    stored = callback.trace.scalars().query("layer == ''")
    keys = zip(stored.epoch, stored.name, strict=True)
    assert dict(zip(keys, stored.value, strict=True)) == logged
    assert {"loss", "eval_loss", "learning_rate", "train_runtime"} <= set(stored.name)


def test_an_epoch_that_was_only_begun_takes_no_other_ones_place(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from ibtrace.integrations.huggingface import IBTrace

    callback = IBTrace(Tokens(), estimators=["exact"])
    huggingface_trainer(bert(), tmp_path, callback, max_steps=5).train()
    steps = callback.trace.frame().groupby("epoch").step.first()
    assert steps.index.tolist() == [0, 1, 2]
    assert steps[[1, 2]].tolist() == [4, 5]


def test_the_last_epoch_is_not_mistaken_for_the_best(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from ibtrace.integrations.huggingface import IBTrace

    seed_everything()
    callback = IBTrace(Tokens(), estimators=["binning"], every=[9])
    strategies = dict.fromkeys(("eval_strategy", "save_strategy", "logging_strategy"), "epoch")
    trainer = huggingface_trainer(
        bert(),
        tmp_path,
        callback,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # of a loss that falls, the first epoch is the best then
        load_best_model_at_end=True,
        **strategies,
    )
    trainer.train()
    assert trainer.state.best_global_step < trainer.state.global_step
    last = bert().from_pretrained(tmp_path / f"checkpoint-{trainer.state.global_step}")
    for model, equal in ((last, True), (trainer.model, False)):
        with Tracer(model, Tokens(), estimators=["binning"]) as plain:
            pass
        assert rows(callback.trace, 3).bits.equals(rows(plain.trace, 0).bits) is equal


def test_a_training_from_a_checkpoint_goes_on_with_the_trace(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from ibtrace.integrations.huggingface import IBTrace

    def train(every: Any, epochs: int, checkpoint: int = 0, run: str | None = "run") -> Trace:
        folder = None if run is None else tmp_path / run
        callback = IBTrace(Tokens(), estimators=["exact"], every=every, keep=folder)
        options = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": epochs}
        trainer = huggingface_trainer(bert(), tmp_path, callback, **options)
        path = str(tmp_path / f"checkpoint-{checkpoint}") if checkpoint else None
        trainer.train(resume_from_checkpoint=path)
        return callback.trace

    def epochs(trace: Trace) -> list[int]:
        return sorted(trace.frame().epoch.unique().tolist())

    before = rows(train(1, 2), 2)
    trace = train(1, 3, checkpoint=8)  # four steps an epoch
    assert epochs(trace) == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(rows(trace, 2), before, check_exact=True)
    # From inside an epoch; what lies after it is forgotten.
    assert epochs(train([9], 2, run="rare")) == [0, 2]
    assert epochs(train([9], 3, checkpoint=6, run="rare")) == [0, 3]
    # From inside the first: the network is not that of epoch 0 any more.
    assert epochs(train(1, 2, checkpoint=2, run=None)) == [1, 2]


def test_the_probe_may_be_a_data_set_a_loader_or_tensors_by_name() -> None:
    probes = [Tokens(), DataLoader(Tokens(), batch_size=5), Tokens().probe()]
    assert len({Probe.of(one).digest for one in probes}) == 1


# --- Ignite -------------------------------------------------------------------------------------


def test_an_engine_that_goes_on_goes_on_with_the_trace(tmp_path: Path) -> None:
    from ibtrace.integrations.ignite import IBTrace

    model = net()
    engine, _ = ignite_engine(model)
    callback = IBTrace(model, data(), estimators=["exact"], every=[4], keep=tmp_path / "run")
    callback.attach(engine)
    engine.run(loader(), max_epochs=2)
    engine.run(loader(), max_epochs=5)
    steps = callback.trace.frame().groupby("epoch").step.first()
    assert steps.index.tolist() == [0, 2, 4, 5]
    assert steps[4] == 16


def test_an_exception_in_the_engine_leaves_the_trace() -> None:
    from ibtrace.integrations.ignite import IBTrace

    model = net()
    engine, _ = ignite_engine(model)
    callback = IBTrace(model, data(), estimators=["exact"], every=1)
    callback.attach(engine)
    x, y = data()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        engine.run([(x, y), (x[:, 1:], y)], max_epochs=2, epoch_length=1)
    assert sorted(callback.trace.frame().epoch.unique()) == [0, 1]


# --- what is missing, and what is shown ---------------------------------------------------------


def test_a_package_that_cannot_be_imported_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_one.py").write_text("raise RuntimeError('operator nms is absent\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency) as caught:
        require("lightning", "broken_one", "no_such_package")
    assert str(caught.value) == (
        "import broken_one: RuntimeError: operator nms is absent; import no_such_package: "
        "ModuleNotFoundError: No module named 'no_such_package'; pip install 'ibtrace[lightning]'"
    )


@pytest.mark.parametrize(
    ("leaf", "package"), [("lightning", "lightning.pytorch"), ("huggingface", "transformers")]
)
def test_a_leaf_without_its_package_says_what_to_install(
    leaf: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (package, "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"ibtrace.integrations.{leaf}", raising=False)
    with pytest.raises(MissingDependency, match=rf"pip install 'ibtrace\[{leaf}\]'"):
        import_module(f"ibtrace.integrations.{leaf}")


def test_every_leaf_has_an_extra_and_fits_on_a_page() -> None:
    root = Path(__file__).parent.parent
    extras = re.findall(r"^(\w+) = \[", (root / "pyproject.toml").read_text(), re.MULTILINE)
    leaves = sorted((root / "ibtrace" / "integrations").glob("[a-z]*.py"))
    assert len(leaves) == 6
    for leaf in leaves:
        assert leaf.stem in extras
        assert len(leaf.read_text().splitlines()) <= 110, leaf


def test_the_examples_run_as_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A smoke test: they run and leave something; what, the tests above say."""
    pytest.importorskip("lightning")
    pytest.importorskip("transformers")
    from transformers import TrainingArguments

    x, y = data()
    model = net()
    lightning = {
        "x": x,
        "y": y,
        "Trainer": lambda **given: lightning_trainer(*given["callbacks"]),
        "lightning_module": lightning_module(),
        "train_dataloader": loader(),
    }
    tokens = Tokens()
    huggingface = {
        "tokens": tokens.ids,
        "labels": tokens.labels,
        "model": bert(),
        "dataset": tokens,
        "training_arguments": TrainingArguments(
            str(tmp_path), num_train_epochs=1, use_cpu=True, report_to="none", disable_tqdm=True
        ),
        "Trainer": import_module("transformers").Trainer,
    }
    engine, _ = ignite_engine(model)
    ignite = {"x": x, "y": y, "model": model, "engine": engine, "train_loader": loader()}
    for leaf, given in [("lightning", lightning), ("huggingface", huggingface), ("ignite", ignite)]:
        documented = inspect.getdoc(import_module(f"ibtrace.integrations.{leaf}").IBTrace) or ""
        example = textwrap.dedent(documented.split("Example::\n")[1])
        assert f"from ibtrace.integrations.{leaf} import IBTrace" in example
        exec(compile(example, leaf, "exec"), dict(given))
    assert capsys.readouterr().out.count("inconclusive") >= 3  # one seed
