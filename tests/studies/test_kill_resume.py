"""Killed at twenty random moments, a study ends with the files of one that was left in peace; a worker alone likewise.

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
from typing import Any

import pytest
from killing import LONG, KillsTheWorker, sittings
from small_runs import contents, digits, folder_of

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines.errors import RunsFailedError
from spectral_reach.studies.engines.local import run_all
from spectral_reach.studies.training.loop import train

KILLS = 20


class Studies:
    """Runs the study again and again, each time in another process; a context manager."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors
        script = Path(__file__).with_name("killed_study.py")
        with errors.open("wb") as stderr:
            self._server = subprocess.Popen(
                [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )

    def __enter__(self) -> "Studies":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def start(self, out: Path, workers: int) -> int:
        """The process that begins the study in ``out``, or goes on with it."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([str(out), workers]).encode() + b"\n")
        self._server.stdin.flush()
        return int(self._until("began")["began"])

    def wait_for_training(self) -> int | None:
        """None once any run makes a step; how the study ended if none does."""
        ended: int | None = self._until("ended", phase="training").get("ended")
        return ended

    def end(self) -> int:
        """Wait for the end; how it came."""
        return int(self._until("ended")["ended"])

    def finish(self, out: Path) -> dict[str, bytes]:
        """Bring the study to its end in peace; its files."""
        self.start(out, workers=2)
        assert self.end() == 0, self._errors.read_text()
        return contents(out)

    def _until(self, key: str, **values: str) -> dict[str, Any]:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            message: dict[str, Any] = json.loads(line)
            if key in message or (values and values.items() <= message.items()):
                return message
        raise AssertionError(self._errors.read_text())


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
    with Studies(tmp_path / "stderr.txt") as studies:
        studies.start(tmp_path / "undisturbed", workers=2)
        begun = time.monotonic()
        assert studies.wait_for_training() is None
        until_training = time.monotonic() - begun
        assert studies.end() == 0
        training = time.monotonic() - begun - until_training
        files = contents(tmp_path / "undisturbed")
        assert len([name for name in files if name.endswith((".parquet", "model.safetensors"))]) == 9
        print(f"\nseed {seed}; the first step comes after {until_training:.1f} s, the end {training:.1f} s later")

        kills = 0
        killed: list[Path] = []
        while kills < KILLS:
            killed.append(tmp_path / f"killed-{len(killed)}")
            ended = -signal.SIGKILL
            while ended and kills < KILLS:
                # One worker and two in turn: the same files whoever executes which run.
                process = studies.start(killed[-1], workers=1 + kills % 2)
                # Every third kill comes while processes start. The others come while runs train, measure and save, so
                # early that the study comes to its end at about the last of them, whatever the speed of the machine.
                is_early = kills % 3 == 0
                moment = moments.uniform(0.0, until_training if is_early else 0.2 * training)
                reached = None if is_early else studies.wait_for_training()
                if reached is None:
                    time.sleep(moment)
                    with suppress(ProcessLookupError):  # it has ended, and its parent has waited for it
                        os.kill(process, signal.SIGKILL)
                ended = studies.end() if reached is None else reached
                assert ended in (0, -signal.SIGKILL), (tmp_path / "stderr.txt").read_text()
                if ended:
                    kills += 1
                    where = "after the start" if is_early else "into training"
                    print(f"kill {kills:2d}, {moment:.2f} s {where}: {state(killed[-1])}")
        for out in killed:
            found = studies.finish(out)
            assert found.keys() == files.keys()
            assert [name for name in files if found[name] != files[name]] == []


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
