"""Documents into token numbers, each ended by one end token: a learned tokenizer, or one that the user names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spectral_reach.studies.data.dataset import Part
from spectral_reach.studies.data.options import absolute_path
from spectral_reach.studies.data.tokens import Counts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_END_NAMES = ("[EOS]", "<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|endofdocument|>", "<|endoffile|>")
_DOCUMENTS_AT_ONCE = 1024
_CHARACTERS_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DocumentTokenizer:
    """A tokenizer of the ``tokenizers`` library, and what it needs to end a document.

    Attributes:
        tokenizer: without truncation and padding; special tokens that a text spells out are text.
        append: the token to put after a document; None where the tokenizer's own post-processor ends it, or where the
            vocabulary has no end token.
        end: the token after a document, whoever puts it there; None where there is none.
    """

    tokenizer: Tokenizer
    append: int | None
    end: str | None

    @property
    def vocabulary(self) -> int:
        """One more than the largest token number."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def sha256(self) -> str:
        """Of everything that determines the tokens."""
        return hashlib.sha256(f"{self.tokenizer.to_str()}{self.append}".encode()).hexdigest()

    def encoded(self, documents: Iterable[tuple[Part, str]]) -> Iterator[tuple[Part, Counts]]:
        """Token numbers, (n) int64, of the documents of each part in their order, many at a time."""
        for many in _batches(documents):
            encodings = self.tokenizer.encode_batch_fast([text for _, text in many])
            numbers = [[*e.ids, self.append] if self.append is not None else e.ids for e in encodings]
            parts = [part for part, _ in many]
            for part, group in groupby(zip(parts, numbers, strict=True), key=lambda pair: pair[0]):
                yield part, np.concatenate([np.array(ids, dtype=np.int64) for _, ids in group])


def with_end(tokenizer: Tokenizer, end: str | None) -> DocumentTokenizer:
    """Find out whether the tokenizer ends a text itself, and else append ``end``.

    ``end`` is the name of a token; None means the first of the usual names that the vocabulary has.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    with_special, without = (tokenizer.encode("a", add_special_tokens=added) for added in (True, False))
    last = with_special.tokens[-1:]
    if with_special.ids[-1:] != without.ids[-1:] and with_special.special_tokens_mask[-1:] == [1]:
        return DocumentTokenizer(tokenizer=tokenizer, append=None, end=last[0])
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    name = end if end is not None else next((usual for usual in _END_NAMES if usual in vocabulary), None)
    return DocumentTokenizer(tokenizer=tokenizer, append=None if name is None else vocabulary[name], end=name)


def resolved_tokenizer(name: str) -> str:
    """A local file or folder by its absolute path, anything else (a name on the hub) as it is.

    Raises:
        SettingTypeError: ``name`` is no string.
        ValueError: it is empty.
    """
    path = absolute_path("tokenizer", name)
    return path if Path(path).exists() else name


def local_vocabulary(name: str) -> int:
    """The vocabulary of a tokenizer in a local file or folder, for plans that ask no network.

    Raises:
        ValueError: it is on the hub; or as ``load_tokenizer``.
    """
    path = Path(name).expanduser()
    if path.exists() or path.suffix == ".json":
        return load_tokenizer(name).vocabulary
    raise ValueError(
        f"tokenizer is {name!r}, neither a file nor a folder; a dry run asks no hub, so it cannot know its vocabulary. "
        "Expected a local tokenizer: give the model's tokenizer.json as a file, or leave the dry run out."
    )


def load_tokenizer(name: str) -> DocumentTokenizer:
    """A tokenizer: a JSON file of the ``tokenizers`` library, or a folder or a name on the Hugging Face hub.

    Folders and names are read by transformers, without running code that comes with them.

    Raises:
        ValueError: the file is damaged, or there is no such folder, file or name (or no network to ask).
    """
    path = Path(name).expanduser()
    if path.is_file():
        return _from_file(path)
    if path.suffix == ".json":
        raise ValueError(f"tokenizer is {name!r}, which does not exist; expected a file. Check the path.")
    return _from_transformers(str(path) if path.is_dir() else name)


def _from_file(path: Path) -> DocumentTokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:  # The library raises nothing more special.
        raise ValueError(
            f"{path} cannot be read as a tokenizer: {error}. Expected a whole JSON file of the tokenizers library (the "
            "tokenizer.json of a model); download it again."
        ) from error
    return with_end(tokenizer, None)


def _from_transformers(name: str) -> DocumentTokenizer:
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # From the network, the hub, a file: each has errors of its own.
        raise ValueError(
            f"tokenizer is {name!r}, which could not be loaded: {first_line(error)} Expected a folder or a name on "
            "the Hugging Face hub. Connect to the network once, check the name, or give the model's tokenizer.json as "
            "a local file."
        ) from error
    backend = getattr(loaded, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(
            f"tokenizer is {name!r}, a {type(loaded).__name__}; expected one that the tokenizers library runs (a fast "
            "one). Convert it to a tokenizer.json."
        )
    return with_end(backend, loaded.eos_token)


def first_line(error: Exception) -> str:
    """The first sentence of an error, for a message that says more."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".") + "."


def _batches(documents: Iterable[tuple[Part, str]]) -> Iterator[list[tuple[Part, str]]]:
    many: list[tuple[Part, str]] = []
    characters = 0
    for document in documents:
        many.append(document)
        characters += len(document[1])
        if len(many) >= _DOCUMENTS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
            yield many
            many, characters = [], 0
    if many:
        yield many
