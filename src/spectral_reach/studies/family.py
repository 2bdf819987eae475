"""A family: one data set, and models of several sizes that learn it in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from spectral_reach.studies import models
from spectral_reach.studies.config import (
    SettingTypeError,
    as_mapping,
    check,
    check_whole_numbers,
    from_mapping,
)
from spectral_reach.studies.data import Dataset
from spectral_reach.studies.learning_rate import RateConfig
from spectral_reach.studies.models.registry import ModelConfig
from spectral_reach.studies.plan import FamilyPlan
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig
from spectral_reach.studies.training.run_config import DataConfig, RunConfig, check_data, facts_of, read_parts


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyConfig:
    """One family. Its sizes are either ``widths``, from which the model family derives all else, or ``shapes``.

    Attributes:
        data: the data set.
        model: the model family.
        widths: of the members; the model family derives depth, heads and so on.
        shapes: the settings of each member one by one, without what the data decide.
        options: settings that all members share, for example ``{"tied": True, "parametrisation": "mup"}``.
        rates: what makes the learning rate of a size out of ``training.learning_rate``.
        training: of every size; ``learning_rate`` and ``seed`` are set for each run.
        measurement: of every run.
        label: what a figure calls the family; the label of the data if None.
        backbones: the family of the same study whose final weights are the frozen backbones of these probes, size by
            size and seed by seed, in their order; None for random ones, or where everything is trained.
    """

    data: DataConfig
    model: str = "llama"
    widths: tuple[int, ...] = ()
    shapes: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    rates: RateConfig = field(default_factory=RateConfig)
    training: TrainingConfig
    measurement: MeasurementConfig
    label: str | None = None
    backbones: str | None = None

    def __post_init__(self) -> None:
        check_whole_numbers(self, "widths")
        if not isinstance(self.shapes, list | tuple) or not all(isinstance(each, Mapping) for each in self.shapes):
            raise SettingTypeError(
                f"FamilyConfig.shapes is {self.shapes!r}; expected a list of settings by name, one for each size."
            )
        check(self, "model", self.model in models.known(), " or ".join(models.known()))
        check(self, "widths", bool(self.widths) != bool(self.shapes), "at least one width, or else shapes")
        check(self, "widths", len(set(self.widths)) == len(self.widths), "different widths")
        object.__setattr__(self, "shapes", tuple(MappingProxyType(dict(each)) for each in self.shapes))
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))
        is_probe = self.training.trained == "readout"
        check(self, "backbones", self.backbones is None or is_probe, "none where everything is trained")

    @classmethod
    def from_dict(cls, values: Any, where: str) -> FamilyConfig:
        """The family that ``as_dict`` wrote; ``where`` is what an error calls it.

        Raises:
            ValueError: a setting is unknown, missing or impossible; the message names it.
            SettingTypeError: a setting is of the wrong type.
        """
        if not isinstance(values, Mapping):
            raise SettingTypeError(f"{where} is {values!r}; expected settings by name.")
        parts = read_parts({name: value for name, value in values.items() if name not in ("model", "rates")}, where)
        if "model" in values:
            parts["model"] = values["model"]
        if "rates" in values:
            if not isinstance(values["rates"], Mapping):
                raise SettingTypeError(f"rates of {where} is {values['rates']!r}; expected settings by name.")
            parts["rates"] = from_mapping(RateConfig, values["rates"], f"rates of {where}")
        return from_mapping(cls, parts, where)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` reads them back."""
        return {
            "data": self.data.as_dict(),
            "model": self.model,
            "widths": list(self.widths),
            "shapes": [dict(each) for each in self.shapes],
            "options": dict(self.options),
            "rates": as_mapping(self.rates),
            "training": as_mapping(self.training),
            "measurement": as_mapping(self.measurement),
            "label": self.label,
            "backbones": self.backbones,
        }

    def members(self, dimensions: Mapping[str, int]) -> tuple[ModelConfig, ...]:
        """The models for data of these dimensions, smallest first.

        Raises:
            ValueError: a width, shape or option that the model family does not have.
        """
        family = models.family(self.model)
        if self.widths:
            made = [family.of_width(width, dimensions, self.options) for width in self.widths]
        else:
            made = [family.of_shape({**self.options, **shape}, dimensions) for shape in self.shapes]
        return tuple(sorted(made, key=lambda each: each.parameters))

    def plan(
        self,
        name: str,
        data: Dataset,
        *,
        seeds: Sequence[int],
        threads: int,
        backbones: Sequence[RunConfig] = (),
    ) -> dict[str, FamilyPlan]:
        """The family's runs under ``name``, and before them, under a name of its own, the sweep that sets their rates.

        Runs are in order of size, then of seed; ``backbones`` are runs in the same order, whose final weights these
        probes begin with.

        Raises:
            ValueError: model, data and batches, or probes and backbones, do not fit each other.
        """
        runs: list[RunConfig] = []
        sweeps: list[RunConfig] = []
        members = self.members(data.dimensions)
        below = self._backbones(name, members, seeds, backbones)
        for model in members:
            size = f"{name}-{round(model.parameters / 1000):03d}k"
            base = RunConfig(
                name=size,
                family=name,
                data=self.data,
                model=model,
                training=replace(self.training, learning_rate=self.rates.rate(self.training.learning_rate, model)),
                measurement=self.measurement,
                threads=threads,
                facts=facts_of(data, model),
                backbone=next(below, None),
            )
            check_data(base, data)
            self._check_probe(base)
            sweep = tuple(self._sweep(base, seeds[0]))
            sweeps += sweep
            for i, seed in enumerate(seeds):
                run = replace(base, training=replace(base.training, seed=seed), rate_from=tuple(s.name for s in sweep))
                run = run if i == 0 else replace(run, backbone=next(below, None))
                runs.append(replace(run, name=f"{size}-seed{seed}") if len(seeds) > 1 else run)
        label = data.label if self.label is None else self.label
        plans = {name: FamilyPlan(label=label, runs=tuple(runs))}
        if sweeps:
            of_rates = FamilyPlan(label=f"{label}: learning rates", runs=tuple(sweeps), is_sweep=True)
            plans = {f"{name}-rates": of_rates, **plans}
        return plans

    def _backbones(
        self, name: str, members: Sequence[ModelConfig], seeds: Sequence[int], backbones: Sequence[RunConfig]
    ) -> Iterator[str]:
        """The names of the runs below the probes, in the order of the probes; none without any.

        Raises:
            ValueError: they are not models of the same sizes on the same data.
        """
        if self.backbones is None:
            return iter(())
        wanted = [model for model in members for _ in seeds]
        if [run.model for run in backbones] != wanted or any(run.data != self.data for run in backbones):
            sizes = [
                ", ".join(str(each.parameters) for each in models) for models in (wanted, [b.model for b in backbones])
            ]
            raise ValueError(
                f"The probes {name!r} have {sizes[0]} parameters, their backbones {self.backbones!r} {sizes[1]}; "
                "expected the same models on the same data: give both families the same data, widths or "
                "shapes, and options."
            )
        return iter([run.name for run in backbones])

    def _check_probe(self, run: RunConfig) -> None:
        if run.training.trained == "readout" and run.model.tied:
            raise ValueError(
                f"The readout of probe {run.name!r} is tied to the token embedding, so that the backbone would change "
                "with it; expected tied to be false in the options or shapes of the family."
            )

    def _sweep(self, base: RunConfig, seed: int) -> Iterator[RunConfig]:
        """Short runs of one size, one for each rate."""
        for i, rate in enumerate(self.rates.sweep(self.training.learning_rate, base.model)):
            steps = min(self.rates.sweep_steps, self.training.steps)
            training = replace(
                self.training,
                steps=steps,
                warmup_steps=min(self.training.warmup_steps, steps // 5),
                learning_rate=rate,
                may_diverge=True,
                checkpoint_every=min(self.training.checkpoint_every, steps),
                snapshots=(),
                seed=seed,
            )
            yield replace(base, name=f"{base.name}-rate{i}", family=f"{base.family}-rates", training=training)
