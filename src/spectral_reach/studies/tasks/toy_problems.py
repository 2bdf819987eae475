"""Small problems on which a transformer of any width learns within a hundred steps, for checks of a parametrisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import torch

from spectral_reach.studies.data.dataset import Batch, Dataset

_CHAIN = 20260605
"""Of the generator that draws the chain itself, the same for all seeds."""


class ToyProblem(Protocol):
    """Units without end for the models of one family."""

    @property
    def label(self) -> str:
        """What a report calls the data."""

    @property
    def dimensions(self) -> Mapping[str, int]:
        """What a model has to share."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Settings of a model that go with these data."""

    def batch(self, seed: int, step: int, units: int) -> Batch:
        """Inputs and targets; a function of its arguments alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecondOrderChain:
    """Sequences whose next token depends on the last two through a random table: the softmax of 2 x normal numbers."""

    vocabulary: int = 16
    context: int = 16

    @property
    def label(self) -> str:
        """Tokens of a random grammar."""
        return f"a random chain of {self.vocabulary} tokens"

    @property
    def dimensions(self) -> Mapping[str, int]:
        """Vocabulary and context."""
        return {"vocabulary": self.vocabulary, "context": self.context}

    @property
    def options(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def batch(self, seed: int, step: int, units: int) -> Batch:
        """Fresh sequences, int64 (units, context) twice."""
        V = self.vocabulary
        table = torch.randn(V, V, V, generator=torch.Generator().manual_seed(_CHAIN)).mul_(2).softmax(-1)
        random = torch.Generator().manual_seed((seed << 20) + step)
        sequence = list(torch.randint(0, V, (2, units), generator=random))
        while len(sequence) < self.context + 1:
            odds = table[sequence[-2], sequence[-1]]
            sequence.append(torch.multinomial(odds, 1, generator=random)[:, 0])
        tokens = torch.stack(sequence, dim=1)
        return tokens[:, :-1], tokens[:, 1:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Digits:
    """scikit-learn's digits with their classes, epoch after epoch."""

    data: Dataset
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({"patch": 4}))

    @classmethod
    def load(cls) -> Digits:
        """The data set ``digits-images``."""
        from spectral_reach.studies import data

        return cls(data=data.load("digits-images"))

    @property
    def label(self) -> str:
        """8 x 8 pixels."""
        return "8 × 8 digits"

    @property
    def dimensions(self) -> Mapping[str, int]:
        """Classes, channels and image size."""
        return self.data.dimensions

    def batch(self, seed: int, step: int, units: int) -> Batch:
        """Images (units, 1, 8, 8) and digits (units)."""
        from spectral_reach.studies.data.batches import training_batch

        return training_batch(self.data, step, seed=seed, batch_size=units)


FAMILIES = ("llama", "vit")
"""Model families that have a problem."""


def toy_problem(family: str) -> ToyProblem:
    """The problem of a model family: next tokens for Llamas, classes of images for ViTs."""
    return Digits.load() if family == "vit" else SecondOrderChain()
