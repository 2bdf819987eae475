"""``reproduce``: studies, figures and report in one go, again and after a failure; ``--dry-run`` touches nothing."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from spectral_reach.cli import running
from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.registry import FIGURES, FigureEntry
from spectral_reach.records.errors import RecordError
from spectral_reach.studies import registry
from spectral_reach.studies.engines.errors import EngineRefusedError
from spectral_reach.studies.plan import StudyPlan
from studies import small_tasks

FIGURE, FAILING = "squares-figure", "failing-squares"


def draw(studies: Sequence[Path], out: Path, formats: object) -> tuple[Path, ...]:
    out.mkdir(parents=True, exist_ok=True)
    file = out / "squares.txt"
    file.write_text(", ".join(study.name for study in studies))
    return (file,)


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the one figure that there is."""
    module = ModuleType("figure_of_squares")
    module.__dict__["draw"] = draw
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry._studies, small_tasks.STUDY, small_tasks.ENTRY)

    def plan(settings: Mapping[str, Any]) -> StudyPlan:
        return replace(small_tasks.plan(settings), study=FAILING)

    monkeypatch.setitem(registry._studies, FAILING, replace(small_tasks.ENTRY, name=FAILING, plan=plan, outline=plan))
    entry = FigureEntry(name=FIGURE, shows="squares", studies=(FAILING, small_tasks.STUDY), module=module.__name__)
    for name in list(FIGURES):
        monkeypatch.delitem(FIGURES, name)
    monkeypatch.setitem(FIGURES, FIGURE, entry)
    return module


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_everything_is_run_drawn_and_reported_and_then_found_done(tmp_path: Path) -> None:
    out = tmp_path / "all"
    code, told, errors = invoke("reproduce", "all", "--preset", "toy", "--out", out)
    assert code == ExitCode.OK, errors
    assert (out / "figures" / "squares.txt").read_text() == f"{FAILING}, {small_tasks.STUDY}"
    assert all((out / name).is_file() for name in ("report.html", "claims.md", "claims.json"))
    assert "Claims of the paper" in told
    for study in (FAILING, small_tasks.STUDY):
        assert (out / study / "summary.md").is_file()
        assert f"{study}: " in told
    results = {file: file.stat().st_mtime_ns for file in out.rglob("results/*")}
    assert results
    code, told, _ = invoke("reproduce", FIGURE, "--preset", "toy", "--out", out)
    assert code == ExitCode.OK
    assert "tasks are done already" in told
    assert {file: file.stat().st_mtime_ns for file in out.rglob("results/*")} == results


def test_a_failing_study_does_not_keep_the_others_from_the_report(tmp_path: Path) -> None:
    out = tmp_path / "all"
    code, _, errors = invoke("reproduce", "all", "--preset", "toy", "--out", out, "--set", f"{FAILING}.fails=broken")
    assert code == ExitCode.FAILED
    assert FAILING in errors
    assert (out / small_tasks.STUDY / "summary.md").is_file()
    assert (out / "report.html").is_file()


def test_a_study_whose_report_fails_does_not_keep_the_others_from_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(study: Path) -> Any:
        raise ValueError("of a report")

    monkeypatch.setitem(registry._studies, FAILING, replace(registry._studies[FAILING], report=report))
    out = tmp_path / "all"
    code, _, errors = invoke("reproduce", "all", "--preset", "toy", "--out", out)
    assert code == ExitCode.FAILED
    assert f"{FAILING}: Traceback" in errors
    assert "ValueError: of a report" in errors
    assert "1 of 2 studies failed" in errors
    assert (out / small_tasks.STUDY / "summary.md").is_file()
    assert (out / "report.html").is_file()


