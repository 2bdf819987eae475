"""A data set before it is there: what a plan needs to know of it, and no content."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spectral_reach.studies.data.dataset import Batch, Part, Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """What is known of a data set by its name and options alone: a ``Dataset`` that gives no batch.

    Attributes:
        name: in the registry.
        label: what a figure calls it.
        dimensions: those of the data.
        train_units: how many there are to train on, exactly or about.
        heldout_units: how many are held out.
    """

    name: str
    label: str
    dimensions: Mapping[str, int]
    train_units: int
    heldout_units: int
    description: str = "not loaded"
    content_hash: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    unigram_entropy: float = math.nan

    def units(self, part: Part) -> int:
        """How many units a part has."""
        return self.train_units if part == "train" else self.heldout_units

    def batch(self, part: Part, rows: Rows) -> Batch:
        """None.

        Raises:
            ValueError: always; load the data set itself.
        """
        raise ValueError(f"{self.name} is not loaded, only outlined for a plan; expected the data set itself: load it.")
