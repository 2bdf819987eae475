"""The training loop: what it records, and that stopping, killing and measuring leave no trace in the result."""

import math
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from small_runs import contents, digits, folder_of, small_run

from spectral_reach.records.errors import RunFolderBusyError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.data.batches import heldout_batches, training_batch
from spectral_reach.studies.training.evaluation import heldout_loss, logits_and_loss
from spectral_reach.studies.training.interruption import stop_requests
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.optimiser import optimiser_of
from spectral_reach.studies.training.progress import Progress
from spectral_reach.studies.training.run_config import RunConfig


class StopAfter:
    """Asks to stop once it has been asked ``calls`` times."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = small_run()
    folder = folder_of(config, tmp_path_factory.mktemp("runs") / "undisturbed")
    assert train(folder, config, digits())
    return folder


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    latest = folder.checkpoints.latest()
    assert latest is not None
    return load_file(latest.path / "model.safetensors")


def plain_training(config: RunConfig) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same training written down again with nothing but torch: no measurement, no files, no evaluation."""
    settings = config.training
    model = config.model.build(settings.seed)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        betas=(settings.beta1, settings.beta2),
    )
    losses = []
    for step in range(settings.steps):
        inputs, targets = training_batch(digits(), step, seed=settings.seed, batch_size=settings.batch_size)
        loss = torch.nn.functional.cross_entropy(model(inputs).logits.flatten(0, 1), targets.flatten())
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
        losses.append(loss.item())
    return model.state_dict(), losses


def test_the_run_is_the_plain_training_bit_for_bit(undisturbed: RunFolder) -> None:
    state, losses = plain_training(small_run())
    recorded = undisturbed.losses.rows()
    assert [row["train_loss"] for row in recorded[:-1]] == losses
    assert all(torch.equal(state[name], tensor) for name, tensor in weights(undisturbed).items())
    initial = small_run().model.build(0).state_dict()
    assert not torch.equal(state["lm_head.weight"], initial["lm_head.weight"])
    assert losses[-1] < losses[0]


def test_losses_have_a_row_for_every_step_and_one_for_the_end(undisturbed: RunFolder) -> None:
    rows = undisturbed.losses.rows()
    config = small_run()
    parameters = config.model.parameters
    assert [row["step"] for row in rows] == list(range(13))
    assert [row["tokens"] for row in rows] == [4 * 64 * step for step in range(13)]
    assert [row["flops"] for row in rows] == [6 * parameters * 4 * 64 * step for step in range(13)]
    assert [row["step"] for row in rows if row["heldout_loss"] is not None] == [0, 5, 10, 12]
    assert rows[12]["train_loss"] is None
    assert all(math.isfinite(row["train_loss"]) for row in rows[:12])
    assert undisturbed.summary == {"steps": 12, "heldout_loss": rows[12]["heldout_loss"]}


def test_the_last_held_out_loss_is_that_of_the_last_checkpoint(undisturbed: RunFolder) -> None:
    model = small_run().model.build(1)
    model.load_state_dict(weights(undisturbed))
    batches = heldout_batches(digits(), units=8, batch_size=4)
    assert heldout_loss(model, batches) == undisturbed.losses.rows()[-1]["heldout_loss"]


def test_measurements_are_taken_on_the_training_batch_and_late_on_more(undisturbed: RunFolder) -> None:
    rows = undisturbed.measurements.rows()
    losses = {row["step"]: row for row in undisturbed.losses.rows()}
    assert [row["step"] for row in rows] == [0, 1, 10, 11]
    assert [row["n_units"] for row in rows] == [4, 4, 4, 6]
    for row in rows:
        assert (row["tokens"], row["flops"]) == (losses[row["step"]]["tokens"], losses[row["step"]]["flops"])
        assert row["n_samples"] == 64 * row["n_units"]
        assert math.isfinite(row["chi_pos_unbiased"])
    for row in rows[:3]:
        # Means of the same 256 float32 losses, summed in float32 here and perhaps in float64 there.
        assert row["loss"] == pytest.approx(losses[row["step"]]["train_loss"], rel=256 * 2**-24)


