"""The runs: what each is, how far it is, where it ended, what it has cost; sweeps of learning rates folded away."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spectral_reach.reports.amounts import compute, counted, duration, memory, rate
from spectral_reach.reports.collected import StudyRecord, cost
from spectral_reach.reports.markup import Markup, element, folded, joined
from spectral_reach.reports.private_paths import without_paths
from spectral_reach.reports.tables import Cell, number, table, text
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.late_average import late_average
from spectral_reach.studies.analysis.numbers import size, small, with_error
from spectral_reach.studies.analysis.study_data import FamilyData, RunData

COLUMNS = (
    "run",
    "study",
    "family",
    "parameters",
    "seed",
    "learning rate",
    "chosen by",
    "steps",
    "train loss",
    "held-out loss",
    "late chi_pos",
    "late chi_pos_unbiased",
    "time",
    "training compute",
    "peak memory",
    "device",
)

_READING = (
    "Losses in nats. Train loss, chi_pos and chi_pos_unbiased are means over the last tenth of training with the "
    "standard error over its batches; held-out loss is that of the final model. An unfinished run has none of them. "
    "Time is the wall-clock time of all sittings, training compute that of the steps made, without measurements; "
    "memory is that of the process, or of the CUDA device."
)
_RULES = {
    "constant": "one for all",
    "inverse_width": "∝ 1 / width",
    "given": "given",
    "sweep": "sweep",
}


def run_section(studies: Sequence[StudyRecord]) -> Markup:
    """Both tables."""
    compared = list(_rows(studies, sweeps=False))
    swept = list(_rows(studies, sweeps=True))
    if not compared and not swept:
        return element("p", "No run has begun.")
    return joined(
        element("p", _READING),
        table("Runs", COLUMNS, compared, sortable=True, kind="runs") if compared else None,
        folded(
            f"Learning-rate sweeps: {counted(len(swept), 'run')}",
            table("Runs that choose learning rates", COLUMNS, swept, sortable=True, kind="runs"),
        )
        if swept
        else None,
    )


def _rows(studies: Sequence[StudyRecord], *, sweeps: bool) -> Iterator[list[Cell]]:
    for study in studies:
        for family in study.data.sweeps if sweeps else study.data.families:
            rule = _rule(study.data.settings, family.key)
            for run in family.runs:
                yield _row(study.name, family, run, rule)
            for name in family.not_started:
                yield _waiting(study.name, family, name)


def _row(study: str, family: FamilyData, run: RunData, rule: str | None) -> list[Cell]:
    late, spent = late_average(run), cost(run)
    return [
        text(run.name),
        text(study),
        text(str(without_paths(family.label))),
        number(size(run.parameters), run.parameters),
        number(str(run.seed), run.seed),
        number(rate(run.learning_rate), run.learning_rate),
        text(_chosen_by(run, rule, family)),
        Cell(
            content=_progress(run),
            order=run.steps_done / run.steps,
            is_number=True,
            kind=None if run.is_finished else "unfinished",
        ),
        _estimate(with_error(late.train_loss), late.train_loss),
        number("–" if math.isnan(late.heldout_loss) else f"{late.heldout_loss:.3f}", late.heldout_loss),
        _estimate(small(late.chi_pos), late.chi_pos),
        _estimate(small(late.chi_pos_unbiased), late.chi_pos_unbiased),
        number(duration(spent.seconds), spent.seconds),
        number(compute(spent.flops), spent.flops),
        number(memory(spent.peak_bytes), spent.peak_bytes),
        text(_devices(run)),
    ]


def _waiting(study: str, family: FamilyData, name: str) -> list[Cell]:
    unknown = [number("–", math.nan) for _ in range(3)]
    return [
        text(name),
        text(study),
        text(str(without_paths(family.label))),
        *unknown,
        text("–"),
        Cell(content="not begun", order=0.0, is_number=True, kind="unfinished"),
        *(number("–", math.nan) for _ in range(7)),
        text("–"),
    ]


def _estimate(shown: str, estimate: Estimate) -> Cell:
    return number(shown, estimate.value)


def _progress(run: RunData) -> str:
    return f"{run.steps:,}" if run.is_finished else f"{run.steps_done:,} of {run.steps:,}"


def _chosen_by(run: RunData, rule: str | None, family: FamilyData) -> str:
    if family.is_sweep:
        return "tried"
    if sweep := run.config.get("rate_from"):
        return f"sweep of {len(sweep)}"
    return "given" if rule is None else _RULES.get(rule, rule)


def _rule(settings: Mapping[str, Any], family: str) -> str | None:
    """How the study's settings have the rates of a family made; None where they do not say."""
    families = settings.get("families")
    of_family = families.get(family) if isinstance(families, Mapping) else None
    rates = of_family.get("rates") if isinstance(of_family, Mapping) else None
    return str(rates["rule"]) if isinstance(rates, Mapping) and "rule" in rates else None


def _devices(run: RunData) -> str:
    return ", ".join(dict.fromkeys(str(sitting["device"]) for sitting in run.usage if "device" in sitting)) or "–"
