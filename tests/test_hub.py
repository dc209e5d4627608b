"""Revisions of a repository and folders of other loaders, from files alone: nothing is fetched."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_saver import save

from ibtrace.checkpoints import Checkpoint, find, load_into, revisions_of, state_dict
from ibtrace.errors import ConfigError, InvalidInput
from ibtrace.tracer import Tracer
from tests.hub_cache import SIZES, WORDS, into_cache, pythia, without_network

transformers = pytest.importorskip("transformers")
hub = pytest.importorskip("huggingface_hub")

N = 12
STEPS = {"step0": 0, "step64": 64, "step512": 512}
REPOSITORY = "somebody/tiny-pythia"


def data() -> tuple[Tensor, Tensor]:
    x = torch.randint(3, WORDS, (N, 6), generator=torch.Generator().manual_seed(0))
    return x, torch.arange(N) % 3


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with three revisions, and a client that may not reach the hub."""
    without_network(monkeypatch, tmp_path / "cache")
    for at, name in enumerate(STEPS):
        sizes: dict[str, Any] = {"max_shard_size": "4KB"} if at == 1 else {}  # one in shards
        pythia(at).save_pretrained(tmp_path / "files" / name, **sizes)
        into_cache(tmp_path / "cache", REPOSITORY, name, tmp_path / "files" / name)
    return tmp_path / "cache"


def expected(places: dict[int, int]) -> list[tuple[int, str, float]]:
    """The rows of a trace of networks, ``{epoch: seed}``, loaded by hand."""
    rows = []
    for epoch, seed in places.items():
        tracer = Tracer(pythia(seed), data(), estimators="binning")
        frame = tracer.trace.frame()
        rows += [(epoch, layer, bits) for layer, bits in zip(frame.layer, frame.bits, strict=True)]
    return rows


def rows(tracer: Tracer) -> list[tuple[int, str, float]]:
    frame = tracer.trace.frame()
    return list(zip(frame.epoch, frame.layer, frame.bits, strict=True))


def test_revisions_are_traced_at_their_steps_each_loaded_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: Counter[str] = Counter()
    loaded: Counter[str] = Counter()
    client, loader = hub.snapshot_download, load_into

    def download(repository: str, revision: str, **options: Any) -> str:
        fetched[revision] += 1
        # one at a time: the others are not asked for before the one is measured
        assert list(fetched) == list(STEPS)[: len(fetched)]
        folder: str = client(repository, revision=revision, **options)
        return folder

    def load(model: nn.Module, revision: Any) -> None:
        loaded[revision.name] += 1
        loader(model, revision)

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setattr("ibtrace.tracer._series.load_into", load)
    tracer = Tracer.from_checkpoints(
        REPOSITORY, data=data(), revisions=["step512", "step0", "step64"], estimators="binning"
    )
    assert fetched == loaded == dict.fromkeys(STEPS, 1)
    assert rows(tracer) == expected({0: 0, 64: 1, 512: 2})
    assert tracer.trace.frame().step.unique().tolist() == [0, 64, 512]
    assert tracer.trace.meta["repository"] == REPOSITORY
    assert tracer.trace.meta["revisions"] == {"0": "step0", "64": "step64", "512": "step512"}


def test_folders_are_revisions_and_places_may_be_given(cache: Path) -> None:
    files = cache.parent / "files"
    tracer = Tracer.from_checkpoints(
        files, data(), revisions=["step0", "step512"], epochs=[1, 2], estimators="binning"
    )
    assert rows(tracer) == expected({1: 0, 2: 2})
    own = Tracer.from_checkpoints(
        pythia(9), files, data(), revisions=["step64"], estimators="binning"
    )
    assert rows(own) == expected({64: 1})


def test_a_network_of_ones_own_class_is_loaded_by_names(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Embedding(WORDS, 4), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3))
    (tmp_path / "step3").mkdir()
    torch.save(net.state_dict(), tmp_path / "step3" / "pytorch_model.bin")
    other = nn.Sequential(nn.Embedding(WORDS, 4), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3))
    tracer = Tracer.from_checkpoints(
        other, tmp_path, data(), revisions=["step3"], estimators="binning"
    )
    direct = Tracer(net, data(), estimators="binning").trace.frame()
    assert tracer.trace.frame().bits.tolist() == direct.bits.tolist()
    assert tracer.trace.frame().epoch.unique().tolist() == [3]


def test_weights_that_are_pickled_are_read_where_there_are_no_others(cache: Path) -> None:
    files = cache.parent / "old"
    transformers.GPTNeoXConfig(**SIZES, architectures=["GPTNeoXForCausalLM"]).save_pretrained(files)
    older = {
        **pythia(4).state_dict(),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(1),
    }
    torch.save(older, files / "pytorch_model.bin")
    into_cache(cache, REPOSITORY, "step7", files)
    tracer = Tracer.from_checkpoints(REPOSITORY, data(), revisions=["step7"], estimators="binning")
    assert rows(tracer) == expected({7: 4})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"revisions": ["step9"]},
            "'step9' of .*/tiny-pythia is not in the cache .* hf download",
        ),
        ({"revisions": ["main"]}, "revision 'main' does not say its step"),
        ({"revisions": []}, r"revisions= takes names of revisions such as \['step0'"),
        ({"revisions": ["step0", "run1-step0"]}, "'step0' and 'run1-step0' are both at 0"),
        ({"revisions": ["step0"], "epochs": [1, 2]}, "epochs= gives 2 for 1 revisions"),
        ({}, "'somebody/tiny-pythia' is a repository: say which of its revisions"),
        ({"revisions": ["step0"], "data": None}, "data, the probe, is missing"),
    ],
)
def test_mistakes_about_revisions_are_named(
    cache: Path, arguments: dict[str, Any], match: str
) -> None:
    with pytest.raises((ConfigError, InvalidInput), match=match):
        Tracer.from_checkpoints(REPOSITORY, **{"data": data(), **arguments})


