"""A whole study in a process: planned, written and run as the command does it, a line of JSON for each progress."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from spectral_reach.studies import registry
from spectral_reach.studies.engines.local import run_all
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


def say(progress: Progress) -> None:
    print(json.dumps(asdict(progress)), flush=True)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with sole_owner(out):
        plan = registry.find("scaling").plan(SETTINGS)
        run_all(write_plan(out, plan), workers=2, on_progress=say)
