"""Killed at twenty random moments, a study ends with the files of one that was left in peace; a worker alone likewise.

Parents and workers of Ray are killed in ``test_ray_engine.py``.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import LONG, KillsTheWorker, sittings
from small_runs import contents, digits, folder_of

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines.errors import RunsFailedError
from spectral_reach.studies.engines.local import run_all
from spectral_reach.studies.training.loop import train

KILLS = 20
PATIENCE = 600.0


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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_killed_at_twenty_random_moments_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    seed = int(os.environ.get("SPECTRAL_REACH_KILL_SEED", "0"))
    moments = random.Random(seed)
    begun = time.monotonic()
    undisturbed = start(tmp_path / "undisturbed")
    assert wait_for_training(undisturbed)
    until_training = time.monotonic() - begun
    undisturbed.communicate(timeout=PATIENCE)
    training = time.monotonic() - begun - until_training
    assert undisturbed.returncode == 0
    files = contents(tmp_path / "undisturbed")
    assert len([name for name in files if name.endswith((".parquet", "model.safetensors"))]) == 9
    print(f"\nseed {seed}; the first step comes after {until_training:.1f} s, the end {training:.1f} s later")

    kills = 0
    studies: list[Path] = []
    while kills < KILLS:
        studies.append(tmp_path / f"killed-{len(studies)}")
        alive = True
        while alive and kills < KILLS:
            process = start(studies[-1])
            # Every third kill comes while processes start. The others come while runs train, measure and save, so
            # early that the study comes to its end at about the last of them, whatever the speed of the machine.
            if kills % 3 == 0:
                moment = moments.uniform(0.0, until_training)
                where = f"{moment:.2f} s after the start"
            else:
                moment = moments.uniform(0.0, 0.2 * training)
                where = f"{moment:.2f} s into training"
                wait_for_training(process)
            alive = kill(process, moment)
            if alive:
                kills += 1
                print(f"kill {kills:2d}, {where}: {state(studies[-1])}")
    for out in studies:
        finish(out)
        killed = contents(out)
        assert killed.keys() == files.keys()
        assert [name for name in files if killed[name] != files[name]] == []


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
