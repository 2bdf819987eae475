"""The whole paper at toy size: every study, every figure and the report by one command, and nothing done twice."""

import csv
import html
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spectral_reach.figures.points import COLUMNS
from spectral_reach.figures.registry import FIGURES
from spectral_reach.studies.analysis.claims import evaluate


def reproduce(out: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spectral_reach.cli", "reproduce", "all", "--preset", "toy", "--out", str(out)]
    # In one process: starting one for each of the thirty runs would take longer than the runs.
    command += ["--engine", "inline"]
    environment = {**os.environ, "SPECTRAL_REACH_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_of_it_at_toy_size(tmp_path: Path) -> None:
    out = tmp_path / "toy"
    first = reproduce(out, tmp_path / "cache")
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
    again = reproduce(out, tmp_path / "cache")
    assert again.returncode == 0, again.stderr[-3000:]
    assert {file: file.stat().st_mtime_ns for file in files} == before