@pytest.mark.parametrize("stops", [[3], [5], [1, 0, 1, 1], [12], [7, 0, 4]], ids=str)
def test_a_run_stopped_at_any_step_and_resumed_is_the_undisturbed_one(
    stops: list[int], undisturbed: RunFolder, tmp_path: Path
) -> None:
    config = small_run()
    folder = folder_of(config, tmp_path / "run")
    for number, calls in enumerate(stops):
        # What the process did before must not matter: its generator is somewhere else each time.
        torch.manual_seed(100 + number)
        finished = train(RunFolder.open(folder.path), config, digits(), should_stop=StopAfter(calls))
        assert finished == (calls == 12)
    torch.manual_seed(99)
    assert train(RunFolder.open(folder.path), config, digits())
    assert contents(folder.path) == contents(undisturbed.path)


class Killed(BaseException):
    """In the middle of something, as a kill would be."""


@pytest.mark.parametrize("step", [1, 2, 6, 11, 12])
def test_a_run_that_dies_between_checkpoints_makes_the_lost_steps_again(
    step: int, undisturbed: RunFolder, tmp_path: Path
) -> None:
    config = small_run()
    folder = folder_of(config, tmp_path / "run")

    def die(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    with pytest.raises(Killed):
        train(folder, config, digits(), on_progress=die)
    before = folder.measurements.rows()
    assert [row["step"] for row in before] == [s for s in (0, 1, 10, 11) if s < step]
    latest = folder.checkpoints.latest()
    assert (latest.step if latest else 0) == (step - 1) // 5 * 5
    assert train(RunFolder.open(folder.path), config, digits())
    assert contents(folder.path) == contents(undisturbed.path)


def test_a_finished_measurement_is_not_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spectral_reach.tracking import tracker

    taken = []

    def counted(measure: Callable[..., object]) -> Callable[..., object]:
        def counting(*args: object, **options: object) -> object:
            taken.append(args)
            return measure(*args, **options)

        return counting

    # In a step's own passes, and in passes of its own.
    monkeypatch.setattr(tracker, "decompose", counted(tracker.decompose))
    monkeypatch.setattr(tracker, "decompose_in_step", counted(tracker.decompose_in_step))
    config = small_run(checkpoint_every=100)
    folder = folder_of(config, tmp_path / "run")

    def die(progress: Progress) -> None:
        if progress.step == 11:
            raise Killed

    with pytest.raises(Killed):
        train(folder, config, digits(), on_progress=die)
    assert len(taken) == 3
    assert train(RunFolder.open(folder.path), config, digits())
    assert len(taken) == 4


def test_a_finished_run_is_left_alone(undisturbed: RunFolder) -> None:
    before = contents(undisturbed.path)
    times = {file: file.stat().st_mtime_ns for file in undisturbed.path.rglob("*.parquet")}
    assert train(RunFolder.open(undisturbed.path), small_run(), digits())
    assert contents(undisturbed.path) == before
    assert times == {file: file.stat().st_mtime_ns for file in undisturbed.path.rglob("*.parquet")}


def test_progress_tells_every_step_with_the_latest_measurement(tmp_path: Path) -> None:
    config = small_run(steps=4)
    told: list[Progress] = []
    folder = folder_of(config, tmp_path / "run")
    train(folder, config, digits(), on_progress=told.append)
    rows = folder.measurements.rows()
    assert [p.step for p in told] == [1, 2, 3, 4]
    assert [p.loss for p in told] == [row["train_loss"] for row in folder.losses.rows()[:4]]
    assert told[0].chi_pos == rows[0]["chi_pos"]
    assert told[-1].chi_pos_unbiased == rows[-1]["chi_pos_unbiased"]


@pytest.mark.parametrize("measured", [(0,), (0, 1, 2, 3)])
def test_a_loss_that_is_no_number_ends_the_run_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: tuple[int, ...]
) -> None:
    # At rate 1e30 the first update makes every later loss overflow.
    config = small_run(learning_rate=1e30, warmup_steps=0, steps=200, clip_norm=1e9)
    monkeypatch.setattr(RunConfig, "measured_steps", measured)
    folder = folder_of(config, tmp_path / "run")
    message = r"'pixels-small' is (nan|inf) at step \d+; expected a finite number. Lower the learning rate"
    told = pytest.warns(UserWarning, match="is not defined, and recorded as NaN") if measured[1:] else nullcontext()
    with told, pytest.raises(FloatingPointError, match=message):
        train(folder, config, digits())
    assert not folder.is_finished
    # Where the step that met it is measured, its row says so.
    rows = folder.measurements.rows()
    assert [math.isfinite(row["chi_pos"]) for row in rows] == [True] + [False] * (len(rows) - 1)
    assert len(rows) >= min(len(measured), 2)


