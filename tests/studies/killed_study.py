"""A whole study, planned, written and run as the command does it, again and again, for a test that kills it.

Reads ``[folder, workers]`` from stdin, a line of JSON each, and runs the study in that folder in a process of its own
with so many worker processes. Both are copies of this one, which has imported everything: of a start nothing but
imports is left out, and what a kill costs is what it does to the files. ``test_local_engine.py`` has workers that are
started as programs, and kills them. Stdout tells ``began`` with the process, each progress, and ``ended`` with how it
ended.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

from forked_worker import ForkedWorker

from spectral_reach.studies import registry
from spectral_reach.studies.engines import local
from spectral_reach.studies.engines.local import run_all
from spectral_reach.studies.study_folder import sole_owner, write_plan
from spectral_reach.studies.training.progress import Progress

# Three runs for at most two workers, so that one starts when another has ended. Some seconds of training each.
SETTINGS = {
    "preset": "toy",
    "families": {
        "text": None,
        "pixels": {
            "widths": [16, 32, 48],
            "training": {"steps": 150, "checkpoint_every": 10, "heldout_every": 30},
            "measurement": {"per_decade": 6, "width": 4, "late_measurements": 10},
        },
    },
}


def tell(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def say(progress: Progress) -> None:
    tell(asdict(progress))


def run(out: Path, workers: int) -> None:
    with sole_owner(out):
        run_all(write_plan(out, registry.find("scaling").plan(SETTINGS)), workers=workers, on_progress=say)


if __name__ == "__main__":
    local.subprocess = SimpleNamespace(
        Popen=ForkedWorker, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
    )
    # readline and not a loop over lines: a copy of this process must not inherit lines that are read but not served.
    while line := sys.stdin.readline():
        folder, workers = json.loads(line)
        process = os.fork()
        if not process:
            run(Path(folder), workers)
            os._exit(0)
        tell({"began": process})
        tell({"ended": os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])})
