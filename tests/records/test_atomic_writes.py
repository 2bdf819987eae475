"""A file is whole or absent: failures leave what was there, and say what to do."""

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spectral_reach.records.atomic import remove_leftovers, write_atomically, write_json_atomically
from spectral_reach.records.errors import RecordError


def write_text(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def test_new_content_replaces_old(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    for text in ("one", "two"):
        write_atomically(target, write_text(text))
        assert target.read_text() == text
    assert list(tmp_path.iterdir()) == [target]


def test_writer_sees_a_path_with_the_suffix_of_the_target(tmp_path: Path) -> None:
    # Figures: matplotlib takes the format from the suffix.
    seen = []
    write_atomically(tmp_path / "figure.svg", lambda path: (seen.append(path), path.write_text("x")))
    assert seen[0].suffix == ".svg"
    assert seen[0].parent == tmp_path


def test_file_has_the_permissions_of_an_ordinary_file(tmp_path: Path) -> None:
    # Of a private temporary file (0600) it would be unreadable to the rest of a group.
    (tmp_path / "ordinary").write_text("x")
    write_atomically(tmp_path / "ours", write_text("x"))
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write(path: Path) -> None:
        path.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(target, write)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see what is flushed")
def test_content_reaches_the_disk_before_the_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        events.append("flush " + Path(f"/proc/self/fd/{descriptor}").readlink().name.split("-")[-1])
        real_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        events.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    folder = tmp_path / "folder"
    folder.mkdir()
    write_atomically(folder / "a.txt", write_text("x"))
    assert events == ["flush a.txt", "rename", "flush folder"]


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EIO"])
def test_refusal_of_the_system_is_told_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    number = getattr(errno, code)
    target = tmp_path / "a.txt"
    target.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    remedy = {
        "EROFS": "Make the folder writable or choose another output folder",
        "EACCES": "Make the folder writable or choose another output folder",
        "EIO": "Check the disk and the path, or choose another output folder",
    }.get(code, "Free space .* or choose another output folder")
    told = rf"a\.txt cannot be written: {os.strerror(number)}\. {remedy}; every finished measurement is still readable"
    with pytest.raises(RecordError, match=told):
        write_atomically(target, write_text("new"))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_folder_that_cannot_be_flushed_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "a.txt", write_text("x"))
    assert (tmp_path / "a.txt").read_text() == "x"


def test_leftover_of_a_killed_writer_is_removed_on_request_only(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from spectral_reach.records.atomic import write_atomically\n"
        "def write(path): path.write_text('half'); os.kill(os.getpid(), 9)\n"
        "write_atomically(pathlib.Path(sys.argv[1]), write)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], check=False)
    assert done.returncode == -9
    assert [path.read_text() for path in tmp_path.iterdir()] == ["half"]
    write_atomically(tmp_path / "b.txt", write_text("b"))
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_json_is_written_whole_and_refuses_nan(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json_atomically(target, {"b": [1, 2.5, None]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomically(target, {"b": float("nan")})
    assert json.loads(target.read_text()) == {"b": [1, 2.5, None]}
