"""Checkpoints traced after the fact give the rows of the live run, column for column."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from ibtrace.checkpoints import find, load_into
from ibtrace.cli import main
from ibtrace.errors import ConfigError, InvalidInput, NonFinite
from ibtrace.estimators import Binning
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Tracer
from ibtrace.training import configs, runner, trainers
from ibtrace.training.after import trace_checkpoints
from tests.arguments import grouped
from tests.test_train import raw

KEY = ["epoch", "layer", "quantity", "estimator"]
N, D = 64, 5
ESTIMATORS = ["binning", "ksg", "exact"]


def data() -> tuple[Tensor, Tensor]:
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def network() -> nn.Sequential:
    first = [nn.Linear(D, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.3)]
    return nn.Sequential(*first, nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def same_rows(one: Trace, other: Trace, first: int = 0) -> None:
    """Whether all but the times agree, from the first epoch that there is a checkpoint of."""
    found = [trace.frame().drop(columns="seconds") for trace in (one, other)]
    rows, others = (f[f.epoch >= first].sort_values(KEY, ignore_index=True) for f in found)
    assert len(rows)
    pd.testing.assert_frame_equal(rows, others, check_exact=True)


def epochs_of(
    model: nn.Module, keep: Callable[[int, int], None], epochs: int = 4
) -> Iterator[tuple[int, int]]:
    """A plain training loop that keeps a checkpoint of each epoch; yields epoch and step."""
    torch.manual_seed(3)
    x, y = data()
    optimizer = torch.optim.Adam(model.parameters(), 3e-2)
    keep(0, 0)
    for epoch in range(1, epochs + 1):
        for chosen in torch.randperm(N).split(16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
        keep(epoch, 4 * epoch)
        yield epoch, 4 * epoch


def as_state_dict(model: nn.Module, folder: Path, epoch: int, step: int) -> None:
    torch.save(model.state_dict(), folder / f"net-{epoch:04d}.pt")


def as_dictionary(model: nn.Module, folder: Path, epoch: int, step: int) -> None:
    content = {"epoch": epoch, "global_step": step, "model_state_dict": model.state_dict()}
    torch.save(content, folder / f"{9 - epoch}.pt")


def as_safetensors(model: nn.Module, folder: Path, epoch: int, step: int) -> None:
    metadata = {"epoch": str(epoch), "step": str(step)}
    save_file(model.state_dict(), folder / f"{'abcde'[epoch]}.safetensors", metadata)


def as_wrapped(model: nn.Module, folder: Path, epoch: int, step: int) -> None:
    torch.save(nn.DataParallel(model).state_dict(), folder / f"epoch={epoch}.ckpt")


@pytest.mark.parametrize("keep", [as_state_dict, as_dictionary, as_safetensors, as_wrapped])
def test_the_rows_of_a_plain_loop(keep: Callable[..., None], tmp_path: Path) -> None:
    model, given = network(), network()
    steps = keep in (as_dictionary, as_safetensors)
    with Tracer(model, data(), estimators=ESTIMATORS, every=1) as live:
        for epoch, step in epochs_of(model, lambda *at: keep(model, tmp_path, *at)):
            live.snapshot(epoch, step=step if steps else None)
    after = Tracer.from_checkpoints(given, f"{tmp_path}/*", data(), estimators=ESTIMATORS)
    same_rows(after.trace, live.trace)
    assert sorted(after.trace.frame().epoch.unique()) == [0, 1, 2, 3, 4]
    assert after.trace.meta["captured"] == live.trace.meta["captured"]


def test_a_multiverse_of_checkpoints_is_that_of_the_live_run(tmp_path: Path) -> None:
    """Checkpoints traced with their activations kept can be judged under every analysis."""
    keep = {name: Keep(tmp_path / name, activations=True) for name in ("live", "after")}
    options: dict[str, Any] = {"estimators": ["exact"], "every": 1}
    model = network()
    with Tracer(model, data(), keep=keep["live"], **options) as live:
        for epoch, _ in epochs_of(model, lambda *at: as_state_dict(model, tmp_path, *at)):
            live.snapshot(epoch)
    files = str(tmp_path / "*.pt")
    after = Tracer.from_checkpoints(network(), files, data(), keep=keep["after"], **options)
    bins = {"estimator": "binning", "bins": [4, 8], "range": ["activation", "snapshot", "trace"]}
    tables = [trace.multiverse({"families": [bins]}).table for trace in (live.trace, after.trace)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert tables[0]["final_bits"].notna().all()
    maps = [trace.resolution().frame() for trace in (live.trace, after.trace)]
    pd.testing.assert_frame_equal(maps[0], maps[1])


def test_the_rows_of_bins_that_need_the_whole_trace(tmp_path: Path) -> None:
    wide, model = Binning(bins=6, range="trace"), network()
    options: dict[str, Any] = {"estimators": [wide], "every": [1, 4]}
    with Tracer(model, data(), keep=tmp_path / "live", **grouped(**options)) as live:
        for epoch, _ in epochs_of(model, lambda *at: as_state_dict(model, tmp_path, *at)):
            live.snapshot(epoch)
    after = Tracer.from_checkpoints(
        network(), str(tmp_path / "*.pt"), data(), keep=tmp_path / "after", **grouped(**options)
    )
    same_rows(after.trace, live.trace)
    assert sorted(after.trace.frame().epoch.unique()) == [0, 1, 4]


def test_some_checkpoints_give_their_rows_and_no_others(tmp_path: Path) -> None:
    model = network()
    with Tracer(model, data(), estimators=["binning"], every=[2, 3]) as live:
        for epoch, _ in epochs_of(model, lambda *at: as_state_dict(model, tmp_path, *at), 3):
            live.snapshot(epoch)
    chosen = [tmp_path / "net-0003.pt", tmp_path / "net-0002.pt"]
    after = Tracer.from_checkpoints(network(), chosen, data(), estimators=["binning"])
    same_rows(after.trace, live.trace, first=2)
    assert sorted(after.trace.frame().epoch.unique()) == [2, 3]
    named = Tracer.from_checkpoints(
        network(), chosen, data(), epochs=[30, 20], estimators=["binning"]
    )
    assert sorted(named.trace.frame().epoch.unique()) == [20, 30]


def test_the_given_model_and_the_generators_are_left_alone(tmp_path: Path) -> None:
    model, given = network(), network()
    for _ in epochs_of(model, lambda *at: as_state_dict(model, tmp_path, *at), 2):
        pass
    given[1].eval()
    given[0].weight.requires_grad_(False)
    before = copy.deepcopy(given)
    generator = torch.get_rng_state()
    Tracer.from_checkpoints(given, f"{tmp_path}/*", data(), estimators=["binning"])
    assert torch.equal(torch.get_rng_state(), generator)
    assert [m.training for m in given.modules()] == [m.training for m in before.modules()]
    for one, other in zip(given.parameters(), before.parameters(), strict=True):
        assert one.requires_grad == other.requires_grad
        assert one.grad is None
    for name, value in before.state_dict().items():
        assert torch.equal(given.state_dict()[name], value)
    assert not any(module._forward_hooks for module in given.modules())


def test_a_diverged_checkpoint_names_its_epoch(tmp_path: Path) -> None:
    model = network()
    as_state_dict(model, tmp_path, 1, 0)
    with torch.no_grad():
        next(iter(model.parameters())).fill_(torch.nan)
    as_state_dict(model, tmp_path, 2, 0)
    with pytest.raises(NonFinite, match="epoch 2"):
        Tracer.from_checkpoints(network(), f"{tmp_path}/*", data(), estimators=["binning"])


@pytest.mark.parametrize(
    ("name", "options", "error", "match"),
    [
        ("net-1.pt", {"paths": "nowhere/*.pt"}, ConfigError, r"no checkpoint matches nowhere/\*"),
        ("net.pt", {}, ConfigError, r"does not say its epoch"),
        ("net-1.pt", {"model": nn.Linear(D, 9)}, InvalidInput, "with its shapes under none"),
        ("net-1.pt", {"model": network()[:4]}, InvalidInput, r"4 without a place in the model"),
    ],
)
def test_mistakes_are_named(
    name: str, options: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    torch.save(network().state_dict(), tmp_path / name)
    given = {"model": network(), "paths": f"{tmp_path}/*.pt", "data": data(), **options}
    with pytest.raises(error, match=match):
        Tracer.from_checkpoints(**grouped(**given))


# --- frameworks -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's own
@pytest.mark.parametrize("part", ["", "net"])
def test_the_rows_of_lightnings_callback(part: str, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint
    from torch.utils.data import DataLoader, TensorDataset

    from ibtrace.integrations.lightning import IBTrace

    class Lit(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x)
            return out

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 3e-2)

    class First(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.save_checkpoint(tmp_path / "start.ckpt")

        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
        ) -> None:
            if batch_idx == 0:
                trainer.save_checkpoint(tmp_path / "before" / f"{trainer.current_epoch}.ckpt")

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            path = tmp_path / "light" / f"{trainer.current_epoch}.ckpt"
            trainer.save_checkpoint(path, weights_only=True)

    live = IBTrace(data(), module=part, estimators=ESTIMATORS, every=1)
    each = ModelCheckpoint(dirpath=tmp_path, save_top_k=-1, every_n_epochs=1)
    within = ModelCheckpoint(dirpath=tmp_path / "within", save_top_k=-1, every_n_train_steps=3)
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[live, First(), each, within],
    )
    trainer.fit(Lit(), DataLoader(TensorDataset(*data()), batch_size=16, shuffle=True))
    trainer.save_checkpoint(tmp_path / "light" / "end.ckpt")

    given = network() if part else Lit()
    for pattern in ("*.ckpt", "light/?.ckpt"):
        after = Tracer.from_checkpoints(given, tmp_path / pattern, data(), estimators=ESTIMATORS)
        same_rows(after.trace, live.trace, first=0 if pattern == "*.ckpt" else 1)
    names = {c.path.name: (c.epoch, c.step) for c in find(tmp_path / "*.ckpt")}
    assert names == {
        "start.ckpt": (0, None),
        "epoch=0-step=4.ckpt": (1, 4),  # counted from 0 in the name, as epochs done in a trace
        "epoch=1-step=8.ckpt": (2, 8),
        "epoch=2-step=12.ckpt": (3, 12),
    }
    assert [c.epoch for c in find(tmp_path / "before" / "*.ckpt")] == [0, 1, 2]
    assert find(tmp_path / "light" / "end.ckpt")[0].epoch == 3
    assert find(tmp_path / "within" / "epoch=2-step=12.ckpt")[0].epoch == 3  # its last step
    with pytest.raises(ConfigError, match=r"step=3.ckpt was saved at epoch 0 and 3 batches; a"):
        find(tmp_path / "within" / "*.ckpt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers and accelerate
def test_the_rows_of_hugging_faces_callback(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    from ibtrace.integrations.huggingface import IBTrace

    sizes: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    shape = BertConfig(vocab_size=20, num_hidden_layers=1, max_position_embeddings=8, **sizes)
    tokens = torch.randint(0, 20, (48, 6), generator=torch.Generator().manual_seed(0))
    labels = tokens[:, 0] % 2
    probe = ({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, labels)
    samples = [{"input_ids": t, "labels": label} for t, label in zip(tokens, labels, strict=True)]
    options: dict[str, Any] = {"estimators": ["binning", "ksg"]}
    live = IBTrace(probe, every=1, **grouped(**options))
    arguments: dict[str, Any] = {"per_device_train_batch_size": 16, "learning_rate": 1e-2}
    arguments |= {"use_cpu": True, "report_to": [], "disable_tqdm": True}
    saving: dict[str, dict[str, Any]] = {
        "epochs": {"save_strategy": "epoch"},
        "steps": {"save_steps": 2},
    }
    for name, saves in saving.items():
        Trainer(
            BertForSequenceClassification(shape),
            TrainingArguments(str(tmp_path / name), **saves, **arguments),
            train_dataset=samples,
            callbacks=[live] if name == "epochs" else [],
        ).train()
    pattern = tmp_path / "epochs" / "checkpoint-*"
    given = BertForSequenceClassification(shape)
    after = Tracer.from_checkpoints(given, pattern, probe, **grouped(**options))
    same_rows(after.trace, live.trace, first=1)
    assert [(c.epoch, c.step) for c in find(pattern)] == [(1, 3), (2, 6), (3, 9)]

    with pytest.raises(ConfigError, match=r"checkpoint-2 was saved at epoch 0.666667; a trace"):
        find(tmp_path / "steps" / "checkpoint-*")
    whole = [tmp_path / "steps" / f"checkpoint-{step}" for step in (9, 6)]
    assert [c.epoch for c in find(whole)] == [2, 3]
    with pytest.raises(InvalidInput, match=r"epochs is a folder without model.safetensors or"):
        find(tmp_path / "epochs")


@pytest.mark.filterwarnings("ignore")  # of transformers
def test_shards_of_a_language_model_with_a_tied_head(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=8)
    saved, model = GPT2LMHeadModel(shape), GPT2LMHeadModel(shape)
    folder = tmp_path / "checkpoint-500"
    saved.save_pretrained(folder, max_shard_size="2KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    with pytest.raises(ConfigError, match="does not say its epoch"):  # 500 counts steps
        find(folder)
    (checkpoint,) = find(folder, epochs=[2])
    load_into(model, checkpoint)
    for name, value in saved.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    load_into(model.transformer, checkpoint)  # the part under a prefix, the head beside it
    next(folder.glob("model-00002*")).unlink()
    with pytest.raises(InvalidInput, match=r"model-00002.* is not a readable safetensors file"):
        load_into(model, checkpoint)


# --- the command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, its configuration ``mine.yaml``, and its networks ``0.pt`` to 4."""
    folder = tmp_path_factory.mktemp("live")
    epoch_of = trainers._Alone.epoch
    done = 0

    def keep(training: trainers._Alone, steps: int) -> None:
        state = {"epoch": done, "step": done * steps, "model": training.networks.state_dict()}
        torch.save(state, folder / f"{done}.pt")

    def keeping(self: trainers._Alone) -> Iterator[int]:
        nonlocal done
        if done == 0:
            keep(self, 0)
        for step in epoch_of(self):
            yield step
        done += 1
        keep(self, step)

    shape = {"epochs": 4, "snapshots": list(range(5)), "seeds": [3], "shuffle": True}
    mine = raw(model="alone", **shape, probe={"part": "test", "samples": 200})
    (folder / "mine.yaml").write_text(yaml.safe_dump(mine))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainers._Alone, "epoch", keeping)
        runner.run(mine, folder / "run", progress=False)
    return folder


