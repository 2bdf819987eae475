"""What a study needs of a data set, whatever its units are: sequences of tokens, images with a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

Batch = tuple[torch.Tensor, torch.Tensor]
"""Inputs (B, ...) that a model is called with, and targets, int64: (B, T) next tokens or (B) classes."""

Part = Literal["train", "heldout"]
Rows = npt.NDArray[np.int64]


class Dataset(Protocol):
    """Units to train on and units held out; nothing is read before ``batch`` asks for it."""

    @property
    def name(self) -> str:
        """The name in the registry."""

    @property
    def label(self) -> str:
        """What a figure calls it."""

    @property
    def description(self) -> str:
        """One sentence on what the data are and how they were split."""

    @property
    def content_hash(self) -> str:
        """sha256 of the content, so that a run can tell whether the data are the same."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Anything worth recording about how the data were made."""

    @property
    def unigram_entropy(self) -> float:
        """Nats per sample of the held-out targets under the training targets' frequencies.

        What a model that ignores its input can reach.
        """

    @property
    def dimensions(self) -> Mapping[str, int]:
        """The sizes that a model has to share: vocabulary and context, or classes, channels and image size."""

    def units(self, part: Part) -> int:
        """How many units a part has."""

    def batch(self, part: Part, rows: Rows) -> Batch:
        """The units ``rows`` of a part, on the CPU."""
