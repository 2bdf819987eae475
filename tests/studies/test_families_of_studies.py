"""The studies of families: every preset is whole, plans what it promises, and needs no data to be looked at."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_library import write_library

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies import probes, registry, scaling_pixels, scaling_text, vit, vit_mup
from spectral_reach.studies.data import TokenData, stdlib
from spectral_reach.studies.data.image_rows import ImageRows
from spectral_reach.studies.data.images import ImageData
from spectral_reach.studies.dry_run import expected_run, expected_runs
from spectral_reach.studies.families import from_dict
from spectral_reach.studies.learning_rate import RateConfig
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.run_config import facts_of

STUDIES = {
    "scaling-text": scaling_text,
    "scaling-pixels": scaling_pixels,
    "vit": vit,
    "vit-mup": vit_mup,
    "probes": probes,
}
SIZES = ("quick", "toy", "laptop", "paper")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_library(tmp_path / "library")
    monkeypatch.setattr(stdlib, "stdlib_root", lambda: root)
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path / "cache"))


def small(study: str, **settings: Any) -> StudyPlan:
    """The toy with a vocabulary that the small library yields."""
    text = {"data": {"vocabulary": 300, "context": 16}}
    families = {name: text for name, family in STUDIES[study].toy().families.items() if family.data.name == "stdlib"}
    return registry.find(study).plan({"preset": "toy", "families": families, **settings})


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_has_every_preset_and_reads_it_back(study: str) -> None:
    module = STUDIES[study]
    assert tuple(registry.find(study).presets) == SIZES
    assert all(registry.find(study).presets.values())
    for preset in SIZES:
        config = module.PRESETS[preset]()
        assert config.preset == preset
        values = json.loads(json.dumps(config.as_dict()))
        assert from_dict(module.PRESETS, values, default="quick", study=study) == config
        assert from_dict(module.PRESETS, {"preset": preset}, default="quick", study=study) == config


@pytest.mark.parametrize("study", STUDIES)
def test_several_seeds_of_every_size_come_under_different_names(study: str, library: None) -> None:
    plan = small(study)
    seeds = STUDIES[study].toy().seeds
    for key, family in plan.families.items():
        if family.is_sweep:
            continue
        assert len({run.name for run in family.runs}) == len(family.runs) == 2 * len(seeds)
        assert [run.training.seed for run in family.runs] == [*seeds, *seeds]
        assert all(run.name.startswith(f"{key}-") for run in family.runs)


def test_a_sweep_comes_before_its_runs_and_differs_in_the_rate_alone(library: None) -> None:
    plan = small("scaling-text")
    assert list(plan.families) == ["text-rates", "text"]
    sweep, runs = plan.families["text-rates"], plan.families["text"]
    assert sweep.is_sweep
    assert not runs.is_sweep
    smallest = sweep.runs[:2]
    assert runs.runs[0].rate_from == runs.runs[1].rate_from == tuple(run.name for run in smallest)
    assert [run.training.learning_rate for run in smallest] == [0.004 * 64 / 16 * factor for factor in (0.5, 1.0)]
    assert {run.training.steps for run in sweep.runs} == {6}
    assert all(run.training.may_diverge and not run.measured_steps and run.rate_from == () for run in sweep.runs)
    first, second = smallest
    assert replace(second, name=first.name, training=replace(second.training, learning_rate=0.008)) == first


def test_probes_stand_on_the_backbone_of_their_size_and_seed(library: None) -> None:
    plan = small("probes")
    full, pretrained, random = (plan.families[key].runs for key in ("full", "pretrained", "random"))
    assert [run.backbone for run in pretrained] == [run.name for run in full]
    assert [(run.model, run.training.seed) for run in pretrained] == [(run.model, run.training.seed) for run in full]
    assert {run.backbone for run in random} == {None}
    assert {run.training.trained for run in (*pretrained, *random)} == {"readout"}
    assert {run.training.trained for run in full} == {"all"}


def test_the_sweep_of_probes_stands_on_their_backbones_too(library: None) -> None:
    text = {"data": {"vocabulary": 300, "context": 16}}
    families: dict[str, Any] = dict.fromkeys(("full", "pretrained", "random"), text)
    families["pretrained"] = {**text, "rates": {"rule": "sweep", "factors": [1, 2], "sweep_steps": 4}}
    plan = small("probes", families=families)
    full = plan.families["full"].runs
    sweep = plan.families["pretrained-rates"].runs
    assert [run.backbone for run in sweep] == [full[0].name, full[0].name, full[1].name, full[1].name]


def test_mup_is_the_same_training_at_its_base_width(library: None) -> None:
    standard, mup = vit.quick().families["vit"], vit_mup.quick().families["vit-mup"]
    assert mup.options == {**standard.options, "parametrisation": "mup", "base_width": 32}
    data = standard.data.load()
    rates = {
        name: {
            model.width: family.rates.rate(family.training.learning_rate, model)
            for model in family.members(data.dimensions)
        }
        for name, family in (("standard", standard), ("mup", mup))
    }
    assert rates["mup"][32] == rates["standard"][32]
    assert len(set(rates["mup"].values())) == 1


@pytest.mark.parametrize(
    ("study", "settings", "error", "message"),
    [
        (
            "vit",
            {"families": {"vit": {"model": "resnet"}}},
            ValueError,
            "FamilyConfig.model is 'resnet'; expected llama or vit",
        ),
        ("vit", {"families": {"vit": {"options": {"patches": 2}}}}, ValueError, "'vit' has no setting 'patches'"),
        ("vit", {"families": {"vit": {"shapes": 3}}}, TypeError, "FamilyConfig.shapes is 3; expected a list"),
        ("vit", {"families": {"vit": {"shapes": [{"width": 16}]}}}, ValueError, "at least one width, or else shapes"),
        (
            "vit",
            {"families": {"vit": {"rates": {"rule": "best"}}}},
            ValueError,
            "RateConfig.rule is 'best'; expected constant",
        ),
        (
            "vit",
            {"families": {"vit": {"rates": {"factors": [1.0]}}}},
            ValueError,
            "factors is .1.0.; expected two or more",
        ),
        (
            "vit",
            {"families": {"vit": {"rates": {"rule": "given", "by_width": {"16": 0.1}}}}},
            ValueError,
            "has rates for 16; expected one for width 32 or 26538 parameters too",
        ),
        (
            "vit",
            {"families": {"vit": {"data": {"name": "digits"}}}},
            ValueError,
            "expected data with classes, channels, image_size, got data with vocabulary, context",
        ),
        ("vit", {"seeds": []}, ValueError, "seeds is .*; expected different seeds"),
        ("vit", {"seeds": [1, 1]}, ValueError, "seeds is .1, 1.; expected different seeds"),
        (
            "vit",
            {"families": {"vit": {"backbones": "full"}}},
            ValueError,
            "backbones is 'full'; expected none where everything is trained",
        ),
        (
            "probes",
            {"families": {"full": None}},
            ValueError,
            "takes its backbones from 'full'; expected a family that comes before it: there is none",
        ),
        (
            "probes",
            {"families": {"full": {"widths": [16]}}},
            ValueError,
            "their backbones 'full' .*; expected the same models on the same data",
        ),
    ],
)
def test_impossible_families_are_named(
    study: str, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        registry.find(study).plan({"preset": "toy", **settings})


def test_another_data_set_or_model_leaves_none_of_the_old_options() -> None:
    def changed(study: str, **family: Any) -> Any:
        values = {"preset": "quick", "families": {"pixels": family}}
        return from_dict(STUDIES[study].PRESETS, values, default="quick", study=study).families["pixels"]

    assert changed("scaling-pixels", data={"shifts": 2}).data.as_dict() == {"name": "digits", "shifts": 2}
    other = {"name": "cifar5m", "folder": "/x"}
    assert changed("scaling-pixels", data=other).data.as_dict() == other
    assert changed("scaling-pixels", data="cifar5m:/x").data.as_dict() == other
    images = changed("scaling-pixels", data="digits-images", model="vit", options={"patch": 4})
    assert (images.data.as_dict(), images.options) == ({"name": "digits-images"}, {"patch": 4})


def test_a_rate_is_scaled_given_or_swept() -> None:
    model = vit.quick().families["vit"].members({"classes": 10, "channels": 1, "image_size": 8})[-1]
    assert model.width == 128
    assert RateConfig(rule="constant").rate(0.1, model) == 0.1
    assert RateConfig(rule="inverse_width", reference_width=32).rate(0.1, model) == pytest.approx(0.025)
    assert RateConfig(rule="given", by_width={"128": 0.3}).rate(0.1, model) == 0.3
    of_each = {"128": 0.3, str(model.parameters): 0.4}
    assert RateConfig(rule="given", by_width=of_each).rate(0.1, model) == 0.4
    assert RateConfig(rule="sweep", reference_width=128, factors=(2, 0.5)).sweep(0.1, model) == (0.05, 0.2)
    assert RateConfig(rule="sweep", reference_width=64, factors=(2, 0.5)).sweep(0.1, model) == (0.025, 0.1)


def test_mup_scales_rates_by_itself() -> None:
    model = vit_mup.quick().families["vit-mup"].members({"classes": 10, "channels": 1, "image_size": 8})[-1]
    told = r"rule is 'inverse_width' for a model in muP, .*; expected constant, given or sweep\. Set rates\.rule to"
    with pytest.raises(ValueError, match=told):
        RateConfig().rate(0.1, model)
    assert RateConfig(rule="constant").rate(0.1, model) == 0.1
    assert RateConfig(rule="given", by_width={str(model.width): 0.3}).rate(0.1, model) == 0.3
    assert RateConfig(rule="sweep", reference_width=1, factors=(2, 0.5)).sweep(0.1, model) == (0.05, 0.2)
    for study in ("scaling-pixels", "scaling-text"):
        settings = {"options": {"parametrisation": "mup", "base_width": 16}, "rates": {"rule": "inverse_width"}}
        family = next(iter(STUDIES[study].toy().families))
        with pytest.raises(ValueError, match=told):
            registry.find(study).plan({"preset": "toy", "families": {family: settings}})


@pytest.mark.parametrize("study", STUDIES)
def test_the_papers_size_can_be_looked_at_without_its_data(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path))
    plan = registry.find(study).outline({"preset": "paper"})
    assert not list(tmp_path.iterdir())
    expected = list(expected_runs(plan))
    assert [each.name for each in expected] == [run.name for run in plan.runs]
    for run, each in zip(plan.runs, expected, strict=True):
        assert each.tokens == run.training.steps * run.training.batch_size * run.model.tokens_per_unit
        assert each.flops == (2 * each.parameters + 4 * run.trained_parameters) * each.tokens
        assert 1e8 < each.memory < 80 * 2**30, each.name
        assert 0 < each.gpu_hours < 24
    assert max(run.model.parameters for run in plan.runs) > 15e6


def test_probes_take_less_than_full_training() -> None:
    plan = registry.find("probes").outline({"preset": "paper"})
    full, probe = plan.families["full"].runs[-1], plan.families["random"].runs[-1]
    assert expected_run(probe).flops < 0.4 * expected_run(full).flops
    assert expected_run(probe).memory < expected_run(full).memory


@pytest.mark.slow
@pytest.mark.parametrize("study", ["scaling-text", "scaling-pixels", "vit-mup"])
def test_the_smallest_run_of_the_papers_size_starts_and_trains_here(study: str, tmp_path: Path) -> None:
    plan = registry.find(study).outline({"preset": "paper"})
    run = min((run for run in plan.runs if not run.needs), key=lambda run: run.model.parameters * run.training.steps)
    rng = np.random.default_rng(0)
    sizes = run.model.dimensions
    made: dict[str, Any] = {"name": "random", "label": "random", "description": "random", "content_hash": ""}
    if "context" in sizes:
        tokens = rng.integers(sizes["vocabulary"], size=(8, sizes["context"] + 1)).astype(np.uint16)
        data: Any = TokenData(train=tokens, heldout=tokens, vocabulary=sizes["vocabulary"], **made)
    else:
        images = rng.integers(256, size=(8, 32, 32, 3)).astype(np.uint8)
        rows = ImageRows((images,))
        classes = rng.integers(10, size=8)
        data = ImageData(
            train=rows, heldout=rows, train_labels=classes, heldout_labels=classes, classes=10,
            mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), **made,
        )  # fmt: skip
    # The model, the precision and the optimiser are the paper's; the batch is what fits into seconds.
    training = replace(run.training, steps=3, warmup_steps=1, batch_size=2, heldout_units=2, device="cpu")
    measurement = replace(run.measurement, units=2, late_units=2, late_measurements=1, heldout_units=2)
    small_one = replace(run, training=training, measurement=measurement, facts=facts_of(data, run.model))
    folder = RunFolder.create(tmp_path / "run", small_one.as_dict())
    assert train(folder, small_one, data)
    losses = [row["train_loss"] for row in folder.losses.rows()[:3]]
    assert all(np.isfinite(losses))
    if not run.training.may_diverge:
        assert all(row["chi_net"] > 0 for row in folder.measurements.rows())
