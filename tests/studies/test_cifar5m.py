"""CIFAR-5M: files in its own format, written by the tests, and every way in which such a file can be wrong."""

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spectral_reach.studies import data
from spectral_reach.studies.data import cifar5m, npz_images
from spectral_reach.studies.data.cache import cache_root

TRAIN = 24


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path / "cache"))


def part(number: int, count: int = TRAIN) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, size=(count, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, size=count)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All six parts, some of them compressed."""
    root = tmp_path / "cifar5m"
    root.mkdir()
    for number in range(6):
        images, labels = part(number)
        save = np.savez_compressed if number % 2 else np.savez
        save(root / f"part{number}.npz", X=images, Y=labels)
    return root


def converted() -> list[Path]:
    return sorted(path for path in cache_root().glob("images-*"))


def test_parts_0_to_4_are_trained_on_and_part_5_is_held_out(folder: Path) -> None:
    loaded = data.load("cifar5m", folder=str(folder), task="classes")
    assert loaded.dimensions == {"classes": 10, "channels": 3, "image_size": 32}
    assert (loaded.units("train"), loaded.units("heldout")) == (5 * TRAIN, TRAIN)
    images = np.concatenate([part(number)[0] for number in range(5)])
    np.testing.assert_allclose(loaded.mean, images.reshape(-1, 3).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(loaded.std, images.reshape(-1, 3).std(axis=0), rtol=1e-12)
    inputs, targets = loaded.batch("train", np.arange(5 * TRAIN))
    assert targets.tolist() == np.concatenate([part(number)[1] for number in range(5)]).tolist()
    values = inputs.numpy().transpose(0, 2, 3, 1) * loaded.std + loaded.mean
    np.testing.assert_array_equal(np.rint(values), images)
    assert loaded.batch("heldout", np.arange(TRAIN))[1].tolist() == part(5)[1].tolist()
    assert loaded.facts["parts"] == [0, 1, 2, 3, 4]
    assert loaded.facts["parts_left_out"] == []


def test_the_first_of_part_5_are_held_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar5m, "HELDOUT_IMAGES", 5)
    for task in ("pixels", "classes"):
        assert data.load("cifar5m", folder=str(folder), task=task, parts=[0]).units("heldout") == 5


def test_pixels_are_the_default_and_take_options(folder: Path) -> None:
    loaded = data.load("cifar5m", folder=str(folder))
    assert loaded.dimensions == {"vocabulary": 257, "context": 1024}
    assert loaded.units("train") == 5 * TRAIN
    small = data.load("cifar5m", folder=str(folder), levels=16, colour="rgb", size=8)
    assert small.dimensions == {"vocabulary": 17, "context": 192}
    _, targets = data.load("cifar5m", folder=str(folder), colour="rgb").batch("train", np.array([TRAIN + 3]))
    assert targets[0].tolist() == part(1)[0][3].reshape(-1).tolist()
    assert "as 192 rgb pixel tokens of 16 levels, the first 24 of part 5 held out" in small.description


def test_chosen_parts_do_without_the_others(folder: Path) -> None:
    for number in (0, 2, 4):
        (folder / f"part{number}.npz").unlink()
    with pytest.raises(ValueError, match=r"lacks part0.npz, part2.npz, part4.npz; .* are there: parts=\[1, 3\]"):
        data.load("cifar5m", folder=str(folder))
    loaded = data.load("cifar5m", folder=str(folder), parts=[3, 1])
    assert loaded.units("train") == 2 * TRAIN
    assert dict(loaded.facts)["parts_left_out"] == [0, 2, 4]
    assert "(parts 1, 3; without 0, 2, 4)" in loaded.description
    assert loaded.content_hash != data.load("cifar5m", folder=str(folder), parts=[1]).content_hash
    (folder / "part5.npz").unlink()
    with pytest.raises(ValueError, match=r"lacks part5.npz; expected part1.npz, part5.npz. Download them \(.*\)\.$"):
        data.load("cifar5m", folder=str(folder), parts=[1])


def test_a_part_is_converted_once_and_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data.load("cifar5m", folder=str(folder))
    assert len(converted()) == 6
    assert {tuple(sorted(f.name for f in path.iterdir())) for path in converted()} == {
        (".lock", "histogram.npy", "images.u8", "labels.npy", "manifest.json")
    }
    monkeypatch.setattr(npz_images, "_convert", None)
    monkeypatch.setattr("spectral_reach.studies.data.file_hashes.sha256_of_file", None)
    again = data.load("cifar5m", folder=str(folder), task="classes")
    assert again.content_hash == first.content_hash
    assert all(isinstance(images, np.memmap) for images in again.train.parts)


def test_a_changed_file_is_converted_again(folder: Path) -> None:
    first = data.load("cifar5m", folder=str(folder), parts=[0])
    images, labels = part(77)
    np.savez(folder / "part0.npz", X=images, Y=labels)
    os.utime(folder / "part0.npz", (1, 1))
    second = data.load("cifar5m", folder=str(folder), parts=[0], colour="rgb")
    assert second.content_hash != first.content_hash
    assert second.batch("train", np.array([2]))[1][0].tolist() == images[2].reshape(-1).tolist()


def test_a_large_file_is_copied_in_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_images, "_IMAGES_AT_ONCE", 7)
    loaded = data.load("cifar5m", folder=str(folder), task="classes", parts=[1])
    np.testing.assert_array_equal(loaded.train.take(np.arange(TRAIN)), part(1)[0])
    np.testing.assert_allclose(loaded.mean, part(1)[0].reshape(-1, 3).mean(axis=0), rtol=1e-12)


def saved(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda file: np.savez(file, **arrays)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def altered(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def array_that_ends_early(file: Path) -> None:
    images, labels = part(0)
    with zipfile.ZipFile(file, "w") as archive:
        for key, array in (("X", images), ("Y", labels)):
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{key}.npy", content.getvalue()[: -100 if key == "X" else None])


def array_that_goes_on(file: Path) -> None:
    images, labels = part(0)
    with zipfile.ZipFile(file, "w") as archive:
        for key, array in (("X", images), ("Y", labels)):
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{key}.npy", content.getvalue() + (b"more" if key == "Y" else b""))


def no_arrays(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("X.npy", b"text")
        archive.writestr("Y.npy", b"text")


def encrypted(file: Path) -> None:
    np.savez(file, X=part(0)[0], Y=part(0)[1])
    content = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + offset : at + offset + 2] = struct.pack("<H", 1)
    file.write_bytes(bytes(content))


X, Y = part(0)
NUMBERS = np.array([3] * TRAIN, dtype=object)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, r"is no whole \.npz file: .*Expected an archive of the arrays X and Y\. Download the file again"),
        (altered, r"is no whole \.npz file: Bad CRC-32 for file 'X\.npy'"),
        (lambda file: file.write_bytes(b""), r"is no whole \.npz file: File is not a zip file"),
        (encrypted, r"is no whole \.npz file: .*encrypted"),
        (no_arrays, "Y is no NumPy array: .*Download the file again"),
        (array_that_ends_early, "X ends 100 bytes early"),
        (array_that_goes_on, "Y goes on after its last value"),
        (saved(X=X), "holds X; expected the arrays X and Y"),
        (saved(x=X, y=Y), "holds x, y; expected the arrays X and Y"),
        (saved(Y=Y), "holds Y; expected the arrays X and Y"),
        (saved(X=X.astype(np.float32), Y=Y), r"X is float32 of shape \(24, 32, 32, 3\); expected uint8 of shape \(24,"),
        (saved(X=X.transpose(0, 3, 1, 2).copy(), Y=Y), r"X is uint8 of shape \(24, 3, 32, 32\); expected .* last"),
        (saved(X=X[:20], Y=Y), r"X is uint8 of shape \(20, 32, 32, 3\); expected uint8 of shape \(24, 32, 32, 3\)"),
        (saved(X=np.asfortranarray(X), Y=Y), "X is stored column by column; expected rows"),
        (saved(X=X, Y=Y.astype(np.float64)), "Y is float64 of shape .*; expected one whole number for each image"),
        (saved(X=X, Y=Y[:, None]), r"Y is int64 of shape \(24, 1\); expected one whole number for each image"),
        (saved(X=X[:0], Y=Y[:0]), r"Y is int64 of shape \(0,\); expected one whole number"),
        (saved(X=X, Y=NUMBERS), "Y is object of shape .*; expected one whole number"),
        (saved(X=X, Y=np.where(Y == 3, 10, Y)), "Y holds classes 0 to 10; expected 0 to 9"),
        (saved(X=X, Y=np.where(Y == 3, -1, Y)), "Y holds classes -1 to 9; expected 0 to 9"),
    ],
)
def test_a_file_that_is_not_in_the_format_is_named(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder / "part2.npz")
    with pytest.raises(ValueError, match=rf"part2\.npz.*{message}"):
        data.load("cifar5m", folder=str(folder), parts=[2])
    assert [path for folder in converted() for path in folder.iterdir() if path.name != ".lock"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "words"}, "task is 'words'; expected 'pixels' or 'classes'"),
        ({"parts": []}, r"parts is \[\]; expected at least one of 0, 1, 2, 3, 4"),
        ({"parts": [5]}, r"parts is \[5\]; expected .* \(part 5 is held out\)"),
        ({"parts": [0, 0]}, r"parts is \[0, 0\]; expected .* each once"),
        ({"parts": "0"}, "parts is '0'; expected a list of whole numbers, for example"),
        ({"levels": 300}, "levels is 300; expected 2 to 256"),
        ({"levels": "16"}, "levels is '16', a str; expected a whole number"),
        ({"colour": "red"}, "colour is 'red'; expected 'grey' or 'rgb'"),
        ({"size": 12}, "size is 12; expected a divisor of the images' 32 pixels: 1, 2, 4, 8, 16, 32"),
        ({"task": "classes", "levels": 8, "size": 16}, "levels and size given with task 'classes'; expected none"),
        ({"folder": "/nowhere/at/all"}, "folder is '/nowhere/at/all', which does not exist; expected the folder of"),
        ({"folder": __file__}, "folder is '.*', a file; expected the folder of"),
        ({"folder": 3}, "folder is 3, a int; expected text"),
        ({"folder": ""}, "folder is empty"),
    ],
)
def test_impossible_options_are_named(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.load("cifar5m", **{"folder": str(folder), **options})
    assert not converted()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "words"}, "task is 'words'; expected 'pixels' or 'classes'"),
        ({"parts": [5]}, r"parts is \[5\]; expected .* \(part 5 is held out\)"),
        ({"levels": 300}, "levels is 300; expected 2 to 256"),
        ({"levels": "16"}, "levels is '16', a str; expected a whole number"),
        ({"colour": "red"}, "colour is 'red'; expected 'grey' or 'rgb'"),
        ({"size": 12}, "size is 12; expected a divisor of the images' 32 pixels"),
        ({"task": "classes", "levels": 8}, "levels given with task 'classes'; expected none"),
        ({"folder": 3}, "folder is 3, a int; expected text"),
    ],
)
def test_an_outline_refuses_impossible_options_too(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.outline("cifar5m", **{"folder": "not/there/yet", **options})


@pytest.mark.parametrize("options", [{"levels": 16, "colour": "rgb", "size": 8}, {"task": "classes"}, {"parts": [0]}])
def test_an_outline_has_the_dimensions_of_the_data(folder: Path, options: dict[str, object]) -> None:
    outlined = data.outline("cifar5m", folder="not/there/yet", **options)
    loaded = data.load("cifar5m", folder=str(folder), **options)
    assert outlined.dimensions == loaded.dimensions
    assert outlined.units("train") == cifar5m.IMAGES_A_PART * loaded.units("train") // TRAIN


def test_runs_name_the_folder_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    resolved = data.resolved("cifar5m", {"folder": "cifar5m", "task": "classes"})
    assert resolved == {"folder": str(tmp_path / "cifar5m"), "task": "classes"}


def test_the_folder_is_asked_for_by_name() -> None:
    with pytest.raises(ValueError, match="'cifar5m' lacks its option 'folder'; give it, for example as cifar5m:FOLDER"):
        data.load("cifar5m")
    assert data.parse_name("cifar5m:/some/C:/where") == ("cifar5m", {"folder": "/some/C:/where"})
