"""The file of results: whole, its own cache, never truncated, and left alone where it is not ours."""

import math
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import spectral_reach as sr
from spectral_reach.checkpoints.results import Results
from spectral_reach.checkpoints.schema import KEY, QUANTITIES, SCHEMA, Key, Label, decomposition_of, rows_of
from spectral_reach.records.errors import RecordError

KEY_A = Key(commit="c1", batch_digest="b1", against_digest=None, settings="s1")
LABEL_A = Label(model="m", revision="step1", step=1, batch="prose", against=None)


def decomposition(seed: int = 0, *, probes: int = 2, against: bool = False, units: int = 4) -> sr.Decomposition:
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2000 if probes == 1 else 4)
    batches = [(torch.randn(units, 3), torch.randint(4, (units,))) for _ in range(2)]
    return sr.decompose(
        model, batches[0], against=batches[1] if against else None, probes=probes, estimator="batch", seed=seed
    )


def rows(label: Label = LABEL_A, key: Key = KEY_A, found: sr.Decomposition | None = None) -> pa.Table:
    return rows_of(found or decomposition(), label, key, loss="cross_entropy", parameters=None, seed=0, dtype="float32")


def same(one: sr.Decomposition, other: sr.Decomposition) -> bool:
    """Equal to the last bit; NaN is as good as NaN."""
    numbers = [
        {name: repr(value) for name, value in each.as_dict().items() if name != "undefined"} for each in (one, other)
    ]
    return numbers[0] == numbers[1] and one.undefined == other.undefined


@pytest.mark.parametrize(
    "found",
    [
        decomposition(),
        decomposition(against=True),
        decomposition(probes=1, units=1),
        sr.Decomposition.undefined_everywhere("it diverged", "auto"),
    ],
    ids=["one-batch", "pair", "one-unit-one-probe", "diverged"],
)
def test_a_decomposition_comes_back_whole(found: sr.Decomposition, tmp_path: Path) -> None:
    results = Results(tmp_path / "r.parquet")
    results.append(rows(found=found))
    read = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["quantity"] for row in read] == list(QUANTITIES)
    assert same(decomposition_of(read), found)
    for row in read:
        assert math.isnan(row["value"]) == (row["undefined"] is not None)
        assert math.isnan(row["stderr"]) == (row["stderr_undefined"] is not None)


def test_the_schema_is_the_documented_one(tmp_path: Path) -> None:
    from spectral_reach.checkpoints import schema

    results = Results(tmp_path / "r.parquet")
    results.append(rows())
    stored = pq.read_schema(tmp_path / "r.parquet")
    assert stored.metadata[KEY] == b"1"
    assert stored.names == SCHEMA.names
    assert schema.__doc__ is not None
    assert [name for name in stored.names if f"``{name}``" not in schema.__doc__] == []


