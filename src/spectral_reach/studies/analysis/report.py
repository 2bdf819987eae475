"""What a study has to say when it has been run, for people (``summary.md``, the terminal) and programs.

A study makes its ``Report`` from its folder; writing and showing it is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectral_reach.records.atomic import write_json_atomically, write_text_atomically


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A table and a paragraph.

    Attributes:
        title: of both.
        columns: headings of the table; the first column is set to the left.
        rows: its cells, a text for each column.
        text: the paragraph.
        left_out_if_narrow: columns that a narrow terminal does without.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: str
    left_out_if_narrow: tuple[str, ...] = ()

    def as_markdown(self) -> str:
        """The table and the paragraph, without the title."""
        rows = [self.columns, ("---", *["---:"] * (len(self.columns) - 1)), *self.rows]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"{table}\n\n{self.text}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A study, section by section.

    Attributes:
        study: its name.
        preset: of its settings.
        sections: in the order in which they are read.
        legend: what the columns mean.
        values: every number behind it, for programs: mappings, lists, text and numbers.
    """

    study: str
    preset: str
    sections: tuple[Section, ...]
    legend: str
    values: Mapping[str, Any]


def as_json(report: Report) -> dict[str, Any]:
    """Plain JSON values; what is not defined is null."""
    return plain({"study": report.study, "preset": report.preset, **report.values})


def as_markdown(report: Report) -> str:
    """A table and a paragraph for each section, and what the columns mean."""
    parts = [f"# Study {report.study}, preset {report.preset}"]
    parts += [f"## {section.title}\n\n{section.as_markdown()}" for section in report.sections]
    parts.append(report.legend)
    return "\n\n".join(parts) + "\n"


def write_report(report: Report, folder: Path | str) -> tuple[Path, Path]:
    """Write ``summary.json`` and ``summary.md`` into the study folder, each whole or not at all.

    Raises:
        RecordError: the folder cannot be written.
    """
    values, text = Path(folder) / "summary.json", Path(folder) / "summary.md"
    write_json_atomically(values, as_json(report))
    write_text_atomically(text, as_markdown(report))
    return values, text


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same in what JSON has; numbers that are not finite are null."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
