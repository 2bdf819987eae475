"""Texts and images with classes or numbers to tell."""

import io
import math
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from small_checkpoints import bert_classifier, giving, ids, image_processor, jsonl, llama_classifier, tokenizer, vit
from transformers import BertConfig

from spectral_reach.checkpoints.data.class_labels import ClassLabels
from spectral_reach.checkpoints.data.load import DataOptions, NamedBatch, load_batch
from spectral_reach.checkpoints.kinds import Kind

LANGUAGE = {"id2label": {0: "BAD", 1: "GOOD"}, "label2id": {"BAD": 0, "GOOD": 1}}


def load_texts(path: Path | str, model: Any, processor: Any | None = None, **options: Any) -> NamedBatch:
    return load_batch(
        "films",
        str(path),
        kind=Kind.SEQUENCE_CLASSIFICATION,
        config=model.config,
        processor=giving(tokenizer(ends=True) if processor is None else processor),
        options=DataOptions(**options),
    )


def load_images(spec: Path | str, model: Any, size: int = 8, **options: Any) -> NamedBatch:
    return load_batch(
        "pictures",
        str(spec),
        kind=Kind.IMAGE_CLASSIFICATION,
        config=model.config,
        processor=giving(image_processor(size)),
        options=DataOptions(**options),
    )


# --- labels -----------------------------------------------------------------------------------------------------------


def labels(config: dict[str, Any], *values: object, names: list[str] | None = None) -> list[Any]:
    read = ClassLabels(BertConfig(**config), names)
    return [read(value).tolist() for value in values]


def test_one_class_by_number_or_name() -> None:
    assert labels({"num_labels": 3}, 0, 2, "1", 1.0, "LABEL_2", np.int64(1)) == [0, 2, 1, 1, 2, 1]
    assert labels(LANGUAGE, "BAD", "good", "1", 0) == [0, 1, 1, 0]
    assert ClassLabels(BertConfig(num_labels=3))(2).dtype == torch.int64


def test_numbers_that_stand_for_names_are_looked_up() -> None:
    # The data's 0 is the model's 1.
    assert labels(LANGUAGE, 0, 1, names=["good", "bad"]) == [1, 0]
    # A model without names of its own is taken to count as the data do.
    assert labels({"num_labels": 3}, 0, 1, names=["good", "bad"]) == [0, 1]
    with pytest.raises(ValueError, match=r"the data have 2 classes \(yes, no\) and the model 2 \(bad, good\)"):
        labels(LANGUAGE, 0, names=["yes", "no"])
    with pytest.raises(ValueError, match=r"the data have 3 classes .* and the model 2 \(label_0, label_1\)"):
        labels({"num_labels": 2}, 0, names=["a", "b", "c"])


def test_regression() -> None:
    assert labels({"num_labels": 1}, 2, 0.5, "3.5", [4]) == [[2.0], [0.5], [3.5], [4.0]]
    assert labels({"num_labels": 2, "problem_type": "regression"}, [1, 2]) == [[1.0, 2.0]]
    assert ClassLabels(BertConfig(num_labels=1))(2).dtype == torch.float32


