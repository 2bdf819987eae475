"""Each expected error is one message and one exit code; everything else keeps its traceback."""

import pytest
import typer
from typer.testing import CliRunner

from spectral_reach.cli.exits import ExitCode, Stopped, TellingGroup, exit_code_of, told
from spectral_reach.records.errors import ForeignFolderError, RecordError, RunFolderBusyError
from spectral_reach.studies.engines.errors import FoldersRefusedError, RunsFailedError


def app_that_raises(error: BaseException) -> typer.Typer:
    app = typer.Typer(cls=TellingGroup, pretty_exceptions_enable=False)

    @app.callback()
    def root(traceback: bool = False) -> None:
        pass

    @app.command()
    def go() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("got 0, expected 1"), ExitCode.BAD_INPUT),
        (ForeignFolderError("not ours"), ExitCode.FOLDER),
        (RunFolderBusyError("in use"), ExitCode.FOLDER),
        (RecordError("disk full"), ExitCode.FOLDER),
        (PermissionError(13, "Permission denied", "/x"), ExitCode.FOLDER),
        (RunsFailedError({"text-020k": "it broke"}, of=2), ExitCode.FAILED),
        (FoldersRefusedError({"text-020k": "disk full"}, of=2), ExitCode.FOLDER),
        (ModuleNotFoundError("No module named 'transformers'", name="transformers"), ExitCode.FAILED),
    ],
)
def test_an_expected_error_is_told_without_traceback(error: Exception, code: ExitCode) -> None:
    result = CliRunner().invoke(app_that_raises(error), ["go"])
    assert result.exit_code == code
    assert "Error: " in result.stderr
    assert told(error).splitlines()[0] in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_traceback_on_request_keeps_the_exit_code() -> None:
    result = CliRunner().invoke(app_that_raises(ValueError("got 0")), ["--traceback", "go"])
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "Traceback" in result.stderr
    assert "ValueError: got 0" in result.stderr


@pytest.mark.parametrize("error", [AssertionError("ours to mend"), RuntimeError("out of memory"), KeyError("x")])
def test_an_unexpected_error_passes_through(error: Exception) -> None:
    assert exit_code_of(error) is None
    result = CliRunner().invoke(app_that_raises(error), ["go"])
    assert result.exception is error


@pytest.mark.parametrize("package", ["transformers.models", "matplotlib.figure", "sklearn", "tokenizers"])
def test_a_missing_package_names_its_extra(package: str) -> None:
    missing = ModuleNotFoundError(f"No module named {package!r}", name=package)
    top = package.split(".")[0]
    assert told(missing) == f'{top} is not installed. It comes with: pip install "spectral-reach[studies]"'


def test_a_missing_package_of_ours_is_told_as_it_is() -> None:
    assert told(ModuleNotFoundError("No module named 'scipy'", name="scipy")) == "No module named 'scipy'"


def test_square_brackets_in_a_message_are_no_markup() -> None:
    result = CliRunner().invoke(app_that_raises(ValueError("expected one of ['batch', 'exact']")), ["go"])
    assert "expected one of ['batch', 'exact']" in result.stderr


def test_ctrl_c_says_how_to_go_on() -> None:
    stop = Stopped("What has been recorded is kept in x.", "spectral-reach demo --out x")
    result = CliRunner().invoke(app_that_raises(stop), ["go"])
    assert result.exit_code == ExitCode.INTERRUPTED
    assert result.stderr.splitlines() == [
        "Stopped. What has been recorded is kept in x. Go on with:",
        "  spectral-reach demo --out x",
    ]


def test_ctrl_c_elsewhere_is_an_interruption_too() -> None:
    result = CliRunner().invoke(app_that_raises(KeyboardInterrupt()), ["go"])
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "Stopped." in result.stderr
