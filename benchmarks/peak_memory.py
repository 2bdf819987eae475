"""Peak memory of one piece of work, in a process of its own: what it needs beyond the model and the batch.

    peak = (largest resident memory while it runs) - (resident memory before)

The model, the batch, for a training step AdamW's averages, and one forward and backward pass over a single sequence
(threads, libraries) come before. Memory that was freed until then is given back to the system first, where it can be.

On Linux the largest resident memory is ``VmHWM`` after a reset (``/proc/self/clear_refs``). Its relative
``resource.getrusage(RUSAGE_SELF).ru_maxrss`` cannot be reset, counts what loading data took, and in a new process
starts at the size of the process that launched it; it is used elsewhere, where it gives a lower bound.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import tracked_step
from torch import nn
from ways import EXACT, all_ways
from workload import PRESETS, TRAINING_STEP, Batch, Workload, step_in_place

_RESET_PEAK = Path("/proc/self/clear_refs")


def peaks_bytes(preset: str, names: Sequence[str]) -> dict[str, int]:
    """Of the ways ``names``, or of a training step without or with a measurement in it.

    In a new process for each (or for all: ``Preset.process_each``).
    """
    groups = [[name] for name in names] if PRESETS[preset].process_each else [list(names)]
    peaks: dict[str, int] = {}
    for group in groups:
        command = [sys.executable, __file__, "--preset", preset, "--threads", str(torch.get_num_threads()), *group]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{', '.join(group)} failed in a process of its own:\n{done.stderr}")
        peaks.update(json.loads(done.stdout))
    return peaks


def _work(workload: Workload, name: str, model: nn.Module, batch: Batch) -> Callable[[], object]:
    if name == TRAINING_STEP:
        return step_in_place(model, batch)
    if name.startswith(tracked_step.PREFIX):
        step = tracked_step.work(model, batch, name)
        return lambda: step(0)
    (way,) = (way for way in [*all_ways(workload.units), EXACT] if way.name == name)
    # What the way keeps from its preparation is part of what it needs.
    return lambda: way.prepare(model, batch)(0)


def _measure(workload: Workload, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    model, batch = workload.build()
    model(batch[0][:1]).logits.sum().backward()
    model.zero_grad(set_to_none=True)
    for name in names:
        work = _work(workload, name, copy.deepcopy(model) if len(names) > 1 else model, batch)
        give_back()
        before = resident(reset=True)
        work()
        yield name, resident(reset=False) - before


def give_back() -> None:
    """Give freed memory back to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident(*, reset: bool) -> int:
    """Bytes: the peak so far; with ``reset`` what is resident now, where the peak starts again."""
    if _RESET_PEAK.exists():
        if reset:
            _RESET_PEAK.write_text("5")
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=sorted(PRESETS), required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("work", nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(json.dumps(dict(_measure(PRESETS[arguments.preset].workload, arguments.work))))


if __name__ == "__main__":
    _main()
