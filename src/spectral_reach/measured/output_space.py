"""Some of the outputs of a batch: chosen samples times chosen classes, the space in which a kernel is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_reach.measured.arguments import integer

Choice: TypeAlias = int | Sequence[int] | Tensor | NDArray[np.int64] | None
"""None: all. A number: so many, drawn at random. Several: these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSpace:
    """n samples times k classes out of N times K.

    Attributes:
        samples: (n,) int64, rows of f, ascending where drawn at random.
        classes: (k,) int64, columns of f, ascending where drawn at random.
        is_whole: these are all outputs, in their order.
        is_everything: these are all outputs, in any order.
    """

    samples: Tensor
    classes: Tensor
    is_whole: bool
    is_everything: bool

    @classmethod
    def choose(cls, shape: tuple[int, int], samples: Choice, classes: Choice, random: torch.Generator) -> OutputSpace:
        """Out of outputs of this shape (N, K), on the device of the generator.

        Raises:
            TypeError, ValueError: what is no choice of these outputs.
        """
        n_samples, n_classes = shape
        rows = _chosen("samples", samples, n_samples, random)
        columns = _chosen("classes", classes, n_classes, random)
        ordered = torch.equal(rows.cpu(), torch.arange(n_samples)) and torch.equal(
            columns.cpu(), torch.arange(n_classes)
        )
        everything = (rows.numel(), columns.numel()) == shape
        return cls(samples=rows, classes=columns, is_whole=ordered, is_everything=everything)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, k)."""
        return self.samples.numel(), self.classes.numel()

    @property
    def size(self) -> int:
        """n k, the dimension of the space."""
        return self.samples.numel() * self.classes.numel()

    def of(self, values: Tensor) -> Tensor:
        """The part of (N, K) values that belongs to this space, (n, k)."""
        if self.is_whole:
            return values
        return values.index_select(0, self.samples).index_select(1, self.classes)


def _chosen(name: str, choice: Choice, available: int, random: torch.Generator) -> Tensor:
    if choice is None:
        return torch.arange(available, device=random.device)
    if isinstance(choice, np.ndarray):
        choice = choice.tolist()
    if isinstance(choice, Sequence | Tensor):
        return _listed(name, choice, available).to(random.device)
    count = integer(name, choice)
    if not 1 <= count <= available:
        raise ValueError(f"{name}={count}; expected 1 to {available}, what the batch has, or a list of them")
    if count == available:
        return torch.arange(available, device=random.device)
    return torch.randperm(available, generator=random, device=random.device)[:count].sort().values


def _listed(name: str, choice: Sequence[int] | Tensor, available: int) -> Tensor:
    if isinstance(choice, Tensor):
        if choice.ndim != 1 or choice.dtype.is_floating_point or choice.dtype == torch.bool:
            raise TypeError(
                f"{name} is a tensor of shape {tuple(choice.shape)} and {choice.dtype}; expected a list of indices"
            )
        listed = choice.to(torch.int64)
    else:
        listed = torch.tensor([integer(f"an entry of {name}", each) for each in choice], dtype=torch.int64)
    if listed.numel() == 0:
        raise ValueError(f"{name} is empty; expected one index or more, or None for all")
    low, high = int(listed.min()), int(listed.max())
    if low < 0 or high >= available:
        raise ValueError(f"{name} has indices from {low} to {high}; expected 0 to {available - 1}")
    if torch.unique(listed).numel() < listed.numel():
        raise ValueError(f"{name} names an index twice; expected different ones")
    return listed
