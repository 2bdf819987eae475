"""What a convergence study says, in a table and in words, whichever way its numbers fall."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spectral_reach.studies.analysis.convergence import STUDY, TARGET, Convergence, Row, read_convergence
from spectral_reach.studies.analysis.draws import PowerLaw
from spectral_reach.studies.analysis.numbers import interval, signed, size
from spectral_reach.studies.analysis.report import Report, Section

PAPER_AVERAGED, PAPER_REPETITIONS, PAPER_PARAMETERS = 2000, 50, 7e6
FULL_CONTEXT = 128
"""Tokens of a sequence in the preset ``paper``."""
PREDICTED = -0.5
COLUMNS = ("estimator", "parameters", "step", "draws", "variation of one", "ms a draw", "draws to 1%", "seconds to 1%")

_NEARLY = 1.5  # times more or fewer parameters than the paper's model, or less, is said to be about as many


def report(study: Path) -> Report:
    """The report of a study folder. Raises as ``read_convergence`` does."""
    return report_of(read_convergence(study))


def report_of(result: Convergence) -> Report:
    """A row an estimator, then a row a size and snapshot, and the verdict."""
    others = tuple(row for row in result.along if row is not result.main)
    section = Section(
        title="Convergence of the estimators of chi_net",
        columns=COLUMNS,
        rows=tuple(_cells(row) for row in (*result.ways, *others)),
        text=describe(result),
        left_out_if_narrow=("draws", "draws to 1%"),
    )
    values = {"settings": dict(result.settings), "rows": [_numbers(row) for row in (*result.ways, *others)]}
    return Report(study=STUDY, preset=result.preset, sections=(section,), legend=_LEGEND, values=values)


def describe(result: Convergence) -> str:
    """One paragraph: what was drawn, how the spread falls, what 1% costs, how that changes, what is smaller."""
    if result.main is None:
        return "No draw has been made yet."
    sentences = (_head(result, result.main), _fall(result.main.power), _costs(result), _along(result), _smaller(result))
    return " ".join(sentence for sentence in sentences if sentence)


def _head(result: Convergence, main: Row) -> str:
    settings = result.settings
    unfinished = f" ({result.done} of {result.tasks} tasks are done)" if result.done < result.tasks else ""
    return (
        f"A Llama of {size(main.parameters)} parameters after {main.step} steps, {settings['sequences']} training "
        f"sequences of {settings['context']} tokens{unfinished}."
    )


def _fall(power: PowerLaw) -> str:
    if power.reason is not None:
        return f"No power is fitted: {power.reason}."
    holds = power.low <= PREDICTED <= power.high
    verdict = "which holds −½, as independent draws must have it" if holds else "which does not hold −½"
    return (
        f"The coefficient of variation of averages of M = 1 to {power.longest:,} draws, over {power.blocks} disjoint "
        f"repetitions of the longest, goes as M to the power of {signed(power.exponent, 3)} (95% interval "
        f"{interval(power.low, power.high)}), {verdict}."
    )


def _costs(result: Convergence) -> str:
    known = [row for row in result.ways if row.single.is_defined]
    if len(known) < 2:
        return ""
    parts = [f"{row.label}, {row.draws_for_target:,.0f} draws or {_seconds(row)} s" for row in known]
    return f"A relative standard error of {TARGET:.0%} takes: {'; '.join(parts)}."


def _along(result: Convergence) -> str:
    known = [row for row in result.along if row.single.is_defined]
    if len(known) < 2:
        return ""
    low, high = (choose(known, key=lambda row: row.single.value) for choose in (min, max))
    return (
        f"Over all sizes and snapshots one Hutchinson draw varies by {low.single.value:.1%} "
        f"({size(low.parameters)}, step {low.step}) to {high.single.value:.1%} ({size(high.parameters)}, step "
        f"{high.step})."
    )


def _smaller(result: Convergence) -> str:
    """Where this is less than the paper did; empty where it is not."""
    assert result.main is not None
    less, settings = [], result.settings
    if settings["averaged"] < PAPER_AVERAGED or settings["repetitions"] < PAPER_REPETITIONS:
        less.append(
            f"M up to {settings['averaged']:,} and {settings['repetitions']} repetitions, where the paper has "
            f"{PAPER_AVERAGED:,} and {PAPER_REPETITIONS}"
        )
    if settings["context"] < FULL_CONTEXT:
        less.append(f"sequences of {settings['context']} tokens in place of {FULL_CONTEXT}")
    if abs(math.log(result.main.parameters / PAPER_PARAMETERS)) > math.log(_NEARLY):
        less.append(f"{size(result.main.parameters)} parameters in place of about {size(round(PAPER_PARAMETERS))}")
    return f"Reduced ({result.preset}): {'; '.join(less)}." if less else ""


def _cells(row: Row) -> tuple[str, ...]:
    known = row.single.is_defined
    return (
        row.label,
        size(row.parameters),
        str(row.step),
        f"{len(row.draws):,}",
        f"{100 * row.single.value:.2f} ± {100 * row.single.stderr:.2f}%" if known else "–",
        _rounded(1e3 * row.seconds),
        f"{row.draws_for_target:,.0f}" if known else "–",
        _seconds(row) if known else "–",
    )


def _seconds(row: Row) -> str:
    """Until the target."""
    return _rounded(row.seconds * row.draws_for_target)


def _rounded(value: float) -> str:
    """To two digits, or to a whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _numbers(row: Row) -> dict[str, Any]:
    return {
        "run": row.run,
        "parameters": row.parameters,
        "step": row.step,
        "way": row.way,
        "units": row.units,
        "draws": len(row.draws),
        "chi_net": float(row.draws.mean()),
        "seconds": row.seconds,
        "single": asdict(row.single),
        "power": asdict(row.power),
    }


_LEGEND = (
    "Variation: standard deviation by mean of single draws, with its standard error (jackknife). Draws and seconds to "
    "1%: until an average has that relative standard error; at least one draw. Seconds as measured where the study "
    "ran; the forward pass that draws share is not counted, one that an estimator needs for itself is."
)
