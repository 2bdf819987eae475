"""Run folders: made, found again, and refused where they are somebody else's."""

import json
import os
from pathlib import Path

import pytest

import spectral_reach
from spectral_reach.records.errors import ForeignFolderError, RecordError, RunFolderBusyError
from spectral_reach.records.run_folder import RunFolder

CONFIG = {"name": "text-056k", "training": {"steps": 600, "betas": (0.9, 0.95)}, "model": {"width": 48}}


def test_a_new_folder_holds_its_config(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "study" / "run", CONFIG)
    assert json.loads((folder.path / "config.json").read_text()) == {
        "format": "spectral-reach run",
        "version": 1,
        "spectral_reach": spectral_reach.__version__,
        "config": {"name": "text-056k", "training": {"steps": 600, "betas": [0.9, 0.95]}, "model": {"width": 48}},
    }
    assert RunFolder.open(str(folder.path)).config == folder.config
    assert folder.measurements.path == folder.path / "measurements.parquet"
    assert folder.losses.path == folder.path / "losses.parquet"
    assert folder.checkpoints.folder == folder.path / "checkpoints"


def test_the_same_config_opens_what_is_there(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, CONFIG).measurements.append({"step": 7})
    before = (tmp_path / "config.json").stat().st_mtime_ns
    assert RunFolder.create(tmp_path, CONFIG).measurements.rows() == [{"step": 7}]
    assert (tmp_path / "config.json").stat().st_mtime_ns == before


def test_another_config_is_refused_by_what_differs(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", CONFIG)
    other = {"name": "text-056k", "training": {"steps": 900, "betas": (0.9, 0.95), "clip": 1.0}}
    told = (
        r"run belongs to another run: training\.steps is 600 there, 900 here; training\.clip is absent there, 1\.0 "
        r'here; model is \{"width": 48\} there, absent here\. Choose another output folder, or repeat the settings'
    )
    with pytest.raises(ForeignFolderError, match=told):
        RunFolder.create(tmp_path / "run", other)
    assert RunFolder.open(tmp_path / "run").config["training"]["steps"] == 600


def test_rounding_is_no_difference(tmp_path: Path) -> None:
    """Another processor adds up in another order: what is derived from the data differs in the last digits."""

    def config(entropy: float, *means: float) -> dict[str, object]:
        return {"facts": {"unigram_entropy": entropy, "mean": list(means), "normalised": [{"std": entropy}]}}

    RunFolder.create(tmp_path, config(5.1, 0.3, 0.1))
    again = config(5.1 * (1 + 1e-12), 0.1 + 0.2, 0.1)
    assert again != config(5.1, 0.3, 0.1)
    assert RunFolder.create(tmp_path, again).config == config(5.1, 0.3, 0.1)
    for other, told in (
        (config(5.1 * (1 + 1e-8), 0.3, 0.1), r"facts\.unigram_entropy is 5\.1 there, 5\.1000000"),
        (config(5.1, 0.3, 0.2), r"facts\.mean is \[0\.3, 0\.1\] there, \[0\.3, 0\.2\] here\."),
        (config(5.1, 0.3), r"facts\.mean is \[0\.3, 0\.1\] there, \[0\.3\] here\."),
    ):
        with pytest.raises(ForeignFolderError, match=told):
            RunFolder.create(tmp_path, other)


def test_a_config_that_is_no_json_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    for bad in ({"model": object()}, {"rate": float("nan")}):
        with pytest.raises(TypeError, match=r"the config of a run is not JSON: .*Convert its values"):
            RunFolder.create(tmp_path / "run", bad)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_content_is_refused_and_untouched(tmp_path: Path) -> None:
    for name in ("thesis.tex", "b", "c", "d"):
        (tmp_path / name).write_text("dear")
    told = r"holds b, c, d, \.\.\. and no config\.json; expected a run folder, an empty folder or a new one"
    with pytest.raises(ForeignFolderError, match=told):
        RunFolder.create(tmp_path, CONFIG)
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.tex", "b", "c", "d"}


def test_a_folder_whose_creation_was_killed_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".lock-holder").write_text("process 1 on there")
    (tmp_path / ".partial-0123456789ab-config.json").write_text('{"form')
    assert RunFolder.create(tmp_path, CONFIG).config["name"] == "text-056k"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ForeignFolderError, match="file is a file; expected a folder"):
        RunFolder.create(tmp_path / "file", CONFIG)
    with pytest.raises(ForeignFolderError, match=r"file has no config\.json; expected a run folder"):
        RunFolder.open(tmp_path / "file")


