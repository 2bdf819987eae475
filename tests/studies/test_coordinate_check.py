"""The coordinate check: muP is flat where standard parametrisation is steep, and its best learning rate stays."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spectral_reach.cli.app import app
from spectral_reach.figures.registry import figure
from spectral_reach.records.errors import ForeignFolderError
from spectral_reach.records.results import Results
from spectral_reach.studies import registry
from spectral_reach.studies.analysis.coordinate_check import best_rate, read_coordinate_check
from spectral_reach.studies.analysis.coordinate_check_report import describe_rates, describe_sizes, report
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.config import SettingTypeError
from spectral_reach.studies.coordinate_check import PRESETS, CoordinateCheckConfig
from spectral_reach.studies.cost import expected_cost
from spectral_reach.studies.study_folder import write_plan
from spectral_reach.studies.tasks.coordinate_sizes import KINDS, CoordinateSizes, activations
from spectral_reach.studies.tasks.rate_sweep import RateSweep
from spectral_reach.studies.tasks.short_training import ShortTraining, toy_model
from spectral_reach.studies.tasks.toy_problems import FAMILIES, SecondOrderChain, toy_problem

SIZES: dict[str, Any] = {
    "base_width": 16,
    "depth": 2,
    "rate": 2.0**-7,
    "steps": 3,
    "batch_size": 8,
    "first_seed": 0,
    "seeds": 3,
}


def slopes(family: str, parametrisation: str) -> tuple[np.ndarray, np.ndarray]:
    """Of log size and log change after 0, 1, ... steps, mean over seeds: (steps + 1, kinds) each."""
    widths = (16, 32, 128)
    found = []
    for width in widths:
        task = CoordinateSizes(family=family, parametrisation=parametrisation, width=width, **SIZES)
        values = task.execute(Path(), lambda share: None)
        found.append(np.log(np.stack([values["size"], np.maximum(values["change"], 1e-30)])).mean(1))
    x = np.log(widths) - np.log(widths).mean()
    size, change = np.tensordot(x, np.stack(found), 1) / (x @ x)
    return size, change


@pytest.mark.parametrize("family", FAMILIES)
def test_in_mup_no_size_depends_on_the_width(family: str) -> None:
    """In standard parametrisation all do; a factor of 8 in width, three seeds, float32."""
    size, change = slopes(family, "mup")
    logits = KINDS.index("logits")
    hidden = [k for k in range(len(KINDS)) if k != logits]
    # Logits of random weights fall as width^-1/2 and are small beside what training makes of them.
    assert np.abs(size[0, hidden]).max() < 0.1
    assert size[0, logits] == pytest.approx(-0.5, abs=0.15)
    assert np.abs(size[:, hidden]).max() < 0.25
    assert np.abs(change[1:]).max() < 0.25

    size, change = slopes(family, "standard")
    assert size[-1, hidden].min() > 0.5
    assert change[1:].min() > 0.5


def test_what_is_measured() -> None:
    problem = SecondOrderChain()
    model = toy_model("llama", "standard", problem, width=16, depth=2, base_width=16).build(0)
    inputs, _ = problem.batch(0, 0, 3)
    found = activations(model, inputs)
    assert {kind: len(tensors) for kind, tensors in found.items()} == {
        "queries": 2,
        "attention": 2,
        "mlp": 2,
        "stream": 2,
        "logits": 1,
    }
    assert torch.equal(found["logits"][0], model(inputs).logits)
    first = model.model.embed_tokens(inputs) + found["attention"][0] + found["mlp"][0]
    torch.testing.assert_close(found["stream"][0], first)
    assert not any(module._forward_hooks for module in model.modules())
    values = CoordinateSizes(
        family="llama", parametrisation="standard", width=16, **{**SIZES, "first_seed": 0, "seeds": 1}
    ).execute(Path(), lambda share: None)
    assert values["size"].shape == values["change"].shape == (1, 4, 5)
    inputs, _ = problem.batch(0, SIZES["steps"], SIZES["batch_size"])
    at_start = activations(model, inputs)
    assert values["size"][0, 0, 0] == pytest.approx(float(torch.stack(at_start["queries"]).square().mean().sqrt()))
    assert (values["change"][0, 0] == 0).all()
    assert (values["change"][0, 1:] > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_toy_problems_are_functions_of_seed_and_step(family: str) -> None:
    problem = toy_problem(family)
    first, again = problem.batch(1, 2, 4), toy_problem(family).batch(1, 2, 4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (problem.batch(1, 3, 4), problem.batch(2, 2, 4)):
        assert not torch.equal(first[0], other[0])


def test_the_chain_is_of_second_order() -> None:
    """What follows a pair of tokens has little entropy, what follows a token hardly less than none."""
    inputs, targets = SecondOrderChain().batch(0, 0, 4000)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    counts = torch.zeros(16, 16, 16)
    counts.index_put_(
        (inputs[:, :-1].flatten(), inputs[:, 1:].flatten(), targets[:, 1:].flatten()), torch.ones(1), True
    )

    def entropy(table: torch.Tensor) -> float:
        odds = table / table.sum(-1, keepdim=True)
        weights = table.sum(-1) / table.sum()
        return float((weights * torch.special.entr(odds).sum(-1)).sum())

    assert entropy(counts) < entropy(counts.sum(0)) - 0.7


def test_a_sweep_trains_the_same_model_at_every_rate() -> None:
    task = RateSweep(
        family="llama",
        parametrisation="mup",
        width=32,
        base_width=16,
        depth=1,
        rates=(0.001, 0.01, 1e30),
        steps=20,
        batch_size=8,
        seed=3,
    )
    shares: list[float] = []
    loss = task.execute(Path(), shares.append)["loss"]
    assert shares == [0, 1 / 3, 2 / 3]
    problem = toy_problem("llama")
    config = toy_model("llama", "mup", problem, width=32, depth=1, base_width=16)
    training = ShortTraining(config=config, problem=problem, rate=0.01, warmup=2, steps=20, batch_size=8, seed=3)
    losses = list(training.losses(config.build(3)))
    assert len(losses) == 20
    assert loss[1] == pytest.approx(np.mean(losses[-2:]))
    assert loss[1] < loss[0] < math.log(16) + 0.01
    assert math.isnan(loss[2])


def test_the_rates_of_mup_reach_the_optimiser() -> None:
    """One step of AdamW moves every weight by its rate: a quarter of it for hidden matrices at four times the width."""
    problem = toy_problem("llama")
    config = toy_model("llama", "mup", problem, width=64, depth=1, base_width=16)
    model = config.build(0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training = ShortTraining(config=config, problem=problem, rate=1e-3, warmup=0, steps=1, batch_size=8, seed=0)
    assert len(list(training.losses(model))) == 1
    for name, parameter in model.named_parameters():
        moved = (parameter.detach() - before[name]).abs().max().item()
        expected = 2.5e-4 if "_proj" in name else 1e-3
        assert moved == pytest.approx(expected, rel=0.02), name


@pytest.mark.parametrize(
    ("losses", "best", "at_edge"),
    [
        ([3.0, 1.0, 3.0, 5.0], -8.0, False),
        ([2.0, 1.0, 1.0, 4.0], -7.5, False),
        ([1.0, 2.0, 3.0, 4.0], -9.0, True),
        ([4.0, 3.0, 2.0, 1.0], -6.0, True),
        ([3.0, 2.0, 1.0, math.nan], -7.0, False),
        ([math.nan, math.nan, 1.0, 2.0], -7.0, False),
    ],
)
def test_the_best_rate(losses: list[float], best: float, at_edge: bool) -> None:
    rates = [2.0**-9, 2.0**-8, 2.0**-7, 2.0**-6]
    assert best_rate(rates, np.array(losses)) == (pytest.approx(best), at_edge)
    undefined, _ = best_rate(rates, np.full(4, math.nan))
    assert math.isnan(undefined)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("coordinates") / "toy"
    settings = ["--preset", "toy", "--out", out, "--workers", 1]
    done = CliRunner().invoke(app, ["study", "run", "coordinate-check", *map(str, settings)])
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.slow
def test_the_report_says_what_the_results_say(study: Path) -> None:
    result = read_coordinate_check(study)
    assert [(each.side.family, each.side.parametrisation) for each in result.sides] == [
        ("llama", "standard"),
        ("llama", "mup"),
        ("vit", "standard"),
        ("vit", "mup"),
    ]
    results = Results(study)
    side = result.sides[2]
    stream = next(curve for curve in side.sizes if curve.kind == "stream")
    logs = np.log([results.load(f"sizes-vit-standard-{w:04d}").values["size"][:, 2, 3] for w in (16, 32, 64)])
    expected = [np.polyfit(np.log([16, 32, 64]), of_seed, 1)[0] for of_seed in logs.T]
    assert stream.slope.value == pytest.approx(np.mean(expected))
    assert stream.slope.stderr == pytest.approx(np.std(expected, ddof=1) / math.sqrt(2))
    best = [
        best_rate(result.settings["rates"], results.load(f"rates-vit-standard-{w:04d}-seed-00").values["loss"])[0]
        for w in (16, 32)
    ]
    assert side.shift.value == pytest.approx(best[1] - best[0])
    summary = json.loads((study / "summary.json").read_text(encoding="utf-8"))
    assert [each["is_flat"] for each in summary["sides"]] == [each.is_flat for each in result.sides]
    text = (study / "summary.md").read_text(encoding="utf-8")
    assert describe_sizes(result) in text
    assert describe_rates(result) in text


def test_best_rates_are_those_of_the_mean_over_seeds(tmp_path: Path) -> None:
    """With the jackknife's error: of two seeds, half of what they differ by."""
    plan = registry.find("coordinate-check").plan({"preset": "toy", "sweep_seeds": 2})
    write_plan(tmp_path, plan)
    parabola = (np.arange(-7, -4)[None] - np.array([[-6.2], [-5.8], [-6.4], [-6.2]])) ** 2
    losses = dict(zip(("0016-seed-00", "0016-seed-01", "0032-seed-00", "0032-seed-01"), parabola, strict=True))
    for task in plan.tasks:
        if task.name.startswith("rates-llama-mup"):
            Results(tmp_path).save(task.as_dict(), {"loss": losses[task.name.removeprefix("rates-llama-mup-")]})
    (side,) = read_coordinate_check(tmp_path).sides
    assert [curve.best.value for curve in side.rates] == pytest.approx([-6.0, -6.3])
    assert [curve.best.stderr for curve in side.rates] == pytest.approx([0.2, 0.1])
    assert not any(curve.at_edge for curve in side.rates)
    # From -6.2 to -6.4 at one seed and from -5.8 to -6.2 at the other.
    assert (side.shift.value, side.shift.stderr, side.shift.n) == (pytest.approx(-0.3), pytest.approx(0.1), 2)


