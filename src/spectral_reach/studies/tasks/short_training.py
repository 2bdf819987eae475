"""A hundred steps or so of one model on its toy problem, with the optimiser that runs have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import cross_entropy

from spectral_reach.studies import models
from spectral_reach.studies.models.parametrisation import MUP
from spectral_reach.studies.models.registry import ModelConfig
from spectral_reach.studies.tasks.toy_problems import ToyProblem
from spectral_reach.studies.training.config import TrainingConfig
from spectral_reach.studies.training.optimiser import optimiser_of, set_rate

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def toy_model(
    family: str, parametrisation: str, problem: ToyProblem, *, width: int, depth: int, base_width: int
) -> ModelConfig:
    """The member of a model family with this width, as deep at every width in either parametrisation."""
    options = {**problem.options, "depth": depth, "parametrisation": parametrisation}
    if parametrisation == MUP:
        options["base_width"] = base_width
    return models.family(family).of_width(width, problem.dimensions, options)


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
