"""``summary.json`` and ``summary.md``: a study's summary as a file for programs and as a file for people."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spectral_reach.records.atomic import write_atomically, write_json_atomically
from spectral_reach.studies.analysis.numbers import size, small, with_error
from spectral_reach.studies.analysis.summary import FamilySummary, Summary
from spectral_reach.studies.analysis.words import describe_family, verdict

COLUMNS = (
    "size",
    "parameters",
    "without embeddings",
    "train loss",
    "held-out loss",
    "unigram entropy",
    "chi_pos",
    "chi_pos_unbiased",
)


def table(family: FamilySummary) -> tuple[tuple[str, ...], ...]:
    """The cells of a family's table under ``COLUMNS``, a row a run; an unfinished run says how far it is."""
    return tuple(
        (
            size(run.parameters) + ("" if run.is_finished else f" ({run.steps_done} of {run.steps} steps)"),
            f"{run.parameters:,}",
            f"{run.parameters_without_embeddings:,}",
            with_error(run.late.train_loss),
            "–" if math.isnan(run.late.heldout_loss) else f"{run.late.heldout_loss:.3f}",
            f"{run.unigram_entropy:.3f}",
            small(run.late.chi_pos),
            small(run.late.chi_pos_unbiased),
        )
        for run in family.runs
    )


def as_json(summary: Summary) -> dict[str, Any]:
    """Plain JSON values, with each family's verdict and words; what is not defined is null beside its
    reason."""
    values: dict[str, Any] = _plain(asdict(summary))
    for record, family in zip(values["families"], summary.families, strict=True):
        record["verdict_chi_pos"] = str(verdict(family.rank_chi_pos))
        record["verdict_chi_pos_unbiased"] = str(verdict(family.rank_chi_pos_unbiased))
        record["text"] = describe_family(family)
    return values


def as_markdown(summary: Summary) -> str:
    """A table and a paragraph for each family, and what the columns mean."""
    parts = [f"# Study {summary.study}, preset {summary.preset}"]
    for family in summary.families:
        rows = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *table(family)]
        parts.append(f"## {family.label}")
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
        parts.append(describe_family(family))
    parts.append(_LEGEND)
    return "\n\n".join(parts) + "\n"


def write_summary(summary: Summary, folder: Path | str) -> tuple[Path, Path]:
    """Write ``summary.json`` and ``summary.md`` into the study folder, each whole or not at all.

    Raises:
        RecordError: the folder cannot be written.
    """
    values, text = Path(folder) / "summary.json", Path(folder) / "summary.md"
    markdown = as_markdown(summary).encode("utf-8")
    write_json_atomically(values, as_json(summary))
    write_atomically(text, lambda path: _write(path, markdown))
    return values, text


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


_LEGEND = (
    "Losses in nats per token. Train loss, chi_pos and chi_pos_unbiased are averages over the last tenth of training "
    "with the standard error over its batches, which does not cover the spread between seeds. chi_pos is the mean over "
    "mini-batches, raised by gradient noise; chi_pos_unbiased, the population's spectral position, is the mean of "
    "delta_loss_unbiased over the mean of chi_loss·chi_net. Held-out loss is that of the final model."
)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
