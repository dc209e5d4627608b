"""The MNIST configurations run through the command line, on real images and on what stands in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ibtrace.cli import main
from ibtrace.models import CNN, MLP
from ibtrace.trace import Trace
from ibtrace.training import config, configs, runner
from ibtrace.training.experiment import Experiment
from ibtrace.training.parts import probe_of, split_of
from ibtrace.types import I_TY, I_XT

REAL = os.environ.get("IBTRACE_DATA")
NAMES = ("mnist-cnn", "mnist-mlp-saxe")
LAYERS = {
    "mnist-cnn": ["maps1", "maps2", "hidden1", "hidden2", "output"],
    "mnist-mlp-saxe": ["hidden1", "hidden2", "hidden3", "hidden4", "softmax"],
}
FEW = {
    "mnist-cnn": "--set=estimators=[matrix_renyi, binning]",
    "mnist-mlp-saxe": "--set=estimators=[{name: binning.ibsgd, width: 0.5}, exact]",
}
NOWHERE = "--set=data.init_args.mirrors=[http://127.0.0.1:9/]"


def arguments(name: str, activation: str, out: Path, *others: str) -> list[str]:
    """A run of a shipped configuration with one variant, for one epoch."""
    variant = f"--set=variants={{{activation}: {{model.init_args.activation: {activation}}}}}"
    return ["run", name, "--epochs=1", "--quiet", f"--out={out}", variant, *others]


def numbers(trace: Trace, layers: Sequence[str]) -> pd.DataFrame:
    """The table of a trace, once it has every layer, seed, quantity, and finite numbers only."""
    frame = trace.frame()
    assert trace.layers == list(layers)
    each = frame.groupby(["estimator", "layer"])[["epoch", "seed", "quantity"]].nunique()
    assert each.to_numpy().tolist() == [[2, 3, 2]] * len(each)
    assert np.isfinite(frame["bits"]).all()
    return frame


def respects_ceilings(trace: Trace, frame: pd.DataFrame) -> None:
    """Whatever counts samples gives at most log2 N and H(Y); neighbours (KSG) may give more."""
    counted = frame[~frame["estimator"].str.startswith("Compressed")]
    for quantity, most in ((I_XT, np.log2(trace.meta["n"])), (I_TY, trace.meta["label_entropy"])):
        bits = counted.loc[counted["quantity"] == quantity, "bits"]
        assert bits.max() <= most + 1e-6
        assert bits.min() >= -1e-6


def judges(said: str, trace: Trace) -> None:
    """A table of findings by each estimator, and the answers of all layers."""
    for estimator in trace.estimators:
        assert f"\n{estimator}: " in said
    answers = said.split("Answers (no vote is taken across questions)")[1]
    for layer in trace.layers:
        assert f"\n{layer} " in answers


def test_the_networks_are_those_that_the_configurations_promise() -> None:
    cnn = CNN(**configs.read("mnist-cnn")["model"]["init_args"])
    parameters = sum(p.numel() for p in cnn.parameters())
    assert parameters >= 1_000_000
    text = configs.shipped()["mnist-cnn"].read_text()
    assert f"{parameters:,} parameters in all" in text
    mlp = MLP(**configs.read("mnist-mlp-saxe")["model"]["init_args"])
    widths = [m.in_features for m in mlp.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [784, 1024, 20, 20, 20]
    for name in NAMES:
        assert list(configs.variants(configs.read(name))) == ["tanh", "relu"]
        assert configs.read(name)["seeds"] >= 3


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="IBTRACE_DATA is not set to a folder with MNIST")
@pytest.mark.parametrize(("name", "activation"), [(NAMES[0], "relu"), (NAMES[1], "tanh")])
def test_a_shortened_run_on_real_images(
    name: str, activation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--seeds=3", "--set=split.fraction=0.2", "--set=probe.samples=300"]
    assert main(arguments(name, activation, tmp_path / "run", FEW[name], *small)) == 0
    said = capsys.readouterr().out
    trace = runner.load(tmp_path / "run")[activation]
    frame = numbers(trace, LAYERS[name])
    respects_ceilings(trace, frame)
    judges((tmp_path / "run" / "report.txt").read_text(), trace)
    first = said.splitlines()[0]
    assert first == (
        "Data: mnist-t10k, 2,000 training and 8,000 test samples; information on 300 test samples"
    )
    assert (tmp_path / "run" / "report.txt").read_text().startswith(first)
    loss = trace.scalars().query("name == 'test_loss'").groupby("epoch")["value"].mean()
    assert loss[1] < loss[0]
    planes = list((tmp_path / "run").glob("information_plane-*.png"))
    assert len(planes) == len(trace.estimators)
    if name == "mnist-cnn":
        assert trace.meta["captured"]["maps2"]["shape"] == [32, 14, 14]
        assert trace.meta["captured"]["maps2"]["variable"] == "gap"


@pytest.fixture
def no_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither files nor a server that has them."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("IBTRACE_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.slow
@pytest.mark.usefixtures("no_mnist")
def test_digits_stand_in_and_the_report_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments("mnist-cnn", "tanh", tmp_path / "run", NOWHERE)) == 0
    said, warned = capsys.readouterr()
    assert (
        warned.count("digits-28x28, scikit-learn's 8×8 digits enlarged, stands in for MNIST") == 1
    )
    # the probe of 1000 images that the configuration asks for is more than there are
    assert warned.count("359 samples of its test part, not 1000: all are measured") == 1
    trace = runner.load(tmp_path / "run")["tanh"]
    respects_ceilings(trace, numbers(trace, LAYERS["mnist-cnn"]))
    judges((tmp_path / "run" / "report.txt").read_text(), trace)
    assert len(trace.estimators) == len(configs.read("mnist-cnn")["estimators"])
    data = "Data: digits-28x28, 1,438 training and 359 test samples; information on 359 test"
    assert said.startswith(data)
    assert (tmp_path / "run" / "report.txt").read_text().startswith(data)
    assert trace.meta["data"]["name"] == "digits-28x28"


@pytest.mark.slow
@pytest.mark.usefixtures("no_mnist")
def test_digits_stand_in_and_standard_error_says_so(tmp_path: Path) -> None:
    options = [NOWHERE, FEW["mnist-mlp-saxe"], "--seeds=3"]
    run = arguments("mnist-mlp-saxe", "relu", tmp_path / "run", *options)
    done = subprocess.run(
        [sys.executable, "-m", "ibtrace", *run], capture_output=True, text=True, check=True
    )
    assert "digits-28x28, scikit-learn's 8×8 digits enlarged, stands in for MNIST" in done.stderr
    trace = runner.load(tmp_path / "run")["relu"]
    numbers(trace, LAYERS["mnist-mlp-saxe"])
    assert done.stdout.startswith("Data: digits-28x28, ")


def parts(probe: dict[str, Any], how: str, seeds: list[int]) -> Experiment:
    """The 12-bit task, information measured on a part of it."""
    raw = next(iter(configs.variants(configs.read("tishby")).values()))
    split = {"fraction": 0.5, "how": how}
    return config.build({**raw, "probe": probe, "seeds": seeds, "split": split, "epochs": 1})


@pytest.mark.parametrize("how", ["shuffled", "stratified"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_that_is_measured_is_that_part_for_every_seed(part: str, how: str) -> None:
    experiment = parts({"part": part, "samples": 300}, how, [3, 4, 5])
    bits = 2.0 ** torch.arange(12)
    measured = set((probe_of(experiment).features @ bits).tolist())
    assert len(measured) == 300
    for seed in experiment.training.seed_list:
        train, test = (
            set((experiment.data.x[rows] @ bits).tolist()) for rows in split_of(experiment, seed)
        )
        assert measured <= (train if part == "train" else test)
        assert not train & test
    everything = parts({"part": "all"}, how, [3, 4])
    one, other = (split_of(everything, seed)[0].sort().values for seed in (3, 4))
    assert not torch.equal(one, other)


def test_more_samples_than_there_are_is_said_not_hidden() -> None:
    with pytest.warns(UserWarning, match="tishby has 4096 samples, not 5000: all are measured"):
        assert probe_of(parts({"samples": 5000}, "shuffled", [0])).n == 4096
    assert probe_of(parts({"samples": 4096}, "shuffled", [0])).n == 4096
