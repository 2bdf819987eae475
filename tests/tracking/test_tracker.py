"""The tracker: measures when due, once a step, the same on every run; its folder is its own until it is closed."""

import doctest
import errno
import functools
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.records import atomic
from spectral_reach.records.errors import ForeignFolderError, RecordError, RunFolderBusyError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.tracking import schedule
from spectral_reach.tracking import tracker as module

# Opens the tracker of ``make_model`` in another process, says so, and stays.
HOLD = """
import sys, time, torch, spectral_reach as sr
tracker = sr.Tracker(torch.nn.Linear(4, 3), schedule=1, out=sys.argv[1])
tracker.measure(0, (torch.ones(8, 4), torch.arange(8) % 3))
print("open", flush=True)
time.sleep(600)
"""


def make_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(4, 3)


def make_batch(step: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)


def smoothed(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, label_smoothing=0.1)


def to_the_bit(rows: list[dict[str, Any]]) -> str:
    """Rows as text, in which a float has all its digits and NaN equals NaN."""
    return "\n".join(map(repr, rows))


def measured(tracker: sr.Tracker, steps: range) -> list[int]:
    return [step for step in steps if tracker.measure(step, make_batch(step)) is not None]


def test_it_measures_when_due_and_says_what_it_measured() -> None:
    model = make_model()
    tracker = sr.Tracker(model, schedule=[1, 3], estimator="exact")
    assert tracker.measure(0, make_batch()) is None
    result = tracker.measure(1, make_batch(), tokens=32, note="first")
    assert result is not None
    assert result.chi_pos == sr.decompose(model, make_batch(), estimator="exact").chi_pos
    assert to_the_bit(tracker.history) == to_the_bit([{"step": 1, "tokens": 32, "note": "first", **result.as_dict()}])
    assert [tracker.due(step) for step in range(4)] == [False, True, False, True]


def test_a_step_is_measured_once() -> None:
    tracker = sr.Tracker(make_model(), schedule=1)
    assert tracker.measure(5, make_batch()) is not None
    assert tracker.measure(5, make_batch()) is None
    assert tracker.measure(np.int64(5), make_batch()) is None
    assert len(tracker.history) == 1


def test_every_option_reaches_the_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def spy(model: nn.Module, batch: Any, **options: Any) -> sr.Decomposition:
        seen.append(options)
        return sr.decompose(model, batch, **options)

    monkeypatch.setattr(module, "decompose", spy)
    model, options = make_model(), {"estimator": "batch", "probes": 2, "units": 5, "memory_budget": 2**20}
    # An iterator would be used up by the first measurement.
    tracker = sr.Tracker(model, schedule=1, parameters=iter(["weight"]), loss=F.cross_entropy, **options)
    for step in range(2):
        result = tracker.measure(step, make_batch(), against=make_batch(9))
        assert result is not None
        assert result.n_samples_against == 8
        assert seen[step].items() >= {"parameters": ("weight",), "loss": F.cross_entropy, **options}.items()
        expected = sr.decompose(
            model, make_batch(), against=make_batch(9), parameters="weight", seed=seen[step]["seed"], **options
        )
        assert result.chi_net == expected.chi_net


def test_probes_differ_from_step_to_step_and_depend_on_seed_and_step_alone() -> None:
    def chi_nets(seed: int, steps: list[int]) -> dict[int, float]:
        tracker = sr.Tracker(make_model(), schedule=1, estimator="batch", seed=seed)
        for step in steps:
            tracker.measure(step, make_batch())
        return {row["step"]: row["chi_net"] for row in tracker.history}

    all_steps = chi_nets(0, list(range(20)))
    # The same model and batch each time: only the probes differ.
    assert len(set(all_steps.values())) == 20
    assert chi_nets(0, [17, 4]) == {17: all_steps[17], 4: all_steps[4]}
    assert set(chi_nets(1, list(range(20))).values()).isdisjoint(all_steps.values())


