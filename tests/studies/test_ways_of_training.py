"""Accumulation, precision, optimisers, probes, swept rates, held-out data: each against its plain counterpart."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_runs import contents, digits, folder_of, small_run

import spectral_reach as sr
from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.data.batches import measurement_batch, training_batch
from spectral_reach.studies.training import loop
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.optimiser import optimiser_of, set_rate
from spectral_reach.studies.training.rate_choice import read_chosen_rate
from spectral_reach.studies.training.run_config import RunConfig
from spectral_reach.studies.training.step import update
from spectral_reach.studies.training.usage import read_usage


def run(config: RunConfig, runs: Path, calls: int | None = None) -> RunFolder:
    """Train in ``runs/NAME``; with ``calls`` stopped after so many steps."""
    folder = folder_of(config, runs / config.name)
    left = iter(range(calls)) if calls is not None else None
    finished = train(folder, config, digits(), should_stop=lambda: left is not None and next(left, None) is None)
    assert finished == (calls is None)
    return folder


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    latest = folder.checkpoints.latest()
    assert latest is not None
    return load_file(latest.path / "model.safetensors")


def losses(folder: RunFolder) -> list[float]:
    return [row["train_loss"] for row in folder.losses.rows() if row["train_loss"] is not None]


def test_a_batch_in_parts_is_the_batch_up_to_rounding(tmp_path: Path) -> None:
    whole = run(small_run("whole", optimiser="sgd", clip_norm=1e9), tmp_path)
    parts = run(small_run("parts", optimiser="sgd", clip_norm=1e9, accumulation=4), tmp_path)
    assert np.allclose(losses(whole), losses(parts), rtol=1e-5)
    for name, weight in weights(whole).items():
        assert torch.allclose(weight, weights(parts)[name], rtol=1e-4, atol=1e-6), name
    # The units of a measurement cannot be the batch's own then.
    config = small_run()
    row = parts.measurements.rows()[0]
    model = config.model.build(config.training.seed)
    result = sr.decompose(model, measurement_batch(digits(), 0, seed=0, units=4))
    assert row["loss"] == pytest.approx(result.loss, rel=1e-5)


def test_sgd_with_momentum_is_torchs(tmp_path: Path) -> None:
    config = small_run(optimiser="sgd", momentum=0.8, weight_decay=0.0, clip_norm=1e9)
    folder = run(config, tmp_path)
    model = config.model.build(config.training.seed)
    velocity = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for step in range(config.training.steps):
        inputs, targets = training_batch(digits(), step, seed=0, batch_size=4)
        loss = torch.nn.functional.cross_entropy(model(inputs).logits.flatten(0, 1), targets.flatten())
        model.zero_grad()
        loss.backward()
        for name, parameter in model.named_parameters():
            velocity[name] = 0.8 * velocity[name] + parameter.grad
            parameter.data -= config.training.rate(step) * velocity[name]
    for name, weight in weights(folder).items():
        assert torch.allclose(weight, dict(model.named_parameters())[name], rtol=1e-4, atol=1e-6), name


def test_rates_are_multiplied_with_the_factor_of_each_parameter() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    before = [parameter.clone() for parameter in model.parameters()]
    settings = small_run(optimiser="sgd", momentum=0.0, weight_decay=0.0).training
    optimiser = optimiser_of(model, settings, {"1.weight": 0.25, "0.bias": 3.0})
    set_rate(optimiser, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    moved = [float((old - new).mean().detach()) for old, new in zip(before, model.parameters(), strict=True)]
    assert moved == pytest.approx([0.1, 0.3, 0.025, 0.1], rel=1e-4)


def test_bfloat16_keeps_weights_in_float32_and_measures_under_autocast(tmp_path: Path) -> None:
    config = small_run(precision="bfloat16")
    folder = run(config, tmp_path)
    assert {weight.dtype for weight in weights(folder).values()} == {torch.float32}
    model = config.model.build(config.training.seed)
    inputs, targets = training_batch(digits(), 0, seed=0, batch_size=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(inputs).logits
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert logits.dtype == torch.bfloat16
    assert losses(folder)[0] == expected.item()
    assert folder.measurements.rows()[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert losses(folder) != losses(run(small_run("plain"), tmp_path))


@pytest.mark.parametrize("change", [{"optimiser": "sgd"}, {"precision": "bfloat16"}, {"accumulation": 2}])
def test_every_way_is_resumed_bit_for_bit(change: dict[str, Any], tmp_path: Path) -> None:
    undisturbed = run(small_run(**change), tmp_path / "undisturbed")
    for calls in (0, 3, 7):
        folder = run(small_run(**change), tmp_path / "stopped", calls)
    assert train(folder, small_run(**change), digits())
    assert contents(folder.path) == contents(undisturbed.path)


def test_held_out_units_are_measured_beside_the_training_units(tmp_path: Path) -> None:
    config = replace(small_run(), measurement=replace(small_run().measurement, heldout_units=5))
    folder = run(config, tmp_path)
    plain = run(small_run("plain"), tmp_path)
    assert folder.measurements.path.read_bytes() == plain.measurements.path.read_bytes()
    assert weights(folder).keys() == weights(plain).keys()
    assert all(torch.equal(weights(folder)[name], weight) for name, weight in weights(plain).items())
    rows = folder.heldout_measurements.rows()
    assert [row["step"] for row in rows] == [row["step"] for row in folder.measurements.rows()]
    assert {row["n_units"] for row in rows} == {5}
    batch = measurement_batch(digits(), 0, seed=0, units=5, part="heldout")
    assert rows[0]["loss"] == pytest.approx(sr.decompose(config.model.build(0), batch).loss, rel=1e-6)
    known = {tuple(row) for row in digits().heldout[:, 1:].tolist()}
    assert {tuple(row) for row in batch[1].tolist()} <= known
    assert len(plain.heldout_measurements) == 0


def probe(name: str, **changes: Any) -> RunConfig:
    return replace(small_run(name, trained="readout"), **changes)


def test_a_probe_trains_and_measures_its_readout_alone(tmp_path: Path) -> None:
    pretrained = run(small_run("full"), tmp_path)
    on_random, on_learnt = probe("random"), probe("learnt", backbone="full")
    assert on_learnt.needs == ("full",)
    for config, source in ((on_random, on_random.model.build(0).state_dict()), (on_learnt, weights(pretrained))):
        folder = run(config, tmp_path)
        after = weights(folder)
        fresh = config.model.build(0).state_dict()
        for name, weight in after.items():
            if name == "lm_head.weight":
                assert not torch.equal(weight, fresh[name])
            else:
                assert torch.equal(weight, source[name]), name
        # At the start: the readout is fresh, the backbone is what it was given; only the readout counts.
        model = config.model.build(0)
        model.load_state_dict({**source, "lm_head.weight": fresh["lm_head.weight"]})
        expected = sr.decompose(
            model,
            training_batch(digits(), 0, seed=0, batch_size=4, probing=True),
            parameters=[model.lm_head],
            estimator="exact",
        )
        row = folder.measurements.rows()[0]
        assert row["chi_net"] == pytest.approx(expected.chi_net, rel=1e-4)
        assert row["chi_pos"] == pytest.approx(expected.chi_pos, rel=1e-4)


def test_the_compute_of_a_probe_has_no_backward_pass_of_the_backbone() -> None:
    full, part = small_run(), probe("probe")
    tokens = 3 * 4 * 64
    assert full.spent(3) == {"tokens": tokens, "flops": 6 * full.model.parameters * tokens}
    flops = (2 * full.model.parameters + 4 * 18 * 8) * tokens
    assert part.spent(3) == {"tokens": tokens, "flops": flops}


def test_a_probe_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    for runs in ("undisturbed", "stopped"):
        run(small_run("full"), tmp_path / runs)
    undisturbed = run(probe("probe", backbone="full"), tmp_path / "undisturbed")
    folder = run(probe("probe", backbone="full"), tmp_path / "stopped", 5)
    assert train(folder, probe("probe", backbone="full"), digits())
    assert contents(folder.path) == contents(undisturbed.path)


def test_a_backbone_that_is_not_there_or_of_another_shape_is_refused(tmp_path: Path) -> None:
    run(small_run("stopped"), tmp_path, 3)
    with pytest.raises(RecordError, match="stopped is not finished; expected the final weights of a backbone"):
        run(probe("early", backbone="stopped"), tmp_path)
    run(small_run("full"), tmp_path)
    wider = probe("wider", backbone="full")
    wider = replace(wider, model=replace(wider.model, mlp_width=16))
    with pytest.raises(RecordError, match=r"has no weight model\.layers\.0\.mlp\.down_proj\.weight of shape \(8, 16\)"):
        run(wider, tmp_path)
    tied = probe("tied")
    with pytest.raises(ValueError, match="The readout is tied to the token embedding; expected one of its own"):
        run(replace(tied, model=replace(tied.model, tied=True)), tmp_path)


def test_a_run_takes_the_best_rate_of_its_sweep_and_says_so(tmp_path: Path) -> None:
    rates = {"rate0": 1e-5, "rate1": 0.01, "rate2": 1e12}
    for name, rate in rates.items():
        run(small_run(name, learning_rate=rate, may_diverge=True, clip_norm=1e12, optimiser="sgd"), tmp_path)
    assert RunFolder.open(tmp_path / "rate2").is_finished
    assert RunFolder.open(tmp_path / "rate2").summary == {"steps": pytest.approx(6, abs=5), "heldout_loss": None}
    swept = replace(small_run("swept", optimiser="sgd", clip_norm=1e12), rate_from=tuple(rates))
    assert swept.needs == ("rate0", "rate1", "rate2")
    folder = run(swept, tmp_path)
    assert read_chosen_rate(folder.path) == 0.01
    record = json.loads((folder.path / "learning_rate.json").read_text(encoding="utf-8"))
    assert record["from"] == "rate1"
    assert [each["learning_rate"] for each in record["sweep"]] == list(rates.values())
    plain = run(small_run("plain", optimiser="sgd", learning_rate=0.01, clip_norm=1e12), tmp_path)
    assert losses(folder) == losses(plain)
    assert read_chosen_rate(plain.path) is None


def test_a_sweep_without_a_survivor_or_an_end_is_refused(tmp_path: Path) -> None:
    run(small_run("wild", learning_rate=1e12, may_diverge=True, clip_norm=1e12, optimiser="sgd"), tmp_path)
    with pytest.raises(ValueError, match="No run of the learning-rate sweep wild has a finite held-out loss"):
        run(replace(small_run("after"), rate_from=("wild",)), tmp_path)
    run(small_run("slow"), tmp_path, 2)
    with pytest.raises(RecordError, match="slow is not finished; expected every run of the sweep to be"):
        run(replace(small_run("early"), rate_from=("slow",)), tmp_path)


def test_a_run_that_diverges_at_once_is_whole_and_can_be_read(tmp_path: Path) -> None:
    config = small_run("wild", learning_rate=1e30, warmup_steps=0, may_diverge=True, clip_norm=1e30, optimiser="sgd")
    folder = run(config, tmp_path)
    step = folder.summary["steps"]  # type: ignore[index]
    assert step < config.training.checkpoint_every
    rows = folder.losses.rows()
    assert [row["step"] for row in rows] == list(range(step + 1))
    assert rows[-1]["train_loss"] is None
    assert read_usage(folder.path)[-1]["to_step"] == step


@pytest.mark.parametrize("may_diverge", [True, False])
def test_a_model_that_blows_up_in_its_last_update_is_told_as_any_other(
    may_diverge: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run(may_diverge=may_diverge)
    monkeypatch.setattr(loop, "heldout_loss", lambda model, batches: math.nan)
    if may_diverge:
        assert run(config, tmp_path).summary == {"steps": 12, "heldout_loss": None}
        return
    with pytest.raises(FloatingPointError, match="The held-out loss of run 'pixels-small' is nan at step 12"):
        run(config, tmp_path)


def test_fewer_held_out_units_do_not_change_the_measurement_on_training_data(tmp_path: Path) -> None:
    measurement = replace(small_run().measurement, noise_units=4)
    plain = run(replace(small_run("plain"), measurement=measurement), tmp_path)
    beside = run(replace(small_run("beside"), measurement=replace(measurement, heldout_units=2)), tmp_path)
    assert beside.measurements.path.read_bytes() == plain.measurements.path.read_bytes()
    assert {row["n_units"] for row in beside.heldout_measurements.rows()} == {2}


def test_cuda_is_refused_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"TrainingConfig\.device is 'cuda', and torch sees no CUDA device"):
        run(small_run(device="cuda"), tmp_path)


def test_every_sitting_is_on_record(tmp_path: Path) -> None:
    folder = run(small_run(), tmp_path, 7)
    assert train(folder, small_run(), digits())
    sittings = read_usage(folder.path)
    assert [(each["from_step"], each["to_step"]) for each in sittings] == [(0, 7), (7, 12)]
    assert all(each["seconds"] > 0 and each["peak_bytes"] > 1e6 and each["threads"] == 1 for each in sittings)
    (folder.path / "usage.json").write_text("{", encoding="utf-8")
    assert read_usage(folder.path) == []


def test_parts_of_a_batch_cannot_be_measured_within_the_step() -> None:
    config = small_run(accumulation=2).training
    with pytest.raises(AssertionError):
        update(torch.nn.Linear(1, 1), None, (torch.ones(2), torch.ones(2)), 0, config, lambda logits, loss: None)  # type: ignore[arg-type]
