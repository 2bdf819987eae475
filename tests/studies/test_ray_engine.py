"""Ray: the same files as from any other engine, whoever is killed on the way, and nothing left running afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from killing import LONG, KillsTheWorker, holder_of, latest_checkpoint, sittings
from small_runs import contents, digits, folder_of, small_run

from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines.errors import FoldersRefusedError, RunsFailedError
from spectral_reach.studies.engines.local import run_all as run_all_locally
from spectral_reach.studies.engines.ray import run_all
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.progress import Progress

pytestmark = pytest.mark.slow

PATIENCE = 180.0


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """A Ray of two CPUs that was there before the engine and is there after it."""
    ray = pytest.importorskip("ray", reason="ray is not installed; it comes with the extra spectral-reach[ray]")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What ``LONG`` leaves when nothing happens to it."""
    folder = folder_of(LONG, tmp_path_factory.mktemp("undisturbed") / "run")
    assert train(folder, LONG, digits())
    return contents(folder.path)


def study_of(address: str, *folders: Path) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("ray_study_process.py")
    return subprocess.Popen(
        [sys.executable, str(script), address, *map(str, folders)], stdout=subprocess.PIPE, start_new_session=True
    )


def wait_for_a_checkpoint(study: subprocess.Popen[bytes], folder: RunFolder) -> int:
    assert eventually(lambda: latest_checkpoint(folder) > 0 or study.poll() is not None)
    assert study.poll() is None
    return latest_checkpoint(folder)


def end(process: subprocess.Popen[bytes]) -> int:
    code = process.wait(PATIENCE)
    assert process.stdout is not None
    process.stdout.close()
    return code


