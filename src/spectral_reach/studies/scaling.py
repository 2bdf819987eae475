"""The scaling study: the same training at many sizes, on text and on images, as in Figure 1 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from spectral_reach.studies.analysis import scaling_report
from spectral_reach.studies.config import (
    SettingTypeError,
    as_mapping,
    check,
    check_types,
    check_whole_numbers,
    from_mapping,
    overridden,
)
from spectral_reach.studies.data import TokenData
from spectral_reach.studies.models.llama import llama
from spectral_reach.studies.plan import FamilyPlan, StudyPlan
from spectral_reach.studies.registry import Study, register
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig
from spectral_reach.studies.training.run_config import DataConfig, RunConfig, check_data, facts_of, read_parts

DEFAULT_PRESET = "demo"
REFERENCE_WIDTH = 64

_NAME = "scaling"


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyConfig:
    """One family: a data set, and Llamas of several widths that learn it.

    Attributes:
        data: the data set.
        widths: of the residual streams, in any order; ``llama`` derives depth, heads and MLP.
        training: of every size; its ``learning_rate`` is for a width of 64, see ``learning_rate``.
        measurement: of every size.
    """

    data: DataConfig
    widths: tuple[int, ...]
    training: TrainingConfig
    measurement: MeasurementConfig

    def __post_init__(self) -> None:
        check_whole_numbers(self, "widths")
        check(self, "widths", len(self.widths) > 0, "at least one width")
        check(self, "widths", len(set(self.widths)) == len(self.widths), "different widths")

    def learning_rate(self, width: int) -> float:
        """Peak rate at ``width``: in proportion to 1 / width, what Adam wants of matrices with more inputs."""
        return self.training.learning_rate * REFERENCE_WIDTH / width

    def run(self, family: str, width: int, data: TokenData, *, seed: int, threads: int) -> RunConfig:
        """The run of one size, named after its parameters."""
        model = llama(width, vocabulary=data.vocabulary, context=data.context)
        run = RunConfig(
            name=f"{family}-{round(model.parameters / 1000):03d}k",
            family=family,
            data=self.data,
            model=model,
            training=replace(self.training, learning_rate=self.learning_rate(width), seed=seed),
            measurement=self.measurement,
            threads=threads,
            facts=facts_of(data, model),
        )
        check_data(run, data)
        return run


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingConfig:
    """The whole study.

    Attributes:
        preset: the ready-made configuration that this is, or that was changed to get it.
        families: by name; the names appear in folders and on figures.
        seed: of weights, data order and probes, in every run.
        threads: of every run; equal numbers need equal threads.
    """

    preset: str
    families: Mapping[str, FamilyConfig]
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "families", len(self.families) > 0, "at least one family")
        check(self, "seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        check(self, "threads", self.threads >= 1, "at least 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScalingConfig:
        """A preset with some settings changed: ``{"preset": "demo", "families": {"text": {"widths": [16, 32]}}}``.

        A family set to None is left out.

        Raises:
            ValueError: a preset or setting is unknown, missing or impossible; the message names it.
            SettingTypeError: a setting is of the wrong type.
        """
        preset = values.get("preset", DEFAULT_PRESET)
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ValueError(
                f"Unknown preset {preset!r} of the scaling study; the known ones are {', '.join(PRESETS)}."
            )
        settings = overridden(PRESETS[preset]().as_dict(), values)
        chosen = settings["families"]
        if not isinstance(chosen, Mapping):
            raise SettingTypeError(f"families of the scaling study is {chosen!r}; expected families by name.")
        settings["families"] = {
            name: _family(family, f"The family {name!r} of the scaling study")
            for name, family in chosen.items()
            if family is not None
        }
        return from_mapping(cls, settings, "The scaling study")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` reads them back."""
        families = {
            name: {
                "data": family.data.as_dict(),
                "widths": list(family.widths),
                "training": as_mapping(family.training),
                "measurement": as_mapping(family.measurement),
            }
            for name, family in self.families.items()
        }
        return {"preset": self.preset, "families": families, "seed": self.seed, "threads": self.threads}

    def plan(self) -> StudyPlan:
        """Every run, worked out: loads the data once, and so builds their cache before any worker needs it.

        Raises:
            ValueError: data, model and batches do not fit each other.
            RecordError: the cache cannot be written.
        """
        families = {}
        for name, family in self.families.items():
            data = family.data.load()
            runs = [
                family.run(name, width, data, seed=self.seed, threads=self.threads) for width in sorted(family.widths)
            ]
            families[name] = FamilyPlan(label=data.label, runs=tuple(runs))
        return StudyPlan(study=_NAME, preset=self.preset, settings=self.as_dict(), families=families)


def _family(settings: Mapping[str, Any], where: str) -> FamilyConfig:
    return from_mapping(FamilyConfig, read_parts(settings, where), where)


def demo() -> ScalingConfig:
    """Both families in a few minutes on two cores: five sizes of text (57 x), four of pixels (85 x)."""
    training = TrainingConfig(
        steps=600,
        batch_size=32,
        learning_rate=0.004,
        warmup_steps=30,
        schedule="constant",
        heldout_every=50,
        heldout_sequences=256,
        checkpoint_every=100,
    )
    text = FamilyConfig(
        data=DataConfig(name="stdlib", options={"vocabulary": 384, "context": 64}),
        widths=(16, 32, 64, 96, 128),
        training=training,
        measurement=MeasurementConfig(units=32, late_measurements=12, late_units=32),
    )
    pixels = FamilyConfig(
        data=DataConfig(name="digits"),
        widths=(16, 32, 64, 96),
        # There are 1,500 images only: the largest model begins to learn them by heart.
        training=replace(training, steps=400, batch_size=64, learning_rate=0.002),
        measurement=MeasurementConfig(units=64, late_measurements=12, late_units=64),
    )
    return ScalingConfig(preset="demo", families={"text": text, "pixels": pixels})


def toy() -> ScalingConfig:
    """Seconds: the whole machinery at sizes that show nothing, for tests and CI."""
    config = demo()
    training = TrainingConfig(
        steps=30,
        batch_size=8,
        learning_rate=0.004,
        warmup_steps=3,
        schedule="constant",
        heldout_every=10,
        heldout_sequences=16,
        checkpoint_every=8,
    )
    measurement = MeasurementConfig(per_decade=2, width=2, units=8, late_measurements=3, late_units=16)
    widths = {"text": (16, 32), "pixels": (16, 32)}
    families = {
        name: replace(family, widths=widths[name], training=training, measurement=measurement)
        for name, family in config.families.items()
    }
    return ScalingConfig(preset="toy", families=families)


PRESETS = {"demo": demo, "toy": toy}

register(
    Study(
        name=_NAME,
        description="Loss and spectral position against compute, for sizes of one architecture on text and on images.",
        presets={name: (preset.__doc__ or "").strip() for name, preset in PRESETS.items()},
        default_preset=DEFAULT_PRESET,
        plan=lambda settings: ScalingConfig.from_dict(settings).plan(),
        report=scaling_report.report,
    )
)