def test_rows_reach_the_disk_one_by_one(tmp_path: Path) -> None:
    with sr.Tracker(make_model(), schedule=2, out=tmp_path / "run") as tracker:
        for step in range(5):
            tracker.measure(step, make_batch(step), tokens=32 * step)
            on_disk = pq.read_table(tmp_path / "run" / "measurements.parquet").to_pylist()
            assert [row["step"] for row in on_disk] == list(range(0, step + 1, 2))
    fields = list(sr.decompose(make_model(), make_batch()).as_dict())
    assert list(on_disk[0]) == ["step", "tokens", *fields]
    assert [row["tokens"] for row in on_disk] == [0, 64, 128]
    assert to_the_bit(RunFolder.open(tmp_path / "run").measurements.rows()) == to_the_bit(tracker.history)


def test_an_undefined_value_is_nan_on_disk_with_its_reason(tmp_path: Path) -> None:
    one_unit = tuple(each[:1] for each in make_batch())
    with sr.Tracker(make_model(), schedule=1, out=tmp_path / "run") as tracker:
        tracker.measure(0, one_unit)
    column = pq.read_table(tmp_path / "run" / "measurements.parquet").column("chi_pos_unbiased")
    assert column.null_count == 0
    assert np.isnan(column.to_numpy()).all()
    (row,) = RunFolder.open(tmp_path / "run").measurements.rows()
    assert row["undefined"] == tracker.history[0]["undefined"]
    assert "needs two units or more" in row["undefined"]["chi_pos_unbiased"]


def test_an_interrupted_run_goes_on_and_measures_nothing_twice(tmp_path: Path) -> None:
    with sr.Tracker(make_model(), schedule=1, out=tmp_path / "whole", estimator="batch") as whole:
        assert measured(whole, range(6)) == [0, 1, 2, 3, 4, 5]
    with sr.Tracker(make_model(), schedule=1, out=tmp_path / "parts", estimator="batch") as first:
        measured(first, range(3))
    with sr.Tracker(make_model(), schedule=1, out=tmp_path / "parts", estimator="batch") as second:
        assert to_the_bit(second.history) == to_the_bit(first.history)
        assert measured(second, range(1, 6)) == [3, 4, 5]
    assert to_the_bit(second.history) == to_the_bit(whole.history)
    files = [(tmp_path / name / "measurements.parquet").read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]


def test_a_run_may_be_extended(tmp_path: Path) -> None:
    for total in (10, 20):
        with sr.Tracker(make_model(), schedule=sr.log_windows(total, 2, 1), out=tmp_path / "run") as tracker:
            measured(tracker, range(total))
    assert [row["step"] for row in tracker.history] == [0, 1, 3, 9, 10, 19]


def test_trackers_that_measure_something_else_do_not_share_a_folder(tmp_path: Path) -> None:
    sr.Tracker(make_model(), schedule=1, out=tmp_path / "run", seed=1).close()
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config == {
        "tracker": {
            "loss": "cross_entropy",
            "estimator": "auto",
            "probes": 1,
            "units": None,
            "noise_units": None,
            "parameters": None,
            "parameter_count": 15,
            "seed": 1,
        }
    }

    for options, told in [
        ({"seed": 2}, r"tracker\.seed is 1 there, 2 here"),
        ({"seed": 1, "probes": 4}, r"tracker\.probes is 1 there, 4 here"),
        (
            {"seed": 1, "parameters": "bias"},
            r'tracker\.parameters is null there, \["bias"\] here; .*count is 15 there, 3 here',
        ),
        ({"seed": 1, "loss": smoothed}, r'tracker\.loss is "cross_entropy" there, "smoothed" here'),
        ({"seed": 1, "loss": functools.partial(smoothed)}, r'tracker\.loss is "cross_entropy" there, "partial" here'),
    ]:
        with pytest.raises(ForeignFolderError, match=told):
            sr.Tracker(make_model(), schedule=1, out=tmp_path / "run", **options)
    with pytest.raises(ForeignFolderError, match=r"parameter_count is 15 there, 50 here"):
        sr.Tracker(nn.Linear(4, 10), schedule=1, out=tmp_path / "run", seed=1)


