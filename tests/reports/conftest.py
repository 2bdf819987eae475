"""The studies and the page that the tests of this folder share."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.synthetic_study import SyntheticRun, pixel_runs, text_runs, write_study
from reports.browser import EXECUTABLE, Browser, browser
from spectral_reach.records.results import Results
from spectral_reach.reports.report import build
from spectral_reach.studies.tasks.usage import write_task_seconds

HOSTILE = '</script><script>window.hacked = 1</script><img src="x" onerror="window.hacked = 2">'
"""The label of a family that would like to act in the page."""
SECRET = "/home/somebody/corpora/stories.jsonl"
"""A path of the machine that ran the studies."""


def write_usage(study: Path) -> None:
    """Two sittings of every run: 30 and 12.5 seconds, 400 and 500 MB."""
    for run in (study / "runs").iterdir():
        sitting = {"began": time.time() - 9000, "device": "cpu", "threads": 1, "python": "3.11.7", "torch": "2.14.1"}
        first = {**sitting, "from_step": 0, "to_step": 100, "seconds": 30.0, "peak_bytes": 400e6}
        second = {**sitting, "from_step": 100, "to_step": 300, "seconds": 12.5, "peak_bytes": 500e6}
        (run / "usage.json").write_text(json.dumps([first, second]), encoding="utf-8")


def change_header(study: Path, **changes: object) -> None:
    """Other entries for ``study.json``."""
    file = study / "study.json"
    header = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**header, **changes}), encoding="utf-8")


def write_studies(folder: Path) -> Path:
    """Text and images, one text run unfinished and one image run not begun, a sweep, and a study of tasks."""
    text = [replace(run, heldout_units=32) for run in text_runs()[:3]]
    text[2] = replace(text[2], done=120)
    sweep = [SyntheticRun(name=f"text-2-rate{i}", parameters=207_000, steps=60) for i in range(2)]
    text[1] = replace(text[1], overrides={"rate_from": [run.name for run in sweep]})
    study = write_study(folder / "scaling-text", {"text": text, "text-rates": sweep}, study="scaling-text")
    families = json.loads((study / "study.json").read_text(encoding="utf-8"))["families"]
    families["text"]["label"] = HOSTILE
    families["text-rates"]["is_sweep"] = True
    settings = {"preset": "quick", "families": {"text": {"data": {"path": SECRET}, "rates": {"rule": "inverse_width"}}}}
    change_header(study, families=families, settings=settings, preset="quick")
    pixels = write_study(
        folder / "scaling-pixels",
        {"pixels": pixel_runs()[:3]},
        not_started={"pixels": ["pixels-9"]},
        study="scaling-pixels",
    )
    for each in (study, pixels):
        write_usage(each)
    tasks = write_study(folder / "some-tasks", {}, study="some-tasks")
    change_header(tasks, tasks=["first", "second", "third"])
    for name in ("first", "third"):  # the third of a version that kept no record of time
        Results(tasks).save({"name": name, "kind": "any", "settings": {}}, {"value": 1.0})
    write_task_seconds(tasks, "first", 60.0)
    return folder


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_studies(tmp_path_factory.mktemp("reports") / "studies")


@pytest.fixture(scope="session")
def page_file(studies: Path) -> Path:
    return build(studies).page


@pytest.fixture(scope="session")
def page_text(page_file: Path) -> str:
    return page_file.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if EXECUTABLE is None:
        pytest.skip("Chromium is not installed (Debian's package chromium): the page is not looked at in a browser")
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started
