"""Conversations and completions: only what the assistant said, or what completes, is a label."""

from pathlib import Path
from typing import Any

import one_by_one
import pytest
import torch
from small_checkpoints import MARKED_TEMPLATE, PLAIN_TEMPLATE, giving, ids, jsonl, llama, tokenizer
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

import spectral_reach as sr
from spectral_reach.checkpoints.data.chat import assistant_tokens
from spectral_reach.checkpoints.data.load import DataOptions, NamedBatch, load_batch
from spectral_reach.checkpoints.kinds import Kind

USER, ASSISTANT, SYSTEM = ({"role": role} for role in ("user", "assistant", "system"))
CHAT = [
    {"role": "user", "content": "what is it"},
    {"role": "assistant", "content": "a cat"},
    {"role": "user", "content": "yes"},
    {"role": "assistant", "content": "no"},
]
TOKENS = "<|user|> what is it <|end|> <|assistant|> a cat <|end|> <|user|> yes <|end|> <|assistant|> no <|end|>"
SAID = "- - - - - - a cat <|end|> - - - - no <|end|>"


def load(path: Path, processor: Any, **options: Any) -> NamedBatch:
    return load_batch(
        "chats",
        str(path),
        kind=Kind.CAUSAL_LM,
        config=llama().config,
        processor=giving(processor),
        options=DataOptions(**options),
    )


def labels(text: str) -> list[int]:
    return [-100 if word == "-" else ids(word)[0] for word in text.split()]


@pytest.mark.parametrize("template", [PLAIN_TEMPLATE, MARKED_TEMPLATE])
def test_what_the_assistant_said_is_labelled(template: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"messages": CHAT}])
    # A token that the tokenizer puts before other texts: a chat template writes its own.
    found = load(path, tokenizer(template=template, begin=True))
    assert found.batch["input_ids"].tolist() == [ids(TOKENS)]
    assert found.batch["labels"].tolist() == [labels(SAID)]
    assert found.description == (
        "1 conversation of up to 15 tokens, 5 labels, from x.jsonl (all there are, 32 were asked for)"
    )


def test_marks_agree_with_those_of_transformers(tmp_path: Path) -> None:
    # Without the space before the end of a mark, where transformers' own mask runs on to the end of the conversation.
    words = tokenizer(template=MARKED_TEMPLATE.replace(" {% endgeneration %}", "{% endgeneration %} "))
    own = words.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    batch = load(jsonl(tmp_path / "x.jsonl", [{"messages": CHAT}]), words).batch
    assert batch["labels"][0].ne(-100).long().tolist() == own["assistant_masks"]
    assert batch["input_ids"].tolist() == [own["input_ids"]]


def test_labelled_parts_weigh_by_their_tokens(tmp_path: Path) -> None:
    chats = [{"messages": CHAT}, {"messages": CHAT[:2]}, {"messages": CHAT[2:]}]
    batch = load(jsonl(tmp_path / "x.jsonl", chats), tokenizer(template=PLAIN_TEMPLATE)).batch
    model = llama()
    result = sr.decompose(model, batch, estimator="exact")
    samples = []
    for unit in range(3):
        length = int(batch["attention_mask"][unit].sum())
        logits = model(input_ids=batch["input_ids"][unit : unit + 1, :length]).logits[0]
        for place in range(1, length):
            label = int(batch["labels"][unit, place])
            if label != -100:
                samples.append(one_by_one.Sample(unit, logits[place - 1], one_by_one.cross_entropy(label)))
    assert len(samples) == result.n_samples == 5 + 3 + 2
    expected = one_by_one.components(model, samples)
    assert {name: getattr(result, name) for name in expected} == pytest.approx(expected, rel=2e-4)


def test_a_template_that_rewrites_earlier_messages(tmp_path: Path) -> None:
    # As some reasoning models do: what the assistant said before the last question is written in another way.
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|> {% if m['role'] == 'assistant' and not loop.last %}it "
        "{% endif %}{{ m['content'] }} <|end|> {% endfor %}{% if add_generation_prompt %}<|assistant|> {% endif %}"
    )
    words = tokenizer(template=template)
    with pytest.raises(ValueError, match=r"line 1: the chat template writes the first 2 of 4 messages in another way"):
        load(jsonl(tmp_path / "x.jsonl", [{"messages": CHAT}]), words)
    batch = load(jsonl(tmp_path / "x.jsonl", [{"messages": CHAT[:2]}]), words).batch
    assert batch["labels"].tolist() == [labels("- - - - - - a cat <|end|>")]


