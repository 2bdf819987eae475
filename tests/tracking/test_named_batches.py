"""Named batches and pairs in a loop: what decompose says by hand, in tables of their own; training never notices."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spectral_reach as sr
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.tracking.row import seed_of

STEPS = 5


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.2), nn.GELU(), nn.Linear(6, 3))


def make_batch(step: int, units: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(units, 4, generator=generator), torch.randint(0, 3, (units,), generator=generator)


HELDOUT = make_batch(1000, 6)


def code(step: int) -> tuple[Tensor, Tensor]:
    """Draws from every global generator."""
    random.random(), np.random.rand()
    return torch.randn(5, 4), torch.randint(0, 3, (5,))


BATCHES: dict[str, Any] = {"heldout": HELDOUT, "later": lambda step: make_batch(2000 + step)}
PAIRS = [("training", "heldout"), ("heldout", "later"), ("later", "training")]


def train(
    model: nn.Module,
    tracker: sr.Tracker | None,
    *,
    shared: bool = False,
    steps: range = range(STEPS),
    look: Callable[[int, Any], None] = lambda step, batch: None,
) -> list[Tensor]:
    """The weights, and what the generators say afterwards."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    for generator in (torch.manual_seed, random.seed, np.random.seed):
        generator(1)
    for step in steps:
        inputs, targets = make_batch(step)
        look(step, (inputs, targets))
        if tracker is not None and not shared:
            tracker.measure(step, (inputs, targets), tokens=8 * step)
        outputs = model(inputs)
        loss = F.cross_entropy(outputs, targets)
        if tracker is not None and shared:
            tracker.measure(step, (inputs, targets), outputs=outputs, step_loss=loss, tokens=8 * step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    drawn = [torch.rand(1), torch.tensor(random.random()), torch.tensor(np.random.rand())]
    return [*(p.detach() for p in model.parameters()), *drawn]


@pytest.mark.parametrize("shared", [False, True])
def test_training_is_the_same_to_the_bit(shared: bool) -> None:
    plain = train(make_model(), None)
    model = make_model()
    batches = {"heldout": HELDOUT, "code": code}
    pairs = [("training", "code"), ("heldout", "code")]
    with sr.Tracker(model, schedule=2, updates=1, batches=batches, pairs=pairs) as tracker:
        watched = train(model, tracker, shared=shared)
    assert list(tracker.histories) == ["heldout", "code", "training-code", "heldout-code"]
    for rows in tracker.histories.values():
        assert [row["step"] for row in rows] == [0, 2, 4]
    assert [row["step"] for row in tracker.history] == [0, 2, 4]
    for a, b in zip(plain, watched, strict=True):
        assert a.equal(b)


@pytest.mark.parametrize("shared", [False, True])
def test_the_values_are_those_of_decompose(shared: bool, tmp_path: Path) -> None:
    model = make_model()
    expected: dict[str, dict[int, dict[str, Any]]] = {}

    def by_hand(step: int, training: Any) -> None:
        here = {"training": training, "heldout": HELDOUT, "later": make_batch(2000 + step)}
        for name in BATCHES:
            found = sr.decompose(model, here[name], seed=seed_of(0, step))
            expected.setdefault(name, {})[step] = found.as_dict()
        for first, second in PAIRS:
            found = sr.decompose(model, here[first], against=here[second], seed=seed_of(0, step))
            expected.setdefault(f"{first}-{second}", {})[step] = found.as_dict()

    with sr.Tracker(model, schedule=1, batches=BATCHES, pairs=PAIRS, out=tmp_path / "run") as tracker:
        train(model, tracker, shared=shared, look=by_hand)
    assert tracker.histories.keys() == expected.keys()
    for name, rows in tracker.histories.items():
        wanted = [
            {"step": step, "batch": name, "tokens": 8 * step, **values} for step, values in expected[name].items()
        ]
        assert list(map(repr, rows)) == list(map(repr, wanted))
        on_disk = RunFolder.open(tmp_path / "run").named_measurements[name].rows()
        assert list(map(repr, on_disk)) == list(map(repr, rows))
    assert all("batch" not in row for row in tracker.history)
    assert {row["n_samples_against"] for row in tracker.histories["training-heldout"]} == {6}


def test_a_run_that_goes_on_measures_nothing_twice(tmp_path: Path) -> None:
    calls: list[int] = []

    def later(step: int) -> tuple[Tensor, Tensor]:
        calls.append(step)
        return make_batch(2000 + step)

    batches = {"heldout": HELDOUT, "later": later}
    for steps in (range(3), range(1, STEPS)):
        model = make_model()
        with sr.Tracker(model, schedule=1, batches=batches, pairs=PAIRS, out=tmp_path / "run") as tracker:
            train(model, tracker, steps=steps)
    assert calls == [0, 1, 2, 3, 4]  # once a step, though it is in two pairs too
    for rows in (tracker.history, *tracker.histories.values()):
        assert [row["step"] for row in rows] == list(range(STEPS))


def test_batches_may_be_added_to_a_run(tmp_path: Path) -> None:
    for batches in (None, {"heldout": HELDOUT}):
        model = make_model()
        with sr.Tracker(model, schedule=2, batches=batches, out=tmp_path / "run") as tracker:
            train(model, tracker)
    assert [row["step"] for row in tracker.histories["heldout"]] == [0, 2, 4]


def test_another_run_inside_the_folder_is_none_of_its_batches(tmp_path: Path) -> None:
    model = make_model()
    with (
        sr.Tracker(model, schedule=1, out=tmp_path / "run") as outer,
        sr.Tracker(model, schedule=1, out=tmp_path / "run" / "inner") as inner,
    ):
        for tracker in (outer, inner):
            tracker.measure(0, make_batch(0))
    assert RunFolder.open(tmp_path / "run").named_measurements == {}


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    with sr.Tracker(make_model(), schedule=1, batches={"heldout": HELDOUT}, out=tmp_path / "run") as tracker:
        tracker.measure(0, make_batch(0))
    half = tmp_path / "run" / "heldout" / ".partial-0123456789ab-measurements.parquet"
    half.write_bytes(b"PAR1")
    sr.Tracker(make_model(), schedule=1, batches={"heldout": HELDOUT}, out=tmp_path / "run").close()
    assert not half.exists()


def test_a_mapping_of_any_kind_is_a_batch() -> None:
    from transformers import BatchEncoding, LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=11, **shape))
    tokens = torch.arange(20).reshape(2, 10) % 11
    batch = BatchEncoding({"input_ids": tokens, "labels": tokens})
    tracker = sr.Tracker(model, schedule=1, batches={"heldout": batch})
    tracker.measure(0, {"input_ids": tokens.flip(1), "labels": tokens.flip(1)})
    [row] = tracker.histories["heldout"]
    assert row["chi_pos"] == sr.decompose(model, dict(batch), seed=seed_of(0, 0)).chi_pos