def test_several_classes() -> None:
    assert labels({"num_labels": 3}, [0, 1, 1], [0.2, 0.0, 1.0]) == [[0.0, 1.0, 1.0], [pytest.approx(0.2), 0.0, 1.0]]
    assert labels({"num_labels": 3}, ["LABEL_2", "LABEL_0"]) == [[1.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("config", "value", "message"),
    [
        ({"num_labels": 3}, 3, "the label is 3; the model has 3 classes: expected 0 to 2, or a name of its config"),
        ({"num_labels": 3}, -1, "the label is -1; the model has 3 classes"),
        ({"num_labels": 3}, 0.5, "the label is 0.5"),
        ({"num_labels": 3}, "4 stars", "the label is '4 stars'.*such as label_0, label_1, label_2"),
        ({"num_labels": 3}, {"a": 1}, "the label is {'a': 1}"),
        ({"num_labels": 3}, [0.0, 1.0], "the label has 2 numbers; the model has 3 outputs"),
        ({"num_labels": 3, "problem_type": "single_label_classification"}, [0, 1, 0], "the model tells one class"),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, 1, "the model tells several classes at once"),
        ({"num_labels": 1}, "many", "the label is .'many'.; expected 1 finite numbers"),
        ({"num_labels": 1}, math.nan, "the label is .nan.; expected 1 finite numbers"),
        ({"num_labels": 2}, [0.0, 2.0], "expected 0 to 1 for each"),
        ({"num_labels": 1}, [1, 2], "the label has 2 numbers; the model has 1 outputs"),
        ({"num_labels": 1}, None, "expected 1 finite numbers"),
    ],
)
def test_labels_that_the_model_does_not_have(config: dict[str, Any], value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        labels(config, value)


# --- texts ------------------------------------------------------------------------------------------------------------


def test_texts_with_their_labels(tmp_path: Path) -> None:
    rows = [{"body": "good film", "stars": "GOOD"}, {"body": "a bad film", "stars": "BAD"}]
    path = jsonl(tmp_path / "x.jsonl", rows)
    found = load_texts(f"{path}?text=body&label=stars", bert_classifier(**LANGUAGE))
    batch = found.batch
    order = batch["labels"].argsort()
    assert batch["labels"][order].tolist() == [0, 1]
    assert batch["input_ids"][order].tolist() == [ids("<s> a bad film </s>"), ids("<s> good film </s> <pad>")]
    assert batch["attention_mask"][order].tolist() == [[1] * 5, [1, 1, 1, 1, 0]]
    assert found.description == ("2 texts of up to 5 tokens, 2 labels, from x.jsonl (all there are, 32 were asked for)")


def test_pairs_of_texts(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a cat", "text_pair": "the dog ran", "label": 1}])
    batch = load_texts(path, bert_classifier()).batch
    assert batch["input_ids"].tolist() == [ids("<s> a cat </s> the dog ran </s>")]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    # A model without segments is not given any.
    assert "token_type_ids" not in load_texts(path, llama_classifier()).batch


def test_what_is_cut_keeps_the_token_at_the_end(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": "one two three and the log", "label": 1}])
    found = load_texts(path, bert_classifier(), max_length=5)
    assert found.batch["input_ids"].tolist() == [ids("<s> one two three </s>")]
    assert "1 cut to 5 tokens" in found.description


@pytest.mark.parametrize("cuts", [True, False])
def test_a_tokenizer_is_left_as_it_was(cuts: bool, tmp_path: Path) -> None:
    words = tokenizer(ends=True)
    if cuts:
        words.backend_tokenizer.enable_truncation(4, strategy="only_first")
        words.backend_tokenizer.enable_padding(length=6)
    before = words.backend_tokenizer.to_str()
    path = jsonl(tmp_path / "x.jsonl", [{"text": "one two three and the log", "label": 1}])
    batch = load_texts(path, bert_classifier(), words, max_length=5).batch
    assert batch["input_ids"].tolist() == [ids("<s> one two three </s>")]
    assert words.backend_tokenizer.to_str() == before


def test_a_classifier_finds_the_end_by_the_padding_token_of_its_config(tmp_path: Path) -> None:
    rows = [{"text": "one two three", "label": 1}, {"text": "yes", "label": 0}]
    path = jsonl(tmp_path / "x.jsonl", rows)
    # The tokenizer's own padding token is another one: the classifier would read its label there.
    words = tokenizer()
    words.pad_token = "<unk>"
    model = llama_classifier()
    batch = load_texts(path, model, words).batch
    for unit, mask in enumerate(batch["attention_mask"]):
        alone = model(input_ids=batch["input_ids"][unit : unit + 1, : int(mask.sum())]).logits
        together = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[unit : unit + 1]
        torch.testing.assert_close(alone, together)
    nameless = llama_classifier(pad_token_id=None)
    with pytest.raises(ValueError, match=r"config\.json has no pad_token_id.*--units 1"):
        load_texts(path, nameless, words)
    assert load_texts(path, nameless, words, units=1).batch["labels"].shape == (1,)


def test_csv_has_numbers_as_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\na cat,1\na dog,0\n", encoding="utf-8")
    batch = load_texts(tmp_path / "x.csv", bert_classifier()).batch
    assert sorted(batch["labels"].tolist()) == [0, 1]


def test_classes_of_a_saved_data_set(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["good", "bad"])}
    )
    rows = {"text": ["good film", "bad"], "label": [0, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    batch = load_texts(tmp_path / "saved", bert_classifier(**LANGUAGE)).batch
    found = dict(zip(batch["input_ids"][:, 1].tolist(), batch["labels"].tolist(), strict=True))
    assert found == {ids("good")[0]: 1, ids("bad")[0]: 0}


def test_token_ids_with_a_class(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"input_ids": [3, 9, 4], "labels": 1}])
    batch = load_texts(path, bert_classifier()).batch
    assert (batch["input_ids"].tolist(), batch["labels"].tolist()) == ([[3, 9, 4]], [1])


def test_errors_name_the_batch_and_the_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a", "label": 7}])
    with pytest.raises(ValueError, match=r"^data 'films': line 1: the label is 7"):
        load_texts(path, bert_classifier())


# --- images -----------------------------------------------------------------------------------------------------------


def picture(value: int, mode: str = "RGB", size: tuple[int, int] = (10, 12)) -> Image.Image:
    return Image.new(mode, size, value if mode == "L" else (value,) * len(mode))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for value, name in ((0, "dark"), (255, "light")):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for number, mode in enumerate(["RGB", "L", "RGBA"] if split == "train" else ["L"]):
                picture(value, mode).save(tmp_path / "set" / split / name / f"{number}.png")
    (tmp_path / "set" / "train" / "notes").mkdir()  # a folder without images is no class
    (tmp_path / "set" / "train" / "dark" / "read me.txt").write_text("no image")
    return tmp_path / "set"


def test_a_folder_a_class(folder: Path) -> None:
    found = load_images(f"{folder}?split=train", vit(num_labels=2))
    batch = found.batch
    assert batch["pixel_values"].shape == (6, 3, 8, 8)
    # The processor maps 0 and 255 to -1 and 1; folders are counted in the order of the alphabet.
    assert batch["pixel_values"].flatten(1).mean(1).tolist() == pytest.approx((2 * batch["labels"] - 1).tolist())
    assert found.description == "6 images, 6 labels, from set (train) (all there are, 32 were asked for)"
    assert load_images(f"{folder}?split=test", vit(num_labels=2)).batch["labels"].numel() == 2


def test_a_folder_by_a_path_from_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    found, whole = (
        load_images("set?split=train", vit(num_labels=2)),
        load_images(f"{folder}?split=train", vit(num_labels=2)),
    )
    assert found.digest == whole.digest


def test_folders_by_the_names_of_the_model(folder: Path) -> None:
    model = vit(id2label={0: "Light", 1: "Dark"}, label2id={"Light": 0, "Dark": 1})
    batch = load_images(f"{folder}/train", model).batch
    assert batch["pixel_values"].flatten(1).mean(1).tolist() == pytest.approx((1 - 2 * batch["labels"]).tolist())
    with pytest.raises(ValueError, match=r"the data have 2 classes \(dark, light\) and the model 2 \(cat, dog\)"):
        load_images(f"{folder}/train", vit(id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1}))


