"""Rows of plain Python values as typed Arrow columns: what a value may be, and how columns grow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

# Marks string columns whose values were mappings, so that reading gives mappings again.
_JSON = {b"spectral_reach": b"json"}


def encode(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Typed columns, in order of first appearance; null where a row lacks a column.

    bool, int, float and str become bool, int64, float64 and string; a mapping becomes JSON text; None is null,
    NaN stays NaN. Where a column has both ints and floats, all of it is float64.

    Raises:
        TypeError: a value of another kind, or a column of several kinds.
        ValueError: an integer beyond 64 bits.
    """
    fields: dict[str, pa.Field] = {}
    for row in rows:
        for name, value in row.items():
            field = _field(name, value)
            fields[name] = _widened(fields[name], field) if name in fields else field
    schema = pa.schema(list(fields.values()))
    return pa.Table.from_arrays([_array(rows, field) for field in schema], schema=schema)


def decode(table: pa.Table) -> list[dict[str, Any]]:
    """The rows as plain Python values; mappings are mappings again."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for field in table.schema:
        if _is_json(field):
            for row in rows:
                if row[field.name] is not None:
                    row[field.name] = json.loads(row[field.name])
    return rows


def stacked(above: pa.Table, below: pa.Table) -> pa.Table:
    """The rows of both, with the columns of both.

    Raises:
        TypeError: a column has another kind of values in one than in the other.
        ValueError: integers too large to be exact as float64, where a column of ints gets floats.
    """
    fields = {field.name: field for field in above.schema}
    for field in below.schema:
        fields[field.name] = _widened(fields[field.name], field) if field.name in fields else field
    schema = pa.schema(list(fields.values()))
    return pa.concat_tables([_cast(above, schema), _cast(below, schema)]).combine_chunks()


def _field(name: str, value: Any) -> pa.Field:
    value = _plain(value)
    match value:
        case None:
            return pa.field(name, pa.null())
        case bool():
            return pa.field(name, pa.bool_())
        case int():
            return pa.field(name, pa.int64())
        case float():
            return pa.field(name, pa.float64())
        case str():
            return pa.field(name, pa.string())
        case Mapping():
            return pa.field(name, pa.string(), metadata=_JSON)
    raise TypeError(
        f"column {name!r} got a {type(value).__name__}; expected a number, a string, a mapping or None: "
        "store arrays and tensors as one column per element"
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_json(field: pa.Field) -> bool:
    # A file read back carries metadata of Parquet beside ours.
    return _JSON.items() <= (field.metadata or {}).items()


def _widened(old: pa.Field, new: pa.Field) -> pa.Field:
    if pa.types.is_null(new.type) or (old.type == new.type and _is_json(old) == _is_json(new)):
        return old
    if pa.types.is_null(old.type):
        return new
    if {old.type, new.type} == {pa.int64(), pa.float64()}:
        return pa.field(old.name, pa.float64())
    raise TypeError(
        f"column {old.name!r} got a value of type {_told(new)} where it has {_told(old)}; expected one type of "
        "value in a column: convert it, or use a column of another name"
    )


def _told(field: pa.Field) -> str:
    return "mapping" if _is_json(field) else str(field.type)


def _array(rows: Iterable[Mapping[str, Any]], field: pa.Field) -> pa.Array:
    values = [_plain(row.get(field.name)) for row in rows]
    if _is_json(field):
        values = [None if value is None else _json_text(field.name, value) for value in values]
    try:
        return pa.array(values, type=field.type, from_pandas=False)
    except (OverflowError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"column {field.name!r} got an integer too large to be exact as {field.type}; expected at most "
            "2**63 - 1, or 2**53 in a column that also has floats: convert it to a float"
        ) from error


def _json_text(name: str, value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"column {name!r} got a mapping that is not JSON ({error}); expected JSON values") from error


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    arrays = []
    for field in schema:
        if field.name not in table.column_names:
            arrays.append(pa.nulls(table.num_rows, field.type))
            continue
        try:
            arrays.append(table.column(field.name).cast(field.type))
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"column {field.name!r} has integers too large to be exact as floats, and now got a float; expected "
                "one type of number in a column: convert the values to float from the start"
            ) from error
    return pa.Table.from_arrays(arrays, schema=schema)
