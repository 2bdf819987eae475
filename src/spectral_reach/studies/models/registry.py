"""Model families by name: ``@register("name")`` on a configuration class that can build its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from spectral_reach.studies.config import from_mapping

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class ModelConfig(Protocol):
    """What a study needs of a model's configuration, a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def dimensions(self) -> Mapping[str, int]:
        """The sizes that the data have to share, by the names that ``Dataset.dimensions`` gives them."""

    @property
    def width(self) -> int:
        """Of the residual stream."""

    @property
    def depth(self) -> int:
        """Number of layers."""

    @property
    def tokens_per_unit(self) -> int:
        """Tokens that the model processes of one unit: T of a sequence, patches and class token of an image."""

    @property
    def parameters(self) -> int:
        """P, all parameters."""

    @property
    def parameters_without_embeddings(self) -> int:
        """P without what embeds tokens, patches and positions, and without the readout."""

    @property
    def readout_parameters(self) -> int:
        """Parameters of the last linear map; those of a tied embedding count."""

    @property
    def tied(self) -> bool:
        """Whether the readout shares its weight with the embedding."""

    def build(self, seed: int) -> PreTrainedModel:
        """The model with random weights from ``seed``."""

    def readout(self, model: PreTrainedModel) -> nn.Linear:
        """The last linear map of a model that this configuration has built."""

    def rate_factors(self, model: PreTrainedModel, optimiser: str) -> Mapping[str, float]:
        """What the learning rate of a parameter is multiplied with, by its name; 1 for those not named.

        ``optimiser``: ``"adamw"`` or ``"sgd"``, whose updates grow differently with width.
        """

    @classmethod
    def of_width(cls, width: int, dimensions: Mapping[str, int], options: Mapping[str, Any]) -> ModelConfig:
        """The member of the family with this width, for data of these dimensions.

        ``options``: settings besides those that width and data decide, for example ``{"tied": True}``.

        Raises:
            ValueError: an impossible width, an unknown option, or data of another kind.
        """

    @classmethod
    def of_shape(cls, shape: Mapping[str, Any], dimensions: Mapping[str, int]) -> ModelConfig:
        """The model with exactly these settings, for data of these dimensions.

        ``shape``: every setting that has no default, besides the dimensions: ``{"width": 64, "depth": 2, ...}``.

        Raises:
            ValueError: a setting is missing, unknown, impossible or decided by the data, or data of another kind.
        """


def check_dimensions(dimensions: Mapping[str, int], expected: tuple[str, ...], reads: str) -> None:
    """Refuse data of another kind; ``reads`` is what the family reads, for the message.

    Raises:
        ValueError: the names of ``dimensions`` are not those ``expected``.
    """
    if set(dimensions) != set(expected):
        raise ValueError(
            f"{reads}: expected data with {', '.join(expected)}, got data with {', '.join(dimensions)}. Choose a data "
            "set or a model family of the other kind."
        )


def check_shape(shape: Mapping[str, Any], dimensions: Mapping[str, int], where: str) -> None:
    """Refuse a shape that sets what the data decide.

    Raises:
        ValueError: it does.
    """
    if decided := [name for name in shape if name in dimensions]:
        raise ValueError(f"{where}: {', '.join(decided)} is decided by the data; leave it out of the shape.")


_families: dict[str, type[ModelConfig]] = {}

M = TypeVar("M", bound=type[ModelConfig])


def register(name: str) -> Callable[[M], M]:
    """Make a configuration class known under ``name``."""

    def add(family: M) -> M:
        if name in _families:
            raise ValueError(f"A model family named {name!r} is registered already; choose another name.")
        _families[name] = family
        return family

    return add


def known() -> tuple[str, ...]:
    """The names of all registered families, sorted."""
    return tuple(sorted(_families))


def family(name: str) -> type[ModelConfig]:
    """The configuration class of the family ``name``.

    Raises:
        ValueError: it is unknown; the message lists the known ones.
    """
    if name not in _families:
        raise ValueError(f"Unknown model family {name!r}; the known ones are {', '.join(known())}.")
    return _families[name]


def name_of(config: ModelConfig) -> str:
    """The name under which the class of ``config`` is registered."""
    return next(name for name, family in _families.items() if family is type(config))


def model_config(name: str, settings: Mapping[str, Any]) -> ModelConfig:
    """The configuration of one model of the family ``name``.

    Raises:
        ValueError: the family or a setting is unknown (the message lists the known ones), missing or
            impossible.
    """
    return from_mapping(family(name), settings, f"The model family {name!r}")
