"""Who executes the runs of a study and with what, as a user says it on the command line."""

from __future__ import annotations

from dataclasses import dataclass

from spectral_reach.studies.engines import resources
from spectral_reach.studies.engines.resources import at_once, available_cores

LOCAL, INLINE, RAY = "local", "inline", "ray"
ENGINES = (LOCAL, INLINE, RAY)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """An engine and what it is told.

    Attributes:
        engine: ``local``, processes of this machine, ``inline``, this process itself, or ``ray``, workers of Ray.
        workers: runs at a time; None: one on each CUDA device, on the CPU as many as have a core for each of their
            threads, on Ray as many as it has room for.
        address: of a Ray cluster; None: a Ray of this machine's cores, unless ``RAY_ADDRESS`` is set.
        cpus_per_run: cores that Ray counts for a run; None: its threads.
        gpus_per_run: GPUs that Ray gives a run that may use one; None: 1 if the cluster has any.

    Raises:
        ValueError: the engine is unknown, or a value is impossible or not for this engine.
    """

    engine: str = LOCAL
    workers: int | None = None
    address: str | None = None
    cpus_per_run: float | None = None
    gpus_per_run: float | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"engine is {self.engine!r}; expected {' or '.join(ENGINES)}.")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers is {self.workers}; expected at least 1 run at a time.")
        if self.workers not in (None, 1) and self.engine == INLINE:
            raise ValueError(
                f"workers is {self.workers} with the engine 'inline'; expected 1: it executes one run after another. "
                "Leave --workers out, or choose --engine local."
            )
        of_ray = {"address": self.address, "cpus-per-run": self.cpus_per_run, "gpus-per-run": self.gpus_per_run}
        for name, value in of_ray.items():
            if value is not None and self.engine != RAY:
                raise ValueError(
                    f"--{name} is {value} with the engine {self.engine!r}; expected it with Ray only: add --engine ray "
                    f"or leave --{name} out."
                )
        if self.cpus_per_run is not None and not self.cpus_per_run > 0:
            raise ValueError(f"cpus-per-run is {self.cpus_per_run:g}; expected more than 0 cores.")
        gpus = self.gpus_per_run or 0.0
        if gpus < 0 or (gpus > 1 and not float(gpus).is_integer()):
            raise ValueError(f"gpus-per-run is {gpus:g}; expected a share of one GPU, or a whole number of them.")

    @property
    def task_threads(self) -> int:
        """Threads of the tasks, which are done in this process whoever executes the runs."""
        return self.workers if self.workers is not None and self.engine == LOCAL else available_cores()

    def cuda_devices(self) -> int:
        """How many CUDA devices of this machine are shared out among the runs; the local engine alone does that."""
        return len(resources.cuda_devices()) if self.engine == LOCAL else 0

    def at_once(self, threads: int, devices: int = 0) -> int | None:
        """How many runs of ``threads`` threads are executed at a time; None if that is for a cluster to say.

        ``devices``: CUDA devices that they are executed on; 0 if on the CPU.
        """
        if self.engine == INLINE:
            return 1
        if self.workers is not None:
            return self.workers
        if self.engine == LOCAL:
            return devices or at_once(threads)
        return None
