"""Losses by name: the network's own, checked against what it returns, and functions of a user's."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_checkpoints import bert, bert_classifier, llama, llama_classifier, pythia, vit
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.modeling_outputs import CausalLMOutput

import spectral_reach as sr
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.losses import ResolvedLoss, resolve


def sequences(vocabulary: int = 30) -> dict[str, torch.Tensor]:
    """Three of different lengths, partly labelled."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(8, vocabulary, (3, 6), generator=generator)
    mask = torch.arange(6) < torch.tensor([[6], [3], [5]])
    labels = tokens.masked_fill(~mask, -100)
    labels[2, :4] = -100
    return {"input_ids": tokens, "attention_mask": mask.long(), "labels": labels}


def with_labels(*labels: Any, dtype: torch.dtype = torch.int64) -> dict[str, torch.Tensor]:
    batch = sequences()
    return {**batch, "labels": torch.tensor(labels, dtype=dtype)}


def own(kind: Kind, network: nn.Module, batch: Any) -> ResolvedLoss:
    return resolve("model", kind=kind, network=network, batch=batch, reference=None, beta=0.1)


IMAGES = {"pixel_values": torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))}
CLASSIFIER = Kind.SEQUENCE_CLASSIFICATION
CASES = {
    "causal llama": (Kind.CAUSAL_LM, llama, sequences(), "cross_entropy"),
    "causal pythia": (Kind.CAUSAL_LM, pythia, sequences(), "cross_entropy"),
    "masked": (Kind.MASKED_LM, bert, sequences(), "cross_entropy"),
    "classes": (CLASSIFIER, lambda: bert_classifier(num_labels=4), with_labels(0, 3, 1), "cross_entropy"),
    "classes of a causal model": (
        CLASSIFIER,
        lambda: llama_classifier(num_labels=4),
        with_labels(0, 3, 1),
        "cross_entropy",
    ),
    "regression": (
        CLASSIFIER,
        lambda: bert_classifier(num_labels=1),
        with_labels([0.5], [-2.0], [1.0], dtype=torch.float32),
        "mean_squared_error",
    ),
    "regression of two": (
        CLASSIFIER,
        lambda: bert_classifier(num_labels=2, problem_type="regression"),
        with_labels([0.5, 1.0], [-2.0, 0.0], [1.0, 3.0], dtype=torch.float32),
        "mean_squared_error",
    ),
    "several classes": (
        CLASSIFIER,
        lambda: bert_classifier(num_labels=2),
        with_labels([0, 1], [1, 1], [0, 0], dtype=torch.float32),
        "binary_cross_entropy",
    ),
    "images": (
        Kind.IMAGE_CLASSIFICATION,
        lambda: vit(num_labels=3),
        {**IMAGES, "labels": torch.tensor([2, 0, 1])},
        "cross_entropy",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_models_own_loss_is_what_it_returns(case: str, dtype: torch.dtype) -> None:
    kind, build, batch, name = CASES[case]
    network = build().to(dtype)
    if "pixel_values" in batch:
        batch = {**batch, "pixel_values": batch["pixel_values"].to(dtype)}
    resolved = own(kind, network, batch)
    assert (resolved.name, resolved.network, resolved.batch) == (name, network, batch)
    result = sr.decompose(resolved.network, resolved.batch, loss=resolved.loss)
    assert result.loss == pytest.approx(network(**batch).loss.item(), rel=1e-2 if dtype is torch.bfloat16 else 1e-5)


def test_the_gradient_is_that_of_the_models_own_loss() -> None:
    for kind, build, batch, _ in CASES.values():
        network = build()
        resolved = own(kind, network, batch)
        result = sr.decompose(network, batch, loss=resolved.loss)
        network(**batch).loss.backward()
        squared = sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None)
        assert result.delta_loss == pytest.approx(squared, rel=1e-4)


def test_a_check_leaves_the_model_as_it_was() -> None:
    network = llama().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    own(Kind.CAUSAL_LM, network, sequences())
    assert network.training
    assert torch.get_rng_state().equal(state)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_experts_that_are_balanced_by_the_loss() -> None:
    torch.manual_seed(0)
    settings = {
        "vocab_size": 30,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_local_experts": 2,
        "router_aux_loss_coef": 0.001,
    }
    plain = MixtralForCausalLM(MixtralConfig(**settings)).eval()
    assert own(Kind.CAUSAL_LM, plain, sequences()).name == "cross_entropy"
    balanced = MixtralForCausalLM(MixtralConfig(**settings, output_router_logits=True)).eval()
    with pytest.raises(
        ValueError, match=r"returns a loss of \d\.\d+ and the mean of cross_entropy .* is \d\.\d+: .*experts"
    ):
        own(Kind.CAUSAL_LM, balanced, sequences())
    named = resolve("cross_entropy", kind=Kind.CAUSAL_LM, network=balanced, batch=sequences(), reference=None, beta=1)
    assert (named.name, named.loss) == ("cross_entropy", "cross_entropy")


class Weighted(nn.Module):
    """A causal model whose own loss is a mean over sequences, not over labels."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = llama()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> CausalLMOutput:
        logits = self.inner(input_ids=input_ids, attention_mask=attention_mask).logits
        pairs = zip(logits[:, :-1], labels[:, 1:], strict=True)
        return CausalLMOutput(loss=torch.stack([F.cross_entropy(a, b) for a, b in pairs]).mean(), logits=logits)


def test_sequences_that_the_model_weighs_equally() -> None:
    with pytest.raises(ValueError, match="Weighted returns a loss of"):
        own(Kind.CAUSAL_LM, Weighted(), sequences())


def test_a_model_that_has_diverged_is_not_told_here() -> None:
    network = llama()
    with torch.no_grad():
        network.lm_head.weight.fill_(float("nan"))
    assert own(Kind.CAUSAL_LM, network, sequences()).name == "cross_entropy"


def test_the_models_own_loss_needs_labels() -> None:
    with pytest.raises(ValueError, match="needs a batch that is a mapping with 'labels'"):
        own(Kind.CAUSAL_LM, llama(), (torch.zeros(1, 2), torch.zeros(1, 2)))
    with pytest.raises(ValueError, match="no unit of the batch carries a label"):
        own(Kind.CAUSAL_LM, llama(), {**sequences(), "labels": torch.full((3, 6), -100)})
    with pytest.raises(ValueError, match="Silent returns no loss of its own"):
        own(Kind.CAUSAL_LM, Silent(), sequences())


class Silent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = llama()

    def forward(self, labels: torch.Tensor, **inputs: torch.Tensor) -> CausalLMOutput:
        return CausalLMOutput(logits=self.inner(**inputs).logits)


# --- by name ----------------------------------------------------------------------------------------------------------


def named(name: str, batch: Any = None) -> ResolvedLoss:
    batch = sequences() if batch is None else batch
    return resolve(name, kind=Kind.CAUSAL_LM, network=llama(), batch=batch, reference=None, beta=0.1)


def test_losses_of_decompose() -> None:
    for name in ("cross_entropy", "mse"):
        assert (named(name).name, named(name).loss) == (name, name)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_own_losses.py").write_text(
        "import torch\n"
        "from my_other_losses import number\n"
        "def smooth(outputs, targets):\n"
        "    return torch.nn.functional.cross_entropy(outputs, targets, label_smoothing=0.1)\n"
        "class Focal:\n"
        "    power = number\n"
        "    @staticmethod\n"
        "    def loss(outputs, targets):\n"
        "        p = torch.softmax(outputs, 1).gather(1, targets[:, None])\n"
        "        return (-(1 - p) ** Focal.power * p.log()).mean()\n"
    )
    (tmp_path / "my_other_losses.py").write_text("number = 2\n")
    (tmp_path / "my_broken_losses.py").write_text("1 / 0\n")
    (tmp_path / "my_needy_losses.py").write_text("import no_such_package.inside\n")
    monkeypatch.chdir(tmp_path)
    yield "my_own_losses"
    for name in ("my_own_losses", "my_other_losses", "my_broken_losses", "my_needy_losses"):
        sys.modules.pop(name, None)


def test_a_function_of_a_module_in_the_current_folder(module: str) -> None:
    path = list(sys.path)
    resolved = named(f"{module}:smooth")
    assert sys.path == path
    assert resolved.name == f"{module}:smooth"
    network = llama()
    result = sr.decompose(network, sequences(), loss=resolved.loss)
    logits, labels = network(**sequences()).logits[:, :-1], sequences()["labels"][:, 1:]
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    assert result.loss == pytest.approx(expected.item(), rel=1e-5)
    assert sr.decompose(network, sequences(), loss=named(f"{module}:Focal.loss").loss).chi_pos > 0
    assert named("torch.nn.functional:cross_entropy").loss is F.cross_entropy


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "hinge",
            r"the loss is 'hinge'; expected one of model, cross_entropy, mse, dpo, or MODULE:FUNCTION",
        ),
        ("my_own_losses:", "expected MODULE:FUNCTION"),
        (":smooth", "expected MODULE:FUNCTION"),
        ("no_such_losses:smooth", "there is no module 'no_such_losses'; expected one in "),
        ("my_own_losses.inner:smooth", "'my_own_losses' is not a package|there is no module"),
        ("my_own_losses:rough", "has no 'rough'; its functions are Focal, smooth"),
        ("my_own_losses:torch", "is a module; expected a function"),
        ("my_other_losses:number", "is a int; expected a function"),
        ("my_own_losses:Focal", "is the class Focal; expected a function"),
        ("my_broken_losses:smooth", "importing my_broken_losses raised ZeroDivisionError"),
        ("my_needy_losses:smooth", "my_needy_losses imports no_such_package, which is not installed"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str, module: str) -> None:
    with pytest.raises(ValueError, match=message):
        named(name)


def test_a_function_that_is_no_mean_over_samples_is_refused_when_measured() -> None:
    def total(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, targets, reduction="sum")

    with pytest.raises(ValueError, match="the loss is not a mean over samples"):
        sr.decompose(llama(), sequences(), loss=total)
