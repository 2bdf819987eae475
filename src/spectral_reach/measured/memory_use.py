"""How much memory is in use where a model computes: of its GPU, or of this process."""

from __future__ import annotations

import sys
from pathlib import Path

import torch


def memory_in_use(device: torch.device) -> int:
    """Bytes: of a GPU what torch has allocated there; else what of this process is in memory."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return _resident()


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return _most_resident()
    import resource

    return pages * resource.getpagesize()


def _most_resident() -> int:
    """Where the present amount cannot be had (macOS): the most so far, which is no less."""
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
