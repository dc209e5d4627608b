"""Checkpoints of every kind: the epoch each was saved at, and the model that was saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from ibtrace.checkpoints import Checkpoint, find, load_into, state_dict
from ibtrace.errors import ConfigError, InvalidInput

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # in torch.compile
D = 5


def mlp(width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Linear(D, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 2))


def trained(seed: int = 1) -> nn.Sequential:
    """A network whose every tensor differs from a new one's."""
    model = mlp()
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        value.copy_(torch.rand(value.shape, generator=generator) * 9)
    return model


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(n == m and torch.equal(v, w) for (n, v), (m, w) in pairs)


def at(path: Path, epoch: int = 1) -> Checkpoint:
    return Checkpoint(path, epoch)


def save(path: Path, content: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(mlp().state_dict() if content is None else content, path)
    return path


# --- epochs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("epoch=3.pt", 3),
        ("epoch_3", 3),
        ("Epoch-003-step=500.ckpt", 3),
        ("net_ep3_loss=0.25.pt", 3),
        ("net-0010.pt", 10),
        ("net.10.pth", 10),
        ("run2-net-10-ema.bin", 10),
        ("12.pt", 12),
        ("net-2024-01-31-7.pt", 7),
        ("20240131_epoch4.pt", 4),
    ],
)
def test_a_name_says_the_epoch_where_the_file_does_not(
    name: str, epoch: int, tmp_path: Path
) -> None:
    assert find(save(tmp_path / name)) == [Checkpoint(tmp_path / name, epoch, None)]


@pytest.mark.parametrize(
    "name",
    [
        "best.pt",
        "net-2024-01-31.pt",
        "net_20240131.pt",
        "net_2024-01-31_12-30-05.pt",
        "20240131T1230.pt",
        "resnet18.pt",
        "net-0.53.pt",
        "epoch=2.5.pt",
        "net-loss=3.pt",
        "net-step-500.pt",
        "global_step500.pt",
        "iterations_7.pt",
        "net-3-v2.pt",
    ],
)
def test_a_name_that_says_no_epoch_asks_for_one(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / name)
    with pytest.raises(ConfigError, match=r"does not say its epoch, nor does its name; pass epoch"):
        find(path)
    assert find(path, epochs=[7]) == [Checkpoint(path, 7)]


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize(
    ("beside", "epoch", "step"),
    [
        ({"epoch": 3}, 3, None),
        ({"epoch": 3.0, "global_step": 12}, 3, 12),
        ({"epoch": torch.tensor(3), "step": 12}, 3, 12),
        ({"step": 12, "optimizer": {"state": {}, "param_groups": []}}, 99, 12),
        ({"random": {"torch": torch.get_rng_state(), "python": [1, 2]}}, 99, None),
    ],
)
def test_a_dictionary_says_its_epoch_as_it_is(
    key: str, beside: dict[str, Any], epoch: int, step: int | None, tmp_path: Path
) -> None:
    path = save(tmp_path / "net-99.pt", {key: trained().state_dict(), **beside})
    assert find(path) == [Checkpoint(path, epoch, step)]
    model = mlp()
    load_into(model, find(path)[0])
    assert same(model, trained())


@pytest.mark.parametrize(
    ("metadata", "epoch", "step"),
    [
        ({"epoch": "3", "step": "12", "format": "pt"}, 3, 12),
        ({"format": "pt"}, 99, None),
        (None, 99, None),
    ],
)
def test_safetensors_say_it_in_their_header(
    metadata: dict[str, str] | None, epoch: int, step: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "net-99.safetensors"
    save_file(trained().state_dict(), path, metadata)
    assert find(path) == [Checkpoint(path, epoch, step)]
    model = mlp()
    load_into(model, find(path)[0])
    assert same(model, trained())


def test_a_buffer_called_epoch_is_no_record(tmp_path: Path) -> None:
    path = save(tmp_path / "net-7.pt", {**mlp().state_dict(), "epoch": torch.tensor(3)})
    assert find(path)[0].epoch == 7


@pytest.mark.parametrize("epoch", [2.5, -1, "half", torch.zeros(2)])
def test_an_epoch_that_is_not_whole_is_an_error(epoch: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "net-3.pt", {"model": mlp().state_dict(), "epoch": epoch})
    with pytest.raises(ConfigError, match=r"net-3.pt was saved at epoch .* or pass epochs="):
        find(path)
    assert find(path, epochs=[7])[0].epoch == 7


def test_patterns_paths_and_several_of_both(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"net-{k}.pt") for k in (10, 2, 1)]
    odd = save(tmp_path / "odd[1]" / "net-4.pt")
    assert [c.epoch for c in find(str(tmp_path / "*.pt"))] == [1, 2, 10]
    assert [c.epoch for c in find(tmp_path / "*.pt")] == [1, 2, 10]
    assert [c.epoch for c in find(paths)] == [1, 2, 10]
    assert [c.epoch for c in find([paths[0], str(tmp_path / "net-[12].pt")])] == [1, 2, 10]
    assert [c.epoch for c in find(str(tmp_path / "**" / "*.pt"))] == [1, 2, 4, 10]
    assert find(str(odd)) == [Checkpoint(odd, 4)]