@pytest.mark.slow
def test_words_follow_the_numbers(study: Path) -> None:
    result = read_coordinate_check(study)
    side = result.sides[1]

    def with_slopes(*values: float) -> str:
        curves = tuple(
            replace(curve, slope=replace(curve.slope, value=value))
            for curve, value in zip(side.sizes, values, strict=False)
        )
        return describe_sizes(replace(result, sides=(replace(side, sizes=curves),)))

    assert "Llama, muP: −0.20 to 0.10, no size depends on the width (all within ±0.3)." in with_slopes(-0.2, 0.1)
    assert "Llama, muP: 0.60 to 1.10, every size grows with the width (all above 0.5)." in with_slopes(1.1, 0.6)
    assert "0.10 to 0.60, neither all within ±0.3 nor all above 0.5." in with_slopes(0.1, 0.6)

    def with_best(narrow: float, wide: float, at_edge: bool = False, stderr: float = 0.2, n: int = 8) -> str:
        curves = tuple(
            replace(curve, best=replace(curve.best, value=value), at_edge=edge)
            for curve, value, edge in zip(side.rates, (narrow, wide), (False, at_edge), strict=True)
        )
        one = "one seed has no spread to take an error from" if n == 1 else None
        shift = Estimate(value=wide - narrow, stderr=math.nan if n == 1 else stderr, n=n, reason=one)
        changed = replace(side, rates=curves, shift=shift)
        return describe_rates(replace(result, sides=(changed,)))

    assert "−0.50 ± 0.20 from width 16 to 32, the rate transfers." in with_best(-6.0, -6.5)
    assert "−2.00 ± 0.20 from width 16 to 32, the rate does not transfer." in with_best(-4.0, -6.0)
    uncertain = "unsettled, for its 95% interval holds shifts of more and of less than an octave"
    assert uncertain in with_best(-4.0, -6.0, stderr=1.2)
    assert uncertain in with_best(-6.0, -6.5, stderr=0.6)
    assert uncertain in with_best(-6.0, -6.5, n=2)  # Student's factor is 12.7, not 2
    assert uncertain in with_best(-4.0, -5.3)
    for narrow, wide in ((-6.0, -6.5), (-4.0, -6.0)):
        words = with_best(narrow, wide, n=1)
        assert words.endswith("from width 16 to 32, unsettled, for one seed has no spread to take an error from.")
    assert "and further, for the widest is best at the lowest rate that was tried" in with_best(-5.0, -7.0, True)
    assert "unsettled, for a best rate is the lowest or highest that was tried" in with_best(-7.0, -7.0, True)
    assert "unsettled, for a best rate is the lowest or highest that was tried" in with_best(-5.0, -7.0, True, n=1)


