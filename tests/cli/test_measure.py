"""``measure`` on a folder with bundled data: the numbers of ``sr.decompose``, and a clear word where there are none."""

import errno
import json
import os
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import spectral_reach as sr
from spectral_reach.checkpoints.schema import decomposition_of
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
    out = tmp_path / "new" / "numbers.parquet"
    options = ["--units", 4, "--estimator", "batch", "--probes", 3, "--seed", 5]
    result = measure(hugging_face_folder, "--data", "digits", *options, "--out", out)
    assert result.exit_code == ExitCode.OK, result.output

    batch = measurement_batch(data_sets.load("digits"), 0, seed=5, units=4)
    model = llama(16, **SHAPE).build(seed=1).eval()
    expected = sr.decompose(model, batch, estimator="batch", probes=3, seed=5)
    rows = pq.read_table(out).to_pylist()
    assert repr(decomposition_of(rows)) == repr(expected)
    assert {(row["batch"], row["seed"], row["step"], row["revision"]) for row in rows} == {("digits", 5, None, "main")}
    assert str(expected) in result.stdout
    assert "1 measurement, 0 of them are in" in result.stderr


def test_without_a_file_the_numbers_are_printed_alone(hugging_face_folder: Path, tmp_path: Path) -> None:
    result = measure(hugging_face_folder, "--data", "digits", "--units", 2, "--probes", 1)
    assert result.exit_code == ExitCode.OK, result.output
    assert "chi_net" in result.stdout
    assert "Written to" not in result.stdout


def test_a_dry_run_measures_nothing(hugging_face_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "numbers.parquet"
    options = ["--data", "a=digits", "--data", "b=digits", "--pair", "a,b", "--units", 2, "--out", out]
    result = measure(hugging_face_folder, *options, "--dry-run")
    assert result.exit_code == ExitCode.OK, result.output
    parameters = llama(16, **SHAPE).build(seed=1).num_parameters()
    flops = 6 * parameters * 2 * 64
    size = f"{4 * parameters / 1024:.3g} KiB"
    assert f"causal-lm, {parameters:,} trainable parameters ({size}), 1 revision (main)" in result.stdout
    assert "Memory: about " in result.stdout
    assert f"a: 2 training sequences of digits, {flops:.2g} FLOPs a forward and backward pass" in result.stdout
    # a and b are the same units: measured once.
    assert f"2 measurements, 0 of them are in {out}: 2 to make" in result.stdout
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data", "stdlib"], "The model has a vocabulary of 18 tokens, the data stdlib one of 384"),
        (["--data", "stdlib", "--vocabulary", 18], "vocabulary is 18; expected 257"),
        (
            ["--data", "cifar"],
            "data 'cifar' are 'cifar', which is no file or folder here; the bundled data sets are cifar5m",
        ),
        (["--data", "digits", "--context", 8], "Data set 'digits' has no option 'context'"),
        (["--data", "digits", "--estimator", "magic"], "estimator='magic' is unknown; expected 'auto' or one of"),
        (["--data", "digits", "--units", 0], "Invalid value for '--units'"),
        (["--data", "digits", "--probes", 0], "Invalid value for '--probes'"),
        (["--data", "digits", "--out", "numbers.csv"], "is numbers.csv; expected a name that ends in .parquet"),
        (["--data", "a=digits", "--data", "a=digits"], "--data names 'a' twice; expected another name"),
        (["--data", "digits", "--pair", "digits"], "--pair is 'digits'; expected two names of --data"),
        (["--data", "digits", "--pair", "digits,prose"], "a pair names 'prose'; expected one of the batches digits"),
        (["--data", "digits", "--kind", "rnn"], "kind is 'rnn'; expected one of causal-lm, masked-lm"),
        (["--data", "digits", "--dtype", "int8"], "dtype is 'int8'; expected one of float32"),
        (["--data", "digits", "--device", "tpu"], "device is 'tpu'; expected one of auto, cpu, cuda"),
        (["--data", "digits", "--loss", "magic"], "the loss is 'magic'; expected one of model, cross_entropy"),
        (["--data", "digits", "--reference", "x"], "no batch holds preference pairs; leave out --reference"),
        (["--data", "digits", "--parameters", "lm_hat"], "parameters names 'lm_hat', which the model does not have"),
        (["--data", "digits", "--revision", "step*"], "has no revision that matches 'step*'; it has main"),
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
        (None, "has no config.json, and no subfolder with one; expected a run folder, or a Hugging Face"),
        ("not json", "config.json is no JSON"),
        ("{}", "cannot be loaded as a model of transformers"),
        ('{"model_type": "no-such-architecture"}', "cannot be loaded as a model of transformers"),
        ('{"model_type": "x", "auto_map": {"AutoModelForCausalLM": "code.Evil"}}', "cannot be loaded as a model"),
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
    result = measure(hugging_face_folder, "--data", "digits", "--units", 2, "--out", tmp_path / "file" / "x.parquet")
    assert result.exit_code == ExitCode.FOLDER
    assert "cannot be written" in result.stderr


def test_without_transformers(hugging_face_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = measure(hugging_face_folder, "--data", "digits")
    assert result.exit_code == ExitCode.FAILED
    assert 'transformers is not installed; expected it for hf: pip install "spectral-reach[hf]"' in result.stderr
