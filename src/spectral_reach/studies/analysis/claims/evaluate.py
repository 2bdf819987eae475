"""From study folders to the claims table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spectral_reach.studies.analysis.claims.registry import CLAIMS
from spectral_reach.studies.analysis.claims.sources import Studies
from spectral_reach.studies.analysis.claims.table import ClaimsTable


def evaluate(studies: Mapping[str, Path]) -> ClaimsTable:
    """Every claim on the ``studies`` at hand, folders by the name of the study, finished or not.

    The same folders give the same table, to the bit.

    Raises:
        ForeignFolderError: a folder is not that study, or cannot be read.
        RecordError: a table is damaged, or a finished run has lost one.
    """
    at_hand = Studies(studies)
    return ClaimsTable(
        claims=CLAIMS, findings=tuple(finding for claim in CLAIMS for finding in claim.evaluate(at_hand))
    )