def descendants(pid: int) -> set[int]:
    try:
        own = {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except FileNotFoundError:
        return set()
    return own.union(*map(descendants, own))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def takes_its_time(pid: int) -> bool:
    """Two helpers of Ray go a minute after the rest of an instance that was killed; they hold nothing."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith((b"ray::DashboardAgent", b"ray::RuntimeEnvAgent"))


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.1)
    return False


def test_ray_leaves_what_local_processes_leave_and_one_failure_does_not_stop_the_others(
    ray: ModuleType, tmp_path: Path
) -> None:
    good, bad = small_run("good"), small_run("bad", steps=13)
    bad = replace(bad, facts={**bad.facts, "data_hash": "0" * 64})
    runs = [
        good,
        bad,
        small_run("little", steps=4),
        replace(small_run("chosen", steps=11), rate_from=("good", "little")),
        replace(small_run("hopeless"), rate_from=("bad",)),
    ]
    folders = [folder_of(config, tmp_path / "ray" / config.name) for config in runs]
    told: list[Progress] = []
    with pytest.raises(RunsFailedError) as failed:
        run_all([folder.path for folder in folders], on_progress=told.append)
    assert list(failed.value.failures) == ["bad", "hopeless"]
    reason, waited = failed.value.failures.values()
    assert reason.startswith(f"it failed in its Ray worker; the end of {tmp_path / 'ray' / 'bad' / 'log.txt'}:")
    assert "The data of run 'bad' have changed" in reason
    assert waited == "it was not started: it needs run 'bad', which has failed."
    assert [folder.is_finished for folder in folders] == [True, False, True, True, False]
    assert {p.run: p.phase for p in told} == {
        "bad": "failed",
        "hopeless": "failed",
        "good": "finished",
        "little": "finished",
        "chosen": "finished",
    }
    last = [p for p in told if p.run == "good"][-1]
    assert (last.step, last.loss) == (12, folders[0].losses.rows()[11]["train_loss"])
    order = [(p.run, p.phase) for p in told]
    begins = order.index(("chosen", "starting"))
    assert {("good", "finished"), ("little", "finished")} < set(order[:begins])
    log = (folders[0].path / "log.txt").read_text()
    assert "finished at step" in log

    locally = folder_of(good, tmp_path / "local" / "good").path
    run_all_locally([locally])
    assert contents(locally) == contents(folders[0].path)
    assert {f.name for f in locally.iterdir()} == {f.name for f in folders[0].path.iterdir()}

    told.clear()
    run_all([folders[0].path, folders[3].path], on_progress=told.append)
    assert [(p.run, p.phase) for p in told] == [("good", "finished"), ("chosen", "finished")]
    assert ray.is_initialized()


def test_a_run_whose_worker_is_killed_goes_on_from_its_checkpoint(
    ray: ModuleType, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    folder = folder_of(LONG, tmp_path / "run")
    with KillsTheWorker(folder, times=1) as unforgiven, pytest.raises(RunsFailedError) as failed:
        run_all([folder.path], retries=0)
    assert unforgiven.left == 0
    assert failed.value.failures["pixels-long"].startswith(
        "its Ray worker was lost once; Ray says of the last:\n  The ac"
    )
    assert not folder.is_finished

    told: list[Progress] = []
    # Every time it got further, so that one retry is enough for two losses.
    with KillsTheWorker(folder, times=2, after=unforgiven.checkpoints[0]) as killer:
        run_all([folder.path], retries=1, on_progress=told.append)
    assert killer.left == 0
    assert [p.phase for p in told if p.phase != "training"] == ["starting", "starting", "starting", "finished"]
    began, *resumed = sittings(folder.path)
    assert began == 0
    assert len(resumed) == 3
    # Nothing that was in a checkpoint is done again.
    kept = unforgiven.checkpoints + killer.checkpoints
    assert all(step >= checkpoint > 0 for step, checkpoint in zip(resumed, kept, strict=True))
    assert contents(folder.path) == undisturbed


@pytest.mark.parametrize("on_a_cluster", [True, False], ids=["a cluster", "a Ray of its own"])
def test_workers_end_with_a_parent_that_is_killed_and_the_next_start_resumes(
    ray: ModuleType, undisturbed: dict[str, bytes], tmp_path: Path, on_a_cluster: bool
) -> None:
    folder = folder_of(LONG, tmp_path / "run")
    study = study_of(ray.get_runtime_context().gcs_address if on_a_cluster else "", folder.path)
    kept = wait_for_a_checkpoint(study, folder)
    processes = {pid for pid in descendants(study.pid) | {holder_of(folder.path)} if not takes_its_time(pid)}
    study.kill()
    assert end(study) == -signal.SIGKILL
    # The worker, and a Ray of its own with it.
    assert eventually(lambda: not any(map(is_alive, processes)))
    assert not folder.is_finished

    run_all([folder.path])
    assert sittings(folder.path)[1] >= kept
    assert contents(folder.path) == undisturbed


def test_ctrl_c_leaves_a_checkpoint_and_no_process_behind(ray: ModuleType, tmp_path: Path) -> None:
    endless = replace(LONG, training=replace(LONG.training, steps=20_000, checkpoint_every=20_000))
    folder = folder_of(endless, tmp_path / "run")
    study = study_of("", folder.path)
    assert study.stdout is not None
    step = next(progress["step"] for progress in map(json.loads, study.stdout) if progress["phase"] == "training")
    processes = descendants(study.pid)
    assert holder_of(folder.path) in processes
    # As in a terminal: the signal goes to every process of the group.
    os.killpg(study.pid, signal.SIGINT)
    assert end(study) == 130
    checkpoint = folder.checkpoints.latest()
    assert checkpoint is not None
    assert checkpoint.step >= step
    assert "as asked" in (folder.path / "log.txt").read_text()
    assert eventually(lambda: not any(map(is_alive, processes)))


def test_a_folder_that_refuses_is_quoted(ray: ModuleType, tmp_path: Path) -> None:
    folder = folder_of(small_run(steps=3), tmp_path / "run")
    with folder.lock(), pytest.raises(FoldersRefusedError) as refused:
        run_all([folder.path])
    reason = refused.value.failures["pixels-small"]
    assert reason.startswith(f"{folder.path} is being written by process {os.getpid()}")
    assert "\n" not in reason
    assert isinstance(refused.value, RecordError)


def test_an_address_is_for_a_process_without_ray(ray: ModuleType, tmp_path: Path) -> None:
    folder = folder_of(small_run(steps=3), tmp_path / "run").path
    with pytest.raises(ValueError, match="address is 'auto', and this process is connected to a Ray already"):
        run_all([folder], address="auto")


def test_more_than_there_is_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed; it comes with the extra spectral-reach[ray]")
    folder = folder_of(small_run(steps=3, device="auto"), tmp_path / "run").path
    script = (
        "import sys; from pathlib import Path; from spectral_reach.studies.engines.ray import run_all\n"
        "for options in ({'address': '127.0.0.1:1'}, {'address': 'here:there'}, {'gpus_per_run': 640.0}):\n"
        "    try: run_all([Path(sys.argv[1])], **options)\n"
        "    except ValueError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=PATIENCE)
    refused, unknown, gpus = said.stdout.splitlines()
    assert refused.startswith("No Ray cluster answers at '127.0.0.1:1': ")
    assert refused.endswith("or leave the address out for a Ray of this machine alone.")
    assert unknown.startswith("No Ray cluster answers at 'here:there': invalid literal for int()")
    assert gpus.startswith("A run takes 640 GPUs, and Ray finds ")


def test_ray_that_is_missing_and_workers_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="workers is 0; expected at least 1 run at a time"):
        run_all([], workers=0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ModuleNotFoundError, match=r'ray is not installed\. It comes with: pip install "spectral-reach\['
    ):
        run_all([])