def test_a_folder_that_is_no_run_folder_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            ForeignFolderError, match=rf"{path.name} has no config\.json; expected a run folder .* Check"
        ):
            RunFolder.open(path)
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    "opening", [RunFolder.open, lambda path: RunFolder.create(path, CONFIG)], ids=["open", "create"]
)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "cannot be read: Expecting value.*restore it from a copy or choose another folder"),
        ('{"format": "spectral-reach ru', "cannot be read: Unterminated string"),
        ("[1, 2]", "holds a JSON list; expected an object"),
        ('{"model_type": "llama"}', "has the format None; expected 'spectral-reach run'"),
        (
            '{"format": "spectral-reach run", "version": 2, "spectral_reach": "9.1", "config": {}}',
            rf"has version 2, written by spectral-reach 9\.1; expected version 1, which spectral-reach "
            rf"{spectral_reach.__version__} reads\. Read it with the version that wrote it",
        ),
        ('{"format": "spectral-reach run", "version": 1, "config": 3}', "has the config 3; expected settings by name"),
    ],
    ids=["empty", "truncated", "list", "other format", "newer", "no config"],
)
def test_a_config_that_cannot_be_read_is_told_and_kept(tmp_path: Path, opening, content: str, told: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ForeignFolderError, match=rf"config\.json {told}"):
        opening(tmp_path)
    assert (tmp_path / "config.json").read_text() == content


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ForeignFolderError, match="cannot be read"):
        RunFolder.open(tmp_path)


def test_errors_are_of_one_family() -> None:
    # The command line tells them in one line and gives them one exit code.
    assert issubclass(RunFolderBusyError, RecordError)
    assert issubclass(ForeignFolderError, RecordError)
    assert issubclass(ForeignFolderError, ValueError)


def test_finished_runs_say_so_with_their_summary(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    assert not folder.is_finished
    assert folder.summary is None
    folder.mark_finished({"heldout_loss": 1.5})
    assert RunFolder.open(tmp_path).is_finished
    assert RunFolder.open(tmp_path).summary == {"heldout_loss": 1.5}
    (tmp_path / "finished.json").write_text("{")
    with pytest.raises(ForeignFolderError, match=r"finished\.json cannot be read"):
        _ = RunFolder.open(tmp_path).summary


def test_one_process_does_not_hold_a_lock_twice(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    with folder.lock():
        for other in (folder, RunFolder.open(tmp_path)):
            with pytest.raises(RunFolderBusyError, match=f"process {os.getpid()} "), other.lock(timeout=0.1):
                pytest.fail("one lock was taken twice")
    with folder.lock(timeout=0):
        pass


def test_lock_is_released_by_an_exception(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    with pytest.raises(RuntimeError, match="boom"), folder.lock():
        raise RuntimeError("boom")
    with folder.lock(timeout=0):
        assert (tmp_path / ".lock-holder").read_text().startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / ".lock-holder").exists()


def test_a_holder_that_is_not_known_is_another_process(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    with folder.lock():
        for content in (b"", b"\xff\xfe"):
            (tmp_path / ".lock-holder").write_bytes(content)
            with pytest.raises(RunFolderBusyError, match="is being written by another process"), folder.lock(timeout=0):
                pytest.fail("one lock was taken twice")
