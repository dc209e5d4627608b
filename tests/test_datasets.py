"""Data sets are read whole and checked, from files, a cache or a server."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ibtrace.datasets import Dataset, digits, mnist, read_idx, split
from ibtrace.errors import DownloadError, InvalidInput

# `ibtrace.datasets.mnist` is the function; the module of that name is reached like this
from ibtrace.datasets.mnist import SHA256, download  # isort: skip

CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx(values: np.ndarray[Any, Any], code: str = "u1") -> bytes:
    """The values in the IDX format."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, CODES[code], values.ndim]) + sizes + values.astype(code).tobytes()


IMAGES = np.arange(5 * 28 * 28).reshape(5, 28, 28) % 256
LABELS = np.array([3, 1, 4, 1, 5])


def write(folder: Path, part: str, zipped: bool = True) -> dict[str, bytes]:
    """A small MNIST of 5 images in a folder, and what its files hold."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {f"{part}-images-idx3-ubyte": IMAGES, f"{part}-labels-idx1-ubyte": LABELS}
    files = {}
    for name, values in contents.items():
        content = gzip.compress(idx(values)) if zipped else idx(values)
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(content)
        files[name] = content
    return files


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no data folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("IBTRACE_DATA", raising=False)
    return tmp_path / "cache" / "ibtrace" / "mnist"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which a local server gives its files."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- the IDX format -------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 0, 4), ()])
def test_idx_gives_back_what_was_written(
    tmp_path: Path, code: str, zipped: bool, shape: tuple[int, ...]
) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape)
    content = idx(np.asarray(values), code)
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(content) if zipped else content)
    read = read_idx(path)
    assert read.dtype == torch.from_numpy(np.zeros(1, code.lstrip(">"))).dtype
    assert np.array_equal(read.numpy(), values)


@pytest.mark.parametrize("keep", [1, 3, 4, 9, 40])
def test_a_file_cut_short_is_one_clear_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut"
    path.write_bytes(idx(LABELS.repeat(10))[:keep])
    with pytest.raises(InvalidInput, match=r"not an IDX file|cut short or damaged"):
        read_idx(path)
    path.write_bytes(gzip.compress(idx(LABELS.repeat(10)))[: 10 + keep % 30])
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_idx(path)


def test_a_file_that_is_too_long_missing_or_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_idx(path)
    path.write_bytes(idx(LABELS) + b"x")
    with pytest.raises(InvalidInput, match="14 bytes, its header says 13"):
        read_idx(path)
    path.write_text("<html>not found</html>")
    with pytest.raises(InvalidInput, match="not an IDX file"):
        read_idx(path)


# --- MNIST ----------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", ["", "mnist"])
@pytest.mark.parametrize(("part", "name"), [("train", "mnist-train"), ("t10k", "mnist-t10k")])
def test_files_of_the_data_folder_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, inside: str, part: str, name: str
) -> None:
    write(tmp_path / inside, part, zipped)
    monkeypatch.setenv("IBTRACE_DATA", str(tmp_path))
    data = mnist(mirrors=[])
    assert data.name == name
    assert torch.equal(data.y, torch.from_numpy(LABELS))
    torch.testing.assert_close(data.x * 255, torch.from_numpy(IMAGES).flatten(1).float())
    assert mnist(flatten=False, mirrors=[]).x.shape == (5, 1, 28, 28)


def test_training_files_come_before_test_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "t10k")
    write(tmp_path, "train")
    monkeypatch.setenv("IBTRACE_DATA", str(tmp_path))
    assert mnist(mirrors=[]).name == "mnist-train"
    assert mnist("test", mirrors=[]).name == "mnist-t10k"


def test_a_data_folder_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBTRACE_DATA", "/nowhere/at/all")
    with pytest.raises(InvalidInput, match="is not a folder"):
        mnist(mirrors=[])


def test_a_download_is_checked_kept_and_not_repeated(
    served: tuple[Path, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = served
    for name, content in write(folder, "train").items():
        monkeypatch.setitem(SHA256, name, hashlib.sha256(content).hexdigest())
    data = mnist(mirrors=[f"{url}absent/", url])
    assert data.name == "mnist-train"
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        path.name for path in folder.iterdir()
    )
    assert torch.equal(mnist(mirrors=[]).x, data.x)


def test_a_damaged_download_is_refused_and_leaves_nothing(
    served: tuple[Path, str], cache: Path
) -> None:
    folder, url = served
    write(folder, "train")
    with pytest.raises(DownloadError, match=r"damaged \(wrong sha256\).*set IBTRACE_DATA"):
        mnist(mirrors=[url])
    assert not cache.exists()


def test_no_answer_says_what_each_mirror_gave(served: tuple[Path, str], cache: Path) -> None:
    _, url = served
    with pytest.raises(DownloadError, match=r"a/t10k.*404.*b/t10k.*404"):
        download("t10k-labels-idx1-ubyte", cache, [f"{url}a/", f"{url}b/"])


def test_both_parts_together_are_the_training_images_then_the_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "train")
    write(tmp_path, "t10k", zipped=False)
    other = np.array([9, 8, 7, 6, 5])
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(other))
    monkeypatch.setenv("IBTRACE_DATA", str(tmp_path))
    data = mnist("all", mirrors=[])
    assert (data.name, data.x.shape) == ("mnist-all", (10, 784))
    assert data.y.tolist() == [*LABELS, *other]
    # MNIST's own split: six parts in seven, in order; here a half
    train, test = split(data.y, 0.5, "contiguous")
    assert torch.equal(data.y[train], mnist("train", mirrors=[]).y)
    assert torch.equal(data.y[test], mnist("test", mirrors=[]).y)


NO_SERVER = ("http://127.0.0.1:9/",)


def test_digits_stand_in_where_mnist_cannot_be_had_and_say_so(cache: Path) -> None:
    said = "digits-28x28, scikit-learn's 8×8 digits enlarged, stands in for MNIST.*IBTRACE_DATA"
    with pytest.warns(UserWarning, match=said):
        data = mnist("test", flatten=False, mirrors=NO_SERVER, fallback="digits")
    assert (data.name, data.x.shape, data.classes) == ("digits-28x28", (1797, 1, 28, 28), 10)
    small = digits()
    assert torch.equal(data.y, small.y)
    assert 0 <= float(data.x.min()) < float(data.x.max()) <= 1
    # a pixel became 3.5 by 3.5: blocks of 7 by 7 are what blocks of 2 by 2 were, blurred a little
    back = torch.nn.functional.avg_pool2d(data.x, 7).flatten(1)
    means = torch.nn.functional.avg_pool2d(small.x.view(-1, 1, 8, 8), 2).flatten(1)
    assert float(torch.corrcoef(torch.stack([back.flatten(), means.flatten()]))[0, 1]) > 0.98
    with pytest.warns(UserWarning, match="stands in for MNIST"):
        flat = mnist(mirrors=NO_SERVER, fallback="digits").x
    assert torch.equal(flat, data.x.flatten(1))
    assert not cache.exists()
    with pytest.raises(DownloadError, match="set IBTRACE_DATA"):
        mnist(mirrors=NO_SERVER)


def test_no_digits_stand_in_for_mnist_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "t10k")
    monkeypatch.setenv("IBTRACE_DATA", str(tmp_path))
    assert mnist("test", mirrors=NO_SERVER, fallback="digits").name == "mnist-t10k"
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"torn")
    with pytest.raises(InvalidInput, match="not an IDX file"):
        mnist("test", mirrors=NO_SERVER, fallback="digits")


REAL = os.environ.get("IBTRACE_DATA")


@pytest.mark.skipif(not REAL, reason="IBTRACE_DATA is not set to a folder with MNIST")
def test_the_real_files_have_the_known_checksums_and_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IBTRACE_DATA", str(REAL))
    data = mnist("test", mirrors=[])
    assert data.x.shape == (10_000, 784)
    assert data.y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert float(data.x.mean()) == pytest.approx(0.1325, abs=1e-4)
    for folder in (Path(str(REAL)), Path(str(REAL)) / "mnist"):
        for path in folder.glob("*.gz"):
            checksum = hashlib.sha256(path.read_bytes()).hexdigest()
            assert checksum == SHA256[path.name.removesuffix(".gz")]


# --- others ---------------------------------------------------------------------------------


def test_digits_are_scikit_learns() -> None:
    data = digits()
    assert (data.x.shape, data.x.dtype, data.classes) == ((1797, 64), torch.float32, 10)
    assert (float(data.x.min()), float(data.x.max())) == (0.0, 1.0)
    assert data.y[:10].tolist() == list(range(10))


def test_a_data_set_refuses_labels_that_do_not_fit() -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(InvalidInput, match="equally long"):
        Dataset("d", x, torch.zeros(2, dtype=torch.int64), 2)
    with pytest.raises(InvalidInput, match=r"must be 0\.\.1, got 0\.\.2"):
        Dataset("d", x, torch.tensor([0, 1, 2]), 2)
    with pytest.raises(InvalidInput, match="one class a sample"):
        Dataset("d", x, torch.tensor([0.5, 1.0, 2.0]))
