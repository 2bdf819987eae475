"""Files and folders of every form, and what is said of those that cannot be read."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_checkpoints import giving, ids, jsonl, llama, tokenizer

from spectral_reach.checkpoints.data.load import DataOptions, load_batch
from spectral_reach.checkpoints.data.rows import Rows, open_rows
from spectral_reach.checkpoints.data.spec import Spec
from spectral_reach.checkpoints.kinds import Kind

TEXTS = ["the cat sat", "a dog ran", "one two three\nand the log", 'a "good" film, yes', "<s> Ünï ☃"]


def opened(spec: str | Path) -> Rows:
    return open_rows(Spec.parse(str(spec)))


def texts(rows: Rows, column: str = "text") -> list[str]:
    return [rows.row(index, [column])[column] for index in range(len(rows))]


def write_csv(path: Path) -> Path:
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "n"])
        writer.writeheader()
        writer.writerows({"text": text, "n": n} for n, text in enumerate(TEXTS))
    return path


def write_parquet(path: Path) -> Path:
    table = pa.table({"text": TEXTS, "n": list(range(len(TEXTS)))})
    pq.write_table(table, path, row_group_size=2)
    return path


def write_json(path: Path) -> Path:
    path.write_text(json.dumps([{"text": text, "n": n} for n, text in enumerate(TEXTS)]), encoding="utf-8")
    return path


def write_jsonl(path: Path) -> Path:
    jsonl(path, [{"text": text, "n": n} for n, text in enumerate(TEXTS)])
    path.write_text("\n" + path.read_text("utf-8").replace("\n", "\n\n"), encoding="utf-8")  # empty lines are no rows
    return path


def write_saved(path: Path) -> Path:
    datasets.Dataset.from_dict({"text": TEXTS, "n": list(range(len(TEXTS)))}).save_to_disk(str(path))
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.csv", write_csv),
        ("x.parquet", write_parquet),
        ("x.json", write_json),
        ("x.jsonl", write_jsonl),
        ("X.JSONL", write_jsonl),
        ("saved", write_saved),
    ],
)
def test_rows_of_every_form_are_the_same(name: str, write: Callable[[Path], Path], tmp_path: Path) -> None:
    rows = opened(write(tmp_path / name))
    assert rows.columns == ("text", "n")
    assert texts(rows) == TEXTS
    assert texts(rows)[::-1] == [rows.row(index, ["text"])["text"] for index in reversed(range(len(TEXTS)))]
    assert [int(n) for n in texts(rows, "n")] == list(range(len(TEXTS)))
    assert rows.class_names("n") is None


def test_places_in_a_file_are_those_of_an_editor(tmp_path: Path) -> None:
    assert opened(write_csv(tmp_path / "x.csv")).where(3) == "line 6"  # behind a field of two lines
    assert opened(write_jsonl(tmp_path / "x.jsonl")).where(1) == "line 4"
    assert opened(write_parquet(tmp_path / "x.parquet")).where(2) == "row 3"


def test_documents_of_a_text_are_between_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeff\n\nthe cat\nsat\n \t\n\n\n  a dog\r\n\r\nyes".encode())
    assert texts(opened(path)) == ["the cat\nsat", "  a dog", "yes"]
    assert opened(path).where(1) == "document 2"


def test_long_fields_of_a_csv(tmp_path: Path) -> None:
    import csv

    limit = csv.field_size_limit()
    path = tmp_path / "x.csv"
    path.write_text("text\n" + "a" * 200_000 + "\n", encoding="utf-8")
    assert texts(opened(path)) == ["a" * 200_000]
    assert csv.field_size_limit() == limit


def test_only_the_columns_that_are_asked_for_are_read_of_parquet(tmp_path: Path) -> None:
    rows = opened(write_parquet(tmp_path / "x.parquet"))
    assert rows.row(3, ["n", "missing"]) == {"n": 3}


def test_a_saved_data_set_with_splits_and_classes(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    one = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    two = datasets.Dataset.from_dict({"text": ["c"], "label": [1]}, features=features)
    datasets.DatasetDict({"train": one, "test": two}).save_to_disk(str(tmp_path / "both"))
    datasets.DatasetDict({"train": one}).save_to_disk(str(tmp_path / "single"))
    assert texts(opened(f"{tmp_path}/both?split=test")) == ["c"]
    assert texts(opened(tmp_path / "single")) == ["a", "b"]
    assert opened(tmp_path / "single").class_names("label") == ("no", "yes")
    with pytest.raises(ValueError, match="has the splits train, test; one is needed: name it with split="):
        opened(tmp_path / "both")
    with pytest.raises(ValueError, match="has the splits train, test; one 'dev' is not there"):
        opened(f"{tmp_path}/both?split=dev")
    one.save_to_disk(str(tmp_path / "plain"))
    with pytest.raises(ValueError, match="has no splits; leave out split=test"):
        opened(f"{tmp_path}/plain?split=test")


def test_a_data_set_of_the_hub_by_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    jsonl(tmp_path / "set" / "train.jsonl", [{"text": text} for text in TEXTS])
    jsonl(tmp_path / "set" / "test.jsonl", [{"text": "yes"}])
    assert texts(opened(f"hub:{tmp_path}/set::train")) == TEXTS
    assert texts(opened(f"hub:{tmp_path}/set::train[:2]")) == TEXTS[:2]
    assert texts(opened(f"hub:{tmp_path}/set?split=test")) == ["yes"]
    with pytest.raises(ValueError, match="has the splits train, test; one is needed"):
        opened(f"hub:{tmp_path}/set")
    with pytest.raises(ValueError, match=r"hub:.*set::dev cannot be loaded \(ValueError: .*expected hub:DATASET"):
        opened(f"hub:{tmp_path}/set::dev")
    with pytest.raises(ValueError, match=r"hub:no/such cannot be loaded"):
        opened("hub:no/such")
    with pytest.raises(ValueError, match="names the split 'train' and split='test'"):
        opened("hub:a::train?split=test")


@pytest.mark.parametrize("spec", ["saved", "hub:x"])
def test_datasets_is_missing(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_saved(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r'pip install "spectral-reach\[data\]"'):
        opened(spec)


# --- files that cannot be right ---------------------------------------------------------------------------------------


def cut(path: Path, share: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "none.jsonl", r"there is no .*none\.jsonl; expected a file that ends in \.txt, \.jsonl, \.json"),
        (lambda d: write_jsonl(d / "x.xml"), r"x\.xml ends in '\.xml'; expected a file that ends in"),
        (lambda d: cut(write_jsonl(d / "x.jsonl")), r"line 8 is no JSON \(.*the file may be cut"),
        (lambda d: cut(write_json(d / "x.json")), r"x\.json is no JSON .*the file may be cut"),
        (lambda d: cut(write_parquet(d / "x.parquet")), r"x\.parquet is no Parquet file .*may be cut"),
        (lambda d: cut(write_csv(d / "x.csv"), 0.45), r"x\.csv, line \d is no CSV .*may be cut"),
        (lambda d: d, "is neither saved by datasets nor has it folders with images"),
    ],
)
def test_files_that_are_missing_or_damaged(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        opened(make(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b"", "is empty; expected a row or more"),
        ("x.txt", b" \n\n", "is empty"),
        ("x.csv", b"text,label\n", "is empty"),
        ("x.json", b"[]", "is empty"),
        ("x.txt", b"caf\xe9 \n", r"is no text in UTF-8 .*at byte 3"),
        ("x.jsonl", b'{"text": "caf\xe9"}\n', "line 1 is no JSON"),
        ("x.jsonl", b"[1, 2]\n", "line 1 is a list; expected an object"),
        ("x.json", b'{"text": "a"}', r"holds a dict; expected a list of objects \(an object a line goes in \.jsonl\)"),
        ("x.json", b"[3]", "object 1 is a int; expected an object"),
        ("x.csv", b"text,label\na,1,2\n", "line 2 has 3 fields; expected 2: text, label"),
    ],
)
def test_files_with_nothing_to_read(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path / name)


def test_a_damaged_data_set(tmp_path: Path) -> None:
    for part in write_saved(tmp_path / "saved").glob("*.arrow"):
        cut(part)
    with pytest.raises(ValueError, match="saved cannot be read by datasets"):
        texts(opened(tmp_path / "saved"))


def test_a_row_group_that_is_damaged_inside(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet")
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36  # the first page; the footer is whole
    path.write_bytes(content)
    rows = opened(path)
    with pytest.raises(ValueError, match=r"row 1 cannot be read"):
        rows.row(0, ["text"])


# --- specs and columns ------------------------------------------------------------------------------------------------


def load(spec: str, kind: Kind = Kind.CAUSAL_LM) -> Any:
    return load_batch(
        "b", spec, kind=kind, config=llama().config, processor=giving(tokenizer()), options=DataOptions()
    ).batch


def test_columns_are_named_in_the_spec(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"my body": "the cat", "text": "a dog"}])
    assert load(f"{path}")["input_ids"].tolist() == [ids("a dog")]
    assert load(f"{path}?text=my body")["input_ids"].tolist() == [ids("the cat")]
    assert load(f"{path}?text=my%20body")["input_ids"].tolist() == [ids("the cat")]


def test_a_column_that_is_named_decides_what_a_table_holds(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"input_ids": ids("a dog"), "text": "the cat", "body": "the mat"}])
    assert load(f"{path}")["input_ids"].tolist() == [ids("a dog")]
    assert load(f"{path}?text=text")["input_ids"].tolist() == [ids("the cat")]
    assert load(f"{path}?text=body")["input_ids"].tolist() == [ids("the mat")]


def test_a_path_may_have_a_question_mark(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "what?.jsonl", [{"text": "the cat"}])
    assert load(str(path))["input_ids"].tolist() == [ids("the cat")]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?body=x", r"has an option 'body'; expected some of text, text_pair, label.*split, skip"),
        ("?text", r"ends in '\?text'; expected NAME=VALUE pairs"),
        ("?text=", "has no value for 'text'"),
        ("?text=a&text=b", "names an option twice"),
        ("?skip=-1", "skip='-1'; expected a number of units"),
        ("?text=body", r"data 'b': text=body: the columns of .*x\.jsonl are words, n; name one of these"),
        ("?split=test", r"is one file, which has no split 'test'; leave out split="),
        (
            "",
            r"data 'b': the columns of .*x\.jsonl are words, n; a causal-lm model reads input_ids or "
            r"chosen \+ rejected or prompt \+ completion or messages or text: name the columns that are meant, as in "
            r".*x\.jsonl\?text=COLUMN",
        ),
    ],
)
def test_specs_that_cannot_be_right(query: str, message: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"words": "the cat", "n": 1}])
    with pytest.raises(ValueError, match=message):
        load(f"{path}{query}")


def test_data_for_another_kind_of_model(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"messages": []}])
    with pytest.raises(ValueError, match="a masked-lm model reads input_ids or text"):
        load(f"{path}", Kind.MASKED_LM)
    with pytest.raises(ValueError, match=r"a sequence-classification model reads input_ids \+ labels or text \+ label"):
        load(f"{path}", Kind.SEQUENCE_CLASSIFICATION)
    with pytest.raises(ValueError, match=r"a image-classification model reads image \+ label"):
        load(f"{path}", Kind.IMAGE_CLASSIFICATION)


@pytest.mark.parametrize("rows", [[{"text": "a"}, {"text": None}], [{"text": "a"}, {"body": "b"}], [{"text": 5}]])
def test_rows_without_a_value(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"data 'b': line \d: (it has no value for 'text'|text is a int; expected text)"
    ):
        load(str(jsonl(tmp_path / "x.jsonl", rows)))


def test_an_empty_spec() -> None:
    with pytest.raises(ValueError, match="the data are '\\?text=a'; expected a path"):
        load("?text=a")
