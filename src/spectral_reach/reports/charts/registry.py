"""The charts by the studies that they are drawn from, in the order of the page. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from spectral_reach.reports.chart import Chart, Panel
from spectral_reach.reports.collected import StudyRecord
from spectral_reach.reports.failures import logged_reason


@dataclass(frozen=True, kw_only=True, slots=True)
class ChartEntry:
    """One chart.

    Attributes:
        name: of the static figure that shows the same, and of the module in this room.
        studies: groups of studies that it can be drawn from, the first that is there: (("a", "b"), ("c",)) is drawn
            from a and b, whichever of them there is, else from c.
    """

    name: str
    studies: tuple[tuple[str, ...], ...]

    def folders(self, records: Mapping[str, StudyRecord]) -> list[Path]:
        """Of the studies that it is drawn from here: those that have begun."""
        for group in self.studies:
            if there := [records[name].data.path for name in group if name in records and _has_begun(records[name])]:
                return there
        return []

    def draw(self, folders: list[Path]) -> Chart | None:
        """The chart; None where the studies have nothing to show in it yet."""
        module = import_module(f"spectral_reach.reports.charts.{self.name.replace('-', '_')}")
        drawn: Chart | None = module.chart(folders)
        return drawn


SCALING = (("scaling-text", "scaling-pixels"), ("scaling",))

CHARTS = (
    ChartEntry(name="fig1", studies=SCALING),
    ChartEntry(name="fig3", studies=(("random-features",),)),
    ChartEntry(name="fig4", studies=(("probes",),)),
    ChartEntry(name="fig5", studies=(("probes",),)),
    ChartEntry(name="fig6", studies=(("convergence",),)),
    ChartEntry(name="fig7", studies=SCALING),
    ChartEntry(name="fig8", studies=SCALING),
    ChartEntry(name="fig9", studies=(("vit", "vit-mup"),)),
    ChartEntry(name="fig10", studies=SCALING),
    ChartEntry(name="fig11", studies=SCALING),
    ChartEntry(name="fig12", studies=(("spectra",),)),
    ChartEntry(name="coordinate-check", studies=(("coordinate-check",),)),
    ChartEntry(name="loss-reduction", studies=(("loss-reduction",),)),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """What came of the charts: those that there are, and by name why one could not be drawn from the studies here."""

    charts: tuple[Chart, ...]
    failed: Mapping[str, str]


def draw_charts(records: Mapping[str, StudyRecord]) -> Drawn:
    """Every chart whose studies are there and have something to show.

    The page is made of hours of runs, and one chart is a small part of it: whatever is raised in one is kept in
    ``failed`` for the page to tell, and logged as a warning.
    """
    charts: list[Chart] = []
    failed: dict[str, str] = {}
    for entry in CHARTS:
        folders = entry.folders(records)
        try:
            chart = entry.draw(folders) if folders else None
        except Exception as error:  # a defect of one chart must not cost the others
            failed[entry.name] = logged_reason(f"{entry.name} is not drawn", error)
            continue
        if chart is not None and (panels := _filled(chart.panels)):
            charts.append(replace(chart, panels=panels))
    return Drawn(charts=tuple(charts), failed=failed)


def _filled(panels: tuple[Panel, ...]) -> tuple[Panel, ...]:
    """Those with something in them: of a run that has hardly begun many have nothing."""
    return tuple(panel for panel in panels if panel.traces)


def _has_begun(record: StudyRecord) -> bool:
    """A loss of a run that is no sweep's, or a task's result."""
    return record.tasks_finished > 0 or any(len(run.losses) for family in record.data.families for run in family.runs)
