"""What an engine knows of a run before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.training.progress import Phase, Progress
from spectral_reach.studies.training.run_config import RunConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A run folder, and what decides where and when it is executed.

    Attributes:
        folder: its path.
        name: the run's.
        needs: the folders beside it that have to be finished before it begins.
        steps: updates in all.
        flops: of all its training.
        threads: of every tensor operation.
        device: where it says that it computes: ``auto``, ``cpu`` or ``cuda``.
        is_finished: whether it has come to its end already.
    """

    folder: Path
    name: str
    needs: tuple[Path, ...]
    steps: int
    flops: int
    threads: int
    device: str
    is_finished: bool

    @classmethod
    def read(cls, path: Path) -> PlannedRun:
        """The run in the folder ``path``.

        Raises:
            RecordError: it is no run folder, or one that this version does not read.
            ValueError: its configuration is impossible.
        """
        run = RunFolder.open(path)
        config = RunConfig.from_dict(run.config)
        steps = config.training.steps
        return cls(
            folder=path,
            name=config.name,
            needs=tuple(path.parent / name for name in config.needs),
            steps=steps,
            flops=config.spent(steps)["flops"],
            threads=config.threads,
            device=config.training.device,
            is_finished=run.is_finished,
        )

    @property
    def may_use_cuda(self) -> bool:
        """Whether it computes on a CUDA device where it sees one."""
        return self.device != "cpu"

    def ended(self) -> Progress:
        """That it has made all its steps."""
        return Progress(run=self.name, step=self.steps, steps=self.steps, phase="finished")

    def progress(self, phase: Phase) -> Progress:
        """What is known of it without a word from whoever executes it."""
        return Progress(run=self.name, step=self.steps if self.is_finished else 0, steps=self.steps, phase=phase)