def test_a_revision_that_lacks_tensors_is_refused(cache: Path) -> None:
    files = cache.parent / "files" / "step0"
    whole = state_dict(Checkpoint(files, 0))
    del whole["gpt_neox.layers.1.mlp.dense_4h_to_h.weight"]
    torch.save(whole, files / "pytorch_model.bin")
    (files / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"missing from it .*dense_4h_to_h\.weight"):
        Tracer.from_checkpoints(cache.parent / "files", data(), revisions=["step0"])


def test_the_number_after_step_counts_else_the_only_one() -> None:
    names = ["stage1-step1000-tokens4B", "checkpoint-500", "step=7"]
    assert [(r.name, r.epoch) for r in revisions_of("a/b", names)] == [
        ("step=7", 7),
        ("checkpoint-500", 500),
        ("stage1-step1000-tokens4B", 1000),
    ]


# --- folders of other loaders ----------------------------------------------------------------


def mlp(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def distributed(folder: Path, state: dict[str, Any]) -> Path:
    save(state, checkpoint_id=folder, no_dist=True)
    return folder


@pytest.mark.filterwarnings("ignore:.*torch.distributed:UserWarning")
@pytest.mark.parametrize("where", ["epoch_3", "checkpoint-500/pytorch_model_fsdp_0"])
def test_a_distributed_checkpoint_is_read_without_its_optimiser(where: str, tmp_path: Path) -> None:
    trained = mlp(1)
    optimizer = torch.optim.Adam(trained.parameters())
    trained(torch.ones(1, 5)).sum().backward()
    optimizer.step()
    state = {"model": trained.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    distributed(tmp_path / where, state)
    (checkpoint,) = find(tmp_path / where.partition("/")[0], epochs=[3])
    assert len(state_dict(checkpoint)) == 4
    model = mlp(0)
    load_into(model, checkpoint)
    assert same(model, trained)


@pytest.mark.filterwarnings("ignore:.*torch.distributed:UserWarning")
def test_code_in_a_distributed_checkpoint_is_not_run(tmp_path: Path) -> None:
    folder = distributed(tmp_path / "epoch_1", mlp(0).state_dict())

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (folder / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InvalidInput, match=r"only running code can load; .* dcp_to_torch FOLDER"):
        state_dict(Checkpoint(folder, 1))
    assert not (tmp_path / "ran").exists()
    (folder / ".metadata").write_bytes(b"torn")
    with pytest.raises(InvalidInput, match=r"no readable folder of torch\.distributed"):
        state_dict(Checkpoint(folder, 1))


def test_a_folder_of_deepspeed_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    step = tmp_path / "epoch_1" / "global_step500"
    step.mkdir(parents=True)
    (step / "mp_rank_00_model_states.pt").touch()
    command = r"convert it: python .*/epoch_1/zero_to_fp32.py .*/epoch_1 OUT --safe_serialization"
    for folder in (step.parent, step):
        with pytest.raises(InvalidInput, match=command):
            find(folder, epochs=[1])


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    pythia(3).save_pretrained(tmp_path / "epoch_1", max_shard_size="4KB")
    assert not (tmp_path / "epoch_1" / "model.safetensors").exists()
    model = pythia(0)
    load_into(model, find(tmp_path / "epoch_1")[0])
    assert same(model, pythia(3))


def adapter(folder: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    torch.save({"base_model.model.0.lora_A.weight": torch.ones(2, 5)}, folder / "adapter_model.bin")
    return folder


def test_an_adapter_needs_a_model_that_has_one(tmp_path: Path) -> None:
    checkpoint = find(adapter(tmp_path / "epoch_2"))[0]
    assert checkpoint.epoch == 2
    with pytest.raises(InvalidInput, match=r"give the model with it, .* or merge it first: python"):
        load_into(mlp(0), checkpoint)


def test_adapters_are_loaded_by_their_own_loader(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")

    def adapted(seed: int, rank: int = 2) -> Any:
        config = peft.LoraConfig(r=rank, target_modules=["0", "2"], init_lora_weights=False)
        net = mlp(0)
        torch.manual_seed(seed)
        return peft.get_peft_model(net, config)

    adapted(1).save_pretrained(tmp_path / "epoch_1")
    model, x = adapted(0), torch.randn(3, 5)
    assert not torch.equal(model(x), adapted(1)(x))
    load_into(model, find(tmp_path / "epoch_1")[0])
    assert torch.equal(model(x), adapted(1)(x))
    with pytest.raises(InvalidInput, match="does not fit the adapter of the model"):
        load_into(adapted(0, rank=3), Checkpoint(tmp_path / "epoch_1", 1))
