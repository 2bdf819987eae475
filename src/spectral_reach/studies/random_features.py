"""The random-features study: the decomposition where theory knows the answer, as in Figure 3 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from spectral_reach.studies.analysis.random_features_report import report
from spectral_reach.studies.config import SettingTypeError, as_mapping, check, check_types, from_preset
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.registry import Study, register
from spectral_reach.studies.tasks import Task
from spectral_reach.studies.tasks.random_features import RandomFeatureDraws

DEFAULT_PRESET = "quick"
SEEDS_A_TASK = 5
"""An interruption costs at most so many draws."""

_NAME = "random-features"


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomFeaturesConfig:
    """The whole study: the same sizes at every exponent, seeds 0 to ``seeds`` - 1.

    Attributes:
        preset: the ready-made configuration that this is, or that was changed to get it.
        exponents: beta of the covariance eigenvalues k^-beta, each from 1 to 3.
        seeds: independent draws of inputs, features and teachers at each exponent.
        dimension, inputs, features, teachers, spectrum_inputs: as in ``RandomFeatureDraws``.
    """

    preset: str
    exponents: tuple[float, ...]
    seeds: int
    dimension: int
    inputs: int
    features: int
    teachers: int
    spectrum_inputs: int

    def __post_init__(self) -> None:
        check_types(self)
        numbers = isinstance(self.exponents, (list, tuple)) and all(type(e) in (int, float) for e in self.exponents)
        if not numbers:
            raise SettingTypeError(
                f"RandomFeaturesConfig.exponents is {self.exponents!r}; expected a list of numbers, as [1.0, 2.0]."
            )
        object.__setattr__(self, "exponents", tuple(float(exponent) for exponent in self.exponents))
        check(self, "exponents", len(self.exponents) > 0, "at least one exponent")
        check(self, "exponents", len(set(self.exponents)) == len(self.exponents), "different exponents")
        check(self, "seeds", self.seeds >= 1, "at least 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RandomFeaturesConfig:
        """A preset with some settings changed: ``{"preset": "quick", "seeds": 10}``.

        Raises:
            ValueError: a preset or setting is unknown, missing or impossible; the message names it.
            SettingTypeError: a setting is of the wrong type.
        """
        return from_preset(PRESETS, values, default=DEFAULT_PRESET, study=_NAME)

    def plan(self) -> StudyPlan:
        """A task for every few seeds of an exponent."""
        tasks = [
            self._task(exponent, first) for exponent in self.exponents for first in range(0, self.seeds, SEEDS_A_TASK)
        ]
        return StudyPlan(study=_NAME, preset=self.preset, settings=as_mapping(self), tasks=tuple(tasks))

    def _task(self, exponent: float, first: int) -> Task:
        seeds = min(SEEDS_A_TASK, self.seeds - first)
        draws = RandomFeatureDraws(
            exponent=exponent,
            dimension=self.dimension,
            inputs=self.inputs,
            features=self.features,
            teachers=self.teachers,
            spectrum_inputs=self.spectrum_inputs,
            first_seed=first,
            seeds=seeds,
        )
        return Task(name=f"exponent-{exponent:g}-seeds-{first:02d}-{first + seeds - 1:02d}", settings=draws)


def quick() -> RandomFeaturesConfig:
    """Five exponents, twenty seeds, 2,000 inputs and features: some minutes."""
    return RandomFeaturesConfig(
        preset="quick",
        exponents=(1.0, 1.5, 2.0, 2.5, 3.0),
        seeds=20,
        dimension=100,
        # chi_net's mean over 20 seeds has a standard error of 0.9% at beta = 3, chi_pos's one of 1.8% at beta = 1:
        # small enough for bounds of 2%, and of one standard error and 3%.
        inputs=2000,
        features=2000,
        teachers=96,
        spectrum_inputs=256,
    )


def toy() -> RandomFeaturesConfig:
    """Seconds: three exponents and three seeds of small draws, for tests and CI."""
    return RandomFeaturesConfig(
        preset="toy",
        exponents=(1.0, 2.0, 3.0),
        seeds=3,
        dimension=50,
        inputs=200,
        features=400,
        teachers=6,
        spectrum_inputs=64,
    )


def laptop() -> RandomFeaturesConfig:
    """Five exponents, fifty seeds, 3,000 inputs and 4,000 features: half an hour on two cores, by the estimate."""
    return replace(quick(), preset="laptop", seeds=50, dimension=200, inputs=3000, features=4000)


def paper() -> RandomFeaturesConfig:
    """Nine exponents, fifty seeds, 4,000 inputs and 8,000 features: a night on two cores."""
    return RandomFeaturesConfig(
        preset="paper",
        exponents=(1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0),
        seeds=50,
        dimension=500,
        inputs=4000,
        features=8000,
        teachers=128,
        spectrum_inputs=500,
    )


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register(
    Study(
        name=_NAME,
        description="The decomposition of random ReLU features on power-law data, measured and predicted by theory.",
        presets={name: (preset.__doc__ or "").strip() for name, preset in PRESETS.items()},
        default_preset=DEFAULT_PRESET,
        plan=lambda settings: RandomFeaturesConfig.from_dict(settings).plan(),
        outline=lambda settings: RandomFeaturesConfig.from_dict(settings).plan(),
        report=report,
    )
)
