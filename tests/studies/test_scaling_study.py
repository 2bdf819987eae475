"""The scaling study: its presets, its settings, its folder, and what it says it will cost."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_library import write_library

from spectral_reach.records.errors import ForeignFolderError, RunFolderBusyError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies import registry
from spectral_reach.studies.cost import expected_cost
from spectral_reach.studies.data import stdlib
from spectral_reach.studies.families import FamiliesConfig, from_dict
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.scaling import PRESETS
from spectral_reach.studies.study_folder import read_header, sole_owner, write_plan
from spectral_reach.studies.training.run_config import RunConfig

# A vocabulary that the small library yields.
SMALL = {"families": {"text": {"data": {"name": "stdlib", "vocabulary": 300, "context": 16}}}}


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_library(tmp_path / "library")
    monkeypatch.setattr(stdlib, "stdlib_root", lambda: root)
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path / "cache"))


def config_of(values: dict[str, Any]) -> FamiliesConfig:
    return from_dict(PRESETS, values, default="demo", study="scaling")


def toy(**settings: Any) -> StudyPlan:
    return registry.find("scaling").plan({"preset": "toy", **SMALL, **settings})


def test_the_study_is_known_with_its_presets() -> None:
    assert "scaling" in registry.known()
    study = registry.find("scaling")
    assert set(study.presets) == {"demo", "toy"}
    assert all(study.presets.values())
    with pytest.raises(ValueError, match=r"Unknown study 'depth'; the known ones are .*scaling"):
        registry.find("depth")


def test_the_demo_has_the_sizes_that_it_promises() -> None:
    demo = PRESETS["demo"]()
    assert demo.families["text"].data.options == {"vocabulary": 384, "context": 64}
    families = {"text": {"data": {"vocabulary": 384, "context": 64}}}
    plan = registry.find("scaling").plan({"preset": "demo", "families": families})
    sizes = {name: [run.model.parameters for run in family.runs] for name, family in plan.families.items()}
    assert sizes["text"] == sorted(sizes["text"])
    assert len(sizes["text"]) >= 5
    assert sizes["text"][-1] >= 50 * sizes["text"][0]
    assert len(sizes["pixels"]) >= 4
    for run in plan.runs:
        assert (run.model.context, run.threads) == (64, 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_are_read_back_from_json(preset: str) -> None:
    config = PRESETS[preset]()
    assert config_of(json.loads(json.dumps(config.as_dict()))) == config
    assert config_of({"preset": preset}) == config


def test_settings_change_what_they_name_and_nothing_else() -> None:
    changed = config_of(
        {
            "preset": "toy",
            "seeds": [3],
            "families": {"text": None, "pixels": {"widths": [48], "training": {"steps": 9}}},
        }
    )
    toy_config = PRESETS["toy"]()
    assert list(changed.families) == ["pixels"]
    assert changed.families["pixels"].widths == (48,)
    assert changed.families["pixels"].training.steps == 9
    assert changed.families["pixels"].training.batch_size == toy_config.families["pixels"].training.batch_size
    assert changed.families["pixels"].measurement == toy_config.families["pixels"].measurement
    plan = changed.plan("scaling")
    assert [run.name for run in plan.runs] == ["pixels-057k"]
    assert plan.runs[0].training.seed == 3
    assert plan.runs[0].training.learning_rate == toy_config.families["pixels"].training.learning_rate * 64 / 48


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"preset": "huge"}, ValueError, "Unknown preset 'huge' of the scaling study; the known ones are demo, toy"),
        ({"stepz": 3}, ValueError, "The scaling study has no setting 'stepz'; its settings are preset, families"),
        ({"families": {"text": {"widhts": [16]}}}, ValueError, "'text' of the scaling study has no setting 'widhts'"),
        (
            {"families": {"sound": {}}},
            ValueError,
            "'sound' of the scaling study lacks 'data', 'training', 'measurement'",
        ),
        (
            {"families": {"text": {"widths": []}}},
            ValueError,
            r"FamilyConfig.widths is \(\); expected at least one width, or else",
        ),
        ({"families": {"text": {"widths": [16, 16]}}}, ValueError, "expected different widths"),
        ({"families": {"text": {"widths": [24]}}}, ValueError, "width is 24; expected a positive multiple of 16"),
        (
            {"families": {"text": {"widths": "16"}}},
            TypeError,
            "FamilyConfig.widths is '16'; expected a list of whole numbers",
        ),
        (
            {"families": {"text": {"training": {"steps": 2}}}},
            ValueError,
            "warmup_steps is 3; expected fewer than the 2",
        ),
        (
            {"families": {"text": 3}},
            TypeError,
            "The family 'text' of the scaling study is 3; expected settings by name",
        ),
        ({"families": 3}, TypeError, "families of the scaling study is 3; expected families by name"),
        ({"families": {"text": None, "pixels": None}}, ValueError, "families is {}; expected at least one family"),
        ({"seeds": [-1]}, ValueError, r"FamiliesConfig.seeds is \(-1,\); expected at least 0"),
        (
            {"families": {"pixels": {"training": {"batch_size": 2000}}}},
            ValueError,
            "has batch_size 2000; expected at most 1500",
        ),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        config_of({"preset": "toy", **settings}).plan("scaling")


def test_the_folder_is_complete_before_anything_runs(tmp_path: Path) -> None:
    plan = toy()
    folders = write_plan(tmp_path / "study", plan)
    header = read_header(tmp_path / "study")
    assert (header["format"], header["version"]) == ("spectral-reach study", 1)
    assert (header["study"], header["preset"]) == ("scaling", "toy")
    assert header["families"]["pixels"] == {
        "label": "Images (8 × 8 digits)",
        "is_sweep": False,
        "runs": ["pixels-004k", "pixels-014k"],
    }
    assert [path.name for path in folders] == [run.name for run in plan.runs]
    for path, run in zip(folders, plan.runs, strict=True):
        assert RunConfig.from_dict(RunFolder.open(path).config) == run
        facts = RunFolder.open(path).config["facts"]
        assert facts["parameters"] == run.model.parameters
        assert facts["parameters_without_embeddings"] == run.model.parameters_without_embeddings
        assert facts["unigram_entropy"] > 0
        assert len(facts["data_hash"]) == 64


def test_the_same_plan_is_written_again_without_a_change(tmp_path: Path) -> None:
    write_plan(tmp_path / "study", toy())
    before = {file: file.read_bytes() for file in (tmp_path / "study").rglob("*") if file.is_file()}
    write_plan(tmp_path / "study", toy())
    assert before == {file: file.read_bytes() for file in (tmp_path / "study").rglob("*") if file.is_file()}


def test_another_plan_is_refused_with_the_settings_that_differ(tmp_path: Path) -> None:
    write_plan(tmp_path / "study", toy())
    with pytest.raises(ForeignFolderError, match=r"training.seed is 0 there, 1 here.*Choose another output folder"):
        write_plan(tmp_path / "study", toy(seeds=[1]))


def test_a_study_of_other_sizes_is_refused(tmp_path: Path) -> None:
    write_plan(tmp_path / "study", toy())
    with pytest.raises(
        ForeignFolderError,
        match=r"another study: settings, families differ \(families.pixels.widths is \[16, 32\] there, \[48\] here\)",
    ):
        write_plan(tmp_path / "study", toy(families={**SMALL["families"], "pixels": {"widths": [48]}}))
    assert not (tmp_path / "study" / "runs" / "pixels-057k").exists()


@pytest.mark.parametrize("name", ["study.json", "notes.txt"])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("something else")
    with pytest.raises(ForeignFolderError, match=r"mine.*[Ee]xpected the folder of a study"):
        write_plan(tmp_path / "mine", toy())
    with pytest.raises(ForeignFolderError, match="is a file; expected a folder"):
        write_plan(tmp_path / "mine" / name, toy())


def test_the_study_of_another_version_is_refused(tmp_path: Path) -> None:
    write_plan(tmp_path / "study", toy())
    header = read_header(tmp_path / "study")
    (tmp_path / "study" / "study.json").write_text(json.dumps({**header, "version": 2}))
    with pytest.raises(ForeignFolderError, match="is not a 'spectral-reach study' of version 1"):
        read_header(tmp_path / "study")


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from spectral_reach.studies.study_folder import sole_owner\n"
            "with sole_owner(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()",
            str(tmp_path / "study"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(RunFolderBusyError, match=r"is in use: another process is running this study\. Wait"),
        sole_owner(tmp_path / "study"),
    ):
        pass
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with sole_owner(tmp_path / "study"):
        write_plan(tmp_path / "study", toy())


def test_the_cost_counts_training_flops_exactly_and_fits_on_a_line() -> None:
    plan = toy()
    cost = expected_cost(plan, workers=2)
    assert cost.flops == sum(
        6 * run.model.parameters * run.training.batch_size * run.model.context * 30 for run in plan.runs
    )
    assert cost.runs == 4
    assert cost.parameters == (
        plan.families["pixels"].runs[0].model.parameters,
        max(r.model.parameters for r in plan.runs),
    )
    assert "\n" not in str(cost)
    assert str(cost).startswith("4 runs of 4k to ")
    assert expected_cost(plan, workers=1).minutes > cost.minutes > expected_cost(plan, workers=4).minutes