def test_the_folder_is_locked_until_close(tmp_path: Path) -> None:
    tracker = sr.Tracker(make_model(), schedule=1, out=tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    with pytest.raises(RunFolderBusyError, match="run is being written by process"), folder.lock(timeout=0.1):
        pytest.fail("a tracker does not hold its folder")
    # A loop may end in another thread than it began in.
    closing = threading.Thread(target=tracker.close)
    closing.start()
    closing.join()
    with folder.lock(timeout=0.1):
        pass
    tracker.close()
    with pytest.raises(ValueError, match=r"the tracker is closed; expected no measurement after close\(\)"):
        tracker.measure(0, make_batch())


def test_the_folder_is_freed_when_the_loop_raises(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"), sr.Tracker(make_model(), schedule=1, out=tmp_path / "run"):
        raise RuntimeError("boom")
    with RunFolder.open(tmp_path / "run").lock(timeout=0.1):
        pass


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    with pytest.raises(RunFolderBusyError, match=f"run is being written by process {process.pid} on"):
        sr.Tracker(make_model(), schedule=1, out=tmp_path / "run")
    process.kill()
    process.communicate()
    with sr.Tracker(make_model(), schedule=1, out=tmp_path / "run") as tracker:
        assert [row["step"] for row in tracker.history] == [0]


def test_a_run_folder_is_written_to_under_the_lock_of_the_caller(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"name": "text-056k"})
    with folder.lock():
        with sr.Tracker(make_model(), schedule=1, out=folder.measurements) as tracker:
            tracker.measure(0, make_batch(), tokens=0, flops=0.0)
        # The tracker is closed, the lock is still the caller's.
        with pytest.raises(RunFolderBusyError), folder.lock(timeout=0):
            pytest.fail("the tracker gave away the lock of its caller")
        folder.measurements.truncate_from(0)
    assert RunFolder.open(folder.path).config == {"name": "text-056k"}


def test_a_damaged_file_is_told_and_frees_the_folder(tmp_path: Path) -> None:
    sr.Tracker(make_model(), schedule=1, out=tmp_path / "run").close()
    (tmp_path / "run" / "measurements.parquet").write_bytes(b"PAR1")
    # Held on to, so that the folder is freed by the tracker and not by the garbage collector.
    with pytest.raises(RecordError, match=r"measurements\.parquet cannot be read") as error:
        sr.Tracker(make_model(), schedule=1, out=tmp_path / "run")
    assert error.tb is not None
    with RunFolder.open(tmp_path / "run").lock(timeout=0.1):
        pass


def test_a_row_that_cannot_be_written_is_told_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with sr.Tracker(make_model(), schedule=1, out=tmp_path / "run") as tracker:
        with monkeypatch.context() as patched:
            patched.setattr(atomic, "fsync", full)
            with pytest.raises(RecordError, match=r"measurements\.parquet cannot be written: No space left on device"):
                tracker.measure(0, make_batch())
        assert tracker.history == []
        assert tracker.measure(0, make_batch()) is not None


@pytest.mark.parametrize(
    "value", [torch.tensor(2.5), np.float64(2.5), np.array(2.5), 2.5], ids=lambda v: type(v).__name__
)
def test_scalars_of_any_make_are_plain_numbers(tmp_path: Path, value: object) -> None:
    with sr.Tracker(make_model(), schedule=1, out=tmp_path / "run") as tracker:
        tracker.measure(0, make_batch(), rate=value, count=torch.tensor(3), known=None)
    for row in (tracker.history[0], RunFolder.open(tmp_path / "run").measurements.rows()[0]):
        assert (row["rate"], type(row["rate"])) == (2.5, float)
        assert (row["count"], type(row["count"])) == (3, int)
        assert row["known"] is None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1.0], "is a list; expected a single number or string"),
        ({"a": 1}, "is a dict; expected a single number or string"),
        (torch.zeros(1), r"is of shape \(1,\); expected a single number or string: reduce it"),
        (np.zeros((2, 3)), r"is of shape \(2, 3\); expected a single number or string: reduce it"),
        (torch.tensor(1j), "is a complex; expected a single number or string"),
    ],
    ids=["list", "dict", "tensor", "array", "complex"],
)
def test_a_column_that_is_no_scalar_is_refused(value: object, told: str) -> None:
    tracker = sr.Tracker(make_model(), schedule=1)
    with pytest.raises(TypeError, match=f"column 'rate' {told}"):
        tracker.measure(0, make_batch(), rate=value)
    assert tracker.history == []
    assert tracker.measure(0, make_batch(), rate=1.0) is not None


