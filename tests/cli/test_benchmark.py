"""The benchmark runs as it is, at toy size: its columns fit together, and its estimates agree with the exact trace."""

import importlib.util
import json
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
OPACUS = importlib.util.find_spec("opacus") is not None
WAYS = [
    "batch_fresh",
    "opacus",
    "batch_shared",
    "per_unit_scratch",
    "per_unit_inside",
    "few_scratch",
    "few_inside",
    "decompose",
    "exact",
]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As a user runs it: in a process of its own, with a peak memory of its own."""
    command = [sys.executable, "-W", "error", str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def loaded(script: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> ModuleType:
    """The script as a module whose ``main`` finds these arguments: nothing has to be imported once more."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    spec = importlib.util.spec_from_file_location(f"benchmark_{Path(script).stem}", BENCHMARKS / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("benchmark") / "out"
    finished = run("estimators.py", "--preset", "toy", "--threads", "1", "--out", str(out))
    assert finished.returncode == 0, finished.stderr
    return out, finished.stdout


@pytest.fixture(scope="module")
def result(done: tuple[Path, str]) -> dict[str, Any]:
    out, _ = done
    return json.loads((out / "estimators.json").read_text())


def measured(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in result["ways"] if not row["missing"]]


def test_every_way_is_there(result: dict[str, Any]) -> None:
    assert [row["way"] for row in result["ways"]] == WAYS
    missing = {row["way"]: row["missing"] for row in result["ways"] if row["missing"]}
    assert missing == ({} if OPACUS else {"opacus": "not installed: pip install -c constraints.txt opacus"})


def test_columns_fit_together(result: dict[str, Any]) -> None:
    step = result["training_step"]
    assert step["seconds"] == pytest.approx(statistics.median(step["seconds_of_rounds"]))
    costs = {row["way"]: row["cost_of_one_percent"] for row in measured(result)}
    for row in measured(result):
        assert row["seconds"] == pytest.approx(statistics.median(row["seconds_of_rounds"]))
        if row["way"] == "exact":
            assert (row["spread"], row["cost_of_one_percent"]) == (0, row["seconds"])
        else:
            ratios = [a / b for a, b in zip(row["seconds_of_rounds"], step["seconds_of_rounds"], strict=True)]
            assert row["training_steps"] == pytest.approx(statistics.median(ratios))
            assert row["cost_of_one_percent"] == pytest.approx(row["seconds"] * (row["spread"] / 0.01) ** 2)
            assert row["chi_net_stderr"] * math.sqrt(result["draws"]) == pytest.approx(row["spread"] * row["chi_net"])
            assert row["peak_of_training_step"] == pytest.approx(row["peak_bytes"] / step["peak_bytes"])
        assert row["cheaper_than_batch_fresh"] == pytest.approx(costs["batch_fresh"] / costs[row["way"]])
        if OPACUS:
            assert row["cheaper_than_opacus"] == pytest.approx(costs["opacus"] / costs[row["way"]])


def test_estimates_agree_with_the_exact_trace(result: dict[str, Any]) -> None:
    (truth,) = (row["chi_net"] for row in result["ways"] if row["way"] == "exact")
    for row in measured(result):
        # Seeds are fixed; 4 standard errors of 40 draws are rare once in thousands.
        assert abs(row["chi_net"] - truth) <= 4 * row["chi_net_stderr"] + 1e-5 * truth, row["way"]
        if row["way"] != "exact":
            assert row["deviation_from_exact_in_stderr"] == pytest.approx(
                (row["chi_net"] - truth) / row["chi_net_stderr"]
            )


def test_independent_vectors_spread_less(result: dict[str, Any]) -> None:
    spreads = {row["way"]: row["spread"] for row in measured(result)}
    assert spreads["per_unit_inside"] < spreads["batch_shared"] / 2
    assert spreads["per_unit_inside"] < spreads["few_inside"]
    assert all(row["spread"] == spreads[row["spread_from"]] for row in measured(result) if row["way"] != "exact")


def test_norms_of_one_vector_are_those_of_ordinary_passes(result: dict[str, Any]) -> None:
    differences = result["same_vector_largest_relative_difference"]
    assert set(differences) == ({"per_unit", "opacus"} if OPACUS else {"per_unit"})
    assert all(difference < 1e-5 for difference in differences.values())


def test_states_of_the_model_by_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--preset", "toy", "--draws", "8", "--learning-rates", "0.001", "0.01", "--out", str(tmp_path))
    loaded("states.py", monkeypatch, *options).main()
    rows = json.loads((tmp_path / "states-toy.json").read_text())
    assert [row["learning_rate"] for row in rows] == [0.001, 0.01]
    for row in rows:
        assert 0 < row["readout_share"] < 1
        assert 0 < row["per_unit_inside"] < row["batch_shared"]
        assert row["draws_ratio"] == pytest.approx((row["batch_shared"] / row["per_unit_inside"]) ** 2)
    assert rows[0]["loss"] != rows[1]["loss"]


def test_tracked_steps_stand_beside_the_step_without(result: dict[str, Any]) -> None:
    step = result["training_step"]["seconds_of_rounds"]
    counts = [(tracked["units"], tracked["noise_units"]) for tracked in result["tracked_steps"]]
    assert counts == [(4, None), (4, 4), (4, 2), (2, 2)]
    for tracked in result["tracked_steps"]:
        assert tracked["peak_of_training_step"] > 0
        ratios = [a / b for a, b in zip(tracked["seconds_of_rounds"], step, strict=True)]
        assert tracked["added_training_steps"] == pytest.approx(statistics.median(ratios) - 1)


