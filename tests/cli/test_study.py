"""A toy study from the command line: run, look, draw, measure; interrupted, resumed, refused."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from spectral_reach.cli import demo
from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.study_folder import sole_owner

TOY = ["study", "run", "scaling", "--preset", "toy"]
ONE_RUN = [*TOY, "--set", "families.text=null", "--set", "families.pixels.widths=[16]"]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "spectral_reach.cli", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True)


def run_here(*arguments: object) -> Result:
    """In this process, which has made the imports."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("study") / "toy"
    return out, run(*TOY, "--out", out)


@pytest.mark.slow
def test_the_study_prints_cost_progress_tables_and_words(
    toy: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, done = toy
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.startswith("Expected cost: 4 runs of 4k to 37k parameters")
    for run_folder in (out / "runs").iterdir():
        assert f"{run_folder.name}  " in done.stderr
        assert RunFolder.open(run_folder).is_finished
    assert "loss " in done.stderr
    assert "chi_pos " in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    summary = json.loads((out / "summary.json").read_text())
    for family in summary["families"]:
        assert family["label"] in done.stdout
        assert family["text"] in done.stdout
    assert (out / "summary.md").is_file()


@pytest.mark.slow
def test_a_finished_study_is_shown_again_and_nothing_is_run(
    toy: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, first = toy
    before = {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*.parquet")}
    again = CliRunner().invoke(app, [*TOY, "--out", str(out)])
    assert again.exit_code == ExitCode.OK, again.output
    assert "4 of 4 runs are finished already." in again.stdout
    assert _tables(again.stdout) == _tables(first.stdout)
    assert {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*.parquet")} == before


@pytest.mark.slow
def test_the_figure_of_the_study(toy: tuple[Path, object], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["figure", "fig1", "--study", str(toy[0]), "--out", str(tmp_path)])
    assert result.exit_code == ExitCode.OK, result.output
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["fig1.csv", "fig1.pdf", "fig1.png", "fig1.svg"]
    assert sorted(result.stdout.splitlines()) == [str(file) for file in files]


@pytest.mark.slow
def test_measuring_a_run_of_the_study(toy: tuple[Path, object], tmp_path: Path) -> None:
    (folder,) = (toy[0] / "runs").glob("pixels-004k")
    result = CliRunner().invoke(app, ["measure", str(folder), "--units", "4", "--out", str(tmp_path / "x.parquet")])
    assert result.exit_code == ExitCode.OK, result.output
    assert "after 30 steps, on 4 training sequences of digits" in result.stdout
    written = pq.read_table(tmp_path / "x.parquet").to_pylist()[0]
    assert (written["step"], written["n_samples"]) == (30, 4 * 64)


@pytest.mark.slow
def test_options_of_data_need_data(toy: tuple[Path, object]) -> None:
    (folder,) = (toy[0] / "runs").glob("pixels-004k")
    result = CliRunner().invoke(app, ["measure", str(folder), "--context", "8"])
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "--context only goes with --data" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["study", "run", "scalling"], ExitCode.BAD_INPUT, "Unknown study 'scalling'; the known ones are"),
        (["study", "run", "scaling", "--preset", "huge"], ExitCode.BAD_INPUT, "Unknown preset 'huge'"),
        ([*TOY, "--set", "seeds=[-1]"], ExitCode.BAD_INPUT, "seeds is (-1,); expected at least 0"),
        ([*TOY, "--set", "families.text.training.stepz=3"], ExitCode.BAD_INPUT, "has no setting 'stepz'"),
        ([*TOY, "--set", "seed"], ExitCode.BAD_INPUT, "expected PATH=VALUE"),
        ([*TOY, "--set", "seeds=abc"], ExitCode.BAD_INPUT, "seeds is 'abc'; expected a list of whole numbers"),
        ([*TOY, "--set", "preset=[1]"], ExitCode.BAD_INPUT, "Unknown preset [1] of the scaling study"),
        ([*TOY, "--set", "families=3"], ExitCode.BAD_INPUT, "families of the scaling study is 3; expected families by"),
        ([*TOY, "--set", "families.text.data=3"], ExitCode.BAD_INPUT, "data is 3; expected settings by name"),
        (
            [*TOY, "--set", 'families.text.widths=["a"]'],
            ExitCode.BAD_INPUT,
            "widths is ['a']; expected a list of whole",
        ),
        ([*TOY, "--set", "families.text.widths=3"], ExitCode.BAD_INPUT, "widths is 3; expected a list of whole"),
        (
            [*TOY, "--set", "families.text.data.vocabulary=abc"],
            ExitCode.BAD_INPUT,
            "vocabulary is 'abc', a str; expected a whole number",
        ),
        ([*TOY, "--set", "families.text.data.context=1.5"], ExitCode.BAD_INPUT, "context is 1.5, a float; expected a"),
        ([*TOY, "--engine", "slurm"], ExitCode.BAD_INPUT, "engine is 'slurm'; expected local or inline or ray"),
        (
            [*TOY, "--address", "auto"],
            ExitCode.BAD_INPUT,
            "--address is auto with the engine 'local'; expected it with",
        ),
        ([*TOY, "--engine", "ray", "--cpus-per-run", "0"], ExitCode.BAD_INPUT, "cpus-per-run is 0; expected more than"),
        ([*TOY, "--workers", "0"], ExitCode.BAD_INPUT, "workers is 0; expected at least 1 run at a time"),
    ],
)
def test_wrong_studies(tmp_path: Path, arguments: list[str], code: ExitCode, says: str) -> None:
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == code
    assert says in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["fig77"], ExitCode.BAD_INPUT, "got figure 'fig77', expected one of "),
        (["fig1"], ExitCode.BAD_INPUT, "got neither, expected one of them"),
        (["fig1", "--study", "x", "--preset", "toy"], ExitCode.BAD_INPUT, "got both, expected one of them"),
        (["fig1", "--study", "x", "--workers", "1"], ExitCode.BAD_INPUT, "--workers goes with --preset"),
        (["fig1", "--study", "x", "--engine", "ray"], ExitCode.BAD_INPUT, "--engine goes with --preset"),
        (
            ["fig1", "--preset", "toy", "--gpus-per-run", "1"],
            ExitCode.BAD_INPUT,
            "--gpus-per-run is 1.0 with the engine",
        ),
        (["fig1", "--preset", "huge"], ExitCode.BAD_INPUT, "got preset 'huge' for figure fig1; expected one of "),
        (["fig1", "--study", "nowhere"], ExitCode.FOLDER, "nowhere is no study folder"),
    ],
)
def test_wrong_figures(arguments: list[str], code: ExitCode, says: str) -> None:
    result = CliRunner().invoke(app, ["figure", *arguments])
    assert result.exit_code == code
    assert says in result.stderr


