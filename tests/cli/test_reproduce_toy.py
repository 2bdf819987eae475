"""The whole paper at toy size: every study, every figure and the report by one command, and nothing done twice."""

import csv
import html
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spectral_reach.cli.app import app
from spectral_reach.figures.points import COLUMNS
from spectral_reach.figures.registry import FIGURES
from spectral_reach.studies.analysis.claims import evaluate

# In one process: starting one for each of the thirty runs would take longer than the runs.
COMMAND = ["reproduce", "all", "--preset", "toy", "--engine", "inline", "--out"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_of_it_at_toy_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "toy"
    program = [sys.executable, "-m", "spectral_reach.cli", *COMMAND, str(out)]
    first = subprocess.run(program, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-3000:]
    for name in FIGURES:
        for ending in ("png", "pdf", "svg"):
            assert (out / "figures" / f"{name}.{ending}").stat().st_size > 5000, name
        with (out / "figures" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if name == "fig10":  # curves at fixed compute take three sizes, and a toy has two
                assert rows.fieldnames == list(COLUMNS)
                assert list(rows) == []
            else:
                assert len(list(rows)) > 3, name
    page = html.unescape((out / "report.html").read_text(encoding="utf-8"))
    table = evaluate({folder.name: folder for folder in out.iterdir() if (folder / "study.json").is_file()})
    assert "not run" not in {str(finding.verdict) for finding in table.findings}
    for claim in table.claims:
        assert claim.statement.split(",")[0] in page
    # What is finished is not done again: not a row, not a result.
    files = [*out.rglob("measurements.parquet"), *out.rglob("losses.parquet"), *out.rglob("results/*")]
    before = {file: file.stat().st_mtime_ns for file in files}
    # That figures and report come again, and each figure with the same bytes, is tested on small studies.
    monkeypatch.setattr(sys.modules["spectral_reach.cli.reproduce"], "_draw", lambda entries, folder: [])
    monkeypatch.setattr(sys.modules["spectral_reach.cli.reproduce"], "_report", lambda folder: None)
    again = CliRunner().invoke(app, [*COMMAND, str(out)])
    assert again.exit_code == 0, again.stderr[-3000:]
    assert {file: file.stat().st_mtime_ns for file in files} == before
