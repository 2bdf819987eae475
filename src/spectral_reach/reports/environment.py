"""Where the runs were made and what with, as far as they have recorded it, and the machine that made the report."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from spectral_reach import __version__
from spectral_reach.reports.amounts import UNKNOWN, counted
from spectral_reach.reports.collected import StudyRecord
from spectral_reach.reports.markup import Markup, element, joined
from spectral_reach.reports.private_paths import without_paths
from spectral_reach.reports.tables import Cell, number, table, text

PACKAGES = ("torch", "numpy", "scipy", "transformers", "pyarrow", "matplotlib", "plotly")

_RECORDED = ("device", "threads", "python", "torch")


def environment_section(studies: Sequence[StudyRecord]) -> Markup:
    """Two tables: sittings of the runs by what they had, and this machine."""
    return joined(element("h3", "The runs"), _of_runs(studies), element("h3", "This report"), _of_this_machine())


def _of_runs(studies: Sequence[StudyRecord]) -> Markup:
    found = Counter(
        tuple(str(without_paths(str(sitting.get(key, UNKNOWN)))) for key in _RECORDED)
        for study in studies
        for run in study.runs
        for sitting in run.usage
    )
    if not found:
        return element("p", "No run has recorded what it ran on.")
    rows = [
        [*(text(value) for value in values), number(f"{sittings:,}", sittings)]
        for values, sittings in sorted(found.items())
    ]
    columns = ("device", "threads a run", "Python", "torch", "sittings")
    return table("What the runs ran on, as each of their sittings recorded it", columns, rows)


def _of_this_machine() -> Markup:
    rows = [[text(name), Cell(content=value)] for name, value in this_machine()]
    return table("The machine that made this report", ("", ""), rows, kind="facts")


def this_machine() -> Iterator[tuple[str, str]]:
    """Names and values; no name of the machine or its user, and no path."""
    yield "spectral-reach", __version__
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()})"
    for package in PACKAGES:
        yield package, _version(package)
    yield "operating system", f"{platform.system()} {platform.release()}"
    yield "processor", f"{_processor()} ({platform.machine()}), {counted(os.cpu_count() or 1, 'core')}"
    yield "accelerators", ", ".join(_accelerators()) or "none"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Its model name where the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or "processor"


def _accelerators() -> list[str]:
    import torch

    return (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
