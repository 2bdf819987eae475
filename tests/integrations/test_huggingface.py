"""The callback in a real Trainer: training is the same to the bit, and what is logged is what decompose says."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

import spectral_reach as sr
from spectral_reach.integrations.huggingface import SpectralCallback
from spectral_reach.integrations.schedules import default_schedule
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.tracking.row import seed_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

STEPS = 6


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=31,
        attention_dropout=0.2,
    )
    return LlamaForCausalLM(config)


def sequences() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(96):
        tokens = torch.randint(0, 31, (10,), generator=generator)
        labels = tokens.clone()
        labels[: int(torch.randint(0, 8, (), generator=generator))] = -100
        found.append({"input_ids": tokens, "labels": labels})
    return found


def train(
    out: Path, *callbacks: TrainerCallback, model: nn.Module | None = None, resume: bool = False, **arguments: Any
) -> tuple[Trainer, nn.Module]:
    model = llama() if model is None else model
    given: dict[str, Any] = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "logging_steps": 3,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        **arguments,
    }
    trainer = Trainer(model, TrainingArguments(str(out), **given), train_dataset=sequences(), callbacks=list(callbacks))
    trainer.train(resume_from_checkpoint=resume or None)
    return trainer, model


class Watch(TrainerCallback):
    """What decompose says by hand of the first batch of each update, before it is made."""

    def __init__(self) -> None:
        self.batch: dict[str, Any] | None = None
        self.found: dict[int, sr.Decomposition] = {}
        self.named: dict[str, dict[int, sr.Decomposition]] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        def see(model: nn.Module, args: Any, given: dict[str, Any]) -> None:
            if self.batch is None and model.training:
                self.batch = {name: value for name, value in given.items() if name != "num_items_in_batch"}

        kwargs["model"].register_forward_pre_hook(see, with_kwargs=True)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.batch = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step
        self.found[step] = sr.decompose(kwargs["model"], self.batch, seed=seed_of(0, step))


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulating": {"gradient_accumulation_steps": 3},
    "bf16": {"bf16": True},
    "checkpointing": {"gradient_checkpointing": True},
    "compiled": {"torch_compile": True, "torch_compile_backend": "aot_eager"},
}


@pytest.mark.parametrize("way", WAYS)
def test_training_is_the_same_to_the_bit(tmp_path: Path, way: str) -> None:
    _, plain = train(tmp_path / "plain", **WAYS[way])
    after = torch.rand(3)
    callback = SpectralCallback(schedule=2, updates=1)
    trainer, watched = train(tmp_path / "watched", callback, **WAYS[way])
    assert torch.rand(3).equal(after)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert a.equal(b)
    assert callback.tracker is not None
    assert [row["step"] for row in callback.tracker.history] == [0, 2, 4]
    assert [row["step"] for row in callback.tracker.updates] == list(range(STEPS))
    assert not watched._forward_pre_hooks
    assert trainer.state.global_step == STEPS


@pytest.mark.parametrize("way", WAYS)
def test_the_values_are_those_of_decompose(tmp_path: Path, way: str) -> None:
    watch, callback = Watch(), SpectralCallback(schedule=2)
    train(tmp_path, watch, callback, **WAYS[way])
    assert callback.tracker is not None
    assert callback.tracker.history
    for row in callback.tracker.history:
        by_hand = watch.found[row["step"]].as_dict()
        assert {name: repr(row[name]) for name in by_hand} == {name: repr(value) for name, value in by_hand.items()}


def stacked(first: int, last: int) -> dict[str, Any]:
    found = sequences()[first:last]
    return {name: torch.stack([each[name] for each in found]) for name in found[0]}


NAMED: dict[str, Any] = {
    "batches": {"heldout": stacked(80, 83), "code": lambda step: stacked(70 + step, 72 + step)},
    "pairs": [("training", "heldout"), ("code", "training")],
}


def test_named_batches_and_pairs_are_what_decompose_says(tmp_path: Path) -> None:
    class ByHand(Watch):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            step, model = state.global_step, kwargs["model"]
            if step not in (0, 4):
                return
            here = {"training": self.batch, "heldout": stacked(80, 83), "code": stacked(70 + step, 72 + step)}
            for name in ("heldout", "code"):
                self.named.setdefault(name, {})[step] = sr.decompose(model, here[name], seed=seed_of(0, step))
            for a, b in NAMED["pairs"]:
                found = sr.decompose(model, here[a], against=here[b], seed=seed_of(0, step))
                self.named.setdefault(f"{a}-{b}", {})[step] = found

    _, plain = train(tmp_path / "plain")
    watch, callback = ByHand(), SpectralCallback(schedule=4, **NAMED)
    trainer, watched = train(tmp_path / "watched", watch, callback)
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert a.equal(b)
    assert callback.tracker is not None
    assert callback.tracker.histories.keys() == watch.named.keys()
    tables = RunFolder.open(tmp_path / "watched" / "spectral_reach").named_measurements
    for name, rows in callback.tracker.histories.items():
        assert [row["step"] for row in rows] == [0, 4]
        assert list(map(repr, tables[name].rows())) == list(map(repr, rows))
        for row in rows:
            by_hand = watch.named[name][row["step"]].as_dict()
            assert {key: repr(row[key]) for key in by_hand} == {key: repr(value) for key, value in by_hand.items()}
        metric = f"spectral_reach/{name}/chi_pos"
        logged = {entry["step"]: entry[metric] for entry in trainer.state.log_history if metric in entry}
        assert logged == {row["step"]: row["chi_pos"] for row in rows}


def test_metrics_reach_the_reporters_at_their_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Logs(TrainerCallback):
        def __init__(self) -> None:
            self.found: dict[int, dict[str, float]] = {}

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            self.found.setdefault(state.global_step, {}).update(logs)

    logs, callback = Logs(), SpectralCallback(schedule=2, updates=[1])
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer, _ = train(tmp_path, logs, callback, report_to=["tensorboard"])
    assert callback.tracker is not None
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    scalars = {each.step: each.value for each in events.Scalars("train/spectral_reach/chi_pos")}
    for row in callback.tracker.history:
        assert logs.found[row["step"]]["spectral_reach/chi_pos"] == row["chi_pos"]
        assert scalars[row["step"]] == pytest.approx(row["chi_pos"], rel=1e-6)
    assert len(scalars) == 3
    assert [each.step for each in events.Scalars("train/loss")] == [3, 6]
    [update] = callback.tracker.updates
    assert logs.found[2]["spectral_reach/update/linear"] == update["linear"]
    assert {entry["step"] for entry in trainer.state.log_history if "spectral_reach/chi_pos" in entry} == {0, 2, 4}


def test_a_resumed_training_goes_on_with_its_rows(tmp_path: Path) -> None:
    whole = SpectralCallback(schedule=1)
    train(tmp_path / "whole", whole)
    named: dict[str, Any] = {"batches": {"heldout": stacked(80, 82)}, "pairs": [("training", "heldout")]}
    first = SpectralCallback(schedule=1, updates=1, **named)
    train(tmp_path / "parts", first, save_strategy="steps", save_steps=3, max_steps=5)
    for table in (behind := RunFolder.open(tmp_path / "parts" / "spectral_reach")).named_measurements.values():
        table.truncate_from(4)
        table.append({"step": 4, "loss": -1.0})  # behind the checkpoint: it has to go
    again = SpectralCallback(schedule=1, updates=1, **named)
    (tmp_path / "parts" / "checkpoint-5").rename(tmp_path / "last")  # as if killed before it was there
    train(tmp_path / "parts", again, save_strategy="steps", save_steps=3, resume=True)
    rows = behind.measurements.rows()
    assert behind.named_measurements.keys() == {"heldout", "training-heldout"}
    for table in (behind.measurements, behind.updates, *behind.named_measurements.values()):
        assert [row["step"] for row in table.rows()] == list(range(STEPS))
    assert all(row["loss"] > 0 for table in behind.named_measurements.values() for row in table.rows())
    assert whole.tracker is not None
    # The schedule of the learning rate of the shorter training differs from the third update on.
    assert [row["chi_pos"] for row in rows[:1]] == [row["chi_pos"] for row in whole.tracker.history[:1]]
    assert again.tracker is not None
    assert [row["step"] for row in again.tracker.history] == list(range(STEPS))


def test_evaluation_in_between_is_not_measured(tmp_path: Path) -> None:
    model = llama()
    callback = SpectralCallback(schedule=1)
    trainer = Trainer(
        model,
        TrainingArguments(
            str(tmp_path),
            max_steps=3,
            eval_strategy="steps",
            eval_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            per_device_train_batch_size=4,
            per_device_eval_batch_size=2,
        ),
        train_dataset=sequences(),
        eval_dataset=sequences()[:4],
        callbacks=[callback],
    )
    trainer.train()
    assert callback.tracker is not None
    assert [row["n_units"] for row in callback.tracker.history] == [4, 4, 4]


def test_only_adapters_count(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    callback = SpectralCallback(schedule=3, updates=3)
    train(tmp_path, callback, model=model)
    assert callback.tracker is not None
    config = RunFolder.open(tmp_path / "spectral_reach").config["tracker"]
    assert config["parameter_count"] == trainable
    assert [row["step"] for row in callback.tracker.history] == [0, 3]
    assert all(math.isfinite(row["chi_pos"]) for row in callback.tracker.history)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"label_smoothing_factor": 0.1}, "label_smoothing_factor"), ({}, "compute_loss_func")],
)
def test_labels_that_are_kept_from_the_model_are_told(tmp_path: Path, options: dict[str, Any], name: str) -> None:
    trainer = Trainer(
        llama(),
        TrainingArguments(str(tmp_path), max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True, **options),
        train_dataset=sequences(),
        callbacks=[SpectralCallback()],
        compute_loss_func=(lambda *a, **k: a[0].logits.mean()) if name == "compute_loss_func" else None,
    )
    with pytest.raises(ValueError, match=f"the Trainer has {name} and keeps the labels from the model"):
        trainer.train()


class Own(Trainer):
    """Half the loss of the model."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs) / 2