def test_images_in_tables(tmp_path: Path) -> None:
    model = vit(num_labels=2)
    picture(255).save(tmp_path / "light.png")
    content = io.BytesIO()
    picture(255).save(content, "png")
    by_path = jsonl(tmp_path / "x.jsonl", [{"image": "light.png", "label": 1}])
    struct = pa.array([{"bytes": content.getvalue(), "path": None}, {"bytes": None, "path": "light.png"}])
    pq.write_table(pa.table({"image": struct, "label": [1, 1]}), tmp_path / "x.parquet")
    pq.write_table(pa.table({"picture": [content.getvalue()], "label": [1]}), tmp_path / "y.parquet")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    saved = datasets.Dataset.from_dict({"image": [str(tmp_path / "light.png")], "label": [1]}, features=features)
    saved.save_to_disk(str(tmp_path / "saved"))
    for spec in (by_path, tmp_path / "x.parquet", f"{tmp_path}/y.parquet?image=picture", tmp_path / "saved"):
        batch = load_images(spec, model).batch
        assert batch["pixel_values"].eq(1).all(), spec
        assert batch["labels"].eq(1).all()


def test_grey_images_for_a_model_of_one_channel(folder: Path) -> None:
    # A processor that knows of channels by the image alone.
    def grey(images: Any, return_tensors: str) -> dict[str, torch.Tensor]:
        assert images.mode == "L"
        return {"pixel_values": torch.tensor(np.asarray(images.resize((8, 8)))[None, None] / np.float32(255))}

    batch = load_batch(
        "pictures",
        f"{folder}/test",
        kind=Kind.IMAGE_CLASSIFICATION,
        config=vit(num_labels=2, num_channels=1).config,
        processor=giving(grey),
        options=DataOptions(),
    ).batch
    assert batch["pixel_values"].shape == (2, 1, 8, 8)
    assert batch["pixel_values"].mean((1, 2, 3)).tolist() == batch["labels"].tolist()


def test_images_that_cannot_be_right(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = vit(num_labels=2)
    with pytest.raises(ValueError, match="has the splits test, train; name one with split="):
        load_images(folder, model)
    with pytest.raises(ValueError, match="has no folder 'dev'; it has test, train"):
        load_images(f"{folder}?split=dev", model)
    with pytest.raises(ValueError, match="makes images of 6 x 6 pixels and the model reads 8 x 8"):
        load_images(folder / "test", model, size=6)
    with pytest.raises(ValueError, match=r"line 1: there is no image .*none\.png; expected a path from"):
        load_images(jsonl(tmp_path / "x.jsonl", [{"image": "none.png", "label": 1}]), model)
    with pytest.raises(ValueError, match="image is a int; expected a path, bytes, or an image"):
        load_images(jsonl(tmp_path / "x.jsonl", [{"image": 3, "label": 1}]), model)
    damaged = folder / "test" / "dark" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"data 'pictures': dark/0\.png: .*0\.png cannot be read .*a whole image"):
        load_images(folder / "test", model)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r'pip install "spectral-reach\[data\]"'):
        load_images(folder / "train", model)