def test_warnings_are_told_of_a_pair() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.zero_(), model.bias.zero_()
    inputs = torch.randn(64, 4)
    labels = (inputs[:, 0] > 0).long()
    # A domain in which inputs mean the opposite: what helps one harms the other.
    others = torch.randn(64, 4)
    batches = {"opposite": (others, (others[:, 0] <= 0).long())}
    with sr.Tracker(model, schedule=1, batches=batches, pairs=[("training", "opposite")]) as tracker:
        for step in range(6):
            tracker.measure(step, (inputs, labels))
            with torch.no_grad():
                model.weight.add_(0.01 * torch.randn(2, 4))
    [warning] = sr.early_warnings(tracker.histories["training-opposite"])
    assert warning.kind == "interference"
    assert warning.high < 0


def test_a_batch_that_does_not_fit_is_told_by_its_name() -> None:
    wrong = {"heldout": (torch.randn(4, 5), torch.zeros(4, dtype=torch.int64))}
    tracker = sr.Tracker(make_model(), schedule=1, batches=wrong | {"empty": (HELDOUT[0], torch.full((6,), -100))})
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        tracker.measure(0, make_batch(0))
    classes = {"heldout": (HELDOUT[0], HELDOUT[1] + 5)}
    tracker = sr.Tracker(make_model(), schedule=1, batches=classes, pairs=[("training", "heldout")])
    with pytest.raises(ValueError, match="batches, 'heldout': targets range from 5 to 7; expected class indices in 0"):
        tracker.measure(0, make_batch(0))


def test_a_named_batch_without_a_label_gets_a_row_with_the_reason() -> None:
    batches = {"empty": (HELDOUT[0], torch.full((6,), -100))}
    tracker = sr.Tracker(make_model(), schedule=1, batches=batches, pairs=[("training", "empty")])
    assert tracker.measure(0, make_batch(0)) is not None
    for name, start in (("empty", "no row of the batch"), ("training-empty", "against: no row of the batch")):
        [row] = tracker.histories[name]
        assert row["undefined"]["chi_pos"].startswith(start)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"batches": [HELDOUT]}, TypeError, "batches is a list; expected a mapping of names to batches"),
        ({"batches": {3: HELDOUT}}, TypeError, "batches has the key 3; expected names"),
        ({"batches": {"a/b": HELDOUT}}, ValueError, "batches has the name 'a/b'; expected letters, digits, - and _"),
        ({"batches": {"": HELDOUT}}, ValueError, "batches has the name ''; expected letters"),
        ({"batches": {"..": HELDOUT}}, ValueError, r"batches has the name '\.\.'; expected letters"),
        ({"batches": {"training": HELDOUT}}, ValueError, "'training', which stands for something else"),
        ({"batches": {"update": HELDOUT}}, ValueError, "'update', which stands for something else"),
        ({"batches": {"a": HELDOUT, "A": HELDOUT}}, ValueError, "give the name 'A' twice"),
        ({"pairs": "training"}, TypeError, "pairs is 'training'; expected pairs of names"),
        ({"pairs": [("training",)]}, TypeError, r"pairs holds \('training',\); expected pairs of names"),
        ({"pairs": [("training", "code")]}, ValueError, "pairs names 'code'; expected one of 'training', 'heldout'"),
        ({"pairs": [("heldout", "heldout")]}, ValueError, "expected two different batches"),
        ({"pairs": [("training", "heldout")] * 2}, ValueError, "give the name 'training-heldout' twice"),
    ],
)
def test_impossible_names_are_refused_at_once(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        sr.Tracker(make_model(), schedule=1, out=tmp_path / "run", **({"batches": {"heldout": HELDOUT}} | options))
    assert not (tmp_path / "run").exists()


def test_a_table_has_no_room_for_them(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    with folder.lock(), pytest.raises(TypeError, match="out is a Table, and batches or pairs are given"):
        sr.Tracker(make_model(), schedule=1, out=folder.measurements, batches={"heldout": HELDOUT})