@pytest.mark.slow
def test_the_figure_and_its_rows(study: Path, tmp_path: Path) -> None:
    files = figure("coordinate-check").draw(study, tmp_path)
    assert [file.name for file in files] == [f"coordinate-check.{form}" for form in ("png", "pdf", "svg", "csv")]
    with files[3].open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    sizes = [row for row in rows if row["quantity"] == "size"]
    assert len(sizes) == 4 * 5 * 3
    assert all(float(row["relative"]) == pytest.approx(1) for row in sizes if row["width"] == "16")
    losses = [row for row in rows if row["quantity"] == "loss" and row["parametrisation"] == "mup"]
    at_base = {(row["family"], row["rate"]): float(row["value"]) for row in losses if row["width"] == "16"}
    # At the base's width both parametrisations are the same.
    for row in rows:
        if row["quantity"] == "loss" and row["parametrisation"] == "standard" and row["width"] == "16":
            assert float(row["value"]) == at_base[row["family"], row["rate"]]
    drawn = files[2].read_text(encoding="utf-8")
    for phrase in ("Llama, standard", "ViT, muP", "change of logits", "size relative to width 16", "learning rate"):
        assert phrase in drawn
    for again, file in zip(figure("coordinate-check").draw(study, tmp_path / "again"), files, strict=True):
        assert again.read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_an_unfinished_study(study: Path, tmp_path: Path) -> None:
    write_plan(tmp_path, registry.find("coordinate-check").plan({"preset": "toy"}))
    assert report(tmp_path).sections[0].text == "Sizes have not been taken at two widths yet."
    with pytest.raises(ValueError, match="has no sizes at two widths yet: got nothing to draw; run the study further"):
        figure("coordinate-check").draw(tmp_path)
    whole = Results(study)
    for name in ("sizes-llama-mup-0016", "sizes-llama-mup-0032", "rates-llama-mup-0016-seed-00"):
        result = whole.load(name)
        Results(tmp_path).save(result.task, result.values)
    assert "3 of 20 tasks are done" in report(tmp_path).sections[0].text
    assert report(tmp_path).sections[1].text == "Learning rates have not been swept at two widths yet."
    assert len(figure("coordinate-check").draw(tmp_path)) == 4
    header = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    (tmp_path / "study.json").write_text(json.dumps({**header, "study": "scaling"}), encoding="utf-8")
    with pytest.raises(ForeignFolderError, match="holds the study 'scaling'; expected 'coordinate-check'"):
        figure("coordinate-check").draw(tmp_path)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_are_planned(preset: str) -> None:
    config = PRESETS[preset]()
    assert config.preset == preset
    assert CoordinateCheckConfig.from_dict({"preset": preset}) == config
    tasks = registry.find("coordinate-check").plan({"preset": preset}).tasks
    assert len(tasks) == 4 * (len(config.widths) + len(config.sweep_widths) * config.sweep_seeds)
    assert config.base_width == config.widths[0] == config.sweep_widths[0]


