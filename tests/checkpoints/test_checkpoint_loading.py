"""Networks of revisions: what they are loaded as, in which precision, and what is refused."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_checkpoints import bert, bert_classifier, image_processor, llama, pythia, tokenizer, vit

from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.loading import LoadOptions, load_config, load_network, outline
from spectral_reach.checkpoints.processors import fingerprint, load_processor
from spectral_reach.checkpoints.revisions import find_revisions

MAKERS: dict[str, tuple[Any, Kind]] = {
    "llama": (llama, Kind.CAUSAL_LM),
    "pythia": (pythia, Kind.CAUSAL_LM),
    "bert": (bert, Kind.MASKED_LM),
    "bert-classifier": (bert_classifier, Kind.SEQUENCE_CLASSIFICATION),
    "vit": (vit, Kind.IMAGE_CLASSIFICATION),
}
CPU = LoadOptions(device="cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, (make, _) in MAKERS.items():
        make().save_pretrained(folder / name)
    return folder


def load(folder: Path, kind: Kind = Kind.CAUSAL_LM, options: LoadOptions = CPU) -> Any:
    (revision,) = find_revisions(folder)
    return load_network(revision, kind, options)


@pytest.mark.parametrize("name", MAKERS)
def test_the_network_that_was_saved(models: Path, name: str) -> None:
    make, kind = MAKERS[name]
    (revision,) = find_revisions(models / name)
    network, saved = load_network(revision, kind, CPU), make()
    assert type(network) is type(saved)
    assert not any(module.training for module in network.modules())
    state = network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in saved.state_dict().items())
    empty = outline(revision, kind, CPU)
    assert {(n, p.shape, p.dtype) for n, p in empty.named_parameters()} == {
        (n, p.shape, p.dtype) for n, p in saved.named_parameters()
    }
    assert all(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "auto"])
def test_precision(models: Path, tmp_path: Path, dtype: str) -> None:
    llama().to(torch.bfloat16).save_pretrained(tmp_path / "half")
    found = {p.dtype for p in load(tmp_path / "half", options=LoadOptions(device="cpu", dtype=dtype)).parameters()}
    assert found == {torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)}


def test_another_kind_than_the_weights_are_for(models: Path) -> None:
    with pytest.raises(
        ValueError, match=r"lacks 4 weights of its architecture, the first is bert\.pooler\.dense\.bias.*--kind"
    ):
        load(models / "bert", Kind.SEQUENCE_CLASSIFICATION)
    with pytest.raises(ValueError, match="cannot be loaded as an image classifier"):
        load(models / "llama", Kind.IMAGE_CLASSIFICATION)


def as_pickle(source: Path, target: Path, content: Any = None) -> Path:
    target.mkdir()
    shutil.copy(source / "config.json", target)
    torch.save(load_file(source / "model.safetensors") if content is None else content, target / "pytorch_model.bin")
    return target


def test_a_pickle_only_where_it_is_allowed(models: Path, tmp_path: Path) -> None:
    folder = as_pickle(models / "llama", tmp_path / "pickled")
    with pytest.raises(ValueError, match=r"has its weights as a pickle only.*Allow it with --allow-pickle"):
        load(folder)
    network = load(folder, options=LoadOptions(device="cpu", allow_pickle=True))
    assert torch.equal(network.lm_head.weight, llama().lm_head.weight)


class Evil:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_a_pickle_runs_nothing(models: Path, tmp_path: Path) -> None:
    folder = as_pickle(models / "llama", tmp_path / "evil", {"lm_head.weight": Evil(tmp_path / "was-run")})
    with pytest.raises(ValueError, match="holds something else than tensors, or is damaged"):
        load(folder, options=LoadOptions(device="cpu", allow_pickle=True))
    assert not (tmp_path / "was-run").exists()


def test_safetensors_are_preferred_to_a_pickle(models: Path, tmp_path: Path) -> None:
    folder = as_pickle(models / "llama", tmp_path / "both", {"lm_head.weight": Evil(tmp_path / "was-run")})
    shutil.copy(models / "llama" / "model.safetensors", folder)
    load(folder, options=LoadOptions(device="cpu", allow_pickle=True))
    assert not (tmp_path / "was-run").exists()


def own_code(folder: Path, marker: Path) -> Path:
    """A model that comes with its own Python."""
    folder.mkdir()
    (folder / "configuration_own.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "from transformers import LlamaConfig\nclass OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
    )
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\nfrom .configuration_own import OwnConfig\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    model = llama()
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "architectures": ["OwnForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_code_of_a_model_only_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder, marker = own_code(tmp_path / "own", tmp_path / "was-run"), tmp_path / "was-run"
    (revision,) = find_revisions(folder)
    with pytest.raises(ValueError, match=r"comes with Python code of its own.*--trust-remote-code"):
        load_config(revision, CPU)
    assert not marker.exists()
    trusting = LoadOptions(device="cpu", trust_remote_code=True)
    network = load_network(revision, Kind.CAUSAL_LM, trusting)
    assert type(network).__name__ == "OwnForCausalLM"
    assert marker.exists()
    sys.modules.pop("transformers_modules", None)


def test_a_quantised_checkpoint(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "quantised"
    shutil.copytree(models / "llama", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(ValueError, match="is quantised; expected weights that are trained as floating-point"):
        load(folder)


def test_a_folder_without_weights(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "llama" / "config.json", tmp_path)
    with pytest.raises(ValueError, match="there are no weights in"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"dtype": "int8"}, "dtype is 'int8'"), ({"device": "tpu"}, "device is 'tpu'")],
)
def test_bad_options(options: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LoadOptions(**options)


def test_a_tokenizer_of_its_own_or_of_the_folder_that_it_is_in(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "llama", tmp_path / "step1")
    shutil.copytree(models / "llama", tmp_path / "step2")
    first, second = find_revisions(tmp_path, "all")
    with pytest.raises(
        ValueError, match=r"step1 comes without a tokenizer; expected its files beside config\.json or in"
    ):
        load_processor(first, Kind.CAUSAL_LM, CPU)
    tokenizer().save_pretrained(tmp_path)
    shared = [fingerprint(load_processor(each, Kind.CAUSAL_LM, CPU)) for each in (first, second)]
    tokenizer(begin=True).save_pretrained(tmp_path / "step2")
    own = fingerprint(load_processor(second, Kind.CAUSAL_LM, CPU))
    assert shared[0] == shared[1] != own
    tokenizer(template="{{ messages }}").save_pretrained(tmp_path / "step2")
    assert fingerprint(load_processor(second, Kind.CAUSAL_LM, CPU)) not in (own, shared[0])


def test_an_image_processor(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "vit", tmp_path / "vit")
    (revision,) = find_revisions(tmp_path / "vit")
    with pytest.raises(ValueError, match="comes without an image processor"):
        load_processor(revision, Kind.IMAGE_CLASSIFICATION, CPU)
    found = []
    for size in (8, 16):
        image_processor(size).save_pretrained(tmp_path / "vit")
        found.append(fingerprint(load_processor(revision, Kind.IMAGE_CLASSIFICATION, CPU)))
    assert found[0] != found[1]
    (tmp_path / "vit" / "preprocessor_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"The image processor of .* cannot be loaded from"):
        load_processor(revision, Kind.IMAGE_CLASSIFICATION, CPU)
