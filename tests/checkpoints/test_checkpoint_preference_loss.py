"""DPO on preference pairs: against one pair at a time without padding, and against TRL."""

import math
from pathlib import Path
from typing import Any

import one_by_one
import pytest
import torch
from datasets import Dataset
from small_checkpoints import MARKED_TEMPLATE, giving, ids, jsonl, llama, pythia, tokenizer
from torch import nn
from transformers import PreTrainedModel

import spectral_reach as sr
from spectral_reach.checkpoints.data.load import DataOptions, load_batch
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.losses import ResolvedLoss, resolve
from spectral_reach.checkpoints.preference import is_preference, log_probabilities
from spectral_reach.measured.parameters import select_parameters

PAIRS = [
    ("what is it", "a cat", "the dog ran and slept"),
    ("yes", "no", "good"),
    ("the cat sat on", "the mat", "a log"),
    ("one", "two three", "two"),
]
BETA = 0.3


@pytest.fixture
def batch(tmp_path: Path) -> dict[str, torch.Tensor]:
    rows = [{"prompt": a, "chosen": " " + b, "rejected": " " + c} for a, b, c in PAIRS]
    made = load_batch(
        "pairs",
        str(jsonl(tmp_path / "pairs.jsonl", rows)),
        kind=Kind.CAUSAL_LM,
        config=llama().config,
        processor=giving(tokenizer()),
        options=DataOptions(),
    )
    return made.batch


def of(network: nn.Module, batch: Any, reference: Any, name: str = "dpo") -> ResolvedLoss:
    return resolve(name, kind=Kind.CAUSAL_LM, network=network, batch=batch, reference=reference, beta=BETA)


def log_probability(network: nn.Module, prompt: str, completion: str) -> torch.Tensor:
    """log p(completion | prompt), token by token."""
    tokens = ids(f"{prompt} {completion}")
    logits = network(input_ids=torch.tensor([tokens])).logits[0].double()
    first = len(ids(prompt))
    return sum(torch.log_softmax(logits[place - 1], 0)[tokens[place]] for place in range(first, len(tokens)))


def in_order_of(batch: dict[str, torch.Tensor]) -> list[tuple[str, str, str]]:
    """The pairs as they stand in the batch."""
    first = {tuple(ids(f"{a} {b}")): (a, b, c) for a, b, c in PAIRS}
    chosen = zip(batch["input_ids"][:, 0], batch["attention_mask"][:, 0].bool(), strict=True)
    return [first[tuple(tokens[mask].tolist())] for tokens, mask in chosen]


