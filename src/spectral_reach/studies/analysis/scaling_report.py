"""The scaling study's summary as a report: a table and a paragraph for each family, and every number behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from spectral_reach.studies.analysis.fits_report import Fit, fits, fits_section
from spectral_reach.studies.analysis.numbers import size, small, with_error
from spectral_reach.studies.analysis.report import Report, Section
from spectral_reach.studies.analysis.study_data import read_study
from spectral_reach.studies.analysis.summary import FamilySummary, Summary, summarise
from spectral_reach.studies.analysis.verdict import Verdict
from spectral_reach.studies.analysis.words import describe_family, late_order

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
_EXACT_COUNTS = ("parameters", "without embeddings")


def report(study: Path) -> Report:
    """The report of a study folder. Raises as ``summarise`` does."""
    data = read_study(study)
    return report_of(summarise(data), fits(data.families))


def report_of(summary: Summary, found: Sequence[Fit] = ()) -> Report:
    """The report of a summary and the fits ``found``; each family's record has its verdict and words too."""
    values = asdict(summary)
    for record, family in zip(values["families"], summary.families, strict=True):
        for measure in ("chi_pos", "chi_pos_unbiased"):
            rank = getattr(family, f"rank_{measure}")
            verdict = Verdict.INCONCLUSIVE if rank.reason is not None else late_order(family, measure).verdict
            record[f"verdict_{measure}"] = str(verdict)
        record["text"] = describe_family(family)
    sections = tuple(
        Section(
            title=family.label,
            columns=COLUMNS,
            rows=table(family),
            text=describe_family(family),
            left_out_if_narrow=_EXACT_COUNTS,
        )
        for family in summary.families
    )
    if found:
        sections = (*sections, fits_section(found))
        values["fits"] = [fit.values() for fit in found]
    return Report(study=summary.study, preset=summary.preset, sections=sections, legend=_LEGEND, values=values)


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


_LEGEND = (
    "Losses in nats per token. Train loss, chi_pos and chi_pos_unbiased are averages over the last tenth of training "
    "with the standard error over its batches, which does not cover the spread between seeds. chi_pos is the mean over "
    "mini-batches, raised by gradient noise; chi_pos_unbiased, the population's spectral position, is the mean of "
    "delta_loss_unbiased over the mean of chi_loss·chi_net. Held-out loss is that of the final model."
)
