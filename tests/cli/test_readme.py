"""What the README tells a reader to type works as written."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import spectral_reach as sr
from spectral_reach.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_first_block_is_ten_lines_that_measure_a_model(tmp_path: Path) -> None:
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len(lines) <= 10
    done = _run(BLOCKS[0], tmp_path)
    assert "chi_pos_unbiased" in done
    chi_pos, unbiased, stderr = map(float, done.splitlines()[-1].split())
    assert 0 < chi_pos < 1
    assert abs(unbiased) < 1
    assert stderr > 0


@pytest.mark.slow
def test_all_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    assert len(BLOCKS) == 3
    _run("\n".join(BLOCKS), tmp_path)
    rows = pq.read_table(tmp_path / "my-run" / "measurements.parquet").to_pylist()
    assert [rows[0]["step"], rows[-1]["step"]] == [0, 199]
    assert rows[-1]["tokens"] == 199 * 32


def test_the_examples_of_the_public_names_run() -> None:
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    tried = set()
    for name in sr.__all__:
        for example in finder.find(getattr(sr, name), name, globs={name: getattr(sr, name)}):
            if example.examples:
                tried.add(name)
                assert runner.run(example).failed == 0, name
    assert tried >= {"decompose", "Tracker", "log_windows", "spectrum", "kernel_decompose", "ntk_operator"}


def test_the_figure_and_every_linked_file_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert "docs/images/demo-fig1.png" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("command", ["demo", "study list", "study run", "figure", "measure", "spectrum"])
def test_every_option_that_the_readme_gives_exists(command: str) -> None:
    used = set(re.findall(rf"spectral-reach {command}\b[^\n#]*", README))
    assert used
    known = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"}).output
    assert [o for line in used for o in re.findall(r"--[a-z]+", line) if o not in known] == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = set(re.findall(r"make ([a-z-]+)", README + (ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    assert {"demo", "test", "lint"} <= named
    assert [target for target in named if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []


def _run(code: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