def test_a_trainer_with_a_loss_of_its_own_has_to_say_which(tmp_path: Path) -> None:
    def trainer(callback: SpectralCallback) -> Trainer:
        arguments = TrainingArguments(str(tmp_path), max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True)
        return Own(llama(), arguments, train_dataset=sequences(), callbacks=[callback])

    with pytest.raises(ValueError, match=r"Own has a compute_loss of its own; .*SpectralCallback\(loss="):
        trainer(SpectralCallback()).train()
    callback = SpectralCallback(loss="cross_entropy")
    trainer(callback).train()
    assert callback.tracker is not None
    assert len(callback.tracker.history) == 1


def test_a_training_that_failed_leaves_the_folder_free(tmp_path: Path) -> None:
    class Fail(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                raise RuntimeError("boom")

    callback = SpectralCallback(schedule=1)
    trainer = Trainer(
        llama(),
        TrainingArguments(str(tmp_path), max_steps=3, report_to=[], use_cpu=True, disable_tqdm=True),
        train_dataset=sequences(),
        callbacks=[callback, fail := Fail()],
    )
    with pytest.raises(RuntimeError, match="boom"):
        trainer.train()
    trainer.remove_callback(fail)
    trainer.train()
    assert callback.tracker is not None
    assert [row["step"] for row in callback.tracker.history] == [0, 1, 2]
    # The second training was another one: what the first had measured is still there.
    aside = RunFolder.open(tmp_path / "spectral_reach-1").measurements.rows()
    assert [row["step"] for row in aside] == [0, 1]


def test_a_training_that_diverges_goes_on(tmp_path: Path) -> None:
    class Break(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                with torch.no_grad():
                    kwargs["model"].model.norm.weight.fill_(math.nan)

    callback = SpectralCallback(schedule=1, updates=1)
    with pytest.warns(UserWarning, match="is not defined, and recorded as NaN"):
        trainer, _ = train(tmp_path, callback, Break())
    assert trainer.state.global_step == STEPS
    assert callback.tracker is not None
    assert [math.isfinite(row["chi_pos"]) for row in callback.tracker.history] == [True] * 2 + [False] * 4
    logged = [entry["step"] for entry in trainer.state.log_history if "spectral_reach/chi_pos" in entry]
    assert logged == [0, 1]


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"batches": {"a/b": None}}, ValueError, "batches has the name 'a/b'"),
        ({"pairs": [("training", "heldout")]}, ValueError, "pairs names 'heldout'; expected one of 'training'"),
    ],
)
def test_impossible_names_are_refused_at_once(options: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        SpectralCallback(**options)


def test_another_loop_is_told() -> None:
    callback = SpectralCallback()
    state = type("State", (), {"is_world_process_zero": True})()
    with pytest.raises(RuntimeError, match=r"not called by a transformers\.Trainer.*use sr\.Tracker in other loops"):
        callback.on_train_begin(None, state, None, model=llama())  # type: ignore[arg-type]


def test_the_default_schedule_is_dense_at_first_and_costs_little_later() -> None:
    assert [step for step in range(301) if default_schedule(step)] == [0, 1, 2, 3, 6, 10, 18, 32, 56, 100, 200, 300]