def test_lists() -> None:
    studies = CliRunner().invoke(app, ["study", "list"]).stdout
    assert "scaling" in studies
    assert "--preset toy" in studies
    for arguments in (["figure"], ["figure", "list"]):
        listed = CliRunner().invoke(app, arguments).stdout
        assert listed.startswith("fig1  ")
        assert "studies scaling-text and scaling-pixels; --preset quick, toy" in listed


@pytest.mark.parametrize("package", ["transformers", "tokenizers", "sklearn", "matplotlib"])
def test_a_missing_extra_is_told_before_the_work(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for arguments in ([*TOY, "--out", str(tmp_path / "x")], ["demo", "--out", str(tmp_path / "x")]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == ExitCode.FAILED
        assert f"{package} is not installed. It comes with: pip install" in result.stderr
        assert not (tmp_path / "x").exists()


def test_a_missing_engine_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, [*TOY, "--engine", "ray", "--out", str(tmp_path / "x")])
    assert result.exit_code == ExitCode.FAILED
    assert 'ray is not installed. It comes with: pip install "spectral-reach[ray]"' in result.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_study_on_ray_leaves_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed; it comes with the extra spectral-reach[ray]")
    on_ray = run(*ONE_RUN, "--engine", "ray", "--out", tmp_path / "ray")
    locally = run_here(*ONE_RUN, "--engine", "local", "--out", tmp_path / "local")
    assert (locally.exit_code, on_ray.returncode) == (ExitCode.OK, ExitCode.OK), on_ray.stderr
    assert "one at a time; on Ray as many at a time as there is room for." in on_ray.stdout
    assert _tables(on_ray.stdout) == _tables(locally.stdout).replace(str(tmp_path / "local"), str(tmp_path / "ray"))
    # Nothing of Ray's own comes between: a line for each step of the progress of the one run.
    assert {line.split()[0] for line in on_ray.stderr.splitlines()} == {"pixels-004k"}
    for file in ("measurements.parquet", "losses.parquet", "config.json", "finished.json"):
        one, other = (tmp_path / engine / "runs" / "pixels-004k" / file for engine in ("local", "ray"))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_a_terminal_without_our_letters_still_shows_the_numbers(toy: tuple[Path, object]) -> None:
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command(*TOY, "--out", toy[0]), capture_output=True, text=True, env=plain)
    assert shown.returncode == ExitCode.OK, shown.stderr
    assert "?" in shown.stdout
    assert "unigram entropy" in shown.stdout


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    result = CliRunner().invoke(app, [*TOY, "--out", str(tmp_path)])
    assert result.exit_code == ExitCode.FOLDER
    assert "holds thesis.tex and no study.json" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_the_folder_of_another_study_is_left_alone(toy: tuple[Path, object]) -> None:
    result = CliRunner().invoke(app, [*TOY, "--set", "seeds=[1]", "--out", str(toy[0])])
    assert result.exit_code == ExitCode.FOLDER
    assert "training.seed is 0 there, 1 here" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("table", ["losses.parquet", "measurements.parquet"])