def test_what_a_conversation_cannot_be(tmp_path: Path) -> None:
    def error(messages: Any, template: str | None = PLAIN_TEMPLATE) -> str:
        with pytest.raises(ValueError, match="data 'chats'") as raised:
            load(jsonl(tmp_path / "x.jsonl", [{"messages": messages}]), tokenizer(template=template))
        return str(raised.value)

    assert "has no chat template; expected that of a chat model" in error(CHAT, None)
    assert "begins with the assistant and the chat template does not mark" in error(CHAT[1:])
    assert "messages is a str; expected a list of messages" in error("hello")
    assert "has an entry 'hello'; expected an object with 'role' and 'content'" in error(["hello"])
    assert "messages is an empty list" in error([])
    assert "none of the 1 rows" in error(CHAT[:1])  # nothing that the assistant said
    refusing = "{{ raise_exception('roles must alternate') }}"
    assert "line 1: the chat template refuses the messages: roles must alternate" in error(CHAT, refusing)


def test_a_tokenizer_of_bytes_with_a_common_template() -> None:
    alphabet = sorted(ByteLevel.alphabet())
    pieces = Tokenizer(BPE({byte: number for number, byte in enumerate(alphabet)}, []))
    pieces.pre_tokenizer = ByteLevel(add_prefix_space=False)
    pieces.decoder = ByteLevelDecoder()
    pieces.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    words = PreTrainedTokenizerFast(tokenizer_object=pieces)
    words.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    said = ["a cat.\n", " there é☃"]
    chat = [
        {"role": "system", "content": "be <|im_end|> good"},
        {"role": "user", "content": "what?"},
        {"role": "assistant", "content": said[0]},
        {"role": "user", "content": said[0]},
        {"role": "assistant", "content": said[1]},
    ]
    tokens, labelled = assistant_tokens(chat, words)
    # Every byte is a token: what is labelled is what was said, with what ends it.
    labels = [token for token, is_said in zip(tokens, labelled, strict=True) if is_said]
    assert words.decode(labels, skip_special_tokens=False) == "".join(f"{text}<|im_end|>\n" for text in said)
    assert len(labels) == sum(len(text.encode()) + 2 for text in said)


def test_keys_without_a_value_are_left_out(tmp_path: Path) -> None:
    # As Parquet files have them where another message has the key.
    messages = [{**message, "tool_calls": None} for message in CHAT]
    template = MARKED_TEMPLATE.replace("{{ m['content'] }}", "{{ 'bad' if 'tool_calls' in m else m['content'] }}")
    batch = load(jsonl(tmp_path / "x.jsonl", [{"messages": messages}]), tokenizer(template=template)).batch
    assert batch["input_ids"].tolist() == [ids(TOKENS)]


# --- completions ------------------------------------------------------------------------------------------------------


def test_only_the_completion_is_labelled(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"prompt": "what is it", "completion": " a cat"}])
    batch = load(path, tokenizer()).batch
    assert batch["input_ids"].tolist() == [ids("what is it a cat")]
    assert batch["labels"].tolist() == [labels("- - - a cat")]
    batch = load(path, tokenizer(ends=True)).batch
    assert batch["input_ids"].tolist() == [ids("<s> what is it a cat </s>")]
    assert batch["labels"].tolist() == [labels("- - - - a cat </s>")]


@pytest.mark.parametrize("template", [PLAIN_TEMPLATE, MARKED_TEMPLATE])
def test_completions_by_the_chat_template(template: str, tmp_path: Path) -> None:
    words = tokenizer(template=template)
    texts = jsonl(tmp_path / "x.jsonl", [{"prompt": "what is it", "completion": "a cat"}])
    batch = load(texts, words, chat_template=True).batch
    assert batch["input_ids"].tolist() == [ids("<|user|> what is it <|end|> <|assistant|> a cat <|end|>")]
    assert batch["labels"].tolist() == [labels("- - - - - - a cat <|end|>")]
    # In messages, what the assistant said in the prompt is no label.
    messages = jsonl(tmp_path / "y.jsonl", [{"prompt": CHAT[:3], "completion": CHAT[3:]}])
    batch = load(messages, words).batch
    assert batch["input_ids"].tolist() == [ids(TOKENS)]
    assert batch["labels"].tolist() == [labels("- " * 13 + "no <|end|>")]


def test_a_token_over_the_border_is_the_completions(tmp_path: Path) -> None:
    letters = {letter: number for number, letter in enumerate(["Ġ", "a", "b", "Ġb", ":"])}
    pieces = Tokenizer(BPE(letters, [("Ġ", "b")]))
    pieces.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    processor = PreTrainedTokenizerFast(tokenizer_object=pieces)
    path = jsonl(tmp_path / "x.jsonl", [{"prompt": "a: ", "completion": "ba"}])
    batch = load(path, processor).batch
    assert batch["input_ids"].tolist() == [[1, 4, 3, 1]]
    assert batch["labels"].tolist() == [[-100, -100, 3, 1]]


