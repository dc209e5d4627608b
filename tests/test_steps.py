"""A trace may count optimiser steps: several looks in an epoch, or training without epochs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from ibtrace.errors import ConfigError, InvalidInput, NonFinite, RunError
from ibtrace.estimators import Binning
from ibtrace.plane import coordinates, verdict
from ibtrace.plots import curves, information_plane
from ibtrace.reports.comparing_run import text
from ibtrace.runtime.schedule import Steps, log_spaced
from ibtrace.trace import Scalar, Trace
from ibtrace.tracer import At, Keep, Tracer
from ibtrace.training.comparing_run import compare_run
from tests import test_integrations as frameworks

pytestmark = frameworks.pytestmark

N, D, BATCHES = 64, 5, 4


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.Linear(6, 2))


def train(tracer: Tracer, epochs: int, start: int = 0) -> None:
    """Each step changes the weights; the tracer is told of each."""
    step = start * BATCHES
    model = tracer.model
    assert isinstance(model, nn.Module)
    for epoch in range(start, epochs):
        for _ in range(BATCHES):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.1)
            step += 1
            tracer.snapshot(epoch, step=step, train_loss=1 / step)


def looks(trace: Trace) -> list[tuple[int, int]]:
    frame = trace.frame()
    return list(dict.fromkeys(zip(frame.epoch.tolist(), frame.step.tolist(), strict=True)))


def test_an_epoch_has_as_many_looks_as_its_steps_ask_for() -> None:
    with Tracer(net(), data(), estimators=["binning", At("exact", Steps(6))], every=Steps(3)) as t:
        train(t, epochs=2)
    assert looks(t.trace) == [(0, 0), (0, 3), (1, 6), (1, 8)]  # the last one though it is not due
    frame = t.trace.frame()
    assert frame[frame.estimator == "Exact"].step.unique().tolist() == [0, 6, 8]
    assert frame.groupby("step").bits.sum().nunique() > 1
    scalars = t.trace.scalars().query("name == 'train_loss'")
    assert scalars.step.tolist() == list(range(1, 9))
    assert scalars.epoch.tolist() == [0] * 4 + [1] * 4


def test_training_without_epochs_needs_none() -> None:
    with Tracer(net(), data(), estimators="exact", every=Steps(log_spaced(100, 5))) as tracer:
        for step in range(1, 101):
            tracer.snapshot(step=step)
    assert looks(tracer.trace) == [(0, step) for step in (0, 1, 3, 10, 31, 100)]


def test_log_spaced_steps_are_the_default() -> None:
    due = [step for step in range(1001) if Steps()(step)]
    assert due[:4] == [0, 1, 2, 3]
    assert len([step for step in due if 100 <= step < 1000]) == 20
    assert Steps([3, 5]) == Steps([5, 3])
    with pytest.raises(ConfigError, match="at least 1"):
        Steps(0)


def test_resuming_by_steps_overwrites_and_never_duplicates(tmp_path: Path) -> None:
    options: dict[str, Any] = {"estimators": "exact", "every": Steps(3), "keep": tmp_path / "run"}
    with Tracer(net(), data(), **options) as whole:
        train(whole, epochs=3)
    expected = looks(whole.trace)
    whole.trace.truncate(6)
    assert looks(whole.trace) == [(0, 0), (0, 3), (1, 6)]
    assert whole.trace.scalars().step.max() == 6
    resumed = {**options, "keep": Keep(tmp_path / "run", resume=True)}
    with Tracer(net(), data(), **resumed) as again:
        train(again, epochs=3, start=1)
    assert looks(again.trace) == expected
    key = ["seed", "step", "layer", "quantity", "estimator"]
    assert not again.trace.frame().duplicated(key).any()
    with pytest.raises(RunError, match="counts steps, not epochs; choose another folder"):
        Tracer(net(), data(), **{**resumed, "every": 1, "seed": 1})


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda tracer: tracer.snapshot(1), r"counts steps .* step="),
        (lambda tracer: tracer.log(1, loss=1.0), r"counts steps .* step="),
        (lambda tracer: tracer.snapshot(step=1.5), "step must be a whole number"),
        (lambda tracer: tracer.snapshot(step=-1), "0 or more, got -1"),
        (lambda tracer: tracer.snapshot(0.5, step=1), "epoch .* must be a whole number"),
    ],
)
def test_a_step_that_is_missing_or_not_whole_is_refused(call: Any, match: str) -> None:
    tracer = Tracer(net(), data(), estimators="exact", every=Steps(1))
    with pytest.raises(ConfigError, match=match):
        call(tracer)
    assert looks(tracer.trace) == [(0, 0)]


def test_one_trace_has_one_clock() -> None:
    for every, own in ((Steps(1), 2), (2, Steps(1))):
        with pytest.raises(ConfigError, match=r"the trace counts (steps|epochs), so must its"):
            Tracer(net(), data(), estimators=At("exact", own), every=every)
    trace = Tracer(net(), data(), estimators="exact", every=Steps(1)).trace
    with pytest.raises(InvalidInput, match="needs the step of every row and scalar"):
        trace.append([], [Scalar(0, 1, "", "loss", 0.5)])


def test_a_diverged_step_is_named() -> None:
    model = net()
    tracer = Tracer(model, data(), estimators="exact", every=Steps(1))
    next(model.parameters()).data.fill_(torch.nan)
    with pytest.raises(NonFinite, match="step 7: "):
        tracer.snapshot(step=7)


def test_activations_are_kept_by_step_and_estimates_of_the_whole_trace_know_their_epoch(
    tmp_path: Path,
) -> None:
    pooled = Binning(bins=4, range="trace")
    options: dict[str, Any] = {"every": Steps(3), "keep": tmp_path / "run"}
    with Tracer(net(), data(), estimators=["exact", pooled], **options) as tracer:
        train(tracer, epochs=2)
    assert tracer.trace.activation_epochs() == [0, 3, 6, 8]
    frame = tracer.trace.frame()
    assert looks(tracer.trace) == [(0, 0), (0, 3), (1, 6), (1, 8)]
    assert frame.groupby("estimator").step.unique().map(list).tolist() == [[0, 3, 6, 8]] * 2
    compared = compare_run(tracer.trace, ["exact", "binning"], snapshots=4, progress=False)
    assert looks(compared.trace) == [(0, 0), (0, 3), (1, 6), (1, 8)]
    assert ", 4 snapshots" in text(compared)
    tracer.trace.truncate(3)
    assert tracer.trace.activation_epochs() == [0, 3]
    with pytest.raises(RunError, match="no activations were kept at step 8; steps kept: 0, 3"):
        tracer.trace.activations(8)


def test_plane_verdict_and_plots_count_the_steps(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for seed in range(3):
        options: dict[str, Any] = {"every": Steps(2), "keep": run, "seed": seed}
        with Tracer(net(), data(), estimators="binning", **options) as tracer:
            train(tracer, epochs=2)
    trace = Trace.load(run)
    assert coordinates(trace.frame()).epoch.unique().tolist() == [0, 2, 4, 6, 8]
    judged = verdict(trace)
    assert {finding.evidence.final.epoch for finding in judged.findings} == {8}
    assert "peak to the last step" in judged.details()
    assert "in the last half of the steps" in judged.details().replace("\n  ", " ")
    assert "epoch" not in judged.details()
    assert {"peak_step", "final_step"} < {*judged.table()}
    assert curves(trace).axes[0].get_xlabel() == "Step"
    assert "Step" in [axes.get_ylabel() for axes in information_plane(trace).axes]


def test_a_service_is_sent_the_steps(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from ibtrace.integrations.tensorboard import TensorBoard
    from tests.test_sinks import tensorboard_holds

    sink = TensorBoard(tmp_path)
    with Tracer(net(), data(), estimators="exact", every=Steps(3), keep=Keep(sinks=sink)) as tracer:
        train(tracer, epochs=2)
    numbers, images = tensorboard_holds(tmp_path)
    assert sorted(numbers["I_XT/1/Exact"]) == [0, 3, 6, 8]
    assert sorted(numbers["scalars/train_loss"]) == list(range(1, 9))
    assert images == {"information_plane/Exact": [8]}


# --- in the frameworks --------------------------------------------------------------------------


class Stream(IterableDataset[Any]):
    """Samples without a length."""

    def __iter__(self) -> Iterator[Any]:
        yield from zip(*data(), strict=True)


class Counting:
    """A sink that counts the snapshots."""

    written = 0

    def write(self, trace: Trace, rows: Any, scalars: Any) -> None:
        """Counted."""
        self.written += 1

    def close(self, trace: Trace, failed: bool) -> None:
        """Nothing to close."""


def fit_with_lightning(callback: Any, **options: Any) -> None:
    from lightning.pytorch import Trainer

    stream = options.pop("stream", False)
    loader = DataLoader(Stream() if stream else TensorDataset(*data()), batch_size=16)
    Trainer(
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    ).fit(frameworks.lightning_module(), loader)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_steps": 3, "max_epochs": -1}, [(0, 0), (0, 1), (0, 2), (0, 3)]),  # under one epoch
        ({"max_steps": 4, "max_epochs": -1}, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4)]),  # just one
        ({"max_epochs": 1}, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4)]),
        (
            {"max_steps": 6, "max_epochs": -1, "stream": True},
            [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (1, 6)],
        ),
        ({"max_epochs": 1, "accumulate_grad_batches": 2}, [(0, 0), (0, 1), (1, 2)]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*IterableDataset.*:UserWarning")
def test_a_fit_without_a_second_epoch_is_looked_at_by_steps(
    options: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    pytest.importorskip("lightning")
    from ibtrace.integrations.lightning import IBTrace

    callback = IBTrace(
        data(), module="net", estimators="exact", keep=Keep(sinks=(sink := Counting()))
    )
    fit_with_lightning(callback, **options)
    assert looks(callback.trace) == expected
    assert sink.written == len(expected)  # each once, also where a step takes several batches


def test_a_callback_takes_the_only_step_of_a_second_fit() -> None:
    pytest.importorskip("lightning")
    from ibtrace.integrations.lightning import IBTrace

    callback = IBTrace(data(), module="net", estimators="exact")
    for _ in range(2):
        fit_with_lightning(callback, max_steps=1, max_epochs=-1)
        assert looks(callback.trace) == [(0, 0), (0, 1)]


def test_a_fit_of_several_epochs_counts_what_it_is_told_to() -> None:
    pytest.importorskip("lightning")
    from ibtrace.integrations.lightning import IBTrace

    callback = IBTrace(data(), module="net", estimators="exact", every=Steps(3))
    fit_with_lightning(callback, max_epochs=2)
    assert [step for _, step in looks(callback.trace)] == [0, 3, 6, 8]
    losses = callback.trace.scalars().query("name == 'train_loss'")
    assert set(losses.step) == {4, 8}
    plain = IBTrace(data(), module="net", estimators="exact")
    fit_with_lightning(plain, max_epochs=2)
    assert plain.trace.frame().epoch.unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_steps": 3}, [0, 1, 2, 3]),  # under one epoch of four
        ({"num_train_epochs": 1}, [0, 1, 2, 3, 4]),
        ({"num_train_epochs": 2, "every": Steps(3)}, [0, 3, 6, 8]),
        ({"num_train_epochs": 2, "every": Steps(100), "best": True}, [0, 4, 8]),
    ],
)
def test_a_trainer_without_a_second_epoch_is_looked_at_by_steps(
    options: dict[str, Any], steps: list[int], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    from ibtrace.integrations.huggingface import IBTrace

    every = options.pop("every", None)
    if options.pop("best", False):
        options |= {"load_best_model_at_end": True, "eval_strategy": "epoch"}
        options["save_strategy"] = "epoch"
    callback = IBTrace(frameworks.Tokens().probe(), estimators="exact", every=every)
    trainer = frameworks.huggingface_trainer(frameworks.bert(), tmp_path, callback, **options)
    trainer.train()
    assert [step for _, step in looks(callback.trace)] == steps
    assert {epoch for epoch, _ in looks(callback.trace)} == set(range(steps[-1] // 4 + 1))


@pytest.mark.parametrize(
    ("options", "every", "expected"),
    [
        ({"max_epochs": 1}, None, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4)]),
        ({"max_epochs": 2}, Steps(3), [(0, 0), (0, 3), (1, 6), (2, 8)]),
    ],
)
def test_an_engine_without_a_second_epoch_is_looked_at_by_steps(
    options: dict[str, Any], every: Any, expected: list[tuple[int, int]]
) -> None:
    engine, _ = frameworks.ignite_engine(model := frameworks.net())
    from ibtrace.integrations.ignite import IBTrace

    callback = IBTrace(model, data(), estimators="exact", every=every)
    callback.attach(engine)
    engine.run(frameworks.loader(), **options)
    assert looks(callback.trace) == expected


def test_a_fit_goes_on_by_steps_from_a_checkpoint_within_an_epoch(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from ibtrace.integrations.huggingface import IBTrace

    def train_to(steps: int, resume: Any = None) -> Trace:
        run: dict[str, Any] = {"keep": tmp_path / "run", "estimators": "exact", "every": Steps(2)}
        callback = IBTrace(frameworks.Tokens().probe(), **run)
        saving = {"save_strategy": "steps", "save_steps": 3, "max_steps": steps}
        trainer = frameworks.huggingface_trainer(
            frameworks.bert(), tmp_path / "out", callback, **saving
        )
        trainer.train(resume_from_checkpoint=resume)
        return callback.trace

    assert [step for _, step in looks(train_to(6))] == [0, 2, 4, 6]
    trace = train_to(8, resume=str(tmp_path / "out" / "checkpoint-3"))
    assert [step for _, step in looks(trace)] == [0, 2, 4, 6, 8]
    assert not trace.frame().duplicated(["step", "layer", "quantity", "estimator"]).any()