def trace(folder: Path, out: Path, *options: str) -> int:
    """The command's exit status."""
    given = ["--checkpoints", str(folder / "*.pt"), "--quiet", "--out", str(out)]
    return main(["trace", str(folder / "mine.yaml"), *given, *options])


def traced(folder: Path, out: Path, **options: Any) -> dict[str, Trace]:
    """What the command does before it draws."""
    mine = {**configs.read(folder / "mine.yaml"), **options.pop("changes", {})}
    return trace_checkpoints(mine, folder / "*.pt", out, **options)


@pytest.mark.slow
def test_the_command_gives_the_rows_of_the_run(
    live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trace(live, tmp_path / "out", "--seed=3") == 0
    same_rows(Trace.load(tmp_path / "out"), Trace.load(live / "run"))
    said = capsys.readouterr()
    assert "body.2" in said.out
    assert "inconclusive" in said.out  # one seed
    assert said.err == ""
    assert (tmp_path / "out" / "report.txt").exists()
    assert (tmp_path / "out" / "information_plane-binning.idnns.png").exists()
    assert main(["verdict", str(tmp_path / "out")]) == 0


def test_seeds_gather_in_one_folder(
    live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    generator = torch.get_rng_state()
    traced(live, out)
    assert torch.equal(torch.get_rng_state(), generator)
    (both,) = traced(live, out, seed=1, epochs=[0, 1, 2, 3, 10]).values()
    frame = both.frame()
    assert sorted(frame[frame.seed == 0].epoch.unique()) == [0, 1, 2, 3, 4]
    assert sorted(frame[frame.seed == 1].epoch.unique()) == [0, 1, 2, 3, 10]
    assert trace(live, out, "--seed=1") == 2
    assert "already holds seed 1; choose another with --seed or --out" in capsys.readouterr().err
    assert trace(live, out, "--seed=2", "--set=layers=[head]") == 2
    assert "holds a run of another configuration" in capsys.readouterr().err
    assert Trace.load(out).seeds == [0, 1]


def test_a_schedule_of_an_estimators_own_does_not_choose_among_checkpoints(
    live: Path, tmp_path: Path
) -> None:
    slow = {"estimators": [{"name": "exact", "snapshots": [4]}]}
    (found,) = traced(live, tmp_path / "out", changes=slow).values()
    assert sorted(found.frame().epoch.unique()) == [0, 1, 2, 3, 4]


def test_the_variant_of_the_checkpoints_is_chosen(
    live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = "--set=variants={wide: {model.init_args.width: 9}, narrow: {}}"
    out = tmp_path / "out"
    for options, said in (
        ([two], "has variants: wide, narrow; choose one with --variant"),
        ([two, "--variant=other"], "no variant 'other'; there are: wide, narrow"),
        (["--variant=wide"], "no variant 'wide'; the configuration has no variants"),
        ([two, "--variant=wide"], "of another shape (body.0.weight: (6, 12), the model's (9, 12)"),
    ):
        assert trace(live, out, *options) == 2
        assert said in capsys.readouterr().err
    assert not out.exists()
    changes = {"variants": {"wide": {"model.init_args.width": 9}, "narrow": {}}}
    found = traced(live, out, changes=changes, variant="narrow", seed=3)
    assert list(found) == list(runner.load(out)) == ["narrow"]
    same_rows(found["narrow"], Trace.load(live / "run"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epochs=0,1"], "epochs= gives 2 for 5 checkpoints (0.pt, 1.pt, 2.pt, 3.pt and 1 more)"),
        (["--epochs=0,1,x"], "--epochs takes whole numbers such as 0,1,10, got 'x'"),
        (["--set=layers=[fc9]"], "'fc9'; the layers are: body"),
        (["--set=epoch=3"], "epoch"),
        (["--checkpoints", "nowhere/*.pt"], "no checkpoint matches nowhere/*.pt"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(
    arguments: list[str],
    said: str,
    live: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert trace(live, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_refused(
    live: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").touch()
    assert trace(live, tmp_path) == 2
    assert f"{tmp_path}: exists already; choose another with --out" in capsys.readouterr().err
