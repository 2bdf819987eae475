"""Documents and a tokenizer small enough for a blink, in the formats of the real ones."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = "the cat sat on a mat and saw one red bird that sang of rain until two dogs ran far away".split()  # noqa: SIM905


def document(number: int) -> str:
    """Some sentences; every number gives other ones."""
    words = [WORDS[(number * 7 + place * (1 + number % 5)) % len(WORDS)] for place in range(40)]
    return f"Story {number}: {' '.join(words)}."


def word_piece(folder: Path, *, ends_itself: bool = True) -> Path:
    """A lowercase WordPiece tokenizer as the SimpleStories models have one: [UNK] is 0, [EOS] is 1."""
    pieces = ["[UNK]", "[EOS]", *WORDS, "story", ".", ":", *"0123456789", *(f"##{letter}" for letter in "abcdegst")]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[UNK]", "[EOS]"])
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    )
    if ends_itself:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A [EOS]", pair="$A $B [EOS]", special_tokens=[("[EOS]", 1)]
        )
    file = folder / f"word-piece-{ends_itself}.json"
    tokenizer.save(str(file))
    return file


def write_parquet(file: Path, texts: list[str | None], column: str = "story") -> None:
    """One column of texts and one of numbers, in two row groups."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = pa.table({"number": list(range(len(texts))), column: pa.array(texts, type=pa.string())})
    pq.write_table(rows, file, row_group_size=max(1, len(texts) // 2))
