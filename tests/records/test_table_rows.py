"""What goes into a table comes out of it: types, nulls, order, and what is refused."""

import errno
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectral_reach.records import atomic
from spectral_reach.records.errors import RecordError
from spectral_reach.records.table import Table


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "rows.parquet")


def reopened(table: Table) -> Table:
    return Table(table.path)


def test_rows_come_back_as_they_went_in(table: Table) -> None:
    rows = [
        {"step": 0, "tokens": 0, "loss": 2.5, "name": "a", "is_late": False, "undefined": {}},
        {"step": 3, "tokens": 96, "loss": 1e-300, "name": "ß", "is_late": True, "undefined": {"x": "no unit"}},
    ]
    for row in rows:
        table.append(row)
    for each in (table, reopened(table)):
        got = each.rows()
        assert got == rows
        assert [[type(v) for v in row.values()] for row in got] == [[type(v) for v in row.values()] for row in rows]
        assert len(each) == 2
        assert each.has(3)
        assert not each.has(1)


def test_types_on_disk_are_those_that_any_reader_knows(table: Table) -> None:
    table.append({"step": 0, "flops": 1.0, "name": "a", "undefined": {"x": "y"}, "known": True, "other": None})
    schema = pq.read_schema(table.path)
    kinds = {field.name: field.type for field in schema}
    assert kinds == {
        "step": pa.int64(),
        "flops": pa.float64(),
        "name": pa.string(),
        "undefined": pa.string(),
        "known": pa.bool_(),
        "other": pa.null(),
    }
    assert pq.read_table(table.path).column("undefined").to_pylist() == ['{"x": "y"}']


def test_nan_stays_nan_and_none_stays_null(table: Table) -> None:
    table.append({"step": 0, "chi_pos": math.nan, "other": 1.0})
    table.append({"step": 1, "chi_pos": None, "other": -math.inf})
    column = pq.read_table(table.path).column("chi_pos")
    assert column.null_count == 1
    first, second = (row["chi_pos"] for row in reopened(table).rows())
    assert math.isnan(first)
    assert second is None
    assert reopened(table).rows()[1]["other"] == -math.inf


def test_floats_keep_every_bit(table: Table) -> None:
    values = [0.1, 5e-324, 1.7976931348623157e308, -0.0, 1 / 3]
    table.append_many({"step": i, "x": value} for i, value in enumerate(values))
    assert [row["x"].hex() for row in reopened(table).rows()] == [value.hex() for value in values]


def test_later_rows_may_bring_new_columns_and_lack_old_ones(table: Table) -> None:
    table.append({"step": 0, "a": 1, "unknown": None})
    table.append({"step": 1, "b": "x", "unknown": 7})
    assert reopened(table).rows() == [
        {"step": 0, "a": 1, "unknown": None, "b": None},
        {"step": 1, "a": None, "unknown": 7, "b": "x"},
    ]


def test_mappings_after_nulls_come_back_as_mappings(table: Table) -> None:
    table.append({"step": 0})
    table.append({"step": 1, "undefined": {"a": "b"}})
    reopened(table).append({"step": 2, "undefined": {}})
    assert [row["undefined"] for row in reopened(table).rows()] == [None, {"a": "b"}, {}]


def test_a_column_of_ints_becomes_floats_with_the_first_float(table: Table) -> None:
    table.append({"step": 0, "rate": 1})
    assert type(table.rows()[0]["rate"]) is int
    table.append({"step": 1, "rate": 0.5})
    table.append({"step": 2, "rate": 2})
    assert [row["rate"] for row in reopened(table).rows()] == [1.0, 0.5, 2.0]
    assert type(reopened(table).rows()[0]["rate"]) is float


def test_numpy_scalars_are_numbers(table: Table) -> None:
    table.append({"step": np.int64(4), "a": np.float32(0.5), "b": np.int32(7), "c": np.bool_(True)})
    assert reopened(table).rows() == [{"step": 4, "a": 0.5, "b": 7, "c": True}]