def test_quick_takes_minutes() -> None:
    assert expected_cost(PRESETS["quick"]().plan(), workers=2).minutes < 5


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"preset": "huge"}, ValueError, "Unknown preset 'huge' of the coordinate-check study"),
        ({"widths": [32]}, ValueError, "widths is .32,.; expected two widths or more, ascending"),
        ({"sweep_widths": [32, 16]}, ValueError, "sweep_widths is .32, 16.; expected two widths or more, ascending"),
        ({"widths": [16.0, 32]}, SettingTypeError, "expected a list of whole numbers"),
        ({"rates": 0.1}, SettingTypeError, r"rates is 0.1; expected a list of numbers, as \[0.001, 0.01\]"),
        ({"rates": [0.1, 0.01]}, ValueError, "expected positive numbers in ascending order"),
        ({"rates": []}, ValueError, "expected positive numbers in ascending order"),
        ({"rates": [0.0, 0.01]}, ValueError, "expected positive numbers in ascending order"),
        ({"seeds": 0}, ValueError, "seeds is 0; expected at least 1"),
        ({"rate": -1.0}, ValueError, "rate is -1.0; expected a positive number"),
        ({"widths": [16, 24]}, ValueError, "width is 24; expected a positive multiple of 16"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        expected_cost(registry.find("coordinate-check").plan({"preset": "toy", **settings}), workers=1)
