"""Figure 2, of run folders that a tracker has left: what is drawn is what was recorded, summed up."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from torch import nn
from typer.testing import CliRunner

import spectral_reach as sr
from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode
from spectral_reach.figures import fig2
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.fig2_data import read_updates
from spectral_reach.figures.registry import figure
from spectral_reach.records.errors import ForeignFolderError
from spectral_reach.records.run_folder import RunFolder

STEPS = 30


def trained(folder: Path, *, rate: float = 0.5, updates: int = 1) -> Path:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    with sr.Tracker(model, schedule=lambda step: False, updates=updates, out=folder) as tracker:
        for step in range(STEPS):
            inputs = torch.randn(8, 4)
            targets = inputs[:, :3].argmax(1)
            tracker.measure(step, (inputs, targets))
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimiser.step()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "every")


def test_the_sums_are_those_of_the_tracker(run: Path) -> None:
    rows = RunFolder.open(run).updates.rows()
    [updates] = read_updates([run])
    for name in ("change", "linear", "correction"):
        assert updates.summed(name) == pytest.approx([row[f"cumulated_{name}"] for row in rows], rel=1e-9)
    # The last update has no next batch: it adds nothing to the sum of those.
    assert updates.summed("next_change")[-1] == pytest.approx(sum(row["next_change"] for row in rows[:-1]), rel=1e-9)
    assert updates.every_update


def test_the_smoothed_loss_is_a_mean_of_windows(run: Path) -> None:
    [updates] = read_updates([run])
    steps, losses = updates.smoothed()
    assert (steps[0], losses[0]) == (0, updates.losses[0])
    windows = np.floor(12 * np.log10(updates.steps + 1))
    assert losses == pytest.approx([updates.losses[windows == each].mean() for each in np.unique(windows)])
    assert steps == pytest.approx([updates.steps[windows == each].mean() for each in np.unique(windows)])


def test_what_is_drawn_is_what_is_in_the_csv(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[float]] = {}
    plot = Axes.plot

    def spy(self: Axes, x: object, y: object, *more: object, **look: object) -> object:
        drawn.setdefault(str((look.get("color"), look.get("linestyle"), np.size(y))), list(np.atleast_1d(y)))
        return plot(self, x, y, *more, **look)

    monkeypatch.setattr(Axes, "plot", spy)
    files = figure("fig2").draw(run, tmp_path)
    assert [file.name for file in files] == ["fig2.png", "fig2.pdf", "fig2.svg", "fig2.csv"]
    with files[-1].open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == STEPS
    assert {row["run"] for row in rows} == {"every"}
    for name in ("linear", "correction", "change", "next_change"):
        values = [float(row[name]) for row in rows]
        _, look = fig2._LOOKS[name]
        shown = drawn[str((look["color"], look.get("linestyle"), STEPS))]
        assert shown == pytest.approx(np.cumsum(np.nan_to_num(values)))


def test_words_say_of_how_many_updates_the_sums_are(tmp_path: Path) -> None:
    folder = trained(tmp_path / "some", updates=3)
    RunFolder.open(folder).updates.append({"step": 100, "change": math.nan})
    [svg, _] = figure("fig2").draw(folder, tmp_path / "out", ["svg"])
    words = " ".join(re.sub("<[^>]*>", " ", svg.read_text("utf-8")).split())
    assert "over 10 updates that are on record of" in words
    assert "Left out: 1" in words


def test_one_update_is_drawn(tmp_path: Path) -> None:
    folder = trained(tmp_path / "one", updates=100)
    assert len(figure("fig2").draw(folder, tmp_path / "out", ["svg"])) == 2


def test_the_command_draws_runs_and_says_what_it_wants(run: Path, tmp_path: Path) -> None:
    def invoke(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        return result.exit_code, " ".join((result.stdout + result.stderr).split())

    code, out = invoke("figure", "fig2", "--run", run, "--run", run, "--out", tmp_path)
    assert code == ExitCode.OK, out
    assert (tmp_path / "fig2.png").stat().st_size > 10_000
    assert "fig2" in invoke("figure")[1]
    for arguments, told in (
        (("figure", "fig2"), "fig2 is drawn with --run DIR, from the folder of a tracker or callback"),
        (("figure", "fig2", "--preset", "toy"), "got --preset, expected that alone"),
        (("figure", "fig1", "--run", run), "figure fig1 is drawn from studies: got --run"),
        (("reproduce", "fig2"), "figure fig2 is of trainings of your own"),
    ):
        code, out = invoke(*arguments)
        assert code == ExitCode.BAD_INPUT, out
        assert told in out


def test_nothing_to_draw(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "empty", {})
    with pytest.raises(NothingToDrawError, match=r"empty has no update on record: .*expected .* with updates="):
        figure("fig2").draw(tmp_path / "empty")
    with pytest.raises(ForeignFolderError):
        figure("fig2").draw(tmp_path)
    with pytest.raises(ValueError, match="fig2 got no folder; expected a run folder"):
        figure("fig2").draw([])
    with pytest.raises(ValueError, match="got figure formats"):
        figure("fig2").draw(tmp_path / "empty", formats=["gif"])