def test_rows_are_sorted_by_step_whatever_the_order_of_arrival(table: Table) -> None:
    table.append_many({"step": step, "x": -step} for step in (5, 1, 9))
    table.append({"step": 3, "x": -3})
    assert [(row["step"], row["x"]) for row in reopened(table).rows()] == [(1, -1), (3, -3), (5, -5), (9, -9)]


def test_the_same_step_twice_is_refused_and_changes_nothing(table: Table) -> None:
    table.append({"step": 1, "x": 1})
    with pytest.raises(ValueError, match=r"second row with step 1; expected each step once: truncate_from\(1\)"):
        table.append({"step": 1, "x": 2})
    with pytest.raises(ValueError, match="second row with step 2"):
        table.append_many([{"step": 2, "x": 2}, {"step": 2, "x": 3}])
    assert reopened(table).rows() == table.rows() == [{"step": 1, "x": 1}]


def test_truncate_from_drops_that_step_and_all_after_it(table: Table) -> None:
    table.append_many({"step": step, "x": float(step)} for step in range(10))
    table.truncate_from(4)
    assert [row["step"] for row in reopened(table).rows()] == [0, 1, 2, 3]
    table.append({"step": 4, "x": 40.0})
    assert reopened(table).rows()[-1] == {"step": 4, "x": 40.0}
    before = table.path.stat().st_mtime_ns
    table.truncate_from(5)
    assert table.path.stat().st_mtime_ns == before
    table.truncate_from(0)
    assert len(reopened(table)) == 0
    assert reopened(table).rows() == []
    table.append({"step": 0, "x": 1.0})
    assert reopened(table).rows() == [{"step": 0, "x": 1.0}]


def test_a_table_without_a_file_is_empty_and_stays_without(table: Table) -> None:
    assert table.rows() == []
    assert len(table) == 0
    assert table.arrow().num_rows == 0
    table.truncate_from(0)
    table.append_many([])
    assert not table.path.exists()


def test_a_reader_sees_the_newest_rows_of_another_writer(table: Table) -> None:
    reader = reopened(table)
    for step in range(5):
        table.append({"step": step})
        assert len(reader) == step + 1
    # And a writer does not undo what another object wrote before it.
    reader.append({"step": 5})
    table.append({"step": 6})
    assert [row["step"] for row in reader.rows()] == list(range(7))
    table.path.unlink()
    assert reader.rows() == []


def test_another_key(tmp_path: Path) -> None:
    table = Table(tmp_path / "a.parquet", key="layer")
    table.append_many([{"layer": 1}, {"layer": 0}])
    assert table.rows() == [{"layer": 0}, {"layer": 1}]
    with pytest.raises(ValueError, match=r"has the columns \['step'\]; expected 'layer' among them"):
        table.append({"step": 0})


@pytest.mark.parametrize("key", [True, 1.0, "1", None])
def test_a_step_that_is_no_integer_is_refused(table: Table, key: object) -> None:
    with pytest.raises(TypeError, match="expected an integer"):
        table.append({"step": key})


@pytest.mark.parametrize("value", [[1.0], (1,), np.zeros(2), object(), 1j, b"x"], ids=lambda v: type(v).__name__)
def test_a_value_that_is_no_scalar_is_refused_by_column(table: Table, value: object) -> None:
    with pytest.raises(TypeError, match=r"column 'bad' got a \w+; expected a number, a string, a mapping or None"):
        table.append({"step": 0, "bad": value})
    assert not table.path.exists()


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (1.0, "x", "value of type string where it has double"),
        ("x", 1, "value of type int64 where it has string"),
        (True, 1, "value of type int64 where it has bool"),
        ("x", {"a": 1}, "value of type mapping where it has string"),
    ],
)
def test_a_column_has_one_type(table: Table, first: object, second: object, told: str) -> None:
    table.append({"step": 0, "c": first})
    with pytest.raises(TypeError, match=f"column 'c' got a {told}"):
        table.append({"step": 1, "c": second})
    with pytest.raises(TypeError, match=f"column 'd' got a {told}"):
        table.append_many([{"step": 1, "d": first}, {"step": 2, "d": second}])
    assert table.rows() == [{"step": 0, "c": first}]


