"""Killed at 35 random moments, a study ends with the files of one that was left in peace; a worker alone likewise.

Parents and workers of Ray are killed in ``test_ray_engine.py``.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from killing import LONG, KillsTheWorker, sittings
from small_runs import contents, digits, folder_of

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines.errors import RunsFailedError
from spectral_reach.studies.engines.local import run_all
from spectral_reach.studies.training.loop import train

SEED = int(os.environ.get("SPECTRAL_REACH_KILL_SEED", "0"))
KILLS = 5
KILLS_IN_ONE_PROCESS = 30
PATIENCE = 600.0


class Undisturbed(NamedTuple):
    """The files of a study; seconds from its start to its first step, and from there to its end."""

    files: dict[str, bytes]
    until_training: float
    training: float


def start(out: Path) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("killed_study.py")
    with (out.parent / "stderr.txt").open("ab") as errors:
        return subprocess.Popen([sys.executable, str(script), str(out)], stdout=subprocess.PIPE, stderr=errors)


def finish(out: Path) -> None:
    process = start(out)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, (out.parent / "stderr.txt").read_text()


def wait_for_training(process: subprocess.Popen[bytes]) -> bool:
    """Whether any run made a step, before the study ended."""
    assert process.stdout is not None
    return any(b'"training"' in line for line in process.stdout)


def kill(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process was still there to be killed after so long."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    process.communicate()
    assert process.returncode == 0
    return False


def state(out: Path) -> str:
    """How far each run is, for whoever reads where the kills came."""
    said = []
    for path in sorted((out / "runs").glob("*")):
        if (path / "config.json").exists():
            run = RunFolder.open(path)
            latest = run.checkpoints.latest()
            said.append(
                f"{path.name} checkpoint {latest.step if latest else '-'}, {len(run.losses)} losses, "
                f"{len(run.measurements)} measured{', finished' if run.is_finished else ''}"
            )
    return "; ".join(said) or "nothing written"


class Copies:
    """Runs the study again and again, each time in a process that has imported everything already."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors
        script = Path(__file__).with_name("killed_study.py")
        with errors.open("wb") as stderr:
            self._server = subprocess.Popen(
                [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )

    def start(self, out: Path) -> int:
        """The process that begins the study in ``out``, or goes on with it."""
        assert self._server.stdin is not None
        self._server.stdin.write(f"{out}\n".encode())
        self._server.stdin.flush()
        return int(self._until("began")["began"])

    def wait_for_training(self) -> int | None:
        """None once any run makes a step; how the study ended if none does."""
        ended: int | None = self._until("ended", phase="training").get("ended")
        return ended

    def end(self) -> int:
        """Wait for the end; how it came."""
        return int(self._until("ended")["ended"])

    def close(self) -> None:
        self._server.communicate()

    def _until(self, key: str, **values: str) -> dict[str, Any]:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            message: dict[str, Any] = json.loads(line)
            if key in message or (values and values.items() <= message.items()):
                return message
        raise AssertionError(self._errors.read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What the study leaves that two workers execute in peace, and how long it takes."""
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    begun = time.monotonic()
    process = start(out)
    assert wait_for_training(process)
    until_training = time.monotonic() - begun
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    files = contents(out)
    assert len([name for name in files if name.endswith((".parquet", "model.safetensors"))]) == 9
    return Undisturbed(files, until_training, time.monotonic() - begun - until_training)


def assert_same(out: Path, files: dict[str, bytes]) -> None:
    killed = contents(out)
    assert killed.keys() == files.keys()
    assert [name for name in files if killed[name] != files[name]] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_of_workers_killed_at_random_moments_ends_as_an_undisturbed_one(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    moments = random.Random(SEED)
    print(f"\nseed {SEED}; the first step comes after {undisturbed.until_training:.1f} s")
    kills = 0
    studies: list[Path] = []
    while kills < KILLS:
        studies.append(tmp_path / f"killed-{len(studies)}")
        alive = True
        while alive and kills < KILLS:
            process = start(studies[-1])
            # Every third kill comes while processes start. The others come while runs train, measure and save.
            if kills % 3 == 0:
                moment = moments.uniform(0.0, undisturbed.until_training)
                where = f"{moment:.2f} s after the start"
            else:
                moment = moments.uniform(0.0, 0.5 * undisturbed.training)
                where = f"{moment:.2f} s into training"
                wait_for_training(process)
            alive = kill(process, moment)
            if alive:
                kills += 1
                print(f"kill {kills:2d}, {where}: {state(studies[-1])}")
    for out in studies:
        finish(out)
        assert_same(out, undisturbed.files)


@pytest.mark.slow
def test_a_study_in_one_process_killed_at_many_random_moments_ends_as_an_undisturbed_one(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    moments = random.Random(SEED)
    copies = Copies(tmp_path / "stderr.txt")
    copies.start(tmp_path / "in-peace")
    assert copies.wait_for_training() is None
    begun = time.monotonic()
    assert copies.end() == 0
    training = time.monotonic() - begun
    assert_same(tmp_path / "in-peace", undisturbed.files)

    kills = 0
    studies: list[Path] = []
    while kills < KILLS_IN_ONE_PROCESS:
        studies.append(tmp_path / f"killed-{len(studies)}")
        alive = True
        while alive and kills < KILLS_IN_ONE_PROCESS:
            process = copies.start(studies[-1])
            # Every third kill comes before the first step or soon after it.
            ended = copies.wait_for_training() if kills % 3 else None
            if ended is None:
                # So early that the study comes to its end at about the last kill, whatever the speed of the machine.
                moment = moments.uniform(0.0, 2.0 * training / KILLS_IN_ONE_PROCESS)
                time.sleep(moment)
                with suppress(ProcessLookupError):  # it has ended, and its parent has waited for it
                    os.kill(process, signal.SIGKILL)
                ended = copies.end()
            assert ended in (0, -signal.SIGKILL), (tmp_path / "stderr.txt").read_text()
            alive = ended != 0
            if alive:
                kills += 1
                print(f"kill {kills:2d}, {moment:.2f} s into it: {state(studies[-1])}")
    for out in studies:
        copies.start(out)
        assert copies.end() == 0
        assert_same(out, undisturbed.files)
    copies.close()


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_the_steps_since_its_checkpoint_and_no_more(tmp_path: Path) -> None:
    undisturbed, folder = folder_of(LONG, tmp_path / "undisturbed"), folder_of(LONG, tmp_path / "killed")
    assert train(undisturbed, LONG, digits())
    kept = [0]
    for _ in range(2):
        with (
            KillsTheWorker(folder, times=1, after=kept[-1]) as killer,
            pytest.raises(RunsFailedError, match="its process was killed by signal 9; the end of"),
        ):
            run_all([folder.path])
        kept += killer.checkpoints
        assert not folder.is_finished
    run_all([folder.path])
    began, *resumed = sittings(folder.path)
    assert began == 0
    assert all(step >= checkpoint > 0 for step, checkpoint in zip(resumed, kept[1:], strict=True))
    assert contents(folder.path) == contents(undisturbed.path)