def expected(network: nn.Module, reference: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    samples = []
    for unit, (prompt, chosen, rejected) in enumerate(in_order_of(batch)):
        f = torch.stack([log_probability(network, prompt, chosen), log_probability(network, prompt, rejected)])
        r = [log_probability(reference, prompt, each).item() for each in (chosen, rejected)]

        def dpo(outputs: torch.Tensor, r: list[float] = r) -> torch.Tensor:
            margin = BETA * ((outputs[0] - r[0]) - (outputs[1] - r[1]))
            return torch.log1p(torch.exp(-margin))

        samples.append(one_by_one.Sample(unit, f, dpo))
    return one_by_one.components(network, samples)


@pytest.mark.parametrize("estimator", ["exact", "auto", "per_unit"])
def test_a_padded_batch_is_what_its_pairs_are_one_by_one(estimator: str, batch: dict[str, torch.Tensor]) -> None:
    network, reference = pythia().double(), pythia(seed=1).double()
    resolved = of(network, batch, reference)
    result = sr.decompose(resolved.network, resolved.batch, loss=resolved.loss, estimator=estimator, probes=100)
    truth = expected(network, reference, batch)
    assert (result.n_samples, result.n_units, result.n_outputs) == (4, 4, 2)
    for name in ("loss", "chi_loss", "delta_loss", "delta_loss_unbiased"):
        assert getattr(result, name) == pytest.approx(truth[name], rel=1e-9), name
    if estimator == "per_unit":
        assert result.estimator == "per_unit"
        assert 0 < result.chi_net_stderr < 0.2 * truth["chi_net"]
        assert abs(result.chi_net - truth["chi_net"]) < 4 * result.chi_net_stderr
    else:
        assert result.estimator == "exact"
        assert result.chi_net == pytest.approx(truth["chi_net"], rel=1e-9)
        assert result.chi_pos == pytest.approx(truth["chi_pos"], rel=1e-9)


def test_at_the_reference_the_loss_is_log_two(batch: dict[str, torch.Tensor]) -> None:
    network = llama()
    resolved = of(network, batch, network)
    result = sr.decompose(resolved.network, resolved.batch, loss=resolved.loss)
    assert resolved.name == "dpo (beta 0.3)"
    assert result.loss == pytest.approx(math.log(2))
    # The gradient of every pair is beta / 2 up for the chosen completion and down for the rejected one.
    assert result.chi_loss == pytest.approx(2 * (BETA / 2) ** 2)


def test_log_probabilities_of_a_reference_are_taken_once_and_leave_it_as_it_was(batch: dict[str, torch.Tensor]) -> None:
    reference = llama(seed=1).train()
    for layer in reference.model.layers:
        layer.self_attn.attention_dropout = 0.5
    modes = [module.training for module in reference.modules()]
    state = torch.get_rng_state()
    targets = log_probabilities(reference, batch)
    assert torch.get_rng_state().equal(state)
    assert [module.training for module in reference.modules()] == modes
    assert not targets.requires_grad
    reference.eval()
    truth = [[log_probability(reference, a, each).item() for each in (b, c)] for a, b, c in in_order_of(batch)]
    torch.testing.assert_close(targets.double(), torch.tensor(truth, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    network = llama()
    by_tensor, by_model = of(network, batch, targets), of(network, batch, reference)
    assert by_tensor.batch[1].equal(by_model.batch[1])


def test_parameters_are_selected_on_the_model_itself(batch: dict[str, torch.Tensor]) -> None:
    network = llama()
    resolved = of(network, batch, llama(seed=1))
    chosen = list(select_parameters(network, "lm_head").values())
    part = sr.decompose(resolved.network, resolved.batch, loss=resolved.loss, parameters=chosen)
    whole = sr.decompose(resolved.network, resolved.batch, loss=resolved.loss)
    assert 0 < part.chi_net < whole.chi_net


def test_another_loss_of_log_probabilities(batch: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "my_preference_losses.py").write_text(
        "def ipo(outputs, targets):\n"
        "    gain = outputs - targets\n"
        "    return ((gain[:, 0] - gain[:, 1]) - 5).square().mean()\n"
    )
    monkeypatch.chdir(tmp_path)
    network = llama()
    resolved = of(network, batch, network, "my_preference_losses:ipo")
    assert sr.decompose(resolved.network, resolved.batch, loss=resolved.loss).loss == pytest.approx(25)


def test_what_does_not_go_with_pairs(batch: dict[str, torch.Tensor]) -> None:
    assert is_preference(batch)
    single = {name: values[:, 0] for name, values in batch.items()}
    assert not is_preference(single)
    assert not is_preference((batch["input_ids"], batch["labels"]))
    with pytest.raises(ValueError, match="holds preference pairs and the loss is 'model'; expected dpo"):
        of(llama(), batch, llama(), "model")
    with pytest.raises(ValueError, match="loss 'dpo' is for preference pairs and the batch holds none"):
        of(llama(), single, llama())
    with pytest.raises(ValueError, match="compares with a reference model and none is named; give --reference"):
        of(llama(), batch, None)
    with pytest.raises(ValueError, match=r"have shape \(2, 2\); expected \(4, 2\)"):
        of(llama(), batch, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="beta is 0; expected more than 0"):
        resolve("dpo", kind=Kind.CAUSAL_LM, network=llama(), batch=batch, reference=llama(), beta=0)
    with pytest.raises(ValueError, match="holds preference pairs and the model is a masked-lm one"):
        resolve("dpo", kind=Kind.MASKED_LM, network=llama(), batch=batch, reference=llama(), beta=1)


@pytest.mark.filterwarnings("ignore")
def test_the_loss_is_that_of_trl(tmp_path: Path) -> None:

    words = tokenizer(template=MARKED_TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", ""))
    conversations = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for prompt, chosen, rejected in PAIRS
    ]
    network, reference = llama(), llama(seed=1)
    made = load_batch(
        "pairs",
        str(jsonl(tmp_path / "pairs.jsonl", conversations)),
        kind=Kind.CAUSAL_LM,
        config=network.config,
        processor=giving(words),
        options=DataOptions(),
    )
    resolved = of(network, made.batch, reference)
    ours = sr.decompose(resolved.network, resolved.batch, loss=resolved.loss)
    assert theirs(network, reference, words, conversations, tmp_path) == pytest.approx(
        (ours.loss, ours.delta_loss), rel=1e-4
    )


def theirs(
    network: PreTrainedModel, reference: PreTrainedModel, words: Any, rows: Any, out: Path
) -> tuple[float, float]:
    """The loss of TRL's trainer on all rows, and the squared norm of its gradient."""
    from trl import DPOConfig, DPOTrainer

    arguments = DPOConfig(
        str(out / "trainer"),
        beta=BETA,
        per_device_train_batch_size=len(rows),
        max_length=None,
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        gradient_checkpointing=False,
        disable_dropout=True,
    )
    trainer = DPOTrainer(network, reference, arguments, train_dataset=Dataset.from_list(rows), processing_class=words)
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    loss.backward()
    return loss.item(), sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None)