def test_integers_that_would_lose_digits_are_refused(table: Table) -> None:
    table.append({"step": 0, "big": 2**53 + 1})
    with pytest.raises(ValueError, match="column 'big' has integers too large to be exact as floats"):
        table.append({"step": 1, "big": 0.5})
    with pytest.raises(ValueError, match="column 'huge' got an integer too large to be exact as int64"):
        table.append({"step": 1, "huge": 2**63})
    with pytest.raises(ValueError, match="column 'mixed' got an integer too large to be exact as double"):
        table.append_many([{"step": 1, "mixed": 2**53 + 1}, {"step": 2, "mixed": 0.5}])
    assert reopened(table).rows() == [{"step": 0, "big": 2**53 + 1}]


def test_a_mapping_that_is_no_json_is_refused(table: Table) -> None:
    for bad in ({"a": math.nan}, {"a": object()}):
        with pytest.raises(TypeError, match="column 'undefined' got a mapping that is not JSON"):
            table.append({"step": 0, "undefined": bad})


def test_a_failed_write_loses_nothing_and_can_be_repeated(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.append({"step": 0, "x": 1.0})

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "fsync", full)
        with pytest.raises(RecordError, match=r"rows\.parquet cannot be written: No space left on device"):
            table.append({"step": 1, "x": 2.0})
        assert table.rows() == [{"step": 0, "x": 1.0}]
    table.append({"step": 1, "x": 2.0})
    assert reopened(table).rows() == [{"step": 0, "x": 1.0}, {"step": 1, "x": 2.0}]


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_told(table: Table, part: float) -> None:
    table.append_many({"step": step, "x": step / 7} for step in range(100))
    whole = table.path.read_bytes()
    table.path.write_bytes(whole[: int(part * len(whole))])
    damaged = table.path.read_bytes()
    for use in (lambda t: t.rows(), lambda t: t.append({"step": 100}), lambda t: t.truncate_from(3), len):
        with pytest.raises(RecordError, match=r"rows\.parquet cannot be read: .*restore it from a copy"):
            use(reopened(table))
    assert table.path.read_bytes() == damaged


def test_bytes_changed_in_the_middle_do_not_crash_the_reader(table: Table) -> None:
    table.append_many({"step": step, "x": step / 7} for step in range(1000))
    whole = bytearray(table.path.read_bytes())
    whole[len(whole) // 2 :] = b"\x00" * (len(whole) - len(whole) // 2)
    table.path.write_bytes(bytes(whole))
    with pytest.raises(RecordError, match="cannot be read"):
        reopened(table).rows()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": [1, 2]}, r"has the columns \['epoch'\]; expected 'step' among them"),
        ({"step": ["a", "b"]}, "has a column 'step' of type string; expected strictly increasing int64"),
        ({"step": [1, 1]}, "expected strictly increasing int64"),
        ({"step": [2, 1]}, "expected strictly increasing int64"),
        ({"step": [1, None]}, "expected strictly increasing int64"),
    ],
)
def test_a_foreign_table_is_told_and_left_alone(table: Table, content: dict, told: str) -> None:
    pq.write_table(pa.table(content), table.path)
    before = table.path.read_bytes()
    with pytest.raises(RecordError, match=told):
        table.append({"step": 10})
    assert table.path.read_bytes() == before


def test_a_folder_in_place_of_the_file_is_told(table: Table) -> None:
    table.path.mkdir()
    with pytest.raises(RecordError, match="cannot be read"):
        table.rows()
