"""A text of one's own: files or folders of .txt, .jsonl and .parquet, as tokens of a learned or a given tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spectral_reach.studies.config import check_whole_number
from spectral_reach.studies.data.byte_bpe import SMALLEST_VOCABULARY, learn_byte_bpe
from spectral_reach.studies.data.cache import cached_files
from spectral_reach.studies.data.document_tokenizer import (
    DocumentTokenizer,
    load_tokenizer,
    local_vocabulary,
    resolved_tokenizer,
    with_end,
)
from spectral_reach.studies.data.documents import DocumentFiles, find_documents
from spectral_reach.studies.data.file_hashes import file_hash
from spectral_reach.studies.data.options import absolute_path, check_at_least_one, check_text, existing_path
from spectral_reach.studies.data.outline import Outline
from spectral_reach.studies.data.registry import register
from spectral_reach.studies.data.split import HELDOUT_ONE_IN
from spectral_reach.studies.data.token_streams import open_streams, write_facts, write_streams
from spectral_reach.studies.data.tokens import TokenData, digest

END_OF_TEXT = "<|endoftext|>"
"""The token after every document, of a learned tokenizer."""
VOCABULARY = 4096
"""Tokens that are learned if nothing is said."""
BYTES_A_TOKEN = 3
"""About, for plans that are made before anything is tokenised."""

_LEARN_FROM = 2**28
"""Characters of the training part that a tokenizer is learned on, from the first; more make it no better."""
# Part of the hash: raise it when the split or the tokens of the same files change.
_FORMAT = b"text-1"
_EXPECTED = "a file or folder of documents"


def outline_text(
    *,
    path: str,
    context: int = 128,
    vocabulary: int | None = None,
    tokenizer: str | None = None,
    column: str = "text",
) -> Outline:
    """What the sizes of the files say, at about 3 bytes a token: compressed ones hold more. Nothing is read."""
    learned = _check_options(context=context, vocabulary=vocabulary, tokenizer=tokenizer, column=column)
    found = find_documents(existing_path("path", path, _EXPECTED), column)
    size = sum(file.stat().st_size for file in found.files)
    sequences = size // (BYTES_A_TOKEN * context)
    name = found.root.resolve().name
    return Outline(
        name="text",
        label=f"Text ({name})",
        description=f"not loaded: {size:,} bytes in {len(found.files)} files of {name}, at about {BYTES_A_TOKEN} bytes "
        f"a token, about one document in {HELDOUT_ONE_IN} held out",
        dimensions={"vocabulary": local_vocabulary(tokenizer) if tokenizer else learned, "context": context},
        train_units=sequences - sequences // HELDOUT_ONE_IN,
        heldout_units=sequences // HELDOUT_ONE_IN,
    )


def resolved_text(options: Mapping[str, Any]) -> dict[str, Any]:
    """The path, and a local tokenizer, by their absolute paths."""
    found = {**options, "path": absolute_path("path", options["path"])}
    if options.get("tokenizer") is not None:
        found["tokenizer"] = resolved_tokenizer(options["tokenizer"])
    return found


@register("text", outline=outline_text, resolved=resolved_text)
def load_text(
    *,
    path: str,
    context: int = 128,
    vocabulary: int | None = None,
    tokenizer: str | None = None,
    column: str = "text",
) -> TokenData:
    """The documents of a file, or of all files below a folder, split by a hash of their text (about 5% held out).

    A document is a row of a .jsonl or .parquet file, or a .txt file where there are 100 or more; fewer are cut into
    pieces of some 2,000 characters at empty lines, of which neighbours in the same part are joined. They are tokenised
    once, as they are read, into a memory-mapped cache.

    Args:
        path: a .txt (UTF-8), .jsonl or .parquet file, or a folder, searched recursively.
        context: T, the tokens of a sequence; sequences are consecutive windows and may span documents.
        vocabulary: tokens of the byte-level BPE that is learned on the training part, by default 4,096; not with
            ``tokenizer``.
        tokenizer: instead of a learned one: a JSON file of the ``tokenizers`` library, or a folder or name on the
            Hugging Face hub.
        column: the field of .jsonl and .parquet files that holds the text.

    Raises:
        ValueError: an option out of range; a file that is empty, damaged, cannot be decoded or lacks the column; too
            little text for either part; a tokenizer that cannot be read.
        SettingTypeError: an option of the wrong type.
        RecordError: the cache folder cannot be written.
    """
    learned = _check_options(context=context, vocabulary=vocabulary, tokenizer=tokenizer, column=column)
    found = find_documents(existing_path("path", path, _EXPECTED), column)
    given = None if tokenizer is None else load_tokenizer(tokenizer)
    content_hash = _content_hash(found, given)
    key = f"text-{content_hash[:32]}" + ("" if given else f"-vocabulary{learned}")
    streams = open_streams(cached_files(key, lambda folder: _tokenise(folder, found, given, learned)))
    documents = streams.facts["documents_train"] + streams.facts["documents_heldout"]
    name = found.root.resolve().name
    means = f"the tokenizer {Path(tokenizer).name}" if tokenizer else "BPE"
    return TokenData(
        name="text",
        label=f"Text ({name})",
        description=f"{documents:,} documents of {name}, {means} of {streams.vocabulary:,} tokens, "
        f"about one document in {HELDOUT_ONE_IN} held out",
        content_hash=content_hash,
        facts={"files": len(found.files), "files_left_out": found.left_out, **streams.facts},
        **streams.sequences(context),
    )


def _check_options(*, context: int, vocabulary: int | None, tokenizer: str | None, column: str) -> int:
    """How many tokens to learn; without meaning where a tokenizer is given."""
    check_at_least_one("context", context, "token")
    check_text("column", column)
    if tokenizer is not None:
        check_text("tokenizer", tokenizer)
        if vocabulary is not None:
            raise ValueError(
                f"vocabulary is {vocabulary} with the tokenizer {tokenizer!r}, which has its own; expected one of the "
                "two. Leave the other out."
            )
    learned = VOCABULARY if vocabulary is None else vocabulary
    check_whole_number("vocabulary", learned)
    if learned < SMALLEST_VOCABULARY:
        raise ValueError(
            f"vocabulary is {learned}; expected at least {SMALLEST_VOCABULARY}, every byte and the end of a text."
        )
    return learned


def _content_hash(found: DocumentFiles, given: DocumentTokenizer | None) -> str:
    parts = [_FORMAT, found.column.encode(), b"" if given is None else given.sha256.encode()]
    for file in found.files:
        parts += [file.suffix.encode(), file_hash(file).encode()]
    return digest(*parts)


def _tokenise(folder: Path, found: DocumentFiles, given: DocumentTokenizer | None, learned: int) -> None:
    tokenizer = given or with_end(learn_byte_bpe(_to_learn_from(found), learned, END_OF_TEXT), END_OF_TEXT)
    tally: Counter[str] = Counter()
    write_streams(folder, tokenizer.encoded(found.documents(tally)), tokenizer.vocabulary)
    (folder / "tokenizer.json").write_text(tokenizer.tokenizer.to_str(), encoding="utf-8")
    facts = {f"documents_{name}": tally[name] for name in ("train", "heldout", "empty")}
    write_facts(folder, {**facts, "end_of_document": tokenizer.end})


def _to_learn_from(found: DocumentFiles) -> Iterator[str]:
    characters = 0
    for part, text in found.documents(Counter()):
        if part == "train":
            yield text
            characters += len(text)
            if characters >= _LEARN_FROM:
                return
