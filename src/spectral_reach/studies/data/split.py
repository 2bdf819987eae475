"""Which documents are held out: a function of a document alone, whatever others there are."""

from __future__ import annotations

import hashlib

from spectral_reach.studies.data.dataset import Part

HELDOUT_ONE_IN = 20
"""About 5% are held out, where there are many."""


def part_of(key: bytes, one_in: int = HELDOUT_ONE_IN) -> Part:
    """The part of what ``key`` stands for, by its sha256: equal keys are never in both."""
    held_out = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % one_in == 0
    return "heldout" if held_out else "train"
