"""Runs a list of run folders as the command does; what the tests interrupt and kill.

Prints a line of JSON for each progress, after one with the process's own id.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from spectral_reach.studies.engines.local import run_all
from spectral_reach.studies.training.progress import Progress


def say(progress: Progress) -> None:
    print(json.dumps(asdict(progress)), flush=True)


if __name__ == "__main__":
    print(json.dumps({"pid": os.getpid()}), flush=True)
    try:
        run_all([Path(path) for path in sys.argv[2:]], workers=int(sys.argv[1]), on_progress=say)
    except KeyboardInterrupt:
        sys.exit(130)