@pytest.mark.slow
def test_a_folder_that_another_loop_holds_is_refused(tmp_path: Path) -> None:
    config = small_run()
    folder = folder_of(config, tmp_path / "run")
    with folder.lock(), pytest.raises(RunFolderBusyError, match="is being written by process"):
        train(RunFolder.open(folder.path), config, digits())


def test_the_number_of_threads_is_that_of_the_run_and_comes_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    seen = []
    config = small_run(threads=before + 1, steps=3)
    train(
        folder_of(config, tmp_path / "run"),
        config,
        digits(),
        on_progress=lambda _: seen.append(torch.get_num_threads()),
    )
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_evaluation_touches_neither_generator_nor_mode_nor_gradients() -> None:
    class WithDropout(torch.nn.Module):
        """Enough of a language model to be evaluated."""

        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(18, 18)
            self.dropout = torch.nn.Dropout(0.5)

        def forward(self, tokens: torch.Tensor) -> object:
            logits = self.dropout(self.embedding(tokens))
            return type("Output", (), {"logits": logits})()

    model = WithDropout()
    batches = heldout_batches(digits(), units=10, batch_size=4)
    logits_and_loss(model, batches[0])[1].backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    gradient = gradient.clone()
    before = torch.get_rng_state()
    first, second = heldout_loss(model, batches), heldout_loss(model, batches)
    assert first == second
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert model.dropout.training
    assert torch.equal(model.embedding.weight.grad, gradient)
    model.eval()
    heldout_loss(model, batches)
    assert not model.training


def test_held_out_loss_weighs_every_token_alike() -> None:
    model = small_run().model.build(0)
    together = heldout_batches(digits(), units=10, batch_size=10)
    apart = heldout_batches(digits(), units=10, batch_size=4)
    # Float32 means over 640 tokens, split in two ways.
    assert heldout_loss(model, together) == pytest.approx(heldout_loss(model, apart), rel=640 * 2**-24)


def test_weight_decay_spares_the_norms() -> None:
    model = small_run().model.build(0)
    optimiser = optimiser_of(model, small_run().training, {})
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        name: 0.1 if p.ndim == 2 else 0.0 for name, p in model.named_parameters()
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_a_second_one_acts(number: signal.Signals) -> None:
    acted = []
    before = signal.signal(number, lambda *_: acted.append(True))
    try:
        with stop_requests() as should_stop:
            assert not should_stop()
            signal.raise_signal(number)
            assert should_stop()
            assert not acted
            signal.raise_signal(number)
            assert acted
        signal.raise_signal(number)
        assert len(acted) == 2
    finally:
        signal.signal(number, before)


def test_probes_do_not_follow_the_data(undisturbed: RunFolder) -> None:
    column = undisturbed.measurements.arrow().column("chi_net")
    assert isinstance(column, pa.ChunkedArray)
    assert len(np.unique(column.to_numpy())) == 4
