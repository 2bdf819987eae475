"""``measure``: the numbers of ``sr.decompose`` for a model on disk, and a clear word where there is none."""

import errno
import json
import math
import os
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import spectral_reach as sr
from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies import data as data_sets
from spectral_reach.studies.data.batches import measurement_batch
from spectral_reach.studies.models.llama import llama

SHAPE = {"vocabulary": 18, "context": 64}  # of the digits


@pytest.fixture(scope="module")
def hugging_face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    llama(16, **SHAPE).build(seed=1).save_pretrained(folder)
    return folder


def measure(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["measure", *map(str, arguments)])


def test_the_numbers_are_those_of_decompose(hugging_face_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "numbers.json"
    options = ["--units", 4, "--estimator", "batch", "--probes", 3, "--seed", 5]
    result = measure(hugging_face_folder, "--data", "digits", *options, "--out", out)
    assert result.exit_code == ExitCode.OK, result.output

    batch = measurement_batch(data_sets.load("digits"), 0, seed=5, units=4)
    model = llama(16, **SHAPE).build(seed=1).eval()
    expected = sr.decompose(model, batch, estimator="batch", probes=3, seed=5)
    written = json.loads(out.read_text())
    undefined = {name: None for name, value in expected.as_dict().items() if value != value}
    assert {name: written[name] for name in expected.as_dict()} == {**expected.as_dict(), **undefined}
    assert {name: written[name] for name in ("data", "seed", "step")} == {"data": "digits", "seed": 5, "step": None}
    assert str(expected) in result.stdout


def test_parquet_holds_the_same_numbers_as_json(hugging_face_folder: Path, tmp_path: Path) -> None:
    # One probe has no spread: its standard error is undefined.
    common = [hugging_face_folder, "--data", "digits", "--units", 2, "--probes", 1, "--out"]
    for suffix in ("json", "parquet"):
        assert measure(*common, tmp_path / f"numbers.{suffix}").exit_code == ExitCode.OK
    as_json = json.loads((tmp_path / "numbers.json").read_text())
    (row,) = pq.read_table(tmp_path / "numbers.parquet").to_pylist()
    assert as_json["chi_net_stderr"] is None
    assert math.isnan(row["chi_net_stderr"])
    assert json.loads(row["undefined"]) == as_json["undefined"] != {}
    assert row["chi_pos"] == as_json["chi_pos"]
    assert list(row) == list(as_json)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data", "stdlib"], "The model has a vocabulary of 18 tokens, the data stdlib one of 384"),
        (["--data", "stdlib", "--vocabulary", 18], "vocabulary is 18; expected 257"),
        (["--data", "cifar"], "Unknown data set 'cifar'; the known ones are cifar5m, digits, "),
        (["--data", "digits", "--context", 8], "Data set 'digits' has no option 'context'"),
        (["--data", "digits", "--estimator", "magic"], "estimator='magic' is unknown; expected 'auto' or one of"),
        (["--data", "digits", "--units", 0], "Invalid value for '--units'"),
        (["--data", "digits", "--probes", 0], "Invalid value for '--probes'"),
        (["--data", "digits", "--out", "numbers.csv"], "expected a file name that ends in .json or .parquet"),
        ([], "has no data of its own; name some: --data cifar5m or digits or "),
    ],
)
def test_bad_options(hugging_face_folder: Path, options: list[object], says: str) -> None:
    result = measure(hugging_face_folder, *options)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert says in result.stderr
    assert result.stdout == ""


def test_sequences_longer_than_the_model_reads(tmp_path: Path) -> None:
    llama(16, vocabulary=18, context=16).build(seed=0).save_pretrained(tmp_path)
    result = measure(tmp_path, "--data", "digits")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "reads at most 16 tokens, the sequences of digits have 64; give --context 16 or less" in result.stderr


def test_not_a_folder(tmp_path: Path) -> None:
    result = measure(tmp_path / "nowhere")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "nowhere is no folder; expected a run folder, or a Hugging Face folder" in result.stderr


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (None, "has no config.json; expected a run folder, or a Hugging Face folder"),
        ("not json", "config.json is no JSON"),
        ("{}", "cannot be loaded as a causal language model"),
        ('{"model_type": "no-such-architecture"}', "cannot be loaded as a causal language model"),
        ('{"model_type": "x", "auto_map": {"AutoModelForCausalLM": "code.Evil"}}', "cannot be loaded as a causal"),
    ],
)
def test_a_folder_without_a_model(tmp_path: Path, config: str | None, says: str) -> None:
    # Whatever the folder says, nothing in it is executed.
    (tmp_path / "code.py").write_text("raise SystemExit('this was run')")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    result = measure(tmp_path, "--data", "digits")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert says in result.stderr
    assert "this was run" not in result.output


def test_pickled_weights_are_not_read(hugging_face_folder: Path, tmp_path: Path) -> None:
    shutil.copy(hugging_face_folder / "config.json", tmp_path)
    torch.save(load_file(hugging_face_folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    result = measure(tmp_path, "--data", "digits")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "with config.json and its weights as safetensors" in result.stderr


def test_damaged_weights(hugging_face_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(hugging_face_folder, folder)
    whole = (folder / "model.safetensors").read_bytes()
    for damaged in (whole[:500], whole[:-1], b""):
        (folder / "model.safetensors").write_bytes(damaged)
        result = measure(folder, "--data", "digits")
        assert result.exit_code == ExitCode.BAD_INPUT
        assert f"The weights in {folder} cannot be read: Error while deserializing header" in result.stderr
        assert "Expected whole safetensors files: these are cut or damaged, restore them from a copy." in result.stderr


def test_weights_of_another_shape(hugging_face_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(hugging_face_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 24}))
    result = measure(folder, "--data", "digits")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "has 3 weights of another shape than its config.json asks for, the first is model.layers.0" in result.stderr
    assert "mlp.down_proj.weight: got (16, 48), expected (16, 24). Put back the config.json" in result.stderr


def test_a_config_that_may_not_be_read(
    hugging_face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", refuse)  # root may read whatever its mode says
    result = measure(hugging_face_folder, "--data", "digits")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "config.json cannot be read: Permission denied; expected a run folder, or a Hugging Face" in result.stderr


def test_missing_weights_are_not_made_up(hugging_face_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(hugging_face_folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    result = measure(folder, "--data", "digits")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "lacks 1 weights of its architecture, the first is lm_head.weight" in result.stderr


def test_a_study_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")
    result = measure(tmp_path)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert f"is a study; name one of its runs: {tmp_path / 'runs'}/NAME." in result.stderr


def test_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {"name": "text-020k"})
    result = measure(tmp_path / "run")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "run has no checkpoint yet" in result.stderr


def test_an_output_folder_that_cannot_be(hugging_face_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = measure(hugging_face_folder, "--data", "digits", "--units", 2, "--out", tmp_path / "file" / "x.json")
    assert result.exit_code == ExitCode.FOLDER
    assert "cannot be written" in result.stderr


def test_without_transformers(hugging_face_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = measure(hugging_face_folder, "--data", "digits")
    assert result.exit_code == ExitCode.FAILED
    assert 'transformers is not installed. It comes with: pip install "spectral-reach[studies]"' in result.stderr
