"""Figure 6 from results that are made up: what is drawn is what is in the files, whole or half finished."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from spectral_reach.figures.registry import figure
from spectral_reach.records.results import Results
from spectral_reach.studies import registry
from spectral_reach.studies.analysis.convergence import read_convergence
from spectral_reach.studies.analysis.convergence_report import describe, report
from spectral_reach.studies.analysis.report import as_json, as_markdown
from spectral_reach.studies.data import stdlib
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.study_folder import write_plan
from spectral_reach.studies.tasks.task import Task
from spectral_reach.studies.tasks.trace_draws import TraceDraws
from studies.small_library import write_library

SPREAD = {("batch", 0): 0.08, ("one_for_all", 0): 0.07, ("per_unit", 0): 0.01, ("per_unit", 2): 0.04}
CHI_NET = 3.2e5


def made_up(task: Task) -> dict[str, np.ndarray]:
    """Normal draws of the spread of their estimator, twice as many seconds for those by unit."""
    of = task.settings
    assert isinstance(of, TraceDraws)
    random = np.random.default_rng([1, of.first, of.step, len(of.run), list(SPREAD).index((of.way, of.units))])
    seconds = np.full(of.draws, 0.2 if of.way == "batch" else 0.4)
    return {"chi_net": CHI_NET * (1 + SPREAD[of.way, of.units] * random.normal(size=of.draws)), "seconds": seconds}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyPlan:
    root = write_library(tmp_path / "library")
    monkeypatch.setattr(stdlib, "stdlib_root", lambda: root)
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path / "cache"))
    draws = {"averaged": 24, "repetitions": 20, "compared": 8, "draws_per_task": 100}
    settings = {"preset": "toy", "vocabulary": 300, **draws}
    return registry.find("convergence").plan(settings)


def study_of(path: Path, plan: StudyPlan, tasks: int | None = None) -> Path:
    write_plan(path, plan)
    for task in plan.tasks[:tasks]:
        Results(path).save(task.as_dict(), made_up(task))
    return path


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_figure_and_its_numbers(plan: StudyPlan, tmp_path: Path) -> None:
    study = study_of(tmp_path / "study", plan)
    files = figure("fig6").draw(study)
    assert [file.name for file in files] == ["fig6.png", "fig6.pdf", "fig6.svg", "fig6.csv"]
    assert all(file.stat().st_size > 1000 for file in files)
    rows = rows_of(files[-1])
    variations = [row for row in rows if row["quantity"] == "variation" and row["way"] == "batch"]
    assert [int(row["averaged"]) for row in variations] == [1, 3, 6, 12, 24]
    assert [int(row["repetitions"]) for row in variations] == [480, 160, 80, 40, 20]
    for row in variations:
        expected = 0.08 / math.sqrt(int(row["averaged"]))
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
        # Five standard deviations of the logarithm.
        assert float(row["value"]) == pytest.approx(expected, rel=5 / math.sqrt(2 * (int(row["repetitions"]) - 1)))
        assert float(row["seconds"]) == pytest.approx(0.2 * int(row["averaged"]))
    averages = [row for row in rows if row["quantity"] == "average" and row["averaged"] == "1"]
    assert len(averages) == 50
    assert {(row["way"], row["units"]) for row in rows if row["panel"] == "b"} == {(w, str(u)) for w, u in SPREAD}
    assert len([row for row in rows if row["panel"] == "c"]) == 4
    text = files[2].read_text("utf-8")
    assert "Hutchinson, one probe for the batch" in text
    assert "a probe for each, 2 units" in text


def test_the_words_follow_from_the_numbers(plan: StudyPlan, tmp_path: Path) -> None:
    study = study_of(tmp_path / "study", plan)
    result = read_convergence(study)
    words = describe(result)
    assert result.main is not None
    power = result.main.power
    assert power.low < -0.5 < power.high
    assert "over 20 disjoint repetitions of the longest" in words
    assert "which holds −½" in words
    assert "M up to 24 and 20 repetitions, where the paper has 2,000 and 50" in words
    assert "; sequences of 16 tokens in place of 128; " in words
    assert "in place of about 7M" in words
    assert f"{result.main.draws_for_target:,.0f} draws or" in words
    assert result.main.draws_for_target == pytest.approx(64, rel=0.2)
    assert words in as_markdown(report(study))
    assert as_json(report(study))["rows"][0]["power"]["exponent"] == power.exponent


def test_a_fall_that_is_no_root_is_said_to_be_none(plan: StudyPlan, tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_plan(study, plan)
    for task in plan.tasks:
        values = made_up(task)
        # Every draw comes four times.
        values["chi_net"] = np.repeat(values["chi_net"], 4)[: len(values["chi_net"])]
        Results(study).save(task.as_dict(), values)
    assert "which does not hold −½" in describe(read_convergence(study))
    assert figure("fig6").draw(study, formats=["svg"])


def test_an_unfinished_study_is_drawn_as_far_as_it_is(plan: StudyPlan, tmp_path: Path) -> None:
    study = study_of(tmp_path / "study", plan, tasks=2)
    files = figure("fig6").draw(study, formats=["svg"])
    rows = rows_of(files[-1])
    assert {row["way"] for row in rows} == {"batch"}
    words = describe(read_convergence(study))
    assert f"(2 of {len(plan.tasks)} tasks are done)" in words
    assert "8 disjoint repetitions" in words


def test_nothing_to_draw_is_told(plan: StudyPlan, tmp_path: Path) -> None:
    study = study_of(tmp_path / "study", plan, tasks=0)
    with pytest.raises(ValueError, match="has too few draws yet: got nothing to draw; run the study further"):
        figure("fig6").draw(study)
    with pytest.raises(ValueError, match="expected some of"):
        figure("fig6").draw(study, formats=["gif"])


@pytest.mark.slow
def test_the_same_study_gives_the_same_bytes(plan: StudyPlan, tmp_path: Path) -> None:
    study = study_of(tmp_path / "study", plan)
    first, second = figure("fig6").draw(study, tmp_path / "a"), figure("fig6").draw(study, tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
