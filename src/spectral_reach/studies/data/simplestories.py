"""SimpleStories: two million short stories in simple English, and the lowercase WordPiece tokenizer of its models."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from spectral_reach.studies.data.cache import cached_files
from spectral_reach.studies.data.dataset import Part
from spectral_reach.studies.data.document_tokenizer import (
    DocumentTokenizer,
    first_line,
    load_tokenizer,
    local_vocabulary,
    resolved_tokenizer,
)
from spectral_reach.studies.data.documents import rows_of
from spectral_reach.studies.data.file_hashes import file_hash
from spectral_reach.studies.data.options import absolute_path, check_at_least_one, check_text, existing_folder
from spectral_reach.studies.data.outline import Outline
from spectral_reach.studies.data.registry import register
from spectral_reach.studies.data.token_streams import open_streams, write_facts, write_streams
from spectral_reach.studies.data.tokens import TokenData, digest

HUB_NAME = "SimpleStories/SimpleStories"
TOKENIZER = "SimpleStories/SimpleStories-1.25M"
COLUMN = "story"
PUBLISHED_STORIES, PUBLISHED_HELDOUT = 2_115_696, 21_371
PUBLISHED_VOCABULARY = 4096
TOKENS_A_STORY = 250
"""About, for plans that are made before the stories are there."""

_SPLITS: tuple[tuple[str, Part], ...] = (("train", "train"), ("test", "heldout"))
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Part of the hash: raise it when the tokens of the same stories change.
_FORMAT = b"simplestories-1"

Rows = Callable[[str], Iterator[str]]
"""The stories of a split, by its name."""


def outline_simplestories(
    *,
    folder: str | None = None,
    context: int = 512,
    stories: int | None = None,
    tokenizer: str = TOKENIZER,
    revision: str = "main",
) -> Outline:
    """The published data set; how many tokens a story has is about right. Whether a folder is there is not asked."""
    _check_options(context=context, stories=stories, tokenizer=tokenizer, revision=revision)
    if folder is not None:
        check_text("folder", folder)
    count = PUBLISHED_STORIES if stories is None else min(stories, PUBLISHED_STORIES)
    vocabulary = PUBLISHED_VOCABULARY if tokenizer == TOKENIZER else local_vocabulary(tokenizer)
    return Outline(
        name="simplestories",
        label="Text (SimpleStories)",
        dimensions={"vocabulary": vocabulary, "context": context},
        train_units=count * TOKENS_A_STORY // context,
        heldout_units=PUBLISHED_HELDOUT * TOKENS_A_STORY // context,
    )


def resolved_simplestories(options: Mapping[str, Any]) -> dict[str, Any]:
    """Stories from the hub by their commit, a folder and a local tokenizer by their absolute paths."""
    found = dict(options)
    if "tokenizer" in options:
        found["tokenizer"] = resolved_tokenizer(options["tokenizer"])
    if options.get("folder") is not None:
        return {**found, "folder": absolute_path("folder", options["folder"])}
    revision = options.get("revision", "main")
    check_text("revision", revision)
    return {**found, "revision": _commit(revision)}


@register("simplestories", outline=outline_simplestories, resolved=resolved_simplestories)
def load_simplestories(
    *,
    folder: str | None = None,
    context: int = 512,
    stories: int | None = None,
    tokenizer: str = TOKENIZER,
    revision: str = "main",
) -> TokenData:
    """Stories of the split ``train`` to train on and of ``test`` held out, packed into sequences.

    They are tokenised once, as they come from the hub or the folder, into a memory-mapped cache. An end token follows
    each story, put there by the tokenizer itself or, where it does not, by this loader.

    Args:
        folder: a copy of the data set's Parquet files (``train*.parquet`` and ``test*.parquet``, at any depth); by
            default they are streamed from the Hugging Face hub, for which the extra ``data`` is needed.
        context: T, the tokens of a sequence; sequences are consecutive windows and may span stories.
        stories: how many of the training stories to take, from the first; by default all.
        tokenizer: a name on the hub, a folder, or a JSON file of the ``tokenizers`` library.
        revision: branch, tag or commit on the hub. A commit needs no network once the tokens are in the cache, and a
            tokenizer from the hub in that of its own library. Studies write the commit into the folders of their runs.

    Raises:
        ValueError: an option is out of range; the hub cannot be reached; files are missing, damaged or without stories;
            the tokenizer cannot be read.
        SettingTypeError: an option of the wrong type.
        ImportError: the extra is missing.
        RecordError: the cache folder cannot be written.
    """
    _check_options(context=context, stories=stories, tokenizer=tokenizer, revision=revision)
    if folder is None:
        commit = _commit(revision)
        source, facts = [commit.encode()], {"revision": commit}
        rows = _from_hub(commit)
        where = HUB_NAME
    else:
        files = _files(existing_folder("folder", folder, "a folder of the data set's Parquet files"))
        source = [file_hash(file).encode() for split, _ in _SPLITS for file in files[split]]
        facts = {}
        rows = _from_files(files)
        where = folder
    reads = load_tokenizer(tokenizer)
    content_hash = digest(_FORMAT, str(stories).encode(), reads.sha256.encode(), *source)
    key = f"simplestories-{content_hash[:32]}"
    streams = open_streams(cached_files(key, lambda into: _tokenise(into, rows, reads, stories, where)))
    counts = {part: streams.facts[f"documents_{part}"] for _, part in _SPLITS}
    return TokenData(
        name="simplestories",
        label="Text (SimpleStories)",
        description=f"SimpleStories, {counts['train']:,} stories and {counts['heldout']:,} held out (its split test), "
        f"{streams.vocabulary:,} tokens of {Path(tokenizer).name}",
        content_hash=content_hash,
        facts={**facts, **streams.facts},
        **streams.sequences(context),
    )


def _check_options(*, context: int, stories: int | None, tokenizer: str, revision: str) -> None:
    check_at_least_one("context", context, "token")
    if stories is not None:
        check_at_least_one("stories", stories)
    check_text("tokenizer", tokenizer)
    check_text("revision", revision)


def _files(folder: Path) -> dict[str, list[Path]]:
    files = {split: sorted(folder.rglob(f"{split}*.parquet")) for split, _ in _SPLITS}
    if missing := [f"{split}*.parquet" for split, found in files.items() if not found]:
        raise ValueError(
            f"{folder} holds no {' and no '.join(missing)}; expected the Parquet files of {HUB_NAME}, "
            "train-00000-of-….parquet and test-00000-of-….parquet. Download its folder data."
        )
    return files


def _from_files(files: dict[str, list[Path]]) -> Rows:
    return lambda split: (story for file in files[split] for story in rows_of(file, COLUMN))


def _commit(revision: str) -> str:
    """The commit that a branch or tag of the data set on the hub stands for now."""
    if _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(HUB_NAME, revision=revision).sha)
    except Exception as error:  # The hub and the network each have errors of their own.
        raise ValueError(_unreachable(error, revision)) from error


def _from_hub(commit: str) -> Rows:
    def rows(split: str) -> Iterator[str]:
        try:
            from datasets import load_dataset
        except ImportError as missing:
            raise ImportError(
                "Streaming SimpleStories from the hub needs datasets, which is not installed: "
                "pip install 'spectral-reach[data]', or give the option folder."
            ) from missing
        try:
            for row in load_dataset(HUB_NAME, split=split, streaming=True, revision=commit):
                if COLUMN not in row:
                    raise ValueError(f"rows hold {', '.join(row)}, no {COLUMN}")
                yield row[COLUMN] or ""
        except Exception as error:  # The hub, the network, Parquet: each has errors of its own.
            raise ValueError(_unreachable(error, commit)) from error

    return rows


def _unreachable(error: Exception, revision: str) -> str:
    return (
        f"{HUB_NAME} (revision {revision!r}) could not be read from the Hugging Face hub: {first_line(error)} Expected "
        f"its splits train and test with the column {COLUMN}. Connect to the network, or give the option folder: a "
        "local copy of its Parquet files."
    )


def _tokenise(into: Path, rows: Rows, tokenizer: DocumentTokenizer, stories: int | None, where: str) -> None:
    tally: Counter[str] = Counter()

    def documents() -> Iterator[tuple[Part, str]]:
        for split, part in _SPLITS:
            for story in islice(rows(split), stories if part == "train" else None):
                tally[part if story.strip() else "empty"] += 1
                if story.strip():
                    yield part, story
            if not tally[part]:
                raise ValueError(f"{where} has no story in its split {split}; expected some. Download it again.")

    write_streams(into, tokenizer.encoded(documents()), tokenizer.vocabulary)
    (into / "tokenizer.json").write_text(tokenizer.tokenizer.to_str(), encoding="utf-8")
    facts = {f"documents_{name}": tally[name] for name in ("train", "heldout", "empty")}
    write_facts(into, {**facts, "end_of_document": tokenizer.end})
