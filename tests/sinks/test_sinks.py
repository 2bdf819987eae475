"""Each sink against the library itself: real files are written, and what they hold is read back."""

import json
import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.records.errors import RecordError
from spectral_reach.sinks import JsonLines, TensorBoard, Trackio, Wandb
from spectral_reach.tracking.sink import Sink

STEPS = 4


def make_batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)


def tracked(*sinks: Sink, out: Path | None = None, each_step: Any = lambda step: None) -> sr.Tracker:
    """A training whose rows go to the sinks: measurements at steps 0 and 2, of a named batch and a pair too, and the
    effects of all four updates."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    named: dict[str, Any] = {"batches": {"heldout": make_batch(99)}, "pairs": [("training", "heldout")]}
    with sr.Tracker(model, schedule=2, updates=1, out=out, sinks=sinks, **named) as tracker:
        for step in range(STEPS):
            inputs, targets = make_batch(step)
            tracker.measure(step, (inputs, targets), tokens=8 * step, lr=0.1)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), targets).backward()
            optimiser.step()
            each_step(step)
    return tracker


def expected_metrics(tracker: sr.Tracker) -> dict[str, dict[int, float]]:
    """Every defined float of every row, by name and step."""
    found: dict[str, dict[int, float]] = {}
    named = {f"{name}/": rows for name, rows in tracker.histories.items()}
    for folder, rows in {"": tracker.history, "update/": tracker.updates, **named}.items():
        for row in rows:
            for name, value in row.items():
                if isinstance(value, float) and math.isfinite(value) and name != "lr":
                    found.setdefault(f"spectral_reach/{folder}{name}", {})[row["step"]] = value
    expected = {"chi_pos", "chi_pos_unbiased", "update/linear", "heldout/chi_pos", "training-heldout/chi_pos"}
    assert {f"spectral_reach/{name}" for name in expected} <= set(found)
    return found


def test_json_lines_hold_every_row(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "rows.jsonl"
    tracker = tracked(JsonLines(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    named = [("measurement", name, rows) for name, rows in tracker.histories.items()]
    for kind, name, rows in [("measurement", None, tracker.history), ("update", None, tracker.updates), *named]:
        of_these = [line for line in lines if line["kind"] == kind and line.get("batch") == name]
        for line, row in zip(of_these, rows, strict=True):
            assert line.keys() == {"kind", *row}
            for column, value in row.items():
                nothing = isinstance(value, float) and math.isnan(value)
                assert line[column] is None if nothing else line[column] == value, column


def test_a_line_that_was_cut_is_dropped_and_no_row_comes_twice(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    tracked(JsonLines(file))
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + lines[3][:20])
    tracked(JsonLines(file))  # a training that goes over all steps again
    assert sorted(file.read_text().splitlines()) == sorted(whole.splitlines())


def test_another_training_does_not_lose_its_rows_to_the_first(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    JsonLines(file).write("measurement", {"step": 0, "chi_pos": 0.5})
    JsonLines(file).write("measurement", {"step": 0, "chi_pos": 0.25})
    assert [json.loads(line)["chi_pos"] for line in file.read_text().splitlines()] == [0.5, 0.25]


@pytest.mark.parametrize("content", ["step,loss\n1,2\n", "[1]\n", '{"step": 1}\n', "\xff\n"])
def test_another_file_is_not_appended_to(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"line 1 of .*rows\.jsonl is no row of spectral-reach; expected JSON objects"):
        JsonLines(file)
    assert file.read_text() == content


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = JsonLines(tmp_path / "file" / "rows.jsonl")
    with pytest.raises(RecordError, match="file"):
        sink.write("measurement", {"step": 0})


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: {each.step: each.value for each in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_tensorboard_has_every_metric_at_its_step(tmp_path: Path) -> None:
    tracker = tracked(TensorBoard(tmp_path))
    found, expected = scalars(tmp_path), expected_metrics(tracker)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-6), name  # stored in float32


def test_a_writer_of_the_loop_stays_open(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    tracked(TensorBoard(writer), each_step=lambda step: writer.add_scalar("train/loss", 1.0, step))
    writer.add_scalar("train/loss", 2.0, STEPS)
    writer.close()
    assert scalars(tmp_path)["train/loss"] == dict.fromkeys(range(STEPS), 1.0) | {STEPS: 2.0}
    with pytest.raises(TypeError, match="target is a int; expected a SummaryWriter or the path of a folder"):
        TensorBoard(3)  # type: ignore[arg-type]


def wandb_records(folder: Path) -> Iterator[Any]:
    """Records of an offline run: blocks of 32 KiB, of records (checksum, length, kind) in one piece or several."""
    from wandb.proto import wandb_internal_pb2

    [file] = folder.glob("wandb/offline-run-*/*.wandb")
    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + length > len(data):
            return  # being written
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def finished_records(folder: Path) -> list[Any]:
    """All records: W&B's own process goes on writing when ``finish`` has returned."""
    until = time.monotonic() + 120
    while True:
        records = list(wandb_records(folder))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        assert time.monotonic() < until, "the run is not finished"
        time.sleep(0.05)


