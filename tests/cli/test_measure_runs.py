"""``measure`` and ``spectrum`` on run folders: the model as it was trained, whatever its family and parametrisation."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

import spectral_reach as sr
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.loading import LoadOptions, load_network
from spectral_reach.checkpoints.revisions import find_revisions
from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.data.batches import measurement_batch
from spectral_reach.studies.models.llama import LlamaConfig
from spectral_reach.studies.models.registry import ModelConfig
from spectral_reach.studies.models.vit import ViTConfig
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.run_config import DataConfig, RunConfig, facts_of

TRAINING = TrainingConfig(
    steps=3,
    batch_size=4,
    learning_rate=0.01,
    warmup_steps=1,
    heldout_every=3,
    heldout_units=4,
    checkpoint_every=3,
    snapshots=(2,),
)
TOKENS = {"vocabulary": 18, "context": 64}
IMAGES = {"classes": 10, "channels": 1, "image_size": 8}
MUP = {"parametrisation": "mup", "base_width": 16, "depth": 1, "heads": 1}

RUNS: Mapping[str, tuple[str, ModelConfig, Mapping[str, Any]]] = {
    "llama": ("digits", LlamaConfig.of_width(64, TOKENS, MUP), {}),
    "vit": ("digits-images", ViTConfig.of_width(32, IMAGES, {**MUP, "patch": 4}), {}),
    "probe": ("digits-images", ViTConfig.of_width(16, IMAGES, {"patch": 4}), {"trained": "readout"}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, RunFolder]:
    folders = {}
    for name, (data_name, model, training) in RUNS.items():
        data = DataConfig(name=data_name)
        config = RunConfig(
            name=name,
            family=name,
            data=data,
            model=model,
            training=replace(TRAINING, **training),
            measurement=MeasurementConfig(per_decade=1, width=1, units=4, late_measurements=1, late_units=4),
            facts=facts_of(data.load(), model),
        )
        folders[name] = RunFolder.create(tmp_path_factory.mktemp("runs") / name, config.as_dict())
        assert train(folders[name], config, data.load())
    return folders


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_measured_as_it_was_trained(name: str, runs: Mapping[str, RunFolder], tmp_path: Path) -> None:
    folder, out = runs[name], tmp_path / "numbers.parquet"
    options = ["--units", 4, "--estimator", "per_unit", "--probes", 2, "--seed", 5, "--out", out]
    result = command("measure", folder.path, *options)
    assert result.exit_code == ExitCode.OK, result.output
    units = "sequences" if name == "llama" else "images"
    assert f"{folder.path} step3 after 3 steps, on 4 training {units} of {RUNS[name][0]}" in result.stdout

    config = RunConfig.from_dict(folder.config)
    model = config.model.build(9)
    checkpoint = folder.checkpoints.latest()
    assert checkpoint is not None
    checkpoint.load_weights(model)
    batch = measurement_batch(config.data.load(), 0, seed=5, units=4)
    readout = "classifier" if name == "probe" else None
    expected = sr.decompose(model.eval(), batch, estimator="per_unit", probes=2, seed=5, parameters=readout)
    written = {row["quantity"]: row for row in pq.read_table(out).to_pylist()}
    for quantity in ("loss", "chi_loss", "chi_net", "chi_pos", "delta_loss"):
        assert written[quantity]["value"] == pytest.approx(getattr(expected, quantity), rel=1e-6), quantity
        assert (written[quantity]["revision"], written[quantity]["step"]) == ("step3", 3)


def test_snapshots_of_a_run_are_revisions(runs: Mapping[str, RunFolder], tmp_path: Path) -> None:
    folder, out = runs["llama"].path, tmp_path / "numbers.parquet"
    result = command("measure", folder, "--revision", "all", "--units", 4, "--out", out)
    assert result.exit_code == ExitCode.OK, result.output
    table = pq.read_table(out)
    assert list(dict.fromkeys(table.column("revision").to_pylist())) == ["step2", "step3"]
    assert len(set(table.column("batch_digest").to_pylist())) == 1
    for name in ("2", "step-000002", "step2"):
        again = command("measure", folder, "--revision", name, "--units", 4, "--out", out)
        assert "1 measurement, 1 of them are in" in again.stderr, again.output
    assert pq.read_table(out).num_rows == table.num_rows
    wrong = command("measure", folder, "--revision", "step7", "--units", 4)
    assert f"{folder} has no revision 'step7'; it has step2, step3." in wrong.stderr


def test_the_spectrum_of_images(runs: Mapping[str, RunFolder], tmp_path: Path) -> None:
    out = tmp_path / "spectrum.json"
    options = ["--step", 2, "--units", 3, "--method", "explicit", "--out", out]
    result = command("spectrum", runs["vit"].path, *options)
    assert result.exit_code == ExitCode.OK, result.output
    assert "The kernel of 30 outputs (3 samples x 10 classes)" in result.stderr
    assert json.loads(out.read_text())["n_outputs"] == 10


def test_a_snapshot_in_hugging_face_form_says_that_it_is_in_mup(runs: Mapping[str, RunFolder]) -> None:
    """Without the configuration of the run, the model's own tells the multipliers."""
    snapshot = runs["llama"].path / "snapshots" / "step-000002"
    (of_run,), (by_itself,) = (
        [load_network(each, Kind.CAUSAL_LM, LoadOptions()) for each in find_revisions(*arguments)]
        for arguments in ((runs["llama"].path, "step2"), (snapshot,))
    )
    inputs, _ = measurement_batch(DataConfig(name="digits").load(), 0, seed=0, units=2)
    assert by_itself.config.mup_output_multiplier == 0.25
    assert torch.equal(of_run(inputs).logits, by_itself(inputs).logits)


def test_images_for_a_language_model_and_text_for_a_vit(runs: Mapping[str, RunFolder]) -> None:
    result = command("measure", runs["vit"].path, "--data", "digits")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert (
        "The model is made for data with classes 10, channels 1, image size 8, the data digits have vocabulary 18, "
        "context 64. Name data of the kind that the model was trained on."
    ) in result.stderr
    result = command("measure", runs["llama"].path, "--data", "digits-images")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "The model is made for data with vocabulary 18, context 64, the data digits-images have" in result.stderr


def test_weights_of_another_model(runs: Mapping[str, RunFolder], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["vit"].path, folder)
    header = json.loads((folder / "config.json").read_text())
    file = next(path for path in (folder / "checkpoints").glob("*/model.safetensors"))
    shutil.copy(next((runs["probe"].path / "checkpoints").glob("*/model.safetensors")), file)
    result = command("measure", folder, "--units", 2)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert f"The weights in {file.parent} are not those of the model in the run's config.json:" in result.stderr
    assert "Put back the config.json that the run was made with." in result.stderr
    file.write_bytes(file.read_bytes()[:-1])
    result = command("measure", folder, "--units", 2)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert f"{file} cannot be read:" in result.stderr
    assert header == json.loads((folder / "config.json").read_text())
