"""Worker processes: they finish runs, tell why they failed, stop when asked and never outlive their parent."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import contents, digits, folder_of, small_run

from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines import resources
from spectral_reach.studies.engines.errors import FoldersRefusedError, RunsFailedError
from spectral_reach.studies.engines.local import run_all
from spectral_reach.studies.engines.places import Places
from spectral_reach.studies.engines.planned_run import PlannedRun
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.progress import Progress
from spectral_reach.studies.training.usage import Usage, read_usage
from spectral_reach.studies.worker import ExitCode, execute

# Long enough for a step in the middle to be caught, never reached to the end in a test.
LONG = 20_000
PATIENCE = 120.0


def worker_of(folder: Path) -> subprocess.Popen[bytes]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "spectral_reach.studies.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(str(folder)).encode() + b"\n")
    worker.stdin.flush()
    return worker


def worker_that(does: str) -> subprocess.Popen[bytes]:
    """A worker whose runs all finish, after ``does``, in which ``folder`` is the run's."""
    script = (
        "import os, signal, sys\n"
        "from spectral_reach.studies import worker\n"
        "def execute(folder, **_):\n"
        f"    {does}\n"
        "    return True\n"
        "worker.execute = execute\n"
        "sys.exit(worker.main())\n"
    )
    return subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def study_of(workers: int, *folders: Path) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("study_process.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(workers), *map(str, folders)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lines(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def wait_until_training(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    return next(line for line in lines(process) if line.get("phase") == "training")


def end(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end and close the pipes."""
    code = process.wait(PATIENCE)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return code


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that nobody has waited for yet still has an id.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_here() -> set[int]:
    """Worker processes of this process: other tests may have left others, of Ray for one."""
    found = set()
    for pid in children(os.getpid()):
        with suppress(FileNotFoundError):  # gone in the meantime
            if b"spectral_reach.studies.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


def eventually(holds: Any) -> bool:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_workers_do_what_this_process_would_and_one_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    good, bad, small = small_run("pixels-good"), small_run("pixels-bad", steps=13), small_run("pixels-little", steps=4)
    bad = replace(bad, facts={**bad.facts, "data_hash": "0" * 64})
    folders = [folder_of(config, tmp_path / config.name) for config in (good, bad, small)]
    told: list[Progress] = []
    with pytest.raises(RunsFailedError) as failed:
        run_all([folder.path for folder in folders], workers=2, on_progress=told.append)
    assert list(failed.value.failures) == ["pixels-bad"]
    text = str(failed.value)
    assert "1 of 3 runs failed, the others have finished" in text
    assert "ended with exit code 1; the end of" in text
    assert "The data of run 'pixels-bad' have changed" in text
    assert [folder.is_finished for folder in folders] == [True, False, True]
    # The most compute first: 13 steps, 12 steps, then 4.
    assert [p.run for p in told if p.phase == "starting"] == ["pixels-bad", "pixels-good", "pixels-little"]
    assert {p.run: p.phase for p in told} == {
        "pixels-bad": "failed",
        "pixels-good": "finished",
        "pixels-little": "finished",
    }
    last = [p for p in told if p.run == "pixels-good"][-1]
    assert (last.step, last.steps) == (12, 12)
    assert last.loss == folders[0].losses.rows()[11]["train_loss"]

    here = folder_of(good, tmp_path / "here")
    assert train(here, good, digits())
    assert contents(folders[0].path) == contents(here.path)
    assert "finished at step" in (folders[0].path / "log.txt").read_text()

    told.clear()
    run_all([folders[0].path, folders[2].path], on_progress=told.append)
    assert [(p.run, p.phase) for p in told] == [("pixels-good", "finished"), ("pixels-little", "finished")]


@pytest.mark.slow
def test_a_process_executes_run_after_run_and_each_has_its_own_log(tmp_path: Path) -> None:
    runs = [small_run("large", steps=5), small_run("little", steps=4), small_run("less", steps=3)]
    folders = [folder_of(config, tmp_path / config.name) for config in runs]
    processes: set[int] = set()

    def watch(progress: Progress) -> None:
        if progress.phase == "training":
            processes.update(workers_here())

    run_all([folder.path for folder in folders], workers=1, on_progress=watch)
    (process,) = processes
    assert eventually(lambda: not is_alive(process))
    for config, folder in zip(runs, folders, strict=True):
        assert f"finished at step {config.training.steps}" in (folder.path / "log.txt").read_text()
        alone = folder_of(config, tmp_path / "alone" / config.name)
        assert train(alone, config, digits())
        assert contents(alone.path) == contents(folder.path)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can forget a peak")
def test_a_run_does_not_count_the_peak_of_an_earlier_one(tmp_path: Path) -> None:
    Usage(tmp_path, torch.device("cpu"), threads=1, step=0).write(1)
    much = bytearray(400 * 2**20)
    Usage(tmp_path, torch.device("cpu"), threads=1, step=1).write(2)
    del much
    Usage(tmp_path, torch.device("cpu"), threads=1, step=2).write(3)
    _, large, little = (sitting["peak_bytes"] for sitting in read_usage(tmp_path))
    assert little < large - 300 * 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells it apart")
def test_a_run_does_not_count_the_peak_of_its_parent(tmp_path: Path) -> None:
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from spectral_reach.studies.training.usage import Usage\n"
        "Usage(Path(sys.argv[1]), torch.device('cpu'), threads=1, step=1).write(2)\n"
    )
    much = b"x" * (500 * 2**20)
    Usage(tmp_path, torch.device("cpu"), threads=1, step=0).write(1)
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    del much
    large, little = (sitting["peak_bytes"] for sitting in read_usage(tmp_path))
    assert little < large - 300 * 2**20


@pytest.mark.slow
def test_a_process_that_is_killed_between_two_runs_is_missed_by_none(tmp_path: Path) -> None:
    folders = [folder_of(small_run(name, steps=steps), tmp_path / name) for name, steps in (("one", 4), ("two", 3))]

    def kill(progress: Progress) -> None:
        if (progress.run, progress.phase) == ("one", "finished"):
            (worker,) = workers_here()
            os.kill(worker, signal.SIGKILL)
            # Until all its threads have gone; it is left for the engine to find.
            os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)

    run_all([folder.path for folder in folders], workers=1, on_progress=kill)
    assert [folder.is_finished for folder in folders] == [True, True]


@pytest.mark.slow
def test_a_folder_that_refuses_is_quoted_and_told_apart_from_a_run_that_fails(tmp_path: Path) -> None:
    busy, bad = small_run("pixels-busy", steps=3), small_run("pixels-bad", steps=3)
    bad = replace(bad, facts={**bad.facts, "data_hash": "0" * 64})
    folders = [folder_of(config, tmp_path / config.name) for config in (busy, bad)]
    said = f"{folders[0].path} is being written by process {os.getpid()}"
    with folders[0].lock():
        with pytest.raises(FoldersRefusedError) as refused:
            run_all([folders[0].path])
        with pytest.raises(RunsFailedError) as failed:
            run_all([folder.path for folder in folders], workers=2)
    for error in (refused.value, failed.value):
        assert error.failures["pixels-busy"].startswith(said)
        assert "\n" not in error.failures["pixels-busy"]
    assert isinstance(refused.value, RecordError)
    assert not isinstance(failed.value, RecordError)


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    folder = folder_of(small_run(steps=3), tmp_path / "run")
    (folder.path / "log.txt").mkdir()
    with pytest.raises(RecordError, match=r"log\.txt cannot be written: Is a directory\. Check the disk and the path"):
        run_all([folder.path])


@pytest.mark.slow
def test_a_worker_leaves_when_its_parent_closes_the_pipe(tmp_path: Path) -> None:
    config = small_run(steps=LONG)
    worker = worker_of(folder_of(config, tmp_path / "run").path)
    assert wait_until_training(worker)["steps"] == LONG
    assert worker.stdin is not None
    worker.stdin.close()
    worker.stdin = None
    assert end(worker) == ExitCode.PARENT_GONE


@pytest.mark.slow
def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    folders = [folder_of(small_run(f"pixels-{i}", steps=LONG), tmp_path / str(i)).path for i in range(2)]
    study = study_of(2, *folders)
    wait_until_training(study)
    workers = children(study.pid)
    assert len(workers) == 2
    assert all(map(is_alive, workers))
    study.kill()
    assert end(study) == -signal.SIGKILL
    assert eventually(lambda: not any(map(is_alive, workers)))
    # Nobody holds the folders any more, and what was measured can be read.
    for path in folders:
        with RunFolder.open(path).lock():
            pass
    assert any(len(RunFolder.open(path).measurements) for path in folders)


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_of_every_step_that_was_made(tmp_path: Path) -> None:
    config = small_run(steps=LONG, checkpoint_every=LONG)
    folder = folder_of(config, tmp_path / "run")
    study = study_of(1, folder.path)
    step = wait_until_training(study)["step"]
    study.send_signal(signal.SIGINT)
    assert end(study) == 130
    checkpoint = folder.checkpoints.latest()
    assert checkpoint is not None
    assert checkpoint.step >= step
    assert [row["step"] for row in folder.losses.rows()] == list(range(checkpoint.step))
    assert "as asked" in (folder.path / "log.txt").read_text()
    assert not folder.is_finished


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_says_so(tmp_path: Path) -> None:
    config = small_run(steps=LONG, checkpoint_every=LONG)
    folder = folder_of(config, tmp_path / "run")
    worker = worker_of(folder.path)
    wait_until_training(worker)
    worker.terminate()
    assert end(worker) == ExitCode.STOPPED
    assert folder.checkpoints.latest() is not None


def test_a_worker_that_is_asked_to_stop_in_the_last_step_says_so_as_well(tmp_path: Path) -> None:
    worker = worker_that("os.kill(os.getpid(), signal.SIGTERM)")
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(str(tmp_path)).encode() + b"\n")
    worker.stdin.flush()
    assert next(lines(worker)) == {"finished": str(tmp_path), "leaving": True}
    assert end(worker) == ExitCode.STOPPED


def test_what_a_run_prints_goes_to_its_own_log(tmp_path: Path) -> None:
    worker = worker_that("print('printed by', folder.name); os.system(f'echo said by {folder.name}')")
    assert worker.stdin is not None
    heard = lines(worker)
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        worker.stdin.write(json.dumps(str(folder)).encode() + b"\n")
        worker.stdin.flush()
        assert next(heard) == {"finished": str(folder), "leaving": False}
        said = (folder / "log.txt").read_text().splitlines()
        assert sorted(said) == [f"printed by {name}", f"said by {name}"]
    worker.stdin.close()
    worker.stdin = None
    assert end(worker) == ExitCode.PARENT_GONE


def test_a_run_can_be_executed_wherever_its_folder_is(tmp_path: Path) -> None:
    folder = folder_of(small_run(steps=3), tmp_path / "run")
    assert execute(folder.path, should_stop=lambda: True) is False
    assert execute(folder.path) is True
    assert folder.is_finished


def test_there_is_at_least_one_worker() -> None:
    with pytest.raises(ValueError, match="workers is 0; expected at least 1 process"):
        run_all([], workers=0)


@pytest.mark.slow
def test_a_run_begins_when_it_has_what_it_needs_and_a_core_for_each_of_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "available_cores", lambda: 4)
    assert [resources.at_once(threads) for threads in (1, 2, 3, 4, 5)] == [4, 2, 1, 1, 1]
    runs = [
        replace(small_run("chosen", threads=3), rate_from=("little", "less")),
        small_run("little", threads=3, steps=4),
        small_run("less", threads=3, steps=3, learning_rate=0.001),
    ]
    told: list[Progress] = []
    run_all([folder_of(config, tmp_path / config.name).path for config in runs], on_progress=told.append)
    # Four cores have room for one run of three threads; the one with the most compute waits for what it needs.
    assert [(progress.run, progress.phase) for progress in told if progress.phase != "training"] == [
        (name, phase) for name in ("little", "less", "chosen") for phase in ("starting", "finished")
    ]


def planned(device: str, threads: int = 1) -> PlannedRun:
    return PlannedRun(
        folder=Path(device), name=device, needs=(), steps=1, flops=1, threads=threads, device=device, is_finished=False
    )


def taken(places: Places, run: PlannedRun) -> list[str | None]:
    """The places that are left for such runs, all taken."""
    given = []
    while places.has_room_for(run):
        given.append(places.take(run))
    return given


def test_runs_have_a_device_each_and_those_on_the_cpu_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_cores", lambda: 4)
    monkeypatch.setattr(resources, "cuda_devices", lambda: ("2", "5", "7"))
    cpu, auto, cuda = planned("cpu", threads=2), planned("auto", threads=4), planned("cuda", threads=4)
    places = Places([cpu, auto, cuda], workers=None)
    assert taken(places, auto) == ["2", "5", "7"]
    assert not places.has_room_for(cuda)
    assert taken(places, cpu) == [None, None]
    places.give_back("5")
    assert not places.has_room_for(cpu)
    assert taken(places, cuda) == ["5"]
    places.give_back(None)
    assert not places.has_room_for(cuda)
    assert taken(places, cpu) == [None]


@pytest.mark.parametrize(("workers", "given"), [(1, ["2"]), (3, ["2", "5", "2"]), (4, ["2", "5", "2", "5"])])
def test_workers_are_given_the_devices_in_turn(workers: int, given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "cuda_devices", lambda: ("2", "5"))
    cpu, auto = planned("cpu"), planned("auto")
    places = Places([cpu, auto], workers=workers)
    assert taken(places, auto) == given
    assert not places.has_room_for(cpu)
    places.give_back("2")
    # It is the number of runs that counts, whichever they are.
    assert taken(places, cpu) == [None]
    assert not places.has_room_for(auto)


def test_without_devices_every_run_has_cores_and_the_cpu_alone_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_cores", lambda: 4)
    monkeypatch.setattr(resources, "cuda_devices", tuple)
    assert taken(Places([planned("auto", threads=2), planned("cpu")], workers=None), planned("auto")) == [None, None]

    def unexpected() -> tuple[str, ...]:
        raise AssertionError("no run may use a device")

    monkeypatch.setattr(resources, "cuda_devices", unexpected)
    assert taken(Places([planned("cpu")], workers=3), planned("cpu")) == [None, None, None]


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 2, ("0", "1")),
        ("3,1", 2, ("3", "1")),
        ("GPU-1a, GPU-2b", 2, ("GPU-1a", "GPU-2b")),
        ("6,-1,2", 1, ("6",)),
        ("", 0, ()),
    ],
)
def test_devices_are_called_what_the_variable_calls_them(
    visible: str | None, count: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert resources.cuda_devices() == names
    # What CUDA cannot use is no device, whatever the driver counts.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resources.cuda_devices() == ()


def test_a_worker_sees_its_own_device_alone_and_hands_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "what the parent sees")
    monkeypatch.setattr(resources, "available_cores", lambda: 4)
    monkeypatch.setattr(resources, "cuda_devices", lambda: ("7",))
    popen = subprocess.Popen
    # Workers that write down what they are given, and have finished at once.
    script = (
        "import json, os, sys\n"
        "for line in sys.stdin:\n"
        "    with open(os.path.join(json.loads(line), 'device.txt'), 'w') as file:\n"
        "        file.write(os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "    print(json.dumps({'finished': json.loads(line), 'leaving': False}), flush=True)\n"
    )
    monkeypatch.setattr(subprocess, "Popen", lambda _, **given: popen([sys.executable, "-c", script], **given))
    runs = [
        small_run("first", steps=5, device="auto"),
        small_run("second", steps=4, device="auto"),
        small_run("other", steps=3),
    ]
    told: list[Progress] = []
    run_all([folder_of(config, tmp_path / config.name).path for config in runs], on_progress=told.append)
    seen = {config.name: (tmp_path / config.name / "device.txt").read_text() for config in runs}
    assert seen == {"first": "7", "second": "7", "other": "what the parent sees"}
    order = [(progress.run, progress.phase) for progress in told]
    # Four cores would do for all three; the second waits for the device.
    assert order[:2] == [("first", "starting"), ("other", "starting")]
    assert order.index(("first", "finished")) < order.index(("second", "starting"))
    assert order.count(("second", "finished")) == 1
    # They have said nothing of their steps, as runs that had made all of them before.
    assert all(progress.step == progress.steps for progress in told if progress.phase == "finished")