@pytest.mark.parametrize("loop_logs", [False, True])
def test_wandb_has_every_metric_and_the_loop_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop_logs: bool
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(project="test", mode="offline", dir=str(tmp_path), settings=wandb.Settings(console="off"))
    log = (lambda step: run.log({"loss": float(step)}, step=step)) if loop_logs else (lambda step: None)
    tracker = tracked(Wandb(), each_step=log)
    run.finish()
    found: dict[str, dict[int, float]] = {}
    losses, axes = {}, {}
    for record in finished_records(tmp_path):
        if record.WhichOneof("record_type") == "metric":
            axes[record.metric.name] = record.metric.step_metric
        if record.WhichOneof("record_type") == "history":
            items = ((*each.nested_key, each.key)[0] for each in record.history.item)
            row = dict(zip(items, (json.loads(each.value_json) for each in record.history.item), strict=True))
            if "loss" in row:
                losses[row["_step"]] = row["loss"]
            for name in row:
                if name.startswith("spectral_reach/") and not name.endswith("/step"):
                    found.setdefault(name, {})[row[axes[name]]] = row[name]
    assert found == expected_metrics(tracker)
    assert axes["spectral_reach/chi_pos"] == "spectral_reach/step"
    assert axes["spectral_reach/update/linear"] == "spectral_reach/update/step"
    assert axes["spectral_reach/training-heldout/chi_pos"] == "spectral_reach/training-heldout/step"
    assert losses == ({step: float(step) for step in range(STEPS)} if loop_logs else {})


def test_wandb_needs_a_run() -> None:
    with pytest.raises(ValueError, match=r"no active wandb run; expected one: call wandb\.init\(\) first"):
        Wandb()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_trackio_has_every_metric_at_its_step(tmp_path: Path) -> None:
    # Another process: trackio reads the place of its database when it is imported, and starts threads.
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import json, trackio
from test_sinks import expected_metrics, tracked
from spectral_reach.sinks import Trackio
trackio.init(project="test", name="one")
tracker = tracked(Trackio(), each_step=lambda step: trackio.log({{"loss": 1.0}}, step=step))
trackio.finish()
from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("test", "one")
print("RESULT" + json.dumps([rows, expected_metrics(tracker)]))
"""
    environment = {"TRACKIO_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows, expected = json.loads(done.stdout.split("RESULT")[1])
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith("spectral_reach/"):
                found.setdefault(name, {})[str(row["step"])] = value
    assert found == expected
    assert [row["loss"] for row in rows if "loss" in row] == [1.0] * STEPS


@pytest.mark.parametrize(
    ("sink", "package"), [(TensorBoard, "tensorboard"), (Wandb, "wandb"), (Trackio, "trackio")], ids=lambda x: str(x)
)
def test_a_missing_package_names_the_extra(sink: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    arguments = ["logs"] if sink is TensorBoard else []
    with pytest.raises(
        ImportError, match=rf'not installed; expected it for {package}: pip install "spectral-reach\[{package}\]"'
    ):
        sink(*arguments)


class Broken:
    """A dashboard that is down."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.down = True
        self.closed = False

    def write(self, kind: str, row: Any) -> None:
        if self.down:
            raise ConnectionError("no dashboard")
        self.rows.append(row["step"])

    def close(self) -> None:
        self.closed = True


def test_a_sink_that_fails_is_told_and_gets_the_row_when_the_run_goes_on(tmp_path: Path) -> None:
    sink = Broken()
    with pytest.raises(ConnectionError, match="no dashboard"):
        tracked(sink, out=tmp_path / "run")
    assert sink.closed
    sink.down = False
    tracked(sink, out=tmp_path / "run")
    # A named batch, a pair, the training's own; then updates.
    assert sink.rows == [0, 0, 0, 0, 1, 2, 2, 2, 2, 3]


@pytest.mark.parametrize("wrong", [[JsonLines], ["wandb"], [object()]])
def test_something_else_is_no_sink(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"sinks holds .*; expected objects with write\(kind, row\) and close\(\)"):
        sr.Tracker(nn.Linear(4, 3), schedule=1, sinks=wrong)
