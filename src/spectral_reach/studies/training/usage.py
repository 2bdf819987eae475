"""What a run has cost: a record of every sitting, which no result depends on."""

from __future__ import annotations

import json
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from spectral_reach.records.atomic import write_json_atomically

FILE = "usage.json"


class Usage:
    """Writes ``usage.json``: a list with a record for each time that the run was taken up.

    A record has ``began`` (seconds since 1970), ``seconds`` of wall-clock time, ``from_step`` and ``to_step``,
    ``device``, ``threads``, ``peak_bytes`` of memory since then (of the process, or of the CUDA device; where
    the system cannot tell it from the peak of an earlier run in the process, or of its parent, the larger one), and
    the versions of ``python`` and ``torch``. It is written with every checkpoint, so that a killed sitting is on
    record up to there.
    """

    def __init__(self, run: Path, device: torch.device, threads: int, step: int) -> None:
        self._file = run / FILE
        self._sittings = read_usage(run)
        self._began = time.monotonic()
        self._device = device
        _forget_peak(device)
        self._record: dict[str, Any] = {
            "began": time.time(),
            "from_step": step,
            "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
            "threads": threads,
            "python": platform.python_version(),
            "torch": torch.__version__,
        }

    def write(self, step: int) -> None:
        """Put down that the run has come to ``step``."""
        seconds = time.monotonic() - self._began
        record = {**self._record, "to_step": step, "seconds": seconds, "peak_bytes": _peak_bytes(self._device)}
        write_json_atomically(self._file, [*self._sittings, record])


def read_usage(run: Path) -> list[dict[str, Any]]:
    """The sittings of a run folder; none if it has no record, or a damaged one: no result depends on it."""
    try:
        sittings = json.loads((run / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return sittings if isinstance(sittings, list) else []


def _forget_peak(device: torch.device) -> None:
    """A process that executes several runs counts the peak of each from its beginning, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # Linux alone has it, and some containers do not allow it
            Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, StopIteration):  # Linux alone has it
        # Not ru_maxrss, which begins with the peak of the parent and is never forgotten.
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