def test_the_home_folder_may_be_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "net-4.pt")
    assert [c.epoch for c in find("~/*.pt")] == [4]


def test_epochs_that_are_given_count_and_not_those_recorded(tmp_path: Path) -> None:
    for k in (2, 10, 1):
        save(tmp_path / f"net{k}.pt", {"model": mlp().state_dict(), "epoch": 0, "step": k})
    pattern = str(tmp_path / "*.pt")
    expected = [("net1.pt", 5, 1), ("net2.pt", 6, 2), ("net10.pt", 7, 10)]  # numbers by value
    by_order = find(pattern, epochs=[5, 6, 7])
    assert [(c.path.name, c.epoch, c.step) for c in by_order] == expected
    known = {"net1": 5, "net2": 6, "net10": 7}
    assert find(pattern, epochs=lambda path: known[path.stem]) == by_order


def test_a_link_to_another_match_is_the_same_checkpoint(tmp_path: Path) -> None:
    path = save(tmp_path / "epoch=1.pt", {"model": mlp().state_dict(), "epoch": 1})
    (tmp_path / "last.pt").symlink_to(path)
    assert find(str(tmp_path / "*.pt")) == [Checkpoint(path, 1)]
    assert find(tmp_path / "last.pt") == [Checkpoint(tmp_path / "last.pt", 1)]
    path.rename(tmp_path / "elsewhere")
    (tmp_path / "last.pt").unlink()
    (tmp_path / "last.pt").symlink_to(tmp_path / "elsewhere")
    assert find(str(tmp_path / "*.pt")) == [Checkpoint(tmp_path / "last.pt", 1)]


@pytest.mark.parametrize(
    ("names", "options", "match"),
    [
        ([], {}, r"no checkpoint matches .*\*\.pt; give files, folders or a pattern"),
        (["a-1.pt", "b-1.pt"], {}, r"a-1.pt and .*b-1.pt are both of epoch 1; leave one out, or"),
        (["a.pt", "b.pt"], {"epochs": [1]}, r"gives 1 for 2 checkpoints \(a.pt, b.pt\); give one"),
        (["a.pt", "b.pt"], {"epochs": [1, 1]}, r"a.pt and .*b.pt are both of epoch 1"),
        (["a.pt"], {"epochs": [0.5]}, r"epochs= gives 0.5 for .*a.pt; give 0, 1, 2"),
        (["a.pt"], {"epochs": lambda path: -1}, r"epochs= gives -1 for .*a.pt"),
    ],
)
def test_mistakes_about_epochs_are_named(
    names: list[str], options: dict[str, Any], match: str, tmp_path: Path
) -> None:
    for name in names:
        save(tmp_path / name)
    with pytest.raises(ConfigError, match=match):
        find(str(tmp_path / "*.pt"), **options)


# --- files that cannot be read --------------------------------------------------------------


class Mine(nn.Linear):
    """A class that only running code can load."""


def whole_module(path: Path) -> None:
    torch.save(Mine(2, 2), path)