def test_growth_is_measured_on_every_axis(result: dict[str, Any]) -> None:
    for axis, sizes in {"units": [2, 4], "tokens": [8, 16], "vocabulary": [32, 64]}.items():
        points = result["growth"][axis]["points"]
        assert [point[axis] for point in points] == sizes
        for work in ("probe", "training_step"):
            slope = math.log(points[1][work] / points[0][work]) / math.log(2)
            assert result["growth"][axis][f"{work}_exponent"] == pytest.approx(slope)
        assert result["growth"][axis]["probe_growth"] == pytest.approx(points[1]["probe"] / points[0]["probe"] - 1)


def test_table_and_plot(done: tuple[Path, str], result: dict[str, Any]) -> None:
    out, printed = done
    assert (out / "estimators.png").read_bytes().startswith(b"\x89PNG")
    for word in ("spread", "1% costs", "(a)/this", "sr.Tracker", *(row["title"] for row in result["ways"])):
        assert word in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draws", "1"], "--draws must be 2 or more"),
        (["--rounds", "0"], "--rounds and --threads must be 1 or more"),
    ],
)
def test_impossible_settings(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = loaded("estimators.py", monkeypatch, *arguments)
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_coverage_of_error_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded("coverage.py", monkeypatch, "--seeds", "24", "--out", str(tmp_path)).main()
    rows = json.loads((tmp_path / "coverage.json").read_text())
    assert len(rows) == 3 * 9
    for row in rows:
        assert row["seeds"] == 24
        assert abs(row["mean_error"]) < 4, row
        # Of 24 intervals that hold with 93% fewer than 17 do so once in 6,000 times, of those that hold with 60% four
        # times in five.
        assert row["coverage_interval"] >= 17 / 24, row


# What torch says of vmap over attention, the usual way that ours is compared with.
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_the_benchmark_of_spectra_runs_and_its_two_ways_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One piece in a process of its own, as all are outside of this test; the other five here."""
    out = tmp_path / "spectrum.json"
    options = ("--toy", "--large", "--threads", "1", "--rounds", "2", "--out", str(out))
    module = loaded("spectrum.py", monkeypatch, *options)
    in_a_process, pieces = module._in_a_process, []

    def here(piece: str, arguments: Any) -> dict[str, Any]:
        pieces.append(piece)
        if piece == "compared":
            return in_a_process(piece, arguments)
        return json.loads(json.dumps(module._piece(piece, module.TOY, arguments.rounds)))

    monkeypatch.setattr(module, "_in_a_process", here)
    module._main()
    assert pieces == ["products", "lanczos", "explicit", "large", "compared", "contracted"]
    found = json.loads(out.read_text())
    assert found["compared"]["p"] == pytest.approx(found["contracted"]["p"], rel=1e-4)
    assert found["compared"]["modes"] == found["contracted"]["modes"] == 32
    assert (found["explicit"]["modes"], found["large"]["modes"]) == (32, 64)
    assert found["products"]["ratio"] > 0
    printed = capsys.readouterr().out
    assert printed.count("|\n") >= 8
    assert "training steps" in printed


def test_the_cost_of_a_callback_is_what_measured_steps_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = loaded("callback_cost.py", monkeypatch)
    n = cost.measurements_in(1000)
    assert (n, cost.measurements_in(10_000)) == (18, 108)
    # A drift of the machine, steps of 2 s, and measurements that take 3 s more.
    seconds = [2 + 0.01 * i + 3 * (i >= 3 and i % 2) for i in range(3 + 2 * n)]
    mean = statistics.mean(2 + 0.01 * i for i in range(4, 3 + 2 * n, 2))
    near, far = cost.estimates(seconds, (1000, 10_000))
    assert near.added == pytest.approx(3 * n / mean / 1000)
    assert far.added == pytest.approx(3 * 108 / mean / 10_000)
    assert near.error == pytest.approx(0, abs=1e-9)
    noisy = [each + 0.4 * (-1) ** (i // 2) * (i % 2) for i, each in enumerate(seconds)]
    near, _ = cost.estimates(noisy, (1000, 10_000))
    assert 0.3 * math.sqrt(n) < near.error * mean * 1000 < 0.5 * math.sqrt(n)


def test_stretches_with_a_callback_have_its_whole_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = loaded("callback_cost.py", monkeypatch)
    assert sum(map(cost.stretched, range(2000))) == cost.measurements_in(1000)
    seconds = [2.0 + 3 * cost.stretched(step) for step in range(2000)]
    share = cost.in_stretches(seconds, 1000)
    assert share.added == pytest.approx(3 * 18 / 2000)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("framework", ["hf", "lightning"])
def test_a_callback_at_toy_size(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cost.json"
    arguments = ("--preset", "toy", "--framework", framework, "--measurements", "5", "--out", str(out))
    loaded("callback_cost.py", monkeypatch, *arguments).main()
    assert re.search(rf"{framework}: [+-][\d.]+% ± [\d.]+% in 1,000 steps", capsys.readouterr().out)
    seconds = json.loads(out.read_text())[framework]["seconds"]
    assert len(seconds) == 3 + 2 * 5
    assert min(seconds) > 0
