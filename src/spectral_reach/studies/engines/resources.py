"""What this machine has for runs, and what the process of a run is told of it."""

from __future__ import annotations

import os

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_OF_HUGGING_FACE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once(threads: int) -> int:
    """How many runs of ``threads`` threads have a core for each of them; one, if a single run has more than there are.

    Threads are part of what a run is (its sums depend on them), so it is the number of runs that gives way.
    """
    return max(1, available_cores() // threads)


def environment_of_run(threads: int) -> dict[str, str]:
    """Variables of the process of a run, set before it begins.

    Threads are part of a run's configuration; nothing comes from the network; no bars in the log.
    """
    return {**_OF_HUGGING_FACE, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
