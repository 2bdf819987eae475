"""The claims table as files: ``claims.md`` to read or to paste, ``claims.json`` for programs."""

from __future__ import annotations

from pathlib import Path

from spectral_reach.records.atomic import write_json_atomically, write_text_atomically
from spectral_reach.studies.analysis.claims.table import ClaimsTable
from spectral_reach.studies.analysis.report import plain


def write_claims(claims: ClaimsTable, folder: Path) -> tuple[Path, Path]:
    """Write both files into ``folder``, each whole or not at all.

    ``claims.json`` has ``counts`` by verdict, ``findings``, a list of the fields of ``Finding`` with the claim's
    ``statement``, and ``differences`` between the two measures of position, in words. What is not defined is null.

    Raises:
        RecordError: the folder cannot be written.
    """
    text, values = folder / "claims.md", folder / "claims.json"
    section = claims.section()
    write_text_atomically(text, f"# {section.title}\n\n{section.as_markdown()}\n")
    write_json_atomically(values, plain(claims.as_values()))
    return text, values
