"""Text into batches of language models: which tokens are labels, which units are taken, how they weigh."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import one_by_one
import pytest
import torch
from small_checkpoints import VOCABULARY, bert, giving, ids, jsonl, llama, never, pythia, tokenizer
from transformers import PretrainedConfig

import spectral_reach as sr
from spectral_reach.checkpoints.data.load import DataOptions, NamedBatch, digest_of, load_batch
from spectral_reach.checkpoints.data.random_order import random_order
from spectral_reach.checkpoints.kinds import Kind, kind_of
from spectral_reach.checkpoints.losses import resolve

TEXTS = ["the cat sat on the mat", "a dog ran", "yes", "one two three and the dog slept on a log", "no"]


def load(
    path: Path, model: Any, processor: Any, kind: Kind = Kind.CAUSAL_LM, query: str = "", **options: Any
) -> NamedBatch:
    return load_batch(
        "prose",
        f"{path}{query}",
        kind=kind,
        config=model.config,
        processor=processor if processor is never else giving(processor),
        options=DataOptions(**options),
    )


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "prose.jsonl", [{"text": text} for text in TEXTS])


def rows(batch: Mapping[str, torch.Tensor]) -> list[list[int]]:
    """The tokens of each unit, without padding."""
    return [row[mask.bool()].tolist() for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]


# --- causal ---------------------------------------------------------------------------------------------------------


def test_every_token_is_a_label_and_padding_is_none(prose: Path) -> None:
    found = load(prose, llama(), tokenizer())
    batch = found.batch
    assert sorted(rows(batch)) == sorted(ids(text) for text in TEXTS if len(text.split()) > 1)
    assert batch["labels"].equal(batch["input_ids"].masked_fill(batch["attention_mask"].eq(0), -100))
    assert batch["attention_mask"].diff(dim=1).le(0).all()  # filled up on the right
    assert (
        found.description == "3 sequences of up to 10 tokens, 16 labels, from prose.jsonl "
        "(all there are, 32 were asked for; 2 without a label passed over)"
    )


def test_a_token_for_the_beginning_is_what_the_tokenizer_puts_there(prose: Path) -> None:
    batch = load(prose, llama(), tokenizer(begin=True)).batch
    # With it the single words have a label too.
    assert sorted(rows(batch)) == sorted(ids(f"<s> {text}") for text in TEXTS)


@pytest.mark.parametrize("build", [llama, pythia])
def test_sequences_of_different_lengths_weigh_by_their_labels(build: Any, prose: Path) -> None:
    model = build()
    batch = load(prose, model, tokenizer(begin=True)).batch
    result = sr.decompose(model, batch, estimator="exact")
    samples = []
    for unit, tokens in enumerate(rows(batch)):
        logits = model(input_ids=torch.tensor([tokens])).logits[0]
        samples += [
            one_by_one.Sample(unit, logits[place], one_by_one.cross_entropy(token))
            for place, token in enumerate(tokens[1:])
        ]
    expected = one_by_one.components(model, samples)
    assert result.n_samples == len(samples) == sum(len(tokens) - 1 for tokens in rows(batch))
    assert {name: getattr(result, name) for name in expected} == pytest.approx(expected, rel=2e-4)


def test_a_tokenizer_without_a_padding_token(prose: Path) -> None:
    model = pythia()
    assert model.config.pad_token_id is None
    batch = load(prose, model, tokenizer(pad=False)).batch
    padding = batch["attention_mask"].eq(0)
    assert padding.any()
    assert batch["labels"][padding].eq(-100).all()
    assert batch["input_ids"][padding].eq(4).all()  # the token for the end, which the model has a row for


def test_what_is_longer_than_asked_is_cut_and_told(prose: Path) -> None:
    found = load(prose, llama(), tokenizer(), max_length=4)
    assert sorted(map(len, rows(found.batch))) == [3, 4, 4]
    assert "2 cut to 4 tokens" in found.description


def test_what_is_longer_than_the_model_reads_is_an_error(prose: Path) -> None:
    with pytest.raises(
        ValueError, match=r"data 'prose': line 4: the sequence has 10 tokens.*at most 8.*--max-length 8"
    ):
        load(prose, llama(longest=8), tokenizer())
    with pytest.raises(ValueError, match=r"line 4: the sequence has 10 tokens and the model reads at most 9"):
        load(prose, llama(), tokenizer(longest=9))
    # A tokenizer that says less than the model has positions for does not forbid them.
    assert load(prose, llama(), tokenizer(longest=4), max_length=10).batch["input_ids"].shape[1] == 10
    with pytest.raises(ValueError, match="max_length is 9; the model reads at most 8 tokens"):
        load(prose, llama(longest=8), tokenizer(), max_length=9)


def test_positions_of_a_roberta_begin_behind_its_padding_token(prose: Path) -> None:
    from transformers import RobertaConfig

    class Model:
        config = RobertaConfig(vocab_size=VOCABULARY, max_position_embeddings=11, pad_token_id=1)

    with pytest.raises(ValueError, match="has 10 tokens and the model reads at most 9"):
        load(prose, Model(), tokenizer(), Kind.MASKED_LM)


def test_a_tokenizer_of_another_model(prose: Path) -> None:
    # "a" is token 9 and the highest of the others 16.
    with pytest.raises(
        ValueError, match=rf"from \d+ to \d+ \(the tokenizer has {VOCABULARY} tokens\).*embeddings of 9"
    ):
        load(prose, llama(vocabulary=9), tokenizer())


# --- which units ------------------------------------------------------------------------------------------------------


def test_the_order_is_random_complete_and_for_ever_the_same() -> None:
    assert list(random_order(8, seed=0)) == [6, 0, 4, 2, 1, 3, 7, 5]
    for n in (1, 2, 50):
        assert sorted(random_order(n, seed=3)) == list(range(n))
    first = [next(random_order(5, seed)) for seed in range(2000)]
    for place in range(5):
        # 400 of 2000 expected, with a standard deviation of 18.
        assert abs(first.count(place) - 400) < 90


def test_fewer_units_are_the_first_of_more(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": f"{a} {b}"} for a in TEXTS[3].split() for b in TEXTS[0].split()])
    few, many = (rows(load(path, llama(), tokenizer(), units=units, seed=5).batch) for units in (4, 20))
    assert few == many[:4]
    assert rows(load(path, llama(), tokenizer(), units=4, seed=6).batch) != few
    # The rest of the order, for a second batch that shares nothing with the first.
    assert rows(load(path, llama(), tokenizer(), query="?skip=4", units=16, seed=5).batch) == many[4:]


def test_skipping_all_there_is(prose: Path) -> None:
    with pytest.raises(ValueError, match="3 labelled units and skip=3 leaves out all"):
        load(prose, llama(), tokenizer(), query="?skip=3")


def test_no_label_at_all(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": "yes"}, {"text": ""}])
    with pytest.raises(ValueError, match=r"data 'prose': none of the 2 rows of .*x\.jsonl has a label"):
        load(path, llama(), tokenizer())


def test_digests_tell_batches_apart(prose: Path) -> None:
    whole = load(prose, llama(), tokenizer())
    assert whole.digest == digest_of(whole.batch) == digest_of(dict(reversed(whole.batch.items())))
    assert len(whole.digest) == 64
    changed = {**whole.batch, "labels": whole.batch["labels"].clone()}
    changed["labels"][0, 1] = 5
    others = [
        changed,
        {**whole.batch, "label": whole.batch["labels"]},
        {**whole.batch, "labels": whole.batch["labels"].int()},
        {name: value.reshape(-1) for name, value in whole.batch.items()},
        (whole.batch, whole.batch["labels"]),
        (whole.batch["labels"],),
        whole.batch["labels"],
        torch.tensor(1.0),
        torch.tensor(1.0).bfloat16(),
        torch.zeros(0, 3),
        {"use_cache": False},
        {"use_cache": 0},
        {"use_cache": None},
    ]
    assert len({whole.digest, *map(digest_of, others)}) == len(others) + 1
    with pytest.raises(TypeError, match=r"batch\['x'\] is a object"):
        digest_of({"x": object()})


# --- masked -----------------------------------------------------------------------------------------------------------


def masks(path: Path, **options: Any) -> dict[str, torch.Tensor]:
    return load(path, bert(), tokenizer(ends=True), Kind.MASKED_LM, mask_probability=0.5, **options).batch


def test_masks_are_those_of_transformers_and_the_same_each_time(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": " ".join(["the cat sat on a mat"] * 4)}] * 40)
    batch, labelled = masks(path), masks(path)["labels"].ne(-100)
    assert all(batch[name].equal(masks(path)[name]) for name in batch)
    assert not batch["labels"].equal(masks(path, seed=1)["labels"])
    original = torch.tensor(ids("<s> " + " ".join(["the cat sat on a mat"] * 4) + " </s>")).expand(32, -1)
    # Labels are the tokens that were there; what is no label is as it was; special tokens are never chosen.
    assert batch["labels"][labelled].equal(original[labelled])
    assert batch["input_ids"][~labelled].equal(original[~labelled])
    assert not labelled[:, [0, -1]].any()
    # 384 of 768 expected, with a standard deviation of 14; of these 80% hidden.
    assert abs(labelled.sum().item() - 384) < 70
    hidden = batch["input_ids"][labelled].eq(ids("<mask>")[0]).float().mean().item()
    assert abs(hidden - 0.8) < 0.1
    # Each document has a mask of its own.
    assert len({tuple(row.tolist()) for row in labelled}) > 20


def test_masks_of_a_document_do_not_depend_on_the_others(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": text} for text in [TEXTS[0], TEXTS[3], TEXTS[1]] * 4])
    few, many = masks(path, units=3), masks(path, units=9)
    width = few["labels"].shape[1]
    assert few["labels"].equal(many["labels"][:3, :width])


def test_masked_sequences_weigh_by_their_labels(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": text} for text in [TEXTS[0], TEXTS[3], TEXTS[1]]])
    model, batch = bert(), masks(path)
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    result = sr.decompose(model, batch, estimator="exact")
    samples = []
    for unit, tokens in enumerate(rows(batch)):
        logits = model(input_ids=torch.tensor([tokens])).logits[0]
        for place, label in enumerate(batch["labels"][unit, : len(tokens)].tolist()):
            if label != -100:
                samples.append(one_by_one.Sample(unit, logits[place], one_by_one.cross_entropy(label)))
    expected = one_by_one.components(model, samples)
    assert {name: getattr(result, name) for name in expected} == pytest.approx(expected, rel=2e-4)
    assert (
        resolve("model", kind=Kind.MASKED_LM, network=model, batch=batch, reference=None, beta=1).name
        == "cross_entropy"
    )


def test_a_document_is_cut_before_the_token_that_ends_it(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"text": TEXTS[3]}])
    batch = masks(path, max_length=6)
    assert batch["input_ids"].shape == (1, 6)
    assert batch["input_ids"][0, [0, -1]].tolist() == ids("<s> </s>")


def test_no_mask_token(prose: Path) -> None:
    bare = tokenizer()
    bare.mask_token = None
    with pytest.raises(ValueError, match="has no mask token; expected that of a masked language model"):
        load(prose, bert(), bare, Kind.MASKED_LM)


# --- tokens as they are ----------------------------------------------------------------------------------------


def test_token_ids_are_taken_as_they_are_without_a_tokenizer(tmp_path: Path) -> None:
    given = [
        {"input_ids": [8, 9, 10, 0], "attention_mask": [1, 1, 1, 0]},
        {"input_ids": [11, 12, 13], "labels": [-100, -100, 14], "attention_mask": [1, 1, 1]},
    ]
    path = jsonl(tmp_path / "x.jsonl", given)
    for masks_named in (True, False):
        only = path if masks_named else jsonl(tmp_path / "y.jsonl", given[1:])
        batch = load(only, llama(), never).batch
        by_first = {int(row[0]): place for place, row in enumerate(batch["input_ids"])}
        assert batch["labels"][by_first[11]][:3].tolist() == [-100, -100, 14]
        assert batch["attention_mask"][by_first[11]][:3].tolist() == [1, 1, 1]
    batch = load(jsonl(tmp_path / "z.jsonl", given[:1]), llama(), never).batch
    assert batch["labels"].tolist() == [[8, 9, 10, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0]]


def test_token_ids_for_a_masked_language_model_are_masked(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"input_ids": ids("<s> the cat sat on the mat </s>")}])
    batch = load(path, bert(), tokenizer(), Kind.MASKED_LM, mask_probability=1.0).batch
    assert batch["labels"].tolist() == [[-100, *ids("the cat sat on the mat"), -100]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [1, 99]}, r"line 1: the tokens go from 1 to 99, and the model has embeddings of 30"),
        ({"input_ids": [1, -1]}, "the tokens go from -1 to 1"),
        ({"input_ids": [1, 2], "labels": [1, 99]}, "the tokens go from 1 to 99"),
        ({"input_ids": [1, 2], "labels": [1]}, "labels has 1 entries and input_ids 2"),
        ({"input_ids": "1 2"}, "input_ids is '1 2'; expected a list of integers"),
        ({"input_ids": [1, 2], "labels": [-100, -100]}, "none of the 1 rows .* has a label"),
    ],
)
def test_token_ids_that_cannot_be_right(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load(jsonl(tmp_path / "x.jsonl", [row]), llama(), never)


# --- kinds ------------------------------------------------------------------------------------------------------------


def test_kinds_by_architecture() -> None:
    def config(*names: str) -> PretrainedConfig:
        return PretrainedConfig(architectures=list(names))

    assert kind_of(config("GPT2LMHeadModel")) is kind_of(config("Olmo2ForCausalLM")) is Kind.CAUSAL_LM
    assert kind_of(config("BertForMaskedLM")) is Kind.MASKED_LM
    assert kind_of(config("LlamaForSequenceClassification")) is Kind.SEQUENCE_CLASSIFICATION
    assert kind_of(config("DeiTForImageClassificationWithTeacher")) is Kind.IMAGE_CLASSIFICATION
    assert str(Kind.CAUSAL_LM) == "causal-lm"
    for names in ([], ["BertModel"], ["BertForMaskedLM", "BertForSequenceClassification"]):
        with pytest.raises(ValueError, match=r"architectures \[.*--kind causal-lm\|masked-lm"):
            kind_of(config(*names))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "units is 0; expected 1 or more"),
        ({"seed": -1}, "seed is -1"),
        ({"max_length": 1}, "max_length is 1; expected 2 or more"),
        ({"mask_probability": 0}, "mask_probability is 0; expected more than 0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataOptions(**options)
