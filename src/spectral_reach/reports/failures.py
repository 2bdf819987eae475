"""What cannot be made of a part of the page: its reason is told there and logged, and costs no other part."""

from __future__ import annotations

import logging

from spectral_reach.records.errors import RecordError

log = logging.getLogger(__name__)


def logged_reason(what: str, error: Exception) -> str:
    """Why something cannot be made, for the page; logged as a warning after the clause ``what``.

    A defect, as against a folder that says what is wrong with it, is logged with its traceback.
    """
    is_told = isinstance(error, ValueError | RecordError)
    reason = str(error) if is_told else f"{type(error).__name__}: {error}"
    log.warning("%s: %s", what, reason, exc_info=None if is_told else error)
    return reason
