"""The convergence study: how the estimators of chi_net converge on trained Llamas, as in Figure 6 of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from spectral_reach.studies.analysis.convergence_report import FULL_CONTEXT, report
from spectral_reach.studies.config import as_mapping, check, check_types, check_whole_numbers, from_preset
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.registry import Study, register
from spectral_reach.studies.tasks.task import Task
from spectral_reach.studies.tasks.trace_draws import ONE_FOR_ALL, TraceDraws
from spectral_reach.studies.text_family import FAMILY, text_family
from spectral_reach.studies.training.run_config import RunConfig

DEFAULT_PRESET = "quick"

_NAME = "convergence"


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvergenceConfig:
    """The whole study: Llamas of some widths, and draws on snapshots of each, all on one batch.

    Attributes:
        preset: the ready-made configuration that this is, or that was changed to get it.
        vocabulary: of the text.
        context: tokens of a sequence.
        widths: of the models; draws of the largest one, when it is trained, are looked at closely.
        steps: updates of each.
        batch_size: sequences of an update.
        learning_rate: at a width of 64, as in the scaling study.
        snapshots: steps at which the variation of one draw is measured, the last one among them.
        sequences: that all draws are made on.
        averaged: the longest average of draws, a multiple of several numbers.
        repetitions: disjoint ones of it: averaged x repetitions draws altogether.
        compared: repetitions' worth of draws of our estimators, for averages of ``compared`` draws at most.
        side_draws: draws at every other snapshot and size.
        some_units: units of the estimator that measures a few only.
        draws_per_task: an interruption costs at most so many.
        seed: of weights, data order and draws.
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
    averaged: int
    repetitions: int
    compared: int
    side_draws: int
    some_units: int
    draws_per_task: int
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("widths", "snapshots"):
            check_whole_numbers(self, name)
        check(self, "widths", len(self.widths) > 0, "at least one width")
        check(self, "snapshots", self.steps in self.snapshots, f"the last step, {self.steps}, among them")
        for name in ("averaged", "repetitions", "compared", "side_draws"):
            check(self, name, getattr(self, name) >= 2, "at least 2")
        check(self, "compared", self.compared <= self.averaged, f"at most averaged, {self.averaged}")
        check(self, "some_units", 1 <= self.some_units <= self.sequences, f"1 to {self.sequences}, the sequences")
        check(self, "draws_per_task", self.draws_per_task >= 1, "at least 1")
        check(self, "seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        check(self, "threads", self.threads >= 1, "at least 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConvergenceConfig:
        """A preset with some settings changed: ``{"preset": "quick", "averaged": 48}``.

        Raises:
            ValueError: a preset or setting is unknown, missing or impossible; the message names it.
            SettingTypeError: a setting is of the wrong type.
        """
        return from_preset(PRESETS, values, default=DEFAULT_PRESET, study=_NAME)

    def plan(self) -> StudyPlan:
        """A run a width, then every row of draws, the main one first.

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
        largest, compared = runs[-1], self.compared * self.repetitions
        yield from self._row(largest, self.steps, "batch", self.averaged * self.repetitions)
        yield from self._row(largest, self.steps, ONE_FOR_ALL, compared)
        yield from self._row(largest, self.steps, "per_unit", compared)
        yield from self._row(largest, self.steps, "per_unit", compared, units=self.some_units)
        for run in runs:
            for step in sorted(self.snapshots):
                if (run, step) != (largest, self.steps):
                    yield from self._row(run, step, "batch", self.side_draws)

    def _row(self, run: RunConfig, step: int, way: str, draws: int, units: int = 0) -> Iterator[Task]:
        of_units = f"-{units}-units" if units else ""
        for first in range(0, draws, self.draws_per_task):
            settings = TraceDraws(
                run=run.name,
                step=step,
                way=way,
                units=units,
                sequences=self.sequences,
                first=first,
                draws=min(self.draws_per_task, draws - first),
                seed=self.seed,
                tokens=self.context,
                parameters=run.model.parameters,
            )
            yield Task(name=f"{run.name}-step-{step:06d}-{way}{of_units}-from-{first:06d}", settings=settings)


def quick() -> ConvergenceConfig:
    """Minutes: a Llama of 7.5M parameters and short sequences, averages of up to 32 draws, 40 times."""
    return ConvergenceConfig(
        preset="quick",
        vocabulary=4096,
        context=32,
        widths=(64, 128, 240),
        steps=100,
        batch_size=32,
        learning_rate=0.004,
        snapshots=(0, 10, 30, 100),
        sequences=32,
        averaged=32,
        repetitions=40,
        compared=8,
        side_draws=40,
        some_units=4,
        draws_per_task=60,
    )


def toy() -> ConvergenceConfig:
    """Seconds: the whole machinery at sizes that show little, for tests and CI."""
    return replace(
        quick(),
        preset="toy",
        vocabulary=384,
        context=16,
        widths=(16, 32),
        steps=8,
        batch_size=8,
        snapshots=(0, 8),
        sequences=8,
        averaged=8,
        repetitions=5,
        compared=4,
        side_draws=30,
        some_units=2,
        draws_per_task=30,
    )


def laptop() -> ConvergenceConfig:
    """Expected to take an hour on two cores: averages of up to 100 draws, 30 times, on sequences of 64 tokens."""
    return replace(
        quick(),
        preset="laptop",
        context=64,
        steps=300,
        snapshots=(0, 10, 100, 300),
        averaged=100,
        repetitions=30,
        compared=16,
        side_draws=100,
        draws_per_task=100,
    )


def paper() -> ConvergenceConfig:
    """A day and a half on two cores: averages of up to 2,000 draws, 50 times, on sequences of 128 tokens."""
    return replace(
        quick(),
        preset="paper",
        context=FULL_CONTEXT,
        steps=1000,
        snapshots=(0, 10, 100, 1000),
        averaged=2000,
        repetitions=50,
        compared=40,
        side_draws=400,
        draws_per_task=100,
    )


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register(
    Study(
        name=_NAME,
        description="How Hutchinson's estimator of the network component, and ours, converge on trained Llamas.",
        presets={name: (preset.__doc__ or "").strip() for name, preset in PRESETS.items()},
        default_preset=DEFAULT_PRESET,
        plan=lambda settings: ConvergenceConfig.from_dict(settings).plan(),
        outline=lambda settings: ConvergenceConfig.from_dict(settings).plan(),
        report=report,
    )
)
