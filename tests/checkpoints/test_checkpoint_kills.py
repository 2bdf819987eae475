"""Twenty revisions, killed in the middle and taken up again: nothing measured twice, nothing lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_checkpoints import jsonl, llama, tokenizer
from typer.testing import CliRunner

import spectral_reach as sr
from spectral_reach.checkpoints import measure_checkpoints as room
from spectral_reach.checkpoints.schema import QUANTITIES
from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode

PROCESS = Path(__file__).with_name("killed_measure.py")
REVISIONS = 20
TEXTS = ["the cat sat on the mat", "a dog ran and slept", "one two three yes", "is it a good film"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("killed")
    for step in range(REVISIONS):
        llama(seed=step).save_pretrained(home / "model" / f"step{step * 100}")
    tokenizer().save_pretrained(home / "model")
    jsonl(home / "prose.jsonl", [{"text": text} for text in TEXTS])
    return home


def sitting(home: Path, out: Path, kill_after: int | None) -> list[str]:
    """The measurements of one process; after so many of them it is killed, whatever it is doing by then."""
    command = [sys.executable, str(PROCESS), str(home / "model"), str(home / "prose.jsonl"), str(out)]
    measured = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            measured.append(line.split()[0])
            if len(measured) == kill_after:
                os.kill(process.pid, signal.SIGKILL)
                break
        # What it still said before the signal came.
        measured += [line.split()[0] for line in process.stdout]
    return measured


@pytest.mark.slow
def test_killed_and_resumed(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed.parquet"
    first = sitting(home, out, kill_after=6)
    kept = pq.read_table(out)
    on_disk = list(dict.fromkeys(kept.column("revision").to_pylist()))
    # Each that was told is on disk, with all its rows; one may have been written and not told any more.
    assert on_disk[: len(first)] == first
    assert len(on_disk) - len(first) in (0, 1)
    assert kept.num_rows == len(QUANTITIES) * len(on_disk)
    assert len(on_disk) < REVISIONS
    second = sitting(home, out, kill_after=None)
    assert second.pop() == "finished"
    assert second == [f"step{step * 100}" for step in range(len(on_disk), REVISIONS)]
    assert list(tmp_path.glob(".partial-*")) == []

    undisturbed = sr.measure_checkpoints(
        home / "model", revisions="step*", data={"prose": str(home / "prose.jsonl")}, units=4
    )
    whole = pq.read_table(out)
    assert repr(whole.to_pylist()) == repr(undisturbed.to_pylist())
    assert repr(whole.slice(0, kept.num_rows).to_pylist()) == repr(kept.to_pylist())


def test_ctrl_c_keeps_what_has_been_measured(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "stopped.parquet"
    arguments = ["measure", str(home / "model"), "--revision", "step*", "--data", f"p={home / 'prose.jsonl'}"]
    arguments += ["--units", "4", "--out", str(out)]
    original = room.decompose
    calls = 0

    def stopped_at_the_third(*positional: object, **named: object) -> sr.Decomposition:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(*positional, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(room, "decompose", stopped_at_the_third)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == ExitCode.INTERRUPTED
    assert f"What has been measured is kept in {out}. Go on with:" in result.stderr.replace("\n", " ")
    assert sorted(set(pq.read_table(out).column("revision").to_pylist())) == ["step0", "step100"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == ExitCode.OK, result.output
    assert "20 measurements, 2 of them are in" in result.stderr
    assert calls == 3 + REVISIONS - 2
