"""The convergence study: its settings and plan, draws that are unbiased and do not depend on how they are split."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_library import write_library
from small_runs import digits, small_run

from spectral_reach.estimators.interface import EstimatorOptions, estimate_trace
from spectral_reach.measured.linearisation import linearise
from spectral_reach.measured.losses import resolve_loss
from spectral_reach.measured.parameters import select_parameters
from spectral_reach.records.errors import ForeignFolderError, RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies import registry
from spectral_reach.studies.analysis.convergence import read_convergence
from spectral_reach.studies.analysis.convergence_report import describe, report
from spectral_reach.studies.convergence import PRESETS, ConvergenceConfig
from spectral_reach.studies.cost import expected_cost
from spectral_reach.studies.data import stdlib
from spectral_reach.studies.data.batches import measurement_batch
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.study_folder import run_path, write_plan
from spectral_reach.studies.tasks.trace_draws import ONE_FOR_ALL, TraceDraws
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.snapshot import load_snapshot

RUN = "pixels-small"


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_library(tmp_path / "library")
    monkeypatch.setattr(stdlib, "stdlib_root", lambda: root)
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study")
    config = small_run(RUN, steps=6, snapshots=(0, 6))
    assert train(RunFolder.create(run_path(path, RUN), config.as_dict()), config, digits())
    return path


def draws(**changes: Any) -> TraceDraws:
    settings: dict[str, Any] = {
        "run": RUN,
        "step": 6,
        "way": "batch",
        "units": 0,
        "sequences": 6,
        "first": 0,
        "draws": 4,
        "seed": 0,
        "tokens": 64,
        "parameters": 1000,
    }
    return TraceDraws(**{**settings, **changes})


def toy(**settings: Any) -> StudyPlan:
    return registry.find("convergence").plan({"preset": "toy", "vocabulary": 300, **settings})


def chi_net(study: Path, settings: TraceDraws) -> np.ndarray:
    drawn: np.ndarray = settings.execute(study, lambda share: None)["chi_net"]
    return drawn


@pytest.fixture(scope="module")
def exact(study: Path) -> float:
    """The trace that all ways estimate."""
    model, _ = load_snapshot(run_path(study, RUN), 6)
    batch = measurement_batch(digits(), 0, seed=0, units=6)
    linearisation = linearise(model, batch, resolve_loss("cross_entropy"), select_parameters(model, None), seed=0)
    options = EstimatorOptions(probes=1, units=None, seed=0, memory_budget=2**28)
    return estimate_trace("exact", linearisation, options).chi_net


@pytest.mark.slow
@pytest.mark.parametrize(("way", "units"), [("batch", 0), ("per_unit", 0), ("per_unit", 3), (ONE_FOR_ALL, 0)])
def test_every_way_is_unbiased_for_the_exact_trace(study: Path, exact: float, way: str, units: int) -> None:
    drawn = chi_net(study, draws(way=way, units=units, draws=60))
    assert drawn.mean() == pytest.approx(exact, abs=4 * drawn.std() / math.sqrt(len(drawn)))
    assert drawn.std() > 0


def test_a_row_is_the_same_however_it_is_split_and_rows_differ(study: Path) -> None:
    whole = chi_net(study, draws(draws=6))
    parts = [chi_net(study, draws(draws=2)), chi_net(study, draws(first=2, draws=4))]
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert len(np.unique(whole)) == 6
    assert not np.isin(chi_net(study, draws(step=0)), whole).any()
    assert not np.isin(chi_net(study, draws(seed=1)), whole).any()


def test_progress_and_seconds_of_every_draw(study: Path) -> None:
    shares: list[float] = []
    values = draws().execute(study, shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert values["seconds"].shape == (4,)
    assert (values["seconds"] > 0).all()


def test_a_snapshot_that_the_run_has_not_kept_is_told(study: Path) -> None:
    with pytest.raises(RecordError, match="has no snapshot of step 3: it has 0, 6"):
        draws(step=3).execute(study, lambda share: None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"way": "guess"}, "TraceDraws.way is 'guess'; expected batch or per_unit or one_for_all"),
        ({"units": 3}, "TraceDraws.units is 3; expected 0, for all, unless the way is per_unit"),
        ({"units": 7, "way": "per_unit"}, "TraceDraws.units is 7; expected at most the 6 sequences"),
        ({"draws": 0}, "TraceDraws.draws is 0; expected at least 1"),
        ({"sequences": 1}, "TraceDraws.sequences is 1; expected at least 2"),
    ],
)
def test_impossible_draws_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        draws(**changes)


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_are_read_back_from_json(preset: str) -> None:
    config = PRESETS[preset]()
    plan = {"preset": preset, **json.loads(json.dumps({"widths": config.widths, "snapshots": config.snapshots}))}
    assert ConvergenceConfig.from_dict(plan) == config
    assert registry.find("convergence").presets[preset]


def test_the_presets_are_what_they_say() -> None:
    paper, quick = PRESETS["paper"](), PRESETS["quick"]()
    assert (paper.sequences, paper.averaged, paper.repetitions) == (32, 2000, 50)
    assert (quick.sequences, quick.vocabulary) == (32, 4096)
    largest = max(run.model.parameters for run in toy(widths=[240]).runs)
    # The readout and the embedding of 4,096 tokens in place of 300.
    assert largest + 2 * 240 * (4096 - 300) == pytest.approx(7e6, rel=0.1)


def test_every_draw_of_a_row_is_in_one_task(tmp_path: Path) -> None:
    plan = toy(averaged=16, repetitions=10, compared=8, draws_per_task=70)
    rows: dict[Any, list[tuple[int, int]]] = {}
    for task in plan.tasks:
        of = task.settings
        assert isinstance(of, TraceDraws)
        rows.setdefault((of.run, of.step, of.way, of.units), []).append((of.first, of.draws))
    small, large = (run.name for run in plan.runs)
    assert rows == {
        (large, 8, "batch", 0): [(0, 70), (70, 70), (140, 20)],
        (large, 8, ONE_FOR_ALL, 0): [(0, 70), (70, 10)],
        (large, 8, "per_unit", 0): [(0, 70), (70, 10)],
        (large, 8, "per_unit", 2): [(0, 70), (70, 10)],
        (small, 0, "batch", 0): [(0, 30)],
        (small, 8, "batch", 0): [(0, 30)],
        (large, 0, "batch", 0): [(0, 30)],
    }
    assert all(run.training.snapshots == (0, 8) for run in plan.runs)
    cost = expected_cost(plan, workers=1)
    assert f"then {len(plan.tasks)} tasks, about " in str(cost)
    assert cost.minutes < 1.5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"preset": "huge"}, "Unknown preset 'huge' of the convergence study; .* are quick, toy, laptop, paper"),
        ({"stepz": 3}, "The convergence study has no setting 'stepz'"),
        ({"snapshots": [0]}, r"snapshots is \(0,\); expected the last step, 8, among them"),
        ({"widths": []}, r"widths is \(\); expected at least one width"),
        ({"widths": 3}, "widths is 3; expected a list of whole numbers"),
        ({"averaged": 1}, "averaged is 1; expected at least 2"),
        ({"compared": 9}, "compared is 9; expected at most averaged, 8"),
        ({"some_units": 9}, "some_units is 9; expected 1 to 8, the sequences"),
        ({"draws_per_task": 0}, "draws_per_task is 0; expected at least 1"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        toy(**settings)


def test_a_study_without_a_draw_says_so(tmp_path: Path) -> None:
    write_plan(tmp_path / "study", toy())
    result = read_convergence(tmp_path / "study")
    assert (result.main, result.done, result.tasks) == (None, 0, len(toy().tasks))
    assert describe(result) == "No draw has been made yet."
    assert report(tmp_path / "study").sections[0].rows == ()


def test_the_folder_of_another_study_is_told(tmp_path: Path) -> None:
    write_plan(tmp_path / "study", StudyPlan(study="scaling", preset="toy", settings={}))
    with pytest.raises(ForeignFolderError, match="holds the study 'scaling'; expected 'convergence'"):
        read_convergence(tmp_path / "study")
