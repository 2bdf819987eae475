"""The callback in a real Lightning Trainer: training is the same to the bit, and the log is what decompose says."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import spectral_reach as sr
from spectral_reach.integrations.lightning import SpectralCallback
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.tracking.row import seed_of

pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 6


class Classifier(LightningModule):
    """No ``criterion``; dropout and batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.GELU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Manual(Classifier):
    """Steps of its own, with a scheduler."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimiser: Any = self.optimizers()
        loss = super().training_step(batch, batch_idx)
        optimiser.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimiser, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        optimiser.step()


class Nested(LightningModule):
    """The network is a part, the batch a mapping, and forward is not defined."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Classifier().body

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch["x"]), batch["y"])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def data(mappings: bool = False) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    tensors = torch.randn(96, 5, generator=generator), torch.randint(0, 3, (96,), generator=generator)
    if mappings:
        return DataLoader([{"x": x, "y": y} for x, y in zip(*tensors, strict=True)], batch_size=8)  # type: ignore[arg-type]
    return DataLoader(TensorDataset(*tensors), batch_size=8)


def train(
    out: Path, *callbacks: Callback, module: type[LightningModule] = Classifier, ckpt: str | None = None, **options: Any
) -> tuple[Trainer, LightningModule]:
    seed_everything(0, verbose=False)
    trained = module()
    given: dict[str, Any] = {
        "max_steps": STEPS,
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        **options,
    }
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=out,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **given,
    )
    trainer.fit(trained, data(module is Nested), ckpt_path=ckpt)
    return trainer, trained


class Watch(Callback):
    """What decompose says by hand of the first batch of each update, before it is made."""

    def __init__(self, precision: str = "32") -> None:
        self.batches: dict[int, Any] = {}
        self.found: dict[int, sr.Decomposition] = {}
        self.named: dict[str, dict[int, sr.Decomposition]] = {}
        self.bf16 = precision == "bf16-mixed"

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches.setdefault(trainer.global_step, batch)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        step = trainer.global_step
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            self.found[step] = sr.decompose(pl_module, self.batches[step], seed=seed_of(0, step))


WAYS: dict[str, dict[str, Any]] = {
    "plain": {"gradient_clip_val": 0.5},
    "accumulating": {"accumulate_grad_batches": 2},
    "bf16": {"precision": "bf16-mixed"},
    "manual": {"module": Manual},
}


@pytest.mark.parametrize("way", WAYS)
def test_training_is_the_same_to_the_bit(tmp_path: Path, way: str) -> None:
    _, plain = train(tmp_path / "plain", **WAYS[way])
    after = torch.rand(3)
    callback = SpectralCallback(schedule=2, updates=1)
    trainer, watched = train(tmp_path / "watched", callback, **WAYS[way])
    assert torch.rand(3).equal(after)
    assert plain.state_dict().keys() == watched.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert value.equal(watched.state_dict()[name]), name
    assert trainer.global_step == STEPS
    assert callback.tracker is not None
    assert [row["step"] for row in callback.tracker.history] == [0, 2, 4]
    assert [row["step"] for row in callback.tracker.updates] == list(range(STEPS))


@pytest.mark.parametrize("way", WAYS)
def test_the_values_are_those_of_decompose(tmp_path: Path, way: str) -> None:
    watch, callback = Watch(WAYS[way].get("precision", "32")), SpectralCallback(schedule=2)
    train(tmp_path, watch, callback, **WAYS[way])
    assert callback.tracker is not None
    assert callback.tracker.history
    for row in callback.tracker.history:
        by_hand = watch.found[row["step"]].as_dict()
        assert {name: repr(row[name]) for name in by_hand} == {name: repr(value) for name, value in by_hand.items()}


