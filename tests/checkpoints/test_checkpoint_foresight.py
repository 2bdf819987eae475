"""What is told of memory before the weights are read is what is counted with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_checkpoints import bert, bert_classifier, jsonl, llama, pythia, tokenizer, vit

from spectral_reach.checkpoints import foresight
from spectral_reach.checkpoints import measure_checkpoints as room
from spectral_reach.checkpoints.data.options import DataOptions
from spectral_reach.checkpoints.foresight import expected_memory
from spectral_reach.checkpoints.loading import LoadOptions, outline
from spectral_reach.checkpoints.plan import Plan, make_plan
from spectral_reach.checkpoints.request import Request
from spectral_reach.cli.measure_display import plan_lines
from spectral_reach.decomposition import decompose as decomposing
from spectral_reach.decomposition import memory

IDS = {"input_ids": torch.arange(48).view(2, 24) % 20, "labels": torch.arange(48).view(2, 24) % 20}
MODELS: Mapping[str, tuple[Any, Any]] = {
    "llama": (llama, IDS),
    "pythia": (pythia, {**IDS, "attention_mask": torch.ones(2, 24, dtype=torch.int64)}),
    "bert": (bert, IDS),
    "classifier": (bert_classifier, {"input_ids": IDS["input_ids"], "labels": torch.tensor([0, 1])}),
    "vit": (vit, {"pixel_values": torch.randn(2, 3, 8, 8), "labels": torch.tensor([0, 1])}),
}


def planned(folder: Path, batch: Any, **options: Any) -> Plan:
    load = LoadOptions(device="cpu", dtype=options.pop("dtype", "float32"))
    data = DataOptions(units=2)
    return make_plan(Request(model=str(folder), data={"a": batch}, load=load, data_options=data, **options))


def expected(plan: Plan) -> memory.MemoryPlan:
    found = expected_memory(plan, outline(plan.revisions[0], plan.kind, plan.request.load))
    assert found is not None
    return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[memory.MemoryPlan]:
    """The plans that are made with the weights there."""
    plans: list[memory.MemoryPlan] = []
    original = memory.plan

    def plan(*arguments: Any) -> memory.MemoryPlan:
        plans.append(original(*arguments))
        return plans[-1]

    monkeypatch.setattr(decomposing, "plan", plan)
    return plans


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in MODELS),
        ("llama", {"checkpointing": True}),
        ("llama", {"dtype": "bfloat16"}),
        ("llama", {"pairs": [("a", "a")]}),
        ("llama", {"parameters": ["lm_head"]}),
    ],
)
def test_as_counted_with_the_weights(
    name: str, options: dict[str, Any], tmp_path: Path, counted: list[memory.MemoryPlan]
) -> None:
    make, batch = MODELS[name]
    make().save_pretrained(tmp_path)
    plan = planned(tmp_path, batch, max_memory=2**40, **options)
    before = expected(plan)
    room.execute(plan)
    assert before.of_batch == counted[-1].of_batch
    assert before.of_unit == pytest.approx(counted[-1].of_unit, rel=0.1)
    assert before.micro_batch == counted[-1].micro_batch
    assert before.in_use == pytest.approx(counted[-1].in_use, rel=0.5)


def test_preference_pairs(tmp_path: Path, counted: list[memory.MemoryPlan]) -> None:
    llama().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    rows = [{"prompt": "the cat", "chosen": " sat on a log", "rejected": " ran"} for _ in range(2)]
    pairs = str(jsonl(tmp_path / "pairs.jsonl", rows))
    plan = planned(tmp_path, pairs, loss="dpo", reference=str(tmp_path), max_memory=2**40)
    before = expected(plan)
    room.execute(plan)
    assert before.of_unit == pytest.approx(counted[-1].of_unit, rel=0.1)


def test_long_sequences_keep_no_scores_of_attention(tmp_path: Path, counted: list[memory.MemoryPlan]) -> None:
    llama(longest=512).save_pretrained(tmp_path)
    ids = torch.arange(1024).view(2, 512) % 20
    plan = planned(tmp_path, {"input_ids": ids, "labels": ids}, max_memory=2**40)
    before = expected(plan)
    room.execute(plan)
    assert before.of_unit == pytest.approx(counted[-1].of_unit, rel=0.1)


def test_as_many_units_as_fit(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    ids = torch.arange(24).repeat(16, 1) % 20
    batch = {"input_ids": ids, "labels": ids}
    whole = expected(planned(tmp_path, batch))
    assert whole.micro_batch == 16
    assert expected(planned(tmp_path, batch, micro_batch=3)).micro_batch == 3
    # What of this process is in memory changes a little meanwhile.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foresight, "memory_in_use", lambda device: 10**6)
        some = expected(planned(tmp_path, batch))
        limit = some.in_use + int(1.1 * (some.of_batch + 1.5 * 8.5 * some.of_unit))
        fitting = expected(planned(tmp_path, batch, max_memory=limit))
        assert fitting.micro_batch == 5
        assert fitting.peak <= limit
        assert expected(planned(tmp_path, batch, max_memory=limit, micro_batch=2)).micro_batch == 2
        assert expected(planned(tmp_path, batch, max_memory=limit, micro_batch=9)).peak > limit
        assert expected(planned(tmp_path, batch, max_memory=1)).peak > 1


def test_a_network_that_looks_at_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llama().save_pretrained(tmp_path)
    plan = planned(tmp_path, IDS)
    network = outline(plan.revisions[0], plan.kind, plan.request.load)
    monkeypatch.setattr(type(network), "forward", lambda self, **inputs: float(inputs["input_ids"].sum()))
    assert expected_memory(plan, network) is None


def test_too_little_is_said_before_the_weights_are_read(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    little, plenty = (list(plan_lines(planned(tmp_path, IDS, max_memory=limit))) for limit in (2**20, 2**40))
    assert any(line.endswith("more than the 1 MiB of --max-memory") for line in little)
    assert not any("--max-memory" in line for line in plenty)


def test_parameters_that_there_are_not_are_told_before_the_weights_are_read(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="parameters names 'no_such', which the model does not have"):
        expected(planned(tmp_path, IDS, parameters=["no_such"]))
