"""A whole study, planned, written and run as the command does it, for tests that kill what runs it.

``killed_study.py OUT`` runs it with two worker processes. ``killed_study.py`` alone reads folders from stdin and runs
the study in each in a process of its own, a copy of this one, which has imported everything: such a process is at work
after some milliseconds, and many can be killed in a minute. Either way a line of JSON on stdout tells each progress;
the second way also tells ``began`` with the process and ``ended`` with how it ended.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from spectral_reach.studies import registry
from spectral_reach.studies.engines import inline, local
from spectral_reach.studies.study_folder import sole_owner, write_plan
from spectral_reach.studies.training.progress import Progress

# Three runs for two workers, so that one starts when another has ended. Some seconds of training each.
SETTINGS = {
    "preset": "toy",
    "families": {
        "text": None,
        "pixels": {
            "widths": [16, 32, 48],
            "training": {"steps": 300, "checkpoint_every": 15, "heldout_every": 50},
            "measurement": {"per_decade": 6, "width": 4, "late_measurements": 10},
        },
    },
}


def tell(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def say(progress: Progress) -> None:
    tell(asdict(progress))


def folders_of(out: Path) -> list[Path]:
    return write_plan(out, registry.find("scaling").plan(SETTINGS))


def run_in_workers(out: Path) -> None:
    with sole_owner(out):
        local.run_all(folders_of(out), workers=2, on_progress=say)


def run_here(out: Path) -> None:
    with sole_owner(out):
        inline.run_all(folders_of(out), on_progress=say)


def serve() -> None:
    import transformers.models.llama.modeling_llama  # noqa: F401

    import spectral_reach.studies.training.loop  # noqa: F401

    # readline and not a loop over lines: a copy of this process must not inherit lines that are read but not served.
    while line := sys.stdin.readline():
        process = os.fork()
        if not process:
            run_here(Path(line.strip()))
            os._exit(0)
        tell({"began": process})
        tell({"ended": os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])})


if __name__ == "__main__":
    if sys.argv[1:]:
        run_in_workers(Path(sys.argv[1]))
    else:
        serve()
