"""The command answers questions at once, and says what scripts need to know."""

import resource
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from spectral_reach import __version__
from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode

COMMANDS = ["demo", "measure", "spectrum", "study", "study list", "study run", "figure", "report"]


def test_help_takes_less_than_half_a_second() -> None:
    # Processor time: what the command needs by itself, however busy the machine is.
    best = min(_processor_seconds("-m", "spectral_reach.cli", "--help") for _ in range(3))
    assert best < 0.5


def test_help_and_mistakes_import_nothing_heavy() -> None:
    code = """
import sys
from typer.testing import CliRunner
from spectral_reach.cli.app import app
for arguments in (["--help"], ["study", "run", "--help"], ["study", "run", "scaling"], ["nonsense"]):
    CliRunner().invoke(app, arguments)
print(sorted({"torch", "numpy", "transformers", "matplotlib", "sklearn", "pyarrow", "tokenizers"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == ExitCode.OK
    assert "Usage: " in result.output


def test_help_names_commands_and_exit_codes() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    for command in COMMANDS:
        assert command.split()[0] in text
    for code in ExitCode:
        assert str(code.value) in text[text.index("Exit codes") :]


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"spectral-reach {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "No such command"),
        (["study", "run", "scaling"], "--out is missing; expected the folder"),
        (["measure"], "Missing argument"),
        (["measure", "x", "--probes", "0"], "greater than or equal to 1"),
        (["measure", "x", "--units", "0"], "greater than or equal to 1"),
        (["demo", "--workers", "0"], "greater than or equal to 1"),
    ],
)
def test_a_wrong_command_line_is_bad_input(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert says in result.output


def _processor_seconds(*arguments: str) -> float:
    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return spent() - before