def drawn(seed: int, units: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(units, 5, generator=generator), torch.randint(0, 3, (units,), generator=generator)


NAMED: dict[str, Any] = {
    "batches": {"heldout": drawn(100), "code": lambda step: drawn(200 + step)},
    "pairs": [("training", "heldout"), ("code", "training")],
}


@pytest.mark.parametrize("way", ["plain", "bf16"])
def test_named_batches_and_pairs_are_what_decompose_says(tmp_path: Path, way: str) -> None:
    class ByHand(Watch):
        def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
            step = trainer.global_step
            here = {"training": self.batches[step], "heldout": drawn(100), "code": drawn(200 + step)}
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
                for name in ("heldout", "code"):
                    found = sr.decompose(pl_module, here[name], seed=seed_of(0, step))
                    self.named.setdefault(name, {})[step] = found
                for a, b in NAMED["pairs"]:
                    found = sr.decompose(pl_module, here[a], against=here[b], seed=seed_of(0, step))
                    self.named.setdefault(f"{a}-{b}", {})[step] = found

    _, plain = train(tmp_path / "plain", **WAYS[way])
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    watch = ByHand(WAYS[way].get("precision", "32"))
    callback = SpectralCallback(schedule=2, **NAMED)
    _, watched = train(tmp_path / "watched", watch, callback, logger=logger, **WAYS[way])
    for name, value in plain.state_dict().items():
        assert value.equal(watched.state_dict()[name]), name
    logged: dict[int, dict[str, str]] = {}  # the logger has a line for each table
    for line in _csv(Path(logger.log_dir) / "metrics.csv"):
        logged.setdefault(int(line["step"]), {}).update({key: value for key, value in line.items() if value})
    assert callback.tracker is not None
    assert callback.tracker.histories.keys() == watch.named.keys()
    tables = RunFolder.open(tmp_path / "watched" / "spectral_reach").named_measurements
    for name, rows in callback.tracker.histories.items():
        assert [row["step"] for row in rows] == [0, 2, 4]
        assert list(map(repr, tables[name].rows())) == list(map(repr, rows))
        for row in rows:
            by_hand = watch.named[name][row["step"]].as_dict()
            assert {key: repr(row[key]) for key in by_hand} == {key: repr(value) for key, value in by_hand.items()}
            assert float(logged[row["step"]][f"spectral_reach/{name}/chi_pos"]) == row["chi_pos"]


def test_metrics_reach_the_loggers_at_their_step(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    callback = SpectralCallback(schedule=2, updates=[1])
    train(tmp_path, callback, logger=logger)
    rows = {int(row["step"]): row for row in _csv(Path(logger.log_dir) / "metrics.csv")}
    assert callback.tracker is not None
    for row in callback.tracker.history:
        assert float(rows[row["step"]]["spectral_reach/chi_pos"]) == row["chi_pos"]
    [update] = callback.tracker.updates
    assert float(rows[1]["spectral_reach/update/linear"]) == update["linear"]


def _csv(file: Path) -> list[dict[str, str]]:
    import csv

    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_a_part_of_a_module_on_batches_of_its_own(tmp_path: Path) -> None:
    # Named batches are of the form of the training's own.
    x, y = drawn(100)
    batches: dict[str, Any] = {"heldout": {"x": x, "y": y}, "again": lambda step: {"x": x, "y": y}}
    callback = SpectralCallback(schedule=3, model="net", batch=lambda b: (b["x"], b["y"]), batches=batches)
    train(tmp_path, callback, module=Nested)
    assert callback.tracker is not None
    histories = callback.tracker.histories
    for rows in (callback.tracker.history, *histories.values()):
        assert [row["step"] for row in rows] == [0, 3]
    assert [row["chi_pos"] for row in histories["heldout"]] == [row["chi_pos"] for row in histories["again"]]


def test_a_resumed_training_goes_on_with_its_rows(tmp_path: Path) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "last.ckpt")

    options = {"schedule": 1, "updates": 1, **NAMED}
    train(tmp_path / "parts", SpectralCallback(**options), Save(), max_steps=5)
    again = SpectralCallback(**options)
    train(tmp_path / "parts", again, ckpt=str(tmp_path / "last.ckpt"))
    folder = RunFolder.open(tmp_path / "parts" / "spectral_reach")
    assert len(folder.named_measurements) == 4
    for table in (folder.measurements, folder.updates, *folder.named_measurements.values()):
        assert [row["step"] for row in table.rows()] == list(range(STEPS))
    assert again.tracker is not None
    assert [row["step"] for row in again.tracker.history] == list(range(STEPS))


def test_a_training_that_failed_leaves_the_folder_free(tmp_path: Path) -> None:
    class Fail(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if trainer.global_step == 2:
                raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        train(tmp_path, SpectralCallback(schedule=1), Fail())
    callback = SpectralCallback(schedule=1)
    train(tmp_path, callback)
    assert callback.tracker is not None
    assert [row["step"] for row in callback.tracker.history] == list(range(STEPS))
    aside = RunFolder.open(tmp_path / "spectral_reach-1").measurements.rows()
    assert [row["step"] for row in aside] == [0, 1]


def test_a_training_that_diverges_goes_on(tmp_path: Path) -> None:
    class Break(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            if trainer.global_step == 2:
                with torch.no_grad():
                    pl_module.body[0].weight.fill_(math.nan)

    callback = SpectralCallback(schedule=1, updates=1)
    with pytest.warns(UserWarning, match="is not defined, and recorded as NaN"):
        trainer, _ = train(tmp_path, callback, Break(), logger=CSVLogger(tmp_path))
    assert trainer.global_step == STEPS
    assert callback.tracker is not None
    assert [math.isfinite(row["chi_pos"]) for row in callback.tracker.history] == [True] * 2 + [False] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"Nested has no forward of its own; .*SpectralCallback\(model=\.\.\.\), for example one of \['net'\]",
        ),
        ({"model": "nat"}, r"model is 'nat', which the Nested does not have; .*one of \['net'\]"),
    ],
)
def test_what_to_measure_is_asked_for(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(tmp_path, SpectralCallback(**options), module=Nested)


@pytest.mark.parametrize(("options", "message"), [({"model": 3}, "model is a int"), ({"batch": 3}, "batch is a int")])
def test_wrong_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        SpectralCallback(**options)
