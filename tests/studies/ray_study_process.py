"""Runs a list of run folders on Ray as the command does; what the tests interrupt and kill.

The first argument is the address of a cluster, or nothing for a Ray of its own. Prints a line of JSON for each
progress.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from spectral_reach.studies.engines.ray import run_all
from spectral_reach.studies.training.progress import Progress


def say(progress: Progress) -> None:
    print(json.dumps(asdict(progress)), flush=True)


if __name__ == "__main__":
    try:
        run_all([Path(path) for path in sys.argv[2:]], address=sys.argv[1] or None, on_progress=say)
    except KeyboardInterrupt:
        sys.exit(130)
