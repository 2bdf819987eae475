"""Everything that determines one run, as its folder's ``config.json`` holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from spectral_reach.studies import data as data_sets
from spectral_reach.studies import models
from spectral_reach.studies.config import SettingTypeError, as_mapping, check, check_types, from_mapping
from spectral_reach.studies.data import Dataset
from spectral_reach.studies.data.batches import SAMPLING
from spectral_reach.studies.data.outline import Outline
from spectral_reach.studies.models.registry import ModelConfig, name_of
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """A registered data set and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "name", self.name in data_sets.known(), " or ".join(data_sets.known()))
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def as_dict(self) -> dict[str, Any]:
        """Name and options side by side."""
        return {"name": self.name, **self.options}

    def resolved(self) -> DataConfig:
        """The same data by options that a worker elsewhere and without a network reads; see ``data.resolved``."""
        return replace(self, options=data_sets.resolved(self.name, self.options))

    def load(self) -> Dataset:
        """The data themselves; see ``data.load`` for the errors."""
        return data_sets.load(self.name, **self.options)

    def outline(self) -> Dataset:
        """What a plan needs to know of them; see ``data.outline``."""
        return data_sets.outline(self.name, **self.options)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One model trained on one data set, measured along the way.

    Attributes:
        name: the run's folder.
        family: the runs that it is compared with.
        data: what it learns.
        model: what learns.
        training: how.
        measurement: when and how it is measured.
        backbone: for a linear probe, the run of the same study whose final weights the backbone has; random if None.
        rate_from: runs of the same study, of which the one that ends with the lowest held-out loss sets the peak
            learning rate; none if the run's own stands.
        threads: of every tensor operation; sums depend on it, so equal numbers need equal threads.
        facts: what was true of data and model when the run was planned (``facts_of``); a run whose data have
            changed since is refused.
    """

    name: str
    family: str
    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    measurement: MeasurementConfig
    backbone: str | None = None
    rate_from: tuple[str, ...] = ()
    threads: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "name", bool(self.name) and set(self.name) <= _IN_A_NAME, "letters, digits, - and _")
        check(self, "threads", self.threads >= 1, "at least 1")
        check(self, "backbone", self.backbone is None or self.training.trained == "readout", "none to train all of it")
        object.__setattr__(self, "rate_from", tuple(self.rate_from))
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    @property
    def needs(self) -> tuple[str, ...]:
        """Runs of the same study that have to be finished before this one begins."""
        return (*(() if self.backbone is None else (self.backbone,)), *self.rate_from)

    @property
    def measured_steps(self) -> tuple[int, ...]:
        """When the run is measured, sorted; a run that may diverge is not."""
        return () if self.training.may_diverge else self.measurement.measured_steps(self.training.steps)

    @property
    def trained_parameters(self) -> int:
        """Parameters that an update changes."""
        return self.model.readout_parameters if self.training.trained == "readout" else self.model.parameters

    def spent(self, step: int) -> dict[str, int]:
        """Tokens, and FLOPs, of training before update ``step``.

        2 x parameters x tokens for the forward pass and 4 x trained parameters x tokens for the backward pass and the
        gradients: 6 x parameters x tokens where all are trained. An image has as many tokens as the model makes of it.
        """
        tokens = step * self.training.batch_size * self.model.tokens_per_unit
        return {"tokens": tokens, "flops": (2 * self.model.parameters + 4 * self.trained_parameters) * tokens}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` reads them back."""
        return {
            "name": self.name,
            "family": self.family,
            "data": self.data.as_dict(),
            "model": {"name": name_of(self.model), **as_mapping(self.model)},
            "training": as_mapping(self.training),
            "measurement": as_mapping(self.measurement),
            "backbone": self.backbone,
            "rate_from": list(self.rate_from),
            "threads": self.threads,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The configuration that ``as_dict`` wrote.

        Raises:
            ValueError: a setting is unknown, missing or impossible; the message names it.
            SettingTypeError: a setting is of the wrong type.
        """
        return from_mapping(cls, read_parts(values, "A run"), "A run")


def facts_of(data: Dataset, model: ModelConfig) -> dict[str, Any]:
    """What a reader of the run wants to know without loading data or model."""
    return {
        "parameters": model.parameters,
        "parameters_without_embeddings": model.parameters_without_embeddings,
        **data.dimensions,
        "unigram_entropy": data.unigram_entropy,
        "data_hash": data.content_hash,
        "data_description": data.description,
        "train_units": data.units("train"),
        "heldout_units": data.units("heldout"),
        "sampling": SAMPLING,
        **data.facts,
    }


def check_data(config: RunConfig, data: Dataset) -> None:
    """Refuse data that are not those the run was planned with, or that do not fit the model or the batches.

    Raises:
        ValueError: they are not; the message says what to do.
    """
    planned = config.facts.get("data_hash", data.content_hash)
    if planned != data.content_hash:
        raise ValueError(
            f"The data of run {config.name!r} have changed: content hash {data.content_hash[:12]}, expected "
            f"{planned[:12]}. Restore the files, or the interpreter and packages, that it was planned with, or begin a "
            "new folder."
        )
    if dict(data.dimensions) != dict(config.model.dimensions):
        raise ValueError(
            f"The model of run {config.name!r} is made for {_named(config.model.dimensions)}, its data have "
            f"{_named(data.dimensions)}; expected them equal. Plan the run with one value for both."
        )
    if config.training.batch_size > data.units("train"):
        raise ValueError(
            f"Run {config.name!r} has batch_size {config.training.batch_size}; expected at most {data.units('train')}, "
            "the training units of its data."
        )
    # What an outline says of sizes is an estimate.
    if config.measurement.heldout_units > data.units("heldout") and not isinstance(data, Outline):
        raise ValueError(
            f"Run {config.name!r} has measurement.heldout_units {config.measurement.heldout_units}; expected at most "
            f"{data.units('heldout')}, the held-out units of its data. Set it to that or less, or to 0 for none."
        )


def _named(dimensions: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in dimensions.items())


def read_parts(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``values`` with the configurations of data, model, training and measurement made from their settings.

    ``where`` is what an error calls ``values``.

    Raises:
        ValueError: a setting is unknown, missing or impossible.
        SettingTypeError: a setting is of the wrong type.
    """
    readers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "data": _read_data,
        "model": _read_model,
        "training": lambda settings: from_mapping(TrainingConfig, settings, "training"),
        "measurement": lambda settings: from_mapping(MeasurementConfig, settings, "measurement"),
    }
    parts = dict(_settings(values, where))
    for name in readers.keys() & parts.keys():
        parts[name] = readers[name](_settings(parts[name], name))
    return parts


def _settings(values: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise SettingTypeError(f"{where} is {values!r}; expected settings by name.")
    return values


def _read_data(values: Mapping[str, Any]) -> DataConfig:
    options = {name: value for name, value in values.items() if name != "name"}
    return DataConfig(name=values.get("name", ""), options=options)


def _read_model(values: Mapping[str, Any]) -> ModelConfig:
    settings = {name: value for name, value in values.items() if name != "name"}
    return models.model_config(values.get("name", ""), settings)


_IN_A_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