@pytest.mark.parametrize(
    ("refusal", "code", "told"),
    [
        (EngineRefusedError("No Ray cluster answers at 'nowhere:1'"), ExitCode.BAD_INPUT, "No Ray cluster answers"),
        (ModuleNotFoundError("No module named 'ray'", name="ray"), ExitCode.FAILED, "ray"),
    ],
)
def test_an_engine_that_cannot_execute_anything_is_told_once(
    refusal: Exception, code: ExitCode, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise refusal

    monkeypatch.setattr(running, "run_study", refuse)
    got, _, errors = invoke("reproduce", "all", "--preset", "toy", "--out", tmp_path / "all")
    assert got == code
    assert errors.count(told) == 1
    assert "Traceback" not in errors


def test_what_keeps_every_study_from_beginning_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(running, "run_study", fail)
    code, _, errors = invoke("reproduce", "all", "--preset", "toy", "--out", tmp_path / "all")
    assert code == ExitCode.FAILED
    assert "2 of 2 studies failed" in errors
    assert f"has no study {FAILING} or {small_tasks.STUDY}; run it first" in " ".join(errors.split())


def test_a_figure_is_drawn_from_the_studies_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_study = running.run_study

    def refuse_one(name: str, *given: Any, **named: Any) -> None:
        if name == FAILING:
            raise RecordError("no place left.")
        run_study(name, *given, **named)

    monkeypatch.setattr(running, "run_study", refuse_one)
    out = tmp_path / "all"
    code, _, errors = invoke("reproduce", "all", "--preset", "toy", "--out", out)
    assert code == ExitCode.FOLDER
    assert f"{FAILING}: no place left." in errors
    assert (out / "figures" / "squares.txt").read_text() == small_tasks.STUDY


def test_a_figure_with_nothing_to_show_is_no_failure(tmp_path: Path, drawn: ModuleType) -> None:
    def nothing(*_: object) -> Any:
        raise NothingToDrawError("no square yet.")

    drawn.__dict__["draw"] = nothing
    code, _, errors = invoke("reproduce", "all", "--preset", "toy", "--out", tmp_path)
    assert code == ExitCode.OK
    assert f"{FIGURE} is not drawn: no square yet." in errors


@pytest.mark.parametrize("error", [KeyError("a defect"), ValueError("of a figure")])
def test_a_figure_that_fails_keeps_nobody_from_the_report_and_is_told_at_the_end(
    tmp_path: Path, drawn: ModuleType, error: Exception
) -> None:
    def fail(*_: object) -> Any:
        raise error

    drawn.__dict__["draw"] = fail
    code, _, errors = invoke("reproduce", "all", "--preset", "toy", "--out", tmp_path)
    assert code == ExitCode.FAILED
    assert f"{FIGURE} is not drawn: Traceback" in errors
    assert "1 of 1 figures failed" in errors
    assert f"{type(error).__name__}: {error}" in errors
    assert (tmp_path / "report.html").is_file()


def test_a_folder_of_other_settings_is_told_before_anything_is_run(tmp_path: Path) -> None:
    out = tmp_path / "all"
    code, _, _ = invoke("study", "run", small_tasks.STUDY, "--set", "count=2", "--out", out / small_tasks.STUDY)
    assert code == ExitCode.OK
    code, _, errors = invoke("reproduce", "all", "--preset", "toy", "--out", out)
    assert code == ExitCode.FOLDER
    assert "holds another study" in " ".join(errors.split())
    assert not (out / FAILING).exists()


def test_a_mistake_is_told_before_anything_is_run(tmp_path: Path) -> None:
    out = tmp_path / "all"
    for arguments, message in (
        (("all", "--set", "music.steps=3"), "--set got a setting of 'music'; expected STUDY.PATH=VALUE"),
        (("all", "--set", f"{FAILING}=3"), f"--set {FAILING}=3 sets a whole study"),
        (("fig99",), "got figure 'fig99'"),
        (("all", "--workers", "2", "--address", "auto"), "--address is auto with the engine 'local'"),
    ):
        code, _, errors = invoke("reproduce", *arguments, "--out", out)
        assert code == ExitCode.BAD_INPUT, arguments
        assert message in " ".join(errors.split())
    assert not out.exists()


def test_a_dry_run_says_what_it_takes_and_does_nothing(tmp_path: Path) -> None:
    out = tmp_path / "all"
    code, told, _ = invoke("reproduce", "all", "--preset", "toy", "--dry-run", "--out", out)
    assert code == ExitCode.OK
    assert f"{small_tasks.STUDY}: " in told
    assert "hours of one CPU core" in told
    assert not out.exists()


def test_a_dry_run_of_a_study_lists_every_run() -> None:
    code, told, _ = invoke("study", "run", "vit", "--preset", "paper", "--dry-run")
    assert code == ExitCode.OK
    assert "vit-18979k-seed2" in told
    assert "hours of one H100 or H200" in told
    code, _, errors = invoke("study", "run", "vit", "--preset", "toy")
    assert code == ExitCode.BAD_INPUT
    assert "--out is missing; expected the folder" in " ".join(errors.split())
