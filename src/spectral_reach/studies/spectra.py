"""The spectra study: every mode of a Llama's empirical kernel before and after training, as in Figure 12."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from spectral_reach.studies.analysis.spectra_report import report
from spectral_reach.studies.config import as_mapping, check, check_types, from_preset
from spectral_reach.studies.data.batches import measurement_batch
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.registry import Study, register
from spectral_reach.studies.tasks.snapshot_spectrum import SnapshotSpectrum, most_frequent
from spectral_reach.studies.tasks.task import Task
from spectral_reach.studies.text_family import FAMILY, text_family
from spectral_reach.studies.training.run_config import RunConfig

DEFAULT_PRESET = "quick"

_NAME = "spectra"


@dataclass(frozen=True, kw_only=True, slots=True)
class SpectraConfig:
    """The whole study: one Llama, and explicit spectra at its first and its last step, on the same sequences.

    Attributes:
        preset: the ready-made configuration that this is, or that was changed to get it.
        vocabulary: of the text.
        context: tokens of a sequence.
        width: of the model.
        steps: updates.
        batch_size: sequences of an update.
        learning_rate: at a width of 64, as in the scaling study.
        sequences: each is a batch of its own with a spectrum of its own.
        classes: outputs of each position: the most frequent next tokens of the sequence, as many.
        seed: of weights, data order and the choice of sequences.
        threads: of the run.
    """

    preset: str
    vocabulary: int
    context: int
    width: int
    steps: int
    batch_size: int
    learning_rate: float
    sequences: int
    classes: int
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("steps", "sequences", "classes", "threads"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "classes", self.classes <= self.context, "no more than the tokens of a sequence")
        check(self, "seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SpectraConfig:
        """A preset with some settings changed: ``{"preset": "quick", "classes": 8}``.

        Raises:
            ValueError: a preset or setting is unknown, missing or impossible; the message names it.
            SettingTypeError: a setting is of the wrong type.
        """
        return from_preset(PRESETS, values, default=DEFAULT_PRESET, study=_NAME)

    def plan(self) -> StudyPlan:
        """One run, then a spectrum of every sequence at its start and its end.

        Raises:
            ValueError: data, model and batches do not fit each other.
            RecordError: the cache of the data cannot be written.
        """
        family = text_family(
            vocabulary=self.vocabulary,
            context=self.context,
            widths=(self.width,),
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            snapshots=(0, self.steps),
        )
        data = family.data.load()
        for batch in range(self.sequences):
            # Before anything is trained: a sequence may have fewer different tokens.
            most_frequent(measurement_batch(data, batch, seed=self.seed, units=1)[1], self.classes)
        families = family.plan(FAMILY, data, seeds=(self.seed,), threads=self.threads)
        (run,) = families[FAMILY].runs
        return StudyPlan(
            study=_NAME,
            preset=self.preset,
            settings=as_mapping(self),
            families=families,
            tasks=tuple(self._tasks(run)),
        )

    def _tasks(self, run: RunConfig) -> Iterator[Task]:
        for batch in range(self.sequences):
            for step in (0, self.steps):
                settings = SnapshotSpectrum(
                    run=run.name,
                    step=step,
                    method="explicit",
                    sequences=1,
                    batch=batch,
                    classes=self.classes,
                    steps=1,
                    tolerance=0.0,
                    density_vectors=0,
                    probes=1,
                    seed=self.seed,
                    tokens=self.context,
                    parameters=run.model.parameters,
                )
                yield Task(name=f"{run.name}-step-{step:06d}-sequence-{batch:02d}", settings=settings)


def quick() -> SpectraConfig:
    """Minutes: a Llama of 2.9M parameters, three sequences of 64 tokens, 16 outputs a position: 1,024 modes each."""
    return SpectraConfig(
        preset="quick",
        vocabulary=4096,
        context=64,
        width=160,
        steps=300,
        batch_size=32,
        learning_rate=0.004,
        sequences=3,
        classes=16,
    )


def toy() -> SpectraConfig:
    """Seconds: a Llama of some ten thousand parameters, for tests and CI."""
    return replace(
        quick(),
        preset="toy",
        vocabulary=384,
        context=16,
        width=16,
        steps=12,
        batch_size=8,
        sequences=2,
        classes=6,
    )


def laptop() -> SpectraConfig:
    """Expected to take an hour on two cores: a Llama of 4.2M parameters, three sequences of 128 tokens, 32 outputs."""
    return replace(quick(), preset="laptop", context=128, width=192, steps=1000, classes=32)


def paper() -> SpectraConfig:
    """A night on two cores: a Llama of 3.8M parameters, four sequences of 256 tokens, 40 outputs: 10,240 modes each."""
    return replace(
        quick(),
        preset="paper",
        context=256,
        width=192,
        steps=2000,
        sequences=4,
        classes=40,
    )


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register(
    Study(
        name=_NAME,
        description="Every mode of a Llama's empirical kernel, the loss gradient on them, before and after training.",
        presets={name: (preset.__doc__ or "").strip() for name, preset in PRESETS.items()},
        default_preset=DEFAULT_PRESET,
        plan=lambda settings: SpectraConfig.from_dict(settings).plan(),
        outline=lambda settings: SpectraConfig.from_dict(settings).plan(),
        report=report,
    )
)
