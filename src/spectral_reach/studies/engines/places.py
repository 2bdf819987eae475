"""Where runs find room on this machine: a CUDA device for each that may use one, cores for the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from spectral_reach.studies.engines import resources
from spectral_reach.studies.engines.planned_run import PlannedRun


class Places:
    """Room for some runs at a time.

    By default a run that may use CUDA has a device to itself, and as many of those that compute on the CPU are executed
    as have a core for each of their threads. Where torch sees no CUDA device, that is all of them. With ``workers``
    there is room for as many, whichever they are, and they are given the devices in turn: several on one device if
    there are fewer devices than workers.
    """

    def __init__(self, runs: Sequence[PlannedRun], workers: int | None) -> None:
        """``runs``: all that will ask for a place."""
        devices = resources.cuda_devices() if any(run.may_use_cuda for run in runs) else ()
        self._are_there_devices = bool(devices)
        of_devices = workers or len(devices)
        self._devices = deque(devices[i % len(devices)] for i in range(of_devices)) if devices else deque[str]()
        on_cores = [run.threads for run in runs if not self._needs_device(run)]
        self._cores = workers or resources.at_once(max(on_cores, default=1))
        self._left = workers or len(self._devices) + self._cores

    def has_room_for(self, run: PlannedRun) -> bool:
        """Whether ``run`` may begin now."""
        return self._left > 0 and bool(self._devices if self._needs_device(run) else self._cores)

    def take(self, run: PlannedRun) -> str | None:
        """Take the place for ``run``: the device that is its own until it is given back; None if it has cores."""
        self._left -= 1
        if self._needs_device(run):
            return self._devices.popleft()
        self._cores -= 1
        return None

    def give_back(self, device: str | None) -> None:
        """The run that had ``device``, or cores if it is None, has ended."""
        self._left += 1
        if device is None:
            self._cores += 1
        else:
            self._devices.append(device)

    def _needs_device(self, run: PlannedRun) -> bool:
        return self._are_there_devices and run.may_use_cuda
