"""The loss-reduction study: where in the spectrum a training step lowers the loss, over the full output space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from spectral_reach.studies.analysis.loss_reduction_report import report
from spectral_reach.studies.config import as_mapping, check, check_types, check_whole_numbers, from_preset
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.registry import Study, register
from spectral_reach.studies.tasks.snapshot_spectrum import SnapshotSpectrum
from spectral_reach.studies.tasks.task import Task
from spectral_reach.studies.text_family import FAMILY, text_family
from spectral_reach.studies.training.run_config import RunConfig

DEFAULT_PRESET = "quick"

_NAME = "loss-reduction"


@dataclass(frozen=True, kw_only=True, slots=True)
class LossReductionConfig:
    """The whole study: Llamas of some widths, and Lanczos spectra on snapshots of each, all on the same sequences.

    Attributes:
        preset: the ready-made configuration that this is, or that was changed to get it.
        vocabulary: of the text.
        context: tokens of a sequence.
        widths: of the models.
        steps: updates of each.
        batch_size: sequences of an update.
        learning_rate: at a width of 64, as in the scaling study.
        snapshots: steps at which spectra are taken, the last one among them.
        sequences: of a batch that a spectrum is taken on.
        lanczos_steps: of every spectrum.
        density_vectors: random vectors for the density of all eigenvalues, at the last snapshot of the largest model.
        seed: of weights, data order and the choice of sequences.
        threads: of every run.
    """

    preset: str
    vocabulary: int
    context: int
    widths: tuple[int, ...]
    steps: int
    batch_size: int
    learning_rate: float
    snapshots: tuple[int, ...]
    sequences: int
    lanczos_steps: int
    density_vectors: int
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("widths", "snapshots"):
            check_whole_numbers(self, name)
        check(self, "widths", len(self.widths) > 0, "at least one width")
        check(self, "snapshots", self.steps in self.snapshots, f"the last step, {self.steps}, among them")
        for name in ("sequences", "threads"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "lanczos_steps", self.lanczos_steps >= 2, "at least 2")
        check(self, "density_vectors", self.density_vectors >= 2, "at least 2, for an error")
        check(self, "seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LossReductionConfig:
        """A preset with some settings changed: ``{"preset": "quick", "lanczos_steps": 128}``.

        Raises:
            ValueError: a preset or setting is unknown, missing or impossible; the message names it.
            SettingTypeError: a setting is of the wrong type.
        """
        return from_preset(PRESETS, values, default=DEFAULT_PRESET, study=_NAME)

    def plan(self) -> StudyPlan:
        """A run a width, then a spectrum of every snapshot.

        Raises:
            ValueError: data, model and batches do not fit each other.
            RecordError: the cache of the data cannot be written.
        """
        family = text_family(
            vocabulary=self.vocabulary,
            context=self.context,
            widths=self.widths,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            snapshots=self.snapshots,
        )
        data = family.data.load()
        families = family.plan(FAMILY, data, seeds=(self.seed,), threads=self.threads)
        runs = families[FAMILY].runs
        return StudyPlan(
            study=_NAME,
            preset=self.preset,
            settings=as_mapping(self),
            families=families,
            tasks=tuple(self._tasks(runs)),
        )

    def _tasks(self, runs: tuple[RunConfig, ...]) -> Iterator[Task]:
        for run in runs:
            for step in sorted(self.snapshots):
                is_last = (run, step) == (runs[-1], self.steps)
                settings = SnapshotSpectrum(
                    run=run.name,
                    step=step,
                    method="lanczos",
                    sequences=self.sequences,
                    batch=0,
                    classes=0,
                    steps=self.lanczos_steps,
                    tolerance=0.0,
                    density_vectors=self.density_vectors if is_last else 0,
                    probes=4,
                    seed=self.seed,
                    tokens=self.context,
                    parameters=run.model.parameters,
                )
                yield Task(name=f"{run.name}-step-{step:06d}", settings=settings)


def quick() -> LossReductionConfig:
    """Minutes: Llamas of 0.3M to 1.8M parameters, eight snapshots each, 64 Lanczos steps over 2.1 million outputs."""
    return LossReductionConfig(
        preset="quick",
        vocabulary=4096,
        context=64,
        widths=(32, 64, 128),
        steps=300,
        batch_size=32,
        learning_rate=0.004,
        snapshots=(0, 3, 8, 20, 50, 100, 200, 300),
        sequences=8,
        lanczos_steps=64,
        density_vectors=2,
    )


def toy() -> LossReductionConfig:
    """Seconds: Llamas of some ten thousand parameters, for tests and CI."""
    return replace(
        quick(),
        preset="toy",
        vocabulary=384,
        context=16,
        widths=(16, 32),
        steps=12,
        batch_size=8,
        snapshots=(0, 4, 12),
        sequences=4,
        lanczos_steps=12,
    )


def laptop() -> LossReductionConfig:
    """Expected to take an hour on two cores: Llamas of 0.3M to 3.7M parameters, 128 tokens, 96 Lanczos steps."""
    return replace(
        quick(),
        preset="laptop",
        context=128,
        widths=(32, 64, 96, 128, 176),
        steps=1000,
        snapshots=(0, 3, 10, 30, 100, 300, 1000),
        sequences=16,
        lanczos_steps=96,
    )


def paper() -> LossReductionConfig:
    """Some days on two cores, hours on a GPU: Llamas of 0.7M to 7.5M parameters, 128 tokens, 128 Lanczos steps."""
    return replace(
        quick(),
        preset="paper",
        context=128,
        widths=(64, 96, 128, 192, 240),
        steps=3000,
        snapshots=(0, 3, 10, 30, 100, 300, 1000, 2000, 3000),
        sequences=32,
        lanczos_steps=128,
        density_vectors=4,
    )


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register(
    Study(
        name=_NAME,
        description="Where in the spectrum of the empirical kernel a step lowers the loss, along training and by size.",
        presets={name: (preset.__doc__ or "").strip() for name, preset in PRESETS.items()},
        default_preset=DEFAULT_PRESET,
        plan=lambda settings: LossReductionConfig.from_dict(settings).plan(),
        outline=lambda settings: LossReductionConfig.from_dict(settings).plan(),
        report=report,
    )
)
