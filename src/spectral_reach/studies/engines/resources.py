"""What this machine has for runs, and what the process of a run is told of it."""

from __future__ import annotations

import os
from itertools import islice

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
_OF_HUGGING_FACE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once(threads: int) -> int:
    """How many runs of ``threads`` threads have a core for each of them; one, if a single run has more than there are.

    Threads are part of what a run is (its sums depend on them), so it is the number of runs that gives way.
    """
    return max(1, available_cores() // threads)


def cuda_devices() -> tuple[str, ...]:
    """The CUDA devices that torch sees from this process, each as ``CUDA_VISIBLE_DEVICES`` calls it.

    Nothing is left on a device by asking.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get(_VISIBLE_DEVICES)
    names = map(str, range(count)) if named is None else (name.strip() for name in named.split(","))
    # torch counts the names up to the first that is no device.
    return tuple(islice(names, count))


def environment_of_run(threads: int, device: str | None = None) -> dict[str, str]:
    """Variables of the process of a run, set before it begins.

    Threads are part of a run's configuration; nothing comes from the network; no bars in the log. ``device``: the only
    one that it sees, of ``cuda_devices``, or ``""`` to see none; None: those that its parent sees.
    """
    visible = {} if device is None else {_VISIBLE_DEVICES: device}
    return {**_OF_HUGGING_FACE, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), **visible}
