"""Checkpoints: bit-exact, replaced in one step, and the one before survives a save that fails."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model

from spectral_reach.records import atomic
from spectral_reach.records.checkpoints import Checkpoints
from spectral_reach.records.errors import RecordError


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_tensors_come_back_bit_for_bit(checkpoints: Checkpoints) -> None:
    wide = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    tensors = {
        "rng": torch.get_rng_state(),
        "step": torch.tensor(7.0),
        "empty": torch.zeros(0),
        "nan": torch.tensor([float("nan"), -0.0]),
        "half": wide.to(torch.bfloat16),
        "transposed": wide.transpose(0, 3),
        "channels_last": wide.to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(wide.double()),
        "count": torch.tensor(2**62),
        "mask": torch.tensor([True, False]),
    }
    path = checkpoints.save(300, tensors)
    assert path == checkpoints.folder / "step-000300"
    latest = checkpoints.latest()
    assert latest is not None
    assert (latest.step, latest.path) == (300, path)
    loaded = latest.tensors()
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        got, want = (t.detach().contiguous().flatten().view(torch.uint8) for t in (loaded[name], tensor))
        assert torch.equal(got, want), name


def test_extra_files_are_part_of_it(checkpoints: Checkpoints) -> None:
    def write_extra(path: Path) -> None:
        (path / "model").mkdir()
        (path / "model" / "config.json").write_text("{}")

    path = checkpoints.save(1, {}, write_extra)
    assert (path / "model" / "config.json").read_text() == "{}"


def test_no_checkpoint_is_none(checkpoints: Checkpoints) -> None:
    assert checkpoints.latest() is None
    checkpoints.folder.mkdir()
    (checkpoints.folder / ".partial-0123456789ab-step-000300").mkdir()
    (checkpoints.folder / "step-best").mkdir()
    assert checkpoints.latest() is None


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_are_kept_by_number_not_by_name(tmp_path: Path, keep: int) -> None:
    checkpoints = Checkpoints(tmp_path, keep=keep)
    steps = [0, 8, 99, 999_999, 1_000_000]
    for step in steps:
        checkpoints.save(step, {})
    assert names(checkpoints) == sorted(f"step-{step:06d}" for step in steps[-keep:])
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.step == 1_000_000


def test_the_same_step_again_replaces_it(checkpoints: Checkpoints) -> None:
    for value in (1.0, 2.0, 3.0):
        checkpoints.save(5, {"x": torch.tensor(value)})
    assert names(checkpoints) == ["step-000005"]
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.tensors()["x"] == 3.0


@pytest.mark.parametrize("kill_at", [1, 2, 3])
def test_a_replacement_that_stops_between_its_renames_loses_nothing(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    # A kill just before the n-th rename: of the old one aside, of the new one in place, of the old one to be deleted.
    checkpoints.save(5, {"x": torch.tensor(1.0)})
    real, calls = os.rename, []

    def rename(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == kill_at:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(5, {"x": torch.tensor(2.0)})
    assert len(calls) == kill_at
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.step == 5
    assert latest.tensors()["x"] == (2.0 if kill_at == 3 else 1.0)
    checkpoints.remove_leftovers()
    assert checkpoints.latest() == latest
    # And again, on top of what that left.
    checkpoints.save(5, {"x": torch.tensor(4.0)})
    checkpoints.save(6, {"x": torch.tensor(5.0)})
    assert names(checkpoints) == ["step-000006"]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_a_save_that_raises_leaves_the_one_before(checkpoints: Checkpoints, error: BaseException) -> None:
    checkpoints.save(1, {"x": torch.tensor(1.0)})

    def write_extra(path: Path) -> None:
        (path / "half").write_text("half")
        raise error

    with pytest.raises(type(error)):
        checkpoints.save(2, {}, write_extra)
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.tensors()["x"] == 1.0
    assert names(checkpoints) == ["step-000001"]


def test_what_the_system_says_is_told(checkpoints: Checkpoints) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RecordError, match=r"step-000002 cannot be written: No space left on device\. Free space"):
        checkpoints.save(2, {}, full)
    assert names(checkpoints) == []


def test_everything_is_flushed_before_it_has_its_name(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    real = atomic.fsync_tree

    def fsync_tree(folder: Path) -> None:
        assert names(checkpoints) == [folder.name]
        flushed.extend(sorted(path.name for path in folder.iterdir()))
        real(folder)

    monkeypatch.setattr(atomic, "fsync_tree", fsync_tree)
    checkpoints.save(1, {}, lambda path: (path / "model.bin").touch())
    assert flushed == ["model.bin", "state.safetensors"]


@pytest.mark.parametrize("file", ["state.safetensors", "model.safetensors"])
def test_a_damaged_checkpoint_is_told(checkpoints: Checkpoints, file: str) -> None:
    model = torch.nn.Linear(5, 20)
    path = checkpoints.save(1, {"x": torch.zeros(100)}, lambda folder: save_model(model, folder / "model.safetensors"))
    content = (path / file).read_bytes()
    for damaged in (content[: len(content) // 2], b""):
        (path / file).write_bytes(damaged)
        latest = checkpoints.latest()
        assert latest is not None
        with pytest.raises(RecordError, match=rf"{file} cannot be read: .*delete the folder .*step-000001"):
            {
                "state.safetensors": latest.tensors,
                "model.safetensors": lambda latest=latest: latest.load_weights(model),
            }[file]()
    shutil.rmtree(path)
    assert checkpoints.latest() is None


def test_impossible_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep is 0; expected 1 or more"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(ValueError, match="step is -1; expected 0 or more"):
        Checkpoints(tmp_path).save(-1, {})
    assert list(tmp_path.iterdir()) == []
