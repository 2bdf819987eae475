"""A figure with the study behind it: run, interrupted, taken up again, drawn; and the toy of Figure 6 end to end."""

import csv
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.registry import FIGURES, FigureEntry
from spectral_reach.records.results import Results
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies import registry
from spectral_reach.studies.study_folder import write_plan
from studies import small_tasks

FIGURE = "squares-figure"
FIGURE_OF_TWO = "squares-twice"
OTHER = "other-squares"


def draw(studies: Sequence[Path], out: Path, formats: object) -> tuple[Path, ...]:
    out.mkdir(parents=True, exist_ok=True)
    file = out / "squares.txt"
    file.write_text(
        " ".join(
            str(Results(study).load(name).values["square"]) for study in studies for name in Results(study).names()
        )
    )
    return (file,)


@pytest.fixture(autouse=True)
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("figure_of_squares")
    module.__dict__["draw"] = draw
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry._studies, small_tasks.STUDY, small_tasks.ENTRY)
    entry = FigureEntry(name=FIGURE, shows="squares", studies=(small_tasks.STUDY,), module=module.__name__)
    monkeypatch.setitem(FIGURES, FIGURE, entry)
    monkeypatch.setitem(registry._studies, OTHER, replace(small_tasks.ENTRY, name=OTHER))
    both = FigureEntry(name=FIGURE_OF_TWO, shows="squares", studies=(small_tasks.STUDY, OTHER), module=module.__name__)
    monkeypatch.setitem(FIGURES, FIGURE_OF_TWO, both)


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", list(FIGURES))
def test_a_figure_of_studies_that_have_not_begun_has_nothing_to_draw(name: str, tmp_path: Path) -> None:
    for study in FIGURES[name].studies:
        write_plan(tmp_path / study, registry.find(study).outline({"preset": "toy"}))
    with pytest.raises(NothingToDrawError, match="got nothing to"):
        FIGURES[name].draw([tmp_path / study for study in FIGURES[name].studies])


def test_settings_of_its_studies_can_be_changed(tmp_path: Path) -> None:
    change = ("--set", f"{small_tasks.STUDY}.count=2")
    code, _, errors = invoke("figure", FIGURE, "--preset", "toy", *change, "--out", tmp_path / "f")
    assert code == ExitCode.OK, errors
    assert Results(tmp_path / "f").names() == ("square-0", "square-1")
    code, _, errors = invoke("figure", FIGURE, "--study", tmp_path / "f", *change)
    assert code == ExitCode.BAD_INPUT
    assert "--set goes with --preset" in " ".join(errors.split())


def test_the_study_is_run_then_drawn_and_the_same_command_does_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke("figure", FIGURE, "--preset", "toy", "--workers", 1)
    assert code == ExitCode.OK, err
    study = Path("figures") / f"{FIGURE}-toy"
    file = study / "figures" / "squares.txt"
    assert file.read_text() == "0 1 4"
    assert out.splitlines()[0] == "Expected cost: 3 tasks, about 2 min, with 1 thread."
    assert "There are 3 squares." in out
    assert out.splitlines()[-1] == str(file)
    assert err.splitlines() == [
        "square-0  working   task 1 of 3  0%",
        "square-0  finished  task 1 of 3",
        "square-1  working   task 2 of 3  0%",
        "square-1  finished  task 2 of 3",
        "square-2  working   task 3 of 3  0%",
        "square-2  finished  task 3 of 3",
    ]
    before = {path: path.stat().st_mtime_ns for path in (study / "results").iterdir()}
    code, out, err = invoke("figure", FIGURE, "--preset", "toy")
    assert code == ExitCode.OK, err
    assert "3 of 3 tasks are done already." in out
    assert err == ""
    assert {path: path.stat().st_mtime_ns for path in (study / "results").iterdir()} == before


def test_ctrl_c_in_a_task_keeps_those_before_and_the_printed_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(small_tasks.Square, "execute", interrupted_at(1))
        code, out, err = invoke("figure", FIGURE, "--preset", "toy", "--out", tmp_path / "x", "--workers", 2)
    assert code == ExitCode.INTERRUPTED
    assert f"Stopped. What has been recorded is kept in {tmp_path / 'x'}. Go on with:" in err
    assert "Summary" not in out
    assert Results(tmp_path / "x").names() == ("square-0",)
    program, *go_on = shlex.split(err.splitlines()[-1])
    assert program == "spectral-reach"
    assert go_on[-1] == "2"
    code, out, err = invoke(*go_on)
    assert code == ExitCode.OK, err
    assert "1 of 3 tasks are done already." in out
    assert (tmp_path / "x" / "figures" / "squares.txt").read_text() == "0 1 4"