def test_what_is_there_is_found_by_what_it_depends_on(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.parquet")
    results.append(rows())
    again = Results(tmp_path / "r.parquet")
    assert again.find(KEY_A, LABEL_A) is None  # not read yet
    again.read()
    found = again.find(KEY_A, LABEL_A)
    assert found is not None
    assert same(decomposition_of(found.to_pylist()), decomposition())
    for change in ({"commit": "c2"}, {"batch_digest": "b2"}, {"against_digest": "b1"}, {"settings": "s2"}):
        assert again.find(replace(KEY_A, **change), LABEL_A) is None


def test_the_same_under_another_name(tmp_path: Path) -> None:
    results = Results(None)
    results.append(rows())
    other = replace(LABEL_A, revision="main", step=None, batch="text")
    found = results.find(KEY_A, other)
    assert found is not None
    assert not results.has(KEY_A, other)
    named = {name: set(found.column(name).to_pylist()) for name in ("model", "revision", "step", "batch", "against")}
    assert named == {"model": {"m"}, "revision": {"main"}, "step": {None}, "batch": {"text"}, "against": {None}}
    assert found.schema.equals(SCHEMA)
    assert found.column("value").to_pylist()[0] == decomposition().loss


def test_appends_only_add_and_nothing_comes_twice(tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    one, other = Results(file), Results(file)
    one.read()
    other.read()
    second = replace(KEY_A, commit="c2")
    one.append(rows())
    other.append(rows(key=second))  # has not seen the first
    one.append(rows(found=decomposition(seed=1)))  # another value for what is there: the first stays
    read = pq.read_table(file).to_pylist()
    assert [row["commit"] for row in read] == ["c1"] * len(QUANTITIES) + ["c2"] * len(QUANTITIES)
    assert read[0]["value"] == decomposition().loss
    assert one.find(second, LABEL_A) is not None


def test_another_file_in_its_place_is_added_to_as_it_is(tmp_path: Path) -> None:
    file, another = tmp_path / "r.parquet", tmp_path / "another.parquet"
    results = Results(file)
    results.append(rows())
    second, third = replace(KEY_A, commit="c2"), replace(KEY_A, commit="c3")
    Results(another).append(rows(key=second))
    another.replace(file)
    results.append(rows(key=third))
    read = pq.read_table(file)
    assert read.column("commit").to_pylist() == ["c2"] * len(QUANTITIES) + ["c3"] * len(QUANTITIES)
    assert [key in results for key in (KEY_A, second, third)] == [False, True, True]
    found = results.find(third, LABEL_A)
    assert found is not None
    assert set(found.column("commit").to_pylist()) == {"c3"}


def _append_some(file: Path, name: str, count: int) -> None:
    results = Results(file)
    for step in range(count):
        results.append(
            rows(label=replace(LABEL_A, revision=f"{name}{step}"), key=replace(KEY_A, commit=f"{name}{step}"))
        )


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    file, count = tmp_path / "r.parquet", 15
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_some, args=(file, name, count)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    commits = pq.read_table(file).column("commit").to_pylist()
    assert sorted(set(commits)) == sorted(f"{name}{step}" for name in "ab" for step in range(count))
    assert len(commits) == 2 * count * len(QUANTITIES)


def test_what_a_killed_writer_left_is_removed_and_no_other_file(tmp_path: Path) -> None:
    left, other = tmp_path / ".partial-0123456789ab-r.parquet", tmp_path / ".partial-0123456789ab-other.parquet"
    left.write_bytes(b"half")
    other.write_bytes(b"half")
    Results(tmp_path / "r.parquet").append(rows())
    assert not left.exists()
    assert other.exists()


def _another_version(file: Path) -> None:
    pq.write_table(rows().replace_schema_metadata({KEY: b"2"}), file)


def _foreign(file: Path) -> None:
    pq.write_table(pa.table({"step": [1], "loss": [2.0]}), file)


def _damaged(file: Path) -> None:
    Results(file).append(rows())
    file.write_bytes(file.read_bytes()[:-10])


def _other_columns(file: Path) -> None:
    pq.write_table(rows().drop_columns(["seed"]), file)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_another_version, "holds results of version 2; expected version 1"),
        (_foreign, r"is a Parquet file of something else \(columns step, loss, ...\)"),
        (_damaged, "cannot be read: .*It is damaged or no Parquet file"),
        (lambda file: file.write_text("step,loss"), "cannot be read: .*It is damaged or no Parquet file"),
        (_other_columns, "its columns or quantities are other ones"),
        (lambda file: file.mkdir(), "cannot be read"),
    ],
    ids=["version", "foreign", "damaged", "text", "columns", "folder"],
)
def test_a_file_that_is_not_ours_is_left_alone(make, says: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "r.parquet"
    make(file)
    before = file.read_bytes() if file.is_file() else None
    results = Results(file)
    for attempt in (results.read, lambda: results.append(rows())):
        with pytest.raises(RecordError, match=says):
            attempt()
    assert (file.read_bytes() if file.is_file() else None) == before
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".partial")] == []


@pytest.mark.parametrize("name", ["r.csv", "r.json", "r"])
def test_the_format_is_parquet(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a name that ends in \.parquet"):
        Results(name)
