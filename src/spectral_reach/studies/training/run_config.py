"""Everything that determines one run, as its folder's ``config.json`` holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from spectral_reach.studies import data as data_sets
from spectral_reach.studies import models
from spectral_reach.studies.config import SettingTypeError, as_mapping, check, check_types, from_mapping
from spectral_reach.studies.data import TokenData
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

    def load(self) -> TokenData:
        """The data themselves; see ``data.load`` for the errors."""
        return data_sets.load(self.name, **self.options)


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
    threads: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "name", bool(self.name) and set(self.name) <= _IN_A_NAME, "letters, digits, - and _")
        check(self, "threads", self.threads >= 1, "at least 1")
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    @property
    def tokens_per_step(self) -> int:
        """Predicted tokens of one training step."""
        return self.training.batch_size * self.model.context

    def spent(self, step: int) -> dict[str, int]:
        """Predicted tokens, and FLOPs = 6 x parameters x tokens, of training before update ``step``."""
        tokens = step * self.tokens_per_step
        return {"tokens": tokens, "flops": 6 * self.model.parameters * tokens}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` reads them back."""
        return {
            "name": self.name,
            "family": self.family,
            "data": self.data.as_dict(),
            "model": {"name": name_of(self.model), **as_mapping(self.model)},
            "training": as_mapping(self.training),
            "measurement": as_mapping(self.measurement),
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


def facts_of(data: TokenData, model: ModelConfig) -> dict[str, Any]:
    """What a reader of the run wants to know without loading data or model."""
    return {
        "parameters": model.parameters,
        "parameters_without_embeddings": model.parameters_without_embeddings,
        "vocabulary": data.vocabulary,
        "context": data.context,
        "unigram_entropy": data.unigram_entropy,
        "data_hash": data.content_hash,
        "data_description": data.description,
        "train_sequences": len(data.train),
        "heldout_sequences": len(data.heldout),
        **data.facts,
    }


def check_data(config: RunConfig, data: TokenData) -> None:
    """Refuse data that are not those the run was planned with, or that do not fit the model or the batches.

    Raises:
        ValueError: they are not; the message says what to do.
    """
    planned = config.facts.get("data_hash", data.content_hash)
    if planned != data.content_hash:
        raise ValueError(
            f"The data of run {config.name!r} have changed: content hash {data.content_hash[:12]}, expected "
            f"{planned[:12]}. Resume it with the interpreter and packages that began it, or begin a new folder."
        )
    for name in ("vocabulary", "context"):
        if getattr(data, name) != getattr(config.model, name):
            raise ValueError(
                f"The model of run {config.name!r} has {name} {getattr(config.model, name)}, its data "
                f"{getattr(data, name)}; expected them equal. Plan the run with one value for both."
            )
    if config.training.batch_size > len(data.train):
        raise ValueError(
            f"Run {config.name!r} has batch_size {config.training.batch_size}; expected at most {len(data.train)}, "
            "the training sequences of its data."
        )


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