def test_completions_that_are_cut_off_have_no_label(tmp_path: Path) -> None:
    rows = [{"prompt": "what is it", "completion": " a cat"}, {"prompt": "what", "completion": " dog ran"}]
    found = load(jsonl(tmp_path / "x.jsonl", rows), tokenizer(), max_length=3)
    assert found.batch["labels"].tolist() == [labels("- dog ran")]
    assert "1 without a label passed over" in found.description


def test_a_prompt_and_a_completion_of_two_forms(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "x.jsonl", [{"prompt": "what", "completion": CHAT[1:2]}])
    with pytest.raises(ValueError, match="prompt is a str and completion a list; expected two texts, or two lists"):
        load(path, tokenizer(template=PLAIN_TEMPLATE))


def test_a_tokenizer_that_cannot_tell_places(tmp_path: Path) -> None:
    class Slow:
        is_fast = False

    path = jsonl(tmp_path / "x.jsonl", [{"prompt": "what", "completion": "is"}])
    with pytest.raises(
        ValueError, match="the tokenizer is a Slow, which does not tell where in the text a token stands"
    ):
        load(path, Slow())


# --- preference pairs ------------------------------------------------------------------------------------------

PAIR = {"prompt": "what is it", "chosen": " a cat", "rejected": " the dog ran"}


def test_pairs_are_chosen_and_rejected_behind_one_prompt(tmp_path: Path) -> None:
    rows = [PAIR, {"prompt": "yes", "chosen": " no", "rejected": " it is"}]
    found = load(jsonl(tmp_path / "x.jsonl", rows), tokenizer())
    batch = found.batch
    order = [0, 1] if batch["input_ids"][0, 0, 0] == ids("what")[0] else [1, 0]
    assert batch["input_ids"][order].tolist() == [
        [ids("what is it a cat <pad>"), ids("what is it the dog ran")],
        [ids("yes no <pad> <pad> <pad> <pad>"), ids("yes it is <pad> <pad> <pad>")],
    ]
    assert batch["labels"][order].tolist() == [
        [labels("- - - a cat -"), labels("- - - the dog ran")],
        [labels("- no - - - -"), labels("- it is - - -")],
    ]
    assert batch["attention_mask"].sum(2)[order].tolist() == [[5, 6], [2, 3]]
    assert found.description.startswith("2 preference pairs of up to 6 tokens, 8 labels, from x.jsonl")


@pytest.mark.parametrize("template", [PLAIN_TEMPLATE, MARKED_TEMPLATE])
def test_what_two_conversations_share_is_the_prompt(template: str, tmp_path: Path) -> None:
    words = tokenizer(template=template)
    rejected = [*CHAT[:3], {"role": "assistant", "content": "good"}]
    whole = load(jsonl(tmp_path / "x.jsonl", [{"chosen": CHAT, "rejected": rejected}]), words).batch
    assert whole["labels"].tolist() == [[labels("- " * 13 + "no <|end|>"), labels("- " * 13 + "good <|end|>")]]
    parts = {"prompt": CHAT[:3], "chosen": CHAT[3:], "rejected": rejected[3:]}
    split = load(jsonl(tmp_path / "y.jsonl", [parts]), words).batch
    assert all(split[name].equal(whole[name]) for name in whole)


def test_what_two_texts_share_is_the_prompt(tmp_path: Path) -> None:
    rows = [{"chosen": "what is it a cat", "rejected": "what is it the cat"}]
    batch = load(jsonl(tmp_path / "x.jsonl", rows), tokenizer()).batch
    assert batch["labels"].tolist() == [[labels("- - - a cat"), labels("- - - the cat")]]


def test_pairs_that_say_nothing_are_passed_over(tmp_path: Path) -> None:
    rows = [PAIR, {"chosen": "the cat", "rejected": "the cat"}, {"prompt": "what", "chosen": "", "rejected": " no"}]
    found = load(jsonl(tmp_path / "x.jsonl", rows), tokenizer())
    assert found.batch["input_ids"].shape == (1, 2, 6)
    assert "2 without a label passed over" in found.description


def test_pairs_by_the_chat_template(tmp_path: Path) -> None:
    pair = {"prompt": "what is it", "chosen": "a cat", "rejected": "no"}
    batch = load(jsonl(tmp_path / "x.jsonl", [pair]), tokenizer(template=PLAIN_TEMPLATE), chat_template=True).batch
    assert batch["labels"][0, 0].equal(torch.tensor(labels("- - - - - - a cat <|end|>")))
