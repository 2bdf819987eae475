"""Runs as workers of Ray: on a cluster, or on an instance of this machine that is started for them.

Each run is an actor that executes it on the run's own folder, so every node has to see the folders, the caches of data
and the directory that the study was started in under the same paths, and have this package installed. What Ray carries
is paths, progress and reasons; the results are in the folders, the same as those of the local engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from spectral_reach.studies.engines.planned_run import PlannedRun
from spectral_reach.studies.engines.queue import RunQueue
from spectral_reach.studies.engines.ray_connection import connected, require_ray
from spectral_reach.studies.engines.ray_run import RemoteRun
from spectral_reach.studies.training.progress import OnProgress, ignore

RETRIES = 3

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_CHECKPOINT = 30.0


def run_all(
    runs: Sequence[Path],
    *,
    workers: int | None = None,
    address: str | None = None,
    cpus_per_run: float | None = None,
    gpus_per_run: float | None = None,
    retries: int = RETRIES,
    on_progress: OnProgress = ignore,
) -> None:
    """Bring every run folder to its end on Ray, the most compute first of those that can begin.

    Finished runs are skipped, others go on from their checkpoint; a run begins when all that it needs are finished. A
    run that loses its worker (killed, out of memory, its node gone) goes on from its checkpoint on another. On Ctrl-C
    the workers are asked to write a checkpoint; once they have, KeyboardInterrupt is raised.

    Args:
        runs: the run folders.
        workers: how many at a time; default: as many as the cluster has room for.
        address: of the cluster, ``auto`` for the one of this machine; default: what ``RAY_ADDRESS`` says, else a Ray
            of this machine's cores that is started for these runs and goes with them. A process that is connected to
            Ray already stays with that.
        cpus_per_run: cores that a run takes; default: its threads.
        gpus_per_run: GPUs that a run takes if it may use one; below 1, several runs share one; 0: all compute on the
            CPU. Default: 1 if the cluster has any.
        retries: how often in a row a run may lose its worker without a new checkpoint in between and go on.
        on_progress: told how far each run is, about twice a second.

    Raises:
        RunsFailedError: some runs failed, with the end of each one's log, or need one that did; the others have
            finished. A ``FoldersRefusedError`` if all that failed is reading or writing their folders.
        RecordError: a folder cannot be read.
        ValueError: an argument is impossible, a run needs one that is neither here nor finished, no cluster answers at
            ``address``, or a run that says ``cuda`` would be given no GPU.
        ModuleNotFoundError: Ray is not installed.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1 run at a time.")
    require_ray()
    queue = RunQueue(runs, on_progress)
    cpus = {run.folder: float(cpus_per_run or run.threads) for run in queue.waiting}
    if queue.waiting:
        wanted = gpus_per_run if any(run.may_use_cuda for run in queue.waiting) else 0.0
        if wanted == 0:
            _refuse_cuda(queue.waiting, "--gpus-per-run is 0")
        with connected(address, cpus=max(cpus.values()), gpus=wanted) as gpus:
            if gpus == 0:
                _refuse_cuda(queue.waiting, "the Ray cluster has none now, and --gpus-per-run is not given")
            _execute(queue, workers, cpus, gpus, retries, on_progress)
    queue.raise_failures()


def _refuse_cuda(runs: Sequence[PlannedRun], because: str) -> None:
    """Before anything starts: without a GPU, a run that says ``cuda`` would fail in its worker."""
    for run in runs:
        if run.device == "cuda":
            raise ValueError(
                f"Run {run.name!r} has the device 'cuda', and Ray would give it no GPU: {because}; expected a share of "
                "one. Give --gpus-per-run 1 and a cluster with GPUs, or plan the runs with the device auto or cpu."
            )


def _execute(
    queue: RunQueue,
    workers: int | None,
    cpus: Mapping[Path, float],
    gpus: float,
    retries: int,
    on_progress: OnProgress,
) -> None:
    import ray

    running: list[RemoteRun] = []
    try:
        while queue.waiting or running:
            while (workers is None or len(running) < workers) and (run := queue.take()) is not None:
                running.append(RemoteRun(run, cpus[run.folder], gpus if run.may_use_cuda else 0.0, retries))
            ray.wait([each.outcome for each in running], timeout=_SECONDS_BETWEEN_LOOKS)
            for each in tuple(running):
                each.forward(on_progress)
                outcome = each.end()
                if outcome is None:
                    continue
                running.remove(each)
                if outcome.failure is None:
                    on_progress(replace(each.latest, phase="finished", step=each.run.steps))
                    queue.finish(each.run)
                else:
                    on_progress(replace(each.latest, phase="failed"))
                    queue.fail(each.run, outcome.failure, refused=outcome.refused)
    except BaseException:
        _stop(running)
        raise


def _stop(running: Sequence[RemoteRun]) -> None:
    import ray

    for each in running:
        each.ask_to_stop()
    if running:
        outcomes = [each.outcome for each in running]
        ray.wait(outcomes, num_returns=len(outcomes), timeout=_SECONDS_TO_CHECKPOINT)
    for each in running:
        each.kill()