@pytest.mark.parametrize("name", ["loss", "chi_pos", "undefined"])
def test_a_column_named_like_a_field_is_refused(name: str) -> None:
    tracker = sr.Tracker(make_model(), schedule=1)
    told = f"column '{name}' has the name of a field of the row; expected another name, for example 'train_{name}'"
    with pytest.raises(ValueError, match=told):
        tracker.measure(0, make_batch(), **{name: 1.0})


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"schedule": "often"}, TypeError, "schedule is 'often'; expected every how many steps"),
        ({"estimator": "magic"}, ValueError, "magic"),
        ({"loss": "hinge"}, ValueError, "loss='hinge' is unknown"),
        ({"parameters": "head"}, ValueError, "parameters names 'head', which the model does not have"),
        ({"probes": 0}, ValueError, "probes is 0; expected an integer of 1 or more"),
        ({"units": 0}, ValueError, "units is 0; expected an integer of 1 or more"),
        ({"memory_budget": 0}, ValueError, "memory_budget is 0; expected an integer of 1 or more"),
        ({"seed": -1}, ValueError, "seed is -1; expected an integer of 0 or more"),
        ({"seed": 1.5}, TypeError, r"seed is 1\.5; expected an integer of 0 or more"),
        ({"seed": 2**63}, ValueError, rf"seed is {2**63}; expected an integer from 0 to 2\*\*63 - 1"),
        (
            {"schedule": torch.tensor(2.5)},
            TypeError,
            r"measure, is tensor\(2\.5000\); expected an integer of 1 or more",
        ),
        ({"schedule": np.array(0)}, ValueError, r"measure, is 0; expected an integer of 1 or more"),
        ({"out": 3}, TypeError, "out is 3; expected the path of a folder, a Table, or None for no file"),
    ],
)
def test_impossible_settings_are_refused_at_once(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        sr.Tracker(make_model(), **({"schedule": 1, "out": tmp_path / "run"} | options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("integer", [np.int64, np.uint8, torch.tensor], ids=lambda make: make.__name__)
def test_integers_of_any_make_are_plain_settings(tmp_path: Path, integer: Any) -> None:
    for make in (int, integer):  # the same settings twice: the second tracker goes on where the first stopped
        options = {name: make(2) for name in ("schedule", "probes", "units", "seed")}
        with sr.Tracker(make_model(), out=tmp_path / "run", estimator="batch", **options) as tracker:
            measured(tracker, range(3))
    assert [row["step"] for row in tracker.history] == [0, 2]


def test_a_model_that_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"model is a str; expected a torch\.nn\.Module"):
        sr.Tracker("model", schedule=1)


@pytest.mark.parametrize("documented", [module, schedule])
def test_the_examples_in_the_docstrings_run(documented: ModuleType) -> None:
    results = doctest.testmod(documented)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(("step", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError)])
def test_a_step_is_a_number_of_updates(step: object, error: type[Exception]) -> None:
    tracker = sr.Tracker(make_model(), schedule=1)
    for use in (tracker.due, lambda step: tracker.measure(step, make_batch())):
        with pytest.raises(error, match=f"step is {step}; expected an integer of 0 or more"):
            use(step)


def test_a_batch_without_a_label_gets_a_row_with_the_reason(tmp_path: Path) -> None:
    inputs, targets = make_batch()
    with sr.Tracker(make_model(), schedule=1, out=tmp_path / "run") as tracker:
        result = tracker.measure(0, (inputs, torch.full_like(targets, -100)), tokens=8)
        assert tracker.measure(1, (inputs, targets)) is not None
    assert result is not None
    assert np.isnan(result.chi_pos)
    assert "no row of the batch carries a label" in result.undefined["chi_pos"]
    first, second = RunFolder.open(tmp_path / "run").measurements.rows()
    assert (first["n_samples"], first["tokens"], np.isnan(first["loss"])) == (0, 8, True)
    assert second["n_samples"] == 8
