"""A hundred steps or so of one model on its toy problem, with the optimiser that runs have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import Field, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor
from torch.nn.functional import cross_entropy

from spectral_reach.studies import models
from spectral_reach.studies.config import check
from spectral_reach.studies.models.parametrisation import MUP, PARAMETRISATIONS
from spectral_reach.studies.models.registry import ModelConfig
from spectral_reach.studies.tasks.toy_problems import FAMILIES, ToyProblem, toy_problem
from spectral_reach.studies.training.config import TrainingConfig
from spectral_reach.studies.training.optimiser import optimiser_of, set_rate

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ToySettings(Protocol):
    """What tasks on a toy problem have in common."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def family(self) -> str:
        """A model family that has a toy problem."""

    @property
    def parametrisation(self) -> str:
        """``standard`` or ``mup``."""

    @property
    def width(self) -> int:
        """Of the model."""

    @property
    def base_width(self) -> int:
        """In muP that of the base."""

    @property
    def depth(self) -> int:
        """Layers, as many at every width in either parametrisation."""

    @property
    def steps(self) -> int:
        """Of training."""

    @property
    def batch_size(self) -> int:
        """Units a step."""


def check_toy(config: ToySettings) -> None:
    """Refuse what no toy problem is there for.

    Raises:
        ValueError: "Config.name is value; expected ...".
    """
    check(config, "family", config.family in FAMILIES, " or ".join(FAMILIES))
    check(config, "parametrisation", config.parametrisation in PARAMETRISATIONS, " or ".join(PARAMETRISATIONS))
    for name in ("width", "base_width", "depth", "steps", "batch_size"):
        check(config, name, getattr(config, name) >= 1, "at least 1")


def toy_model(
    family: str, parametrisation: str, problem: ToyProblem, *, width: int, depth: int, base_width: int
) -> ModelConfig:
    """The member of a model family with this width, as deep at every width in either parametrisation."""
    options = {**problem.options, "depth": depth, "parametrisation": parametrisation}
    if parametrisation == MUP:
        options["base_width"] = base_width
    return models.family(family).of_width(width, problem.dimensions, options)


def toy_training(settings: ToySettings, *, rate: float, warmup: int, seed: int) -> ShortTraining:
    """The training of the model that ``settings`` describe on the problem of its family."""
    problem = toy_problem(settings.family)
    return ShortTraining(
        config=toy_model(
            settings.family,
            settings.parametrisation,
            problem,
            width=settings.width,
            depth=settings.depth,
            base_width=settings.base_width,
        ),
        problem=problem,
        rate=rate,
        warmup=warmup,
        steps=settings.steps,
        batch_size=settings.batch_size,
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShortTraining:
    """AdamW without weight decay and without clipping: the rate alone says how far a step goes.

    Attributes:
        config: what learns.
        problem: what it learns.
        rate: of the base's width, constant after the warm-up.
        warmup: steps over which it rises.
        steps: in all.
        batch_size: units a step.
        seed: of weights and data.
    """

    config: ModelConfig
    problem: ToyProblem
    rate: float
    warmup: int
    steps: int
    batch_size: int
    seed: int

    def losses(self, model: PreTrainedModel) -> Iterator[float]:
        """The loss of each step's batch, before the step; ends early where it is no longer finite."""
        settings = TrainingConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.rate,
            warmup_steps=self.warmup,
            schedule="constant",
            weight_decay=0.0,
            heldout_every=self.steps,
            heldout_units=1,
            checkpoint_every=self.steps,
            seed=self.seed,
        )
        optimiser = optimiser_of(model, settings, self.config.rate_factors(model, settings.optimiser))
        for step in range(self.steps):
            inputs, targets = self.problem.batch(self.seed, step, self.batch_size)
            set_rate(optimiser, settings.rate(step))
            loss = mean_loss(model(inputs).logits, targets)
            value = loss.item()
            yield value
            if not math.isfinite(value):
                return
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
            optimiser.step()

    @property
    def flops(self) -> int:
        """6 x parameters x tokens."""
        return 6 * self.config.parameters * self.config.tokens_per_unit * self.batch_size * self.steps


def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy, nats a sample."""
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
