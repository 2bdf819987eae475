"""The cache of derived data: whole or rebuilt, whoever died or writes at the same time."""

import errno
import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from spectral_reach.records.errors import RecordError
from spectral_reach.studies.data import file_hashes
from spectral_reach.studies.data.cache import cache_root, cached, cached_files, sha256_of_file
from spectral_reach.studies.data.file_hashes import file_hash

FILES = {"a.npy": b"first file" * 100, "b.json": b"second file"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    """Builds the files, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, bytes]:
        self.calls += 1
        return FILES


def test_the_second_time_nothing_is_built(root: Path) -> None:
    build = Builder()
    assert cached("key", build) == FILES
    assert cached("key", build) == FILES
    assert build.calls == 1
    assert cached("other", build) == FILES
    assert build.calls == 2


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"\x00" + path.read_bytes()[1:]),
        lambda path: path.write_bytes(b""),
    ],
    ids=["missing", "cut", "altered", "empty"],
)
def test_a_damaged_cache_is_rebuilt(root: Path, file: str, damage: object) -> None:
    build = Builder()
    cached("key", build)
    assert callable(damage)
    damage(root / "key" / file)
    assert cached("key", build) == FILES
    assert build.calls == 2
    assert cached("key", build) == FILES
    assert build.calls == 2


@pytest.mark.parametrize("manifest", [b"[]", b"null", b'"a"', b'{"a.npy": 3}', b'{"../../x": "0"}'])
def test_a_manifest_that_is_no_manifest_is_rebuilt(root: Path, manifest: bytes) -> None:
    cached("key", Builder())
    (root / "key" / "manifest.json").write_bytes(manifest)
    assert cached("key", Builder()) == FILES


def test_a_build_that_fails_leaves_no_cache(root: Path) -> None:
    def fail() -> dict[str, bytes]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached("key", fail)
    build = Builder()
    assert cached("key", build) == FILES
    assert build.calls == 1


def slow_build(marks: Path) -> dict[str, bytes]:
    (marks / str(os.getpid())).touch()
    time.sleep(0.5)
    return FILES


def slow_folder_build(folder: Path, marks: Path) -> None:
    for name, content in slow_build(marks / "files").items():
        (folder / name).write_bytes(content)


def load_in_process(root: Path, marks: Path, start: float) -> None:
    os.environ["SPECTRAL_REACH_CACHE"] = str(root)
    time.sleep(max(0.0, start - time.time()))
    assert cached("key", lambda: slow_build(marks)) == FILES
    files = cached_files("files", lambda folder: slow_folder_build(folder, marks))
    assert {name: file.read_bytes() for name, file in files.items()} == FILES


@pytest.mark.slow
def test_of_processes_that_start_at_once_one_builds_and_all_get_the_files(root: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    (marks / "files").mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    start = time.time() + 6
    processes = [context.Process(target=load_in_process, args=(root, marks, start)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len([mark for mark in marks.iterdir() if mark.is_file()]) == 1
    assert len(list((marks / "files").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_told(root: Path) -> None:
    root.write_text("a file where the folder should be")
    told = r"key cannot be written: .*, or set SPECTRAL_REACH_CACHE to a folder that can be written"
    with pytest.raises(RecordError, match=told) as error:
        cached("key", Builder())
    assert "output folder" not in str(error.value)


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_a_file_of_the_cache_that_cannot_be_written_is_told(root: Path, file: str) -> None:
    (root / "key" / file / "in the way").mkdir(parents=True)
    told = rf"{file} cannot be written: .*, or set SPECTRAL_REACH_CACHE to a folder that can be written"
    with pytest.raises(RecordError, match=told):
        cached("key", Builder())


def test_the_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_root() == Path("/own")
    monkeypatch.delenv("SPECTRAL_REACH_CACHE")
    assert cache_root() == Path("/xdg/spectral-reach")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path("/home/someone/.cache/spectral-reach")


class FolderBuilder(Builder):
    """Leaves the files in a folder, and counts how often."""

    def __call__(self, folder: Path) -> None:  # type: ignore[override]
        self.calls += 1
        assert not list(folder.iterdir())
        for name, content in FILES.items():
            (folder / name).write_bytes(content)


def test_files_to_map_are_built_once_and_handed_out_as_paths(root: Path) -> None:
    build = FolderBuilder()
    for _ in range(2):
        files = cached_files("key", build)
        assert files == {name: root / "key" / name for name in FILES}
        assert {name: file.read_bytes() for name, file in files.items()} == FILES
    assert build.calls == 1
    assert {p.name for p in (root / "key").iterdir()} == {*FILES, "manifest.json", ".lock"}


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"\x00" + path.read_bytes()[1:]),
        lambda path: path.write_bytes(b"[]"),
        lambda path: path.write_bytes(b'{"a.npy": 3}'),
    ],
    ids=["missing", "cut", "altered", "list", "other"],
)
def test_damaged_files_to_map_are_rebuilt(root: Path, file: str, damage: object) -> None:
    build = FolderBuilder()
    cached_files("key", build)
    assert callable(damage)
    damage(root / "key" / file)
    files = cached_files("key", build)
    assert {name: path.read_bytes() for name, path in files.items()} == FILES
    assert build.calls == 2
    cached_files("key", build)
    assert build.calls == 2


def test_a_copied_cache_counts_by_its_content(root: Path) -> None:
    build = FolderBuilder()
    for file in cached_files("key", build).values():
        os.utime(file, (1, 1))
    before = (root / "key" / "manifest.json").read_text()
    cached_files("key", build)
    assert build.calls == 1
    # The new times are noted, so that the files are read once.
    assert (root / "key" / "manifest.json").read_text() != before


def test_a_build_of_files_that_fails_leaves_nothing(root: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "a.npy").write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached_files("key", fail)
    assert [p.name for p in (root / "key").iterdir()] == [".lock"]


def test_what_a_killed_build_left_is_removed_by_the_next(root: Path) -> None:
    (root / "key" / ".partial-0123-files").mkdir(parents=True)
    (root / "key" / ".partial-0123-files" / "a.npy").write_bytes(b"half")
    cached_files("key", FolderBuilder())
    assert not list((root / "key").glob(".partial-*"))


def test_mapped_files_outlive_a_rebuild(root: Path) -> None:
    files = cached_files("key", FolderBuilder())
    mapped = np.memmap(files["a.npy"], dtype=np.uint8, mode="r")
    (root / "key" / "b.json").unlink()
    cached_files("key", FolderBuilder())
    assert mapped.tobytes() == FILES["a.npy"]


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_a_file_to_map_that_cannot_be_written_is_told(root: Path, file: str) -> None:
    (root / "key" / file / "in the way").mkdir(parents=True)
    told = rf"{file} cannot be written: .*, or set SPECTRAL_REACH_CACHE to a folder that can be written"
    with pytest.raises(RecordError, match=told):
        cached_files("key", FolderBuilder())


def test_a_source_that_cannot_be_read_is_told_as_that(root: Path, tmp_path: Path) -> None:
    def read(folder: Path) -> None:
        (folder / "a.npy").write_bytes((tmp_path / "source").read_bytes())

    told = r"source cannot be read: No such file or directory; expected a readable file\. Check the path"
    with pytest.raises(ValueError, match=told) as error:
        cached_files("key", read)
    assert "SPECTRAL_REACH_CACHE" not in str(error.value)
    with pytest.raises(FileNotFoundError):
        cached("other", lambda: {"a.npy": (tmp_path / "source").read_bytes()})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_build_that_cannot_write_is_told(root: Path, number: int) -> None:
    def write(folder: Path) -> None:
        # A disk that fills up names no file.
        raise OSError(number, os.strerror(number), *([] if number == errno.ENOSPC else [folder / "a.npy"]))

    told = rf"key cannot be written: {os.strerror(number)}\. .* or set SPECTRAL_REACH_CACHE"
    with pytest.raises(RecordError, match=told):
        cached_files("key", write)


def test_an_error_of_neither_reading_nor_writing_for_sure_is_told_as_of_either(root: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    told = "key cannot be built: Input/output error. Check the disk of what it is built from and its own, or set SPEC"
    with pytest.raises(RecordError, match=told):
        cached_files("key", fail)


def test_a_file_is_hashed_once_and_again_when_it_changes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counting(file: Path) -> str:
        read.append(file.name)
        return sha256_of_file(file)

    monkeypatch.setattr(file_hashes, "sha256_of_file", counting)
    source, link = tmp_path / "source", tmp_path / "link"
    source.write_bytes(b"one")
    link.symlink_to(source)
    first = file_hash(source)
    assert first == hashlib.sha256(b"one").hexdigest() == file_hash(source) == file_hash(link)
    assert read == ["source"]
    source.write_bytes(b"two")
    os.utime(source, ns=(1, 2))
    assert file_hash(source) == hashlib.sha256(b"two").hexdigest()
    (note,) = (root / "file-hashes").iterdir()
    note.write_text("damaged")
    assert file_hash(source) == hashlib.sha256(b"two").hexdigest()
    assert read == ["source"] * 3


def test_a_file_to_hash_that_is_missing_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing cannot be read: No such file .*; expected a readable file\. Check"):
        file_hash(tmp_path / "nothing")
