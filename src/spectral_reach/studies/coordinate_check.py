"""The coordinate-check study: what holds at every width in muP and does not in standard parametrisation.

Sizes of activations against width, and the best learning rate of narrow and wide models, for Llamas and ViTs
(Yang et al. 2022, Figures 1 and 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from spectral_reach.studies.analysis.coordinate_check_report import report
from spectral_reach.studies.config import as_mapping, check, check_types, check_whole_numbers, from_preset
from spectral_reach.studies.models.parametrisation import PARAMETRISATIONS
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.registry import Study, register
from spectral_reach.studies.tasks import Task
from spectral_reach.studies.tasks.coordinate_sizes import CoordinateSizes
from spectral_reach.studies.tasks.rate_sweep import RateSweep, check_rates
from spectral_reach.studies.tasks.toy_problems import FAMILIES

DEFAULT_PRESET = "quick"

_NAME = "coordinate-check"


@dataclass(frozen=True, kw_only=True, slots=True)
class CoordinateCheckConfig:
    """The whole study: every model family in both parametrisations, seeds 0, 1, ...

    Attributes:
        preset: the ready-made configuration that this is, or that was changed to get it.
        base_width: where both parametrisations are the same.
        depth: layers, at every width.
        widths: at which sizes of activations are taken.
        rate: of the steps after which they are.
        steps: so many.
        seeds: so many at each width.
        sweep_widths: whose best learning rates are looked for.
        rates: among these.
        sweep_steps: steps of each training.
        sweep_seeds: so many trainings at each width and rate.
        batch_size: units a step, everywhere.
    """

    preset: str
    base_width: int = 32
    depth: int = 2
    widths: tuple[int, ...]
    rate: float = 2.0**-7
    steps: int = 4
    seeds: int
    sweep_widths: tuple[int, ...]
    rates: tuple[float, ...]
    sweep_steps: int
    sweep_seeds: int
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_types(self)
        check_rates(self)
        for name in ("widths", "sweep_widths"):
            check_whole_numbers(self, name)
            widths = getattr(self, name)
            check(self, name, len(widths) >= 2 and list(widths) == sorted(set(widths)), "two widths or more, ascending")
        for name in ("base_width", "depth", "steps", "seeds", "sweep_steps", "sweep_seeds", "batch_size"):
            check(self, name, getattr(self, name) >= 1, "at least 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CoordinateCheckConfig:
        """A preset with some settings changed: ``{"preset": "quick", "seeds": 10}``.

        Raises:
            ValueError: a preset or setting is unknown, missing or impossible; the message names it.
            SettingTypeError: a setting is of the wrong type.
        """
        return from_preset(PRESETS, values, default=DEFAULT_PRESET, study=_NAME)

    def plan(self) -> StudyPlan:
        """A task for the sizes at each width, and one for the sweep of each width and seed."""
        sides = [(family, parametrisation) for family in FAMILIES for parametrisation in PARAMETRISATIONS]
        tasks = [self._sizes(*side, width) for side in sides for width in self.widths]
        tasks += [
            self._sweep(*side, width, seed)
            for side in sides
            for width in self.sweep_widths
            for seed in range(self.sweep_seeds)
        ]
        return StudyPlan(study=_NAME, preset=self.preset, settings=as_mapping(self), tasks=tuple(tasks))

    def _sizes(self, family: str, parametrisation: str, width: int) -> Task:
        settings = CoordinateSizes(
            family=family,
            parametrisation=parametrisation,
            width=width,
            base_width=self.base_width,
            depth=self.depth,
            rate=self.rate,
            steps=self.steps,
            batch_size=self.batch_size,
            first_seed=0,
            seeds=self.seeds,
        )
        return Task(name=f"sizes-{family}-{parametrisation}-{width:04d}", settings=settings)

    def _sweep(self, family: str, parametrisation: str, width: int, seed: int) -> Task:
        settings = RateSweep(
            family=family,
            parametrisation=parametrisation,
            width=width,
            base_width=self.base_width,
            depth=self.depth,
            rates=self.rates,
            steps=self.sweep_steps,
            batch_size=self.batch_size,
            seed=seed,
        )
        return Task(name=f"rates-{family}-{parametrisation}-{width:04d}-seed-{seed:02d}", settings=settings)


def _powers_of_two(low: int, high: int) -> tuple[float, ...]:
    return tuple(2.0**exponent for exponent in range(low, high + 1))


def quick() -> CoordinateCheckConfig:
    """Widths 32 to 256, the best of seven rates at widths 32 and 128: some minutes."""
    return CoordinateCheckConfig(
        preset="quick",
        widths=(32, 64, 128, 256),
        seeds=3,
        sweep_widths=(32, 128),
        rates=_powers_of_two(-12, -6),
        sweep_steps=100,
        sweep_seeds=4,
    )


def toy() -> CoordinateCheckConfig:
    """Seconds: widths 16 to 64, two rates, for tests and CI."""
    return replace(
        quick(),
        preset="toy",
        base_width=16,
        depth=1,
        widths=(16, 32, 64),
        steps=2,
        seeds=2,
        sweep_widths=(16, 32),
        rates=_powers_of_two(-7, -5),
        sweep_steps=4,
        sweep_seeds=1,
        batch_size=8,
    )


def laptop() -> CoordinateCheckConfig:
    """Widths 32 to 512, the best of eight rates at widths 32 to 256: hours."""
    return replace(
        quick(),
        preset="laptop",
        widths=(32, 64, 128, 256, 512),
        seeds=5,
        sweep_widths=(32, 64, 128, 256),
        rates=_powers_of_two(-12, -5),
        sweep_steps=200,
        sweep_seeds=3,
    )


def paper() -> CoordinateCheckConfig:
    """Widths 64 to 1,024 of four layers, the best of ten rates at widths 64 to 512: days."""
    return replace(
        quick(),
        preset="paper",
        base_width=64,
        depth=4,
        widths=(64, 128, 256, 512, 1024),
        seeds=5,
        sweep_widths=(64, 128, 256, 512),
        rates=_powers_of_two(-14, -5),
        sweep_steps=500,
        sweep_seeds=3,
        batch_size=32,
    )


PRESETS = {"quick": quick, "toy": toy, "laptop": laptop, "paper": paper}

register(
    Study(
        name=_NAME,
        description="Sizes of activations and best learning rates against width, in standard parametrisation and muP.",
        presets={name: (preset.__doc__ or "").strip() for name, preset in PRESETS.items()},
        default_preset=DEFAULT_PRESET,
        plan=lambda settings: CoordinateCheckConfig.from_dict(settings).plan(),
        outline=lambda settings: CoordinateCheckConfig.from_dict(settings).plan(),
        report=report,
    )
)