def test_a_finished_run_that_has_lost_a_table_is_told(toy: tuple[Path, object], tmp_path: Path, table: str) -> None:
    study = tmp_path / "damaged"
    shutil.copytree(toy[0], study)
    run_folder = study / "runs" / "pixels-004k"
    (run_folder / table).unlink()
    for arguments in (["figure", "fig1", "--study", str(study)], [*TOY, "--out", str(study)]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == ExitCode.FOLDER, result.output
        assert f"{run_folder / table} is missing or empty, though its run is finished; expected" in result.stderr
        assert f"restore it from a copy, or delete the folder {run_folder} and repeat the study" in result.stderr


@pytest.mark.slow
def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with sole_owner(tmp_path / "busy"):
        second = run(*TOY, "--out", tmp_path / "busy")
    assert second.returncode == ExitCode.FOLDER
    assert "busy is in use: another process is running this study" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_its_log_shown(tmp_path: Path) -> None:
    rate = "families.pixels.training.learning_rate=1e30"
    more = "families.pixels.training.clip_norm=1e30"
    failed = run_here(*ONE_RUN, "--set", rate, "--set", more, "--out", tmp_path / "x")
    assert failed.exit_code == ExitCode.FAILED
    assert "1 of 1 runs failed" in failed.stderr
    assert f"the end of {tmp_path / 'x' / 'runs' / 'pixels-004k' / 'log.txt'}:" in failed.stderr
    assert "finite" in failed.stderr
    assert "Summary: " in failed.stdout  # of what there is


def limit_files(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_folder_that_takes_no_more_in_the_middle_of_a_run_is_told_as_that(tmp_path: Path) -> None:
    """A limit of the process stops a write in the middle, like a full disk: here that of the first checkpoint."""
    arguments = command(*ONE_RUN, "--out", tmp_path / "x")
    stopped = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=lambda: limit_files(30_000))
    assert stopped.returncode == ExitCode.FOLDER, stopped.stderr
    told = stopped.stderr[stopped.stderr.index("Error: ") :]
    run_folder = tmp_path / "x" / "runs" / "pixels-004k"
    assert "1 of 1 runs failed, the others have finished." in told
    checkpoint = run_folder / "checkpoints" / "step-000008"
    assert f"\npixels-004k: {checkpoint} cannot be written: File too large. Free space" in told
    assert "Traceback" not in stopped.stderr + (run_folder / "log.txt").read_text()
    assert "step-000008 cannot be written" in (run_folder / "log.txt").read_text()
    assert "Summary: " in stopped.stdout  # of what there is
    assert len(RunFolder.open(run_folder).measurements) > 0

    go_on = run_here(*ONE_RUN, "--out", tmp_path / "x")
    assert go_on.exit_code == ExitCode.OK, go_on.stderr


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_there_and_the_printed_command_goes_on(tmp_path: Path) -> None:
    long_run = [*ONE_RUN, "--set", "families.pixels.training.steps=120"]
    undisturbed = run_here(*long_run, "--engine", "inline", "--out", tmp_path / "undisturbed")
    assert undisturbed.exit_code == ExitCode.OK, undisturbed.stderr

    arguments = command(*long_run, "--out", tmp_path / "stopped")
    # A session of its own: as in a terminal, the signal goes to the command, which sees to its workers.
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "training" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read().splitlines()
    assert process.returncode == ExitCode.INTERRUPTED, rest
    assert f"Stopped. What has been recorded is kept in {tmp_path / 'stopped'}. Go on with:" in rest
    (stopped,) = (tmp_path / "stopped" / "runs").iterdir()
    assert not RunFolder.open(stopped).is_finished
    so_far = _rows(stopped / "measurements.parquet")
    assert so_far

    program, *go_on = shlex.split(rest[-1])
    assert program == "spectral-reach"
    assert run_here(*go_on).exit_code == ExitCode.OK
    (other,) = (tmp_path / "undisturbed" / "runs").iterdir()
    for table in ("measurements.parquet", "losses.parquet"):
        assert _rows(stopped / table) == _rows(other / table)
    assert _rows(stopped / "measurements.parquet")[: len(so_far)] == so_far


@pytest.mark.slow
def test_the_demo_ends_with_its_figure(
    toy: tuple[Path, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PRESET", "toy")
    result = CliRunner().invoke(app, ["demo", "--out", str(toy[0])])
    assert result.exit_code == ExitCode.OK, result.output
    assert f"Figure: {toy[0] / 'figures' / 'fig1.png'}" in result.stdout
    assert (toy[0] / "figures" / "fig1.png").is_file()


def _rows(file: Path) -> list[str]:
    """Every digit of every row; as text, because NaN is not equal to itself."""
    return [repr(row) for row in pq.read_table(file).to_pylist()]


def _tables(stdout: str) -> str:
    return stdout[stdout.index("\n\n") :]