def interrupted_at(number: int) -> object:
    execute = small_tasks.Square.execute

    def executing(self: small_tasks.Square, study: Path, on_share: object) -> object:
        if self.number == number:
            raise KeyboardInterrupt
        return execute(self, study, on_share)  # type: ignore[arg-type]

    return executing


def test_a_task_that_fails_is_told_after_the_report_of_the_others(tmp_path: Path) -> None:
    arguments = ["study", "run", small_tasks.STUDY, "--set", "fails=it broke", "--out", tmp_path / "x"]
    code, out, err = invoke(*arguments)
    assert code == ExitCode.FAILED
    assert "There are 2 squares." in out
    assert "Error: 1 of 3 tasks failed, the others have finished." in err
    assert "RuntimeError: it broke" in err
    code, _, err = invoke(*arguments[:3], "--set", "fails=folder", "--out", tmp_path / "y")
    assert code == ExitCode.FOLDER
    assert "square-1: the folder said no." in err


def test_a_study_of_tasks_is_listed_with_its_figure() -> None:
    assert "squares  Squares of numbers.\n  --preset toy: A moment." in invoke("study", "list")[1]
    assert f"{FIGURE}  squares\n  study squares; --preset toy" in invoke("figure")[1]


def test_a_figure_is_drawn_from_a_folder_that_is_there(tmp_path: Path) -> None:
    assert invoke("study", "run", small_tasks.STUDY, "--out", tmp_path / "x")[0] == ExitCode.OK
    code, out, _ = invoke("figure", FIGURE, "--study", tmp_path / "x", "--out", tmp_path / "files")
    assert (code, out) == (ExitCode.OK, f"{tmp_path / 'files' / 'squares.txt'}\n")


def test_a_figure_of_two_studies_runs_both_in_folders_of_their_names(tmp_path: Path) -> None:
    home = tmp_path / "x"
    code, out, err = invoke("figure", FIGURE_OF_TWO, "--preset", "toy", "--out", home, "--workers", 1)
    assert code == ExitCode.OK, err
    assert Results(home / small_tasks.STUDY).names() == Results(home / OTHER).names()
    assert (home / "figures" / "squares.txt").read_text() == "0 1 4 0 1 4"
    assert out.splitlines()[-1] == str(home / "figures" / "squares.txt")
    folders = ["--study", home / small_tasks.STUDY, "--study", home / OTHER]
    code, out, _ = invoke("figure", FIGURE_OF_TWO, *folders)
    assert (code, out) == (ExitCode.OK, f"{home / 'figures' / 'squares.txt'}\n")
    assert f"{FIGURE_OF_TWO}  squares\n  studies squares and {OTHER}; --preset toy" in invoke("figure")[1]


def test_a_preset_that_not_all_studies_have_is_refused_before_any_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        registry._studies, OTHER, replace(small_tasks.ENTRY, name=OTHER, presets={"paper": "", "toy": ""})
    )
    code, _, err = invoke("figure", FIGURE_OF_TWO, "--preset", "paper", "--out", tmp_path / "x")
    assert code == ExitCode.BAD_INPUT
    words = " ".join(err.split())
    assert (
        "got preset 'paper' for figure squares-twice; expected one of toy, which squares and other-squares can" in words
    )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("arguments", "got"), [((), "got neither"), (("--preset", "toy", "--study", "y"), "got both")])
def test_either_a_preset_or_folders(arguments: tuple[str, ...], got: str) -> None:
    code, _, err = invoke("figure", FIGURE_OF_TWO, *arguments)
    assert code == ExitCode.BAD_INPUT
    words = " ".join(err.split())
    assert "with --preset NAME, which runs squares and other-squares first, or with --study DIR, from a" in words
    assert f"{got}, expected one of them" in words


@pytest.mark.slow
def test_the_toy_of_figure_6_is_drawn_end_to_end(tmp_path: Path) -> None:
    study = tmp_path / "fig6"
    code, out, err = invoke("figure", "fig6", "--preset", "toy", "--out", study, "--workers", 1)
    assert code == ExitCode.OK, err
    assert "2 runs of 16k to 37k parameters" in out
    assert "Reduced (toy): M up to 8 and 5 repetitions" in out
    files = sorted(path.name for path in (study / "figures").iterdir())
    assert files == ["fig6.csv", "fig6.pdf", "fig6.png", "fig6.svg"]
    assert [line for line in out.splitlines() if line.endswith(".png")] == [str(study / "figures" / "fig6.png")]
    with (study / "figures" / "fig6.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {row["panel"] for row in rows} == {"a", "b", "c"}
    assert {(row["way"], row["units"]) for row in rows} == {
        ("batch", "0"),
        ("one_for_all", "0"),
        ("per_unit", "0"),
        ("per_unit", "2"),
    }
    for run in (study / "runs").iterdir():
        assert RunFolder.open(run).snapshots.steps() == (0, 8)