def scripted(path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(path)


def torn(path: Path) -> None:
    torch.save(mlp().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("name", "write", "match"),
    [
        ("net-1.pt", whole_module, r"holds tests.test_checkpoints.Mine, which only running code"),
        ("net-1.pt", torn, r"net-1.pt is torn, or is no file of torch.save \(RuntimeError\)"),
        ("net-1.pt", lambda path: path.write_text("{}"), r"no file of torch.save \(Unpickling"),
        ("net-1.pt", Path.touch, r"is torn, or is no file of torch.save \(EOFError\)"),
        ("net-1.safetensors", Path.touch, r"is not a readable safetensors file"),
        ("net-1.pt", lambda path: save(path, torch.zeros(2)), r"no state dict but a Tensor; save"),
        ("net-1.pt", lambda path: save(path, [1, 2]), r"holds no state dict but a list; save"),
        (
            "net-1.pt",
            lambda path: save(path, {0: torch.ones(2)}),
            r"no state dict but a dict of 0;",
        ),
        ("net-1.pt", lambda path: save(path, {}), r"holds no state dict but a dict"),
        (
            "net-1.pt",
            lambda path: save(path, torch.optim.Adam(mlp().parameters()).state_dict()),
            r"no state dict but a dict of state, param_groups; save",
        ),
        (
            "net-1.pt",
            lambda path: save(path, {"net": mlp().state_dict(), "ema": mlp().state_dict()}),
            r"no state dict but a dict of net, ema; save .* under 'state_dict'",
        ),
        ("epoch_1", Path.mkdir, r"is a folder without model.safetensors or pytorch_model.bin"),
    ],
)
def test_a_file_without_a_readable_state_dict_is_named(
    name: str, write: Callable[[Path], object], match: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(InvalidInput, match=match):
        find(tmp_path / name)
    with pytest.raises(InvalidInput, match=match):
        state_dict(at(tmp_path / name))


def test_a_scripted_module_is_named(tmp_path: Path) -> None:
    scripted(tmp_path / "net-1.pt")
    with pytest.raises(InvalidInput, match=r"net-1.pt is a scripted module; save its state_dict"):
        find(tmp_path / "net-1.pt")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = save(tmp_path / "net-1.pt", {"model": mlp().state_dict(), "extra": Evil()})
    with pytest.raises(InvalidInput, match="only running code can load"):
        find(path)
    assert not (tmp_path / "ran").exists()


def test_a_class_that_the_user_allows_is_loaded(tmp_path: Path) -> None:
    path = save(tmp_path / "net-1.pt", {"model": mlp().state_dict(), "extra": Allowed()})
    with torch.serialization.safe_globals([Allowed]):
        assert find(path) == [Checkpoint(path, 1)]


class Allowed:
    """Something of the user's own in a checkpoint."""


def test_a_state_dict_of_single_numbers_is_one(tmp_path: Path) -> None:
    path = save(tmp_path / "net-4.pt", {"scale": torch.tensor(3.0), "shift": torch.tensor(2.0)})
    assert find(path) == [Checkpoint(path, 4)]
    assert set(state_dict(at(path))) == {"scale", "shift"}


def test_the_format_before_torch_1_6_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net-4.pt"
    torch.save(trained().state_dict(), path, _use_new_zipfile_serialization=False)
    assert find(path) == [Checkpoint(path, 4)]
    model = mlp()
    load_into(model, at(path))
    assert same(model, trained())


# --- into a model ---------------------------------------------------------------------------


class Lit(nn.Module):
    """As a LightningModule: the network is an attribute, and there is more beside it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(2))


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda net: net,
    "module.": nn.DataParallel,
    "_orig_mod.": torch.compile,  # type: ignore[dict-item]  # torch.compile gives a module for one
    "module._orig_mod.": lambda net: nn.DataParallel(WRAPPERS["_orig_mod."](net)),
    "net.": Lit,
    "net._orig_mod.": lambda net: Lit(WRAPPERS["_orig_mod."](net)),
}


@pytest.mark.parametrize("saved", WRAPPERS)
@pytest.mark.parametrize("given", ["plain", "module.", "_orig_mod.", "module._orig_mod."])
def test_what_a_model_was_wrapped_in_does_not_matter(
    saved: str, given: str, tmp_path: Path
) -> None:
    wrapped = WRAPPERS[saved](trained())
    assert saved == "plain" or next(iter(wrapped.state_dict())).startswith(saved)
    path = save(tmp_path / "net-1.pt", wrapped.state_dict())
    model = mlp()
    load_into(WRAPPERS[given](model), at(path))
    assert same(model, trained())


def test_a_part_that_was_compiled_is_the_part(tmp_path: Path) -> None:
    model, saved = Lit(WRAPPERS["_orig_mod."](mlp())), Lit(trained())
    load_into(model, at(save(tmp_path / "net-1.pt", saved.state_dict())))
    assert same(model.net, WRAPPERS["_orig_mod."](trained()))


class Tied(nn.Module):
    """A language model's head, tied to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.head = nn.Linear(3, 7, bias=False)
        self.head.weight = self.embedding.weight


def test_a_tied_tensor_may_be_stored_once(tmp_path: Path) -> None:
    path, model, saved = tmp_path / "net-1.safetensors", Tied(), Tied()
    save_model(saved, str(path))
    assert len(state_dict(at(path))) == 1
    load_into(model, at(path))
    assert same(model, saved)
    assert model.head.weight is model.embedding.weight


def test_lazy_modules_take_the_shapes_of_the_checkpoint(tmp_path: Path) -> None:
    saved = nn.Sequential(nn.Linear(D, 4), nn.Tanh())
    model = nn.Sequential(nn.LazyLinear(4), nn.Tanh())
    load_into(model, at(save(tmp_path / "net-1.pt", saved.state_dict())))
    assert same(model, saved)


class Versioned(nn.Module):
    """A module that reads its older format by the version number beside the tensors."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.seen: list[int | None] = []

    def _load_from_state_dict(
        self, state: Mapping[str, Any], prefix: str, metadata: Mapping[str, Any], *rest: Any
    ) -> None:
        self.seen.append(metadata.get("version"))
        super()._load_from_state_dict(state, prefix, metadata, *rest)


@pytest.mark.parametrize("saved", WRAPPERS)
def test_version_numbers_of_modules_reach_them(saved: str, tmp_path: Path) -> None:
    content = WRAPPERS[saved](nn.Sequential(nn.Tanh(), Versioned())).state_dict()
    model = Versioned()
    load_into(nn.Sequential(nn.Tanh(), model), at(save(tmp_path / "net-1.pt", content)))
    assert model.seen == [2]


class Extra(nn.Linear):
    """A module with state that is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": getattr(self, "calls", 0)}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


def test_state_that_is_no_tensor_is_loaded_too(tmp_path: Path) -> None:
    saved, model = Extra(2, 2), Extra(2, 2)
    saved.calls = 5
    load_into(model, at(save(tmp_path / "net-1.pt", saved.state_dict())))
    assert model.calls == 5


def test_two_copies_in_a_file_are_told_apart_by_shape(tmp_path: Path) -> None:
    both = nn.ModuleDict({"teacher": mlp(9), "student": trained()})
    model = mlp()
    load_into(model, at(save(tmp_path / "net-1.pt", both.state_dict())))
    assert same(model, trained())


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (
            {"3.weight": torch.zeros(2, 9), "3.bias": torch.zeros(2), "4.bias": torch.zeros(1)},
            r"net-1.pt does not fit the model; tensors "
            r"7 missing from it \(0.weight, 0.bias, 1.weight, 1.bias and 3 more\), "
            r"1 without a place in the model \(4.bias\), "
            r"1 of another shape \(3.weight: \(2, 9\), the model's \(2, 6\)\); give the model",
        ),
        (mlp(8).state_dict(), r"7 of another shape \(0.weight: \(8, 5\), the model's \(6, 5\),"),
        (Lit(mlp()[:3]).state_dict(), r"2 missing from it \(3.weight, 3.bias\)"),
        (
            Lit(nn.Sequential(*mlp(), nn.Linear(2, 2))).state_dict(),
            r"2 without a place in the model \(net.4.weight, net.4.bias\)",
        ),
        (
            nn.ModuleDict({"teacher": mlp(), "student": mlp()}).state_dict(),
            r"names under teacher., student., with its shapes under teacher., student.; save the",
        ),
        (
            nn.ModuleDict({"teacher": mlp(7), "student": mlp(8)}).state_dict(),
            r"names under teacher., student., with its shapes under none; save the state dict",
        ),
        ({"w": torch.zeros(1)}, r"none of the model's tensors; it has w, the model 0.weight, 0.b"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(
    content: dict[str, Tensor], match: str, tmp_path: Path
) -> None:
    model = trained()
    with pytest.raises(InvalidInput, match=match) as error:
        load_into(model, at(save(tmp_path / "net-1.pt", content)))
    assert "\n" not in str(error.value)
    assert same(model, trained())
