"""Text of one's own: what is read, how it is split and tokenised, and every way in which files can be wrong."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_texts import document, word_piece, write_parquet
from tokenizers import Tokenizer

from spectral_reach.studies import data
from spectral_reach.studies.data import cache, documents, text, text_pieces
from spectral_reach.studies.data.documents import find_documents, rows_of
from spectral_reach.studies.data.split import part_of
from spectral_reach.studies.data.text_pieces import PIECE, pieces
from spectral_reach.studies.training.run_config import DataConfig

SMALL = {"vocabulary": 280, "context": 16}
DOCUMENTS = [document(number) for number in range(150)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path / "cache"))


def jsonl(file: Path, texts: list[str], column: str = "text") -> Path:
    file.write_text("".join(json.dumps({"id": 1, column: each}) + "\n" for each in texts), "utf-8")
    return file


def cached_folder() -> Path:
    (folder,) = cache.cache_root().glob("text-*")
    return folder


def stream(part: str) -> np.ndarray:
    return np.fromfile(cached_folder() / f"{part}.tokens", dtype=np.uint16)


def decoded(part: str) -> list[str]:
    """The documents that the tokens of a part say."""
    tokenizer = Tokenizer.from_file(str(cached_folder() / "tokenizer.json"))
    return tokenizer.decode(stream(part).tolist(), skip_special_tokens=False).split(text.END_OF_TEXT)[:-1]


def of(part: str, texts: list[str]) -> list[str]:
    return [each for each in texts if part_of(each.encode()) == part]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_are_documents_split_by_their_text(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"some.{kind}"
    texts = [*DOCUMENTS, "", "naïve λ 🦉 <|endoftext|>", DOCUMENTS[3]]
    jsonl(file, texts, "body") if kind == "jsonl" else write_parquet(file, [*texts[:-1], None, texts[-1]], "body")
    loaded = data.load("text", path=str(file), column="body", **SMALL)
    usable = [each for each in texts if each]
    for part in ("train", "heldout"):
        # The text that spells the separator out is split by it here: joined again, nothing is lost or moved.
        assert text.END_OF_TEXT.join(decoded(part)) == text.END_OF_TEXT.join(of(part, usable))
        assert getattr(loaded, part).shape[1] == 17
        np.testing.assert_array_equal(
            getattr(loaded, part)[:, :-1].reshape(-1), stream(part)[: loaded.units(part) * 16]
        )
    assert loaded.vocabulary == 280
    assert loaded.facts["documents_train"] == len(of("train", usable))
    assert loaded.facts["documents_heldout"] == len(of("heldout", usable)) > 2
    assert loaded.facts["documents_empty"] == (1 if kind == "jsonl" else 2)
    assert loaded.facts["end_of_document"] == text.END_OF_TEXT


def test_end_tokens_are_as_many_as_documents(tmp_path: Path) -> None:
    jsonl(tmp_path / "some.jsonl", [*DOCUMENTS, "spelled out: <|endoftext|>"])
    data.load("text", path=str(tmp_path / "some.jsonl"), **SMALL)
    end = Tokenizer.from_file(str(cached_folder() / "tokenizer.json")).token_to_id(text.END_OF_TEXT)
    assert sum((stream(part) == end).sum() for part in ("train", "heldout")) == 151


def test_a_folder_is_searched_and_sorted_and_other_files_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "texts"
    (root / "b").mkdir(parents=True)
    (root / ".hidden").mkdir()
    jsonl(root / "z.jsonl", DOCUMENTS[:60])
    write_parquet(root / "b" / "a.parquet", DOCUMENTS[60:], "text")
    jsonl(root / ".hidden" / "a.jsonl", ["hidden"])
    jsonl(root / ".a.jsonl", ["hidden"])
    (root / "README.md").write_text("left out")
    loaded = data.load("text", path=str(root), **SMALL)
    ordered = [*DOCUMENTS[60:], *DOCUMENTS[:60]]
    for part in ("train", "heldout"):
        assert decoded(part) == of(part, ordered)
    assert (loaded.facts["files"], loaded.facts["files_left_out"]) == (2, 2)
    assert loaded.label == "Text (texts)"


def paragraphs(count: int) -> str:
    return "\n\n".join(f"{document(number)}\n{document(number + 1)}" for number in range(count))


def test_a_text_file_is_cut_at_empty_lines_and_neighbours_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text(paragraphs(600), "utf-8")
    cut = list(pieces(file))
    assert "".join(cut) == paragraphs(600)
    assert all(PIECE <= len(piece) <= 4 * PIECE for piece in cut[:-1])
    assert all(piece.endswith(".\n\n") for piece in cut[:-1])
    data.load("text", path=str(file), **SMALL)
    both = {part: decoded(part) for part in ("train", "heldout")}
    for part, found in both.items():
        assert "".join(found) == "".join(of(part, cut))
    # Runs take turns: joined, they are fewer than the pieces.
    assert abs(len(both["train"]) - len(both["heldout"])) <= 1
    assert len(both["train"]) < len(of("train", cut))


@pytest.mark.parametrize("at_once", [1, 1000, 2**20])
def test_pieces_do_not_depend_on_how_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    file = tmp_path / "book.txt"
    texts = {
        "empty lines": (paragraphs(60) + "é 🦉") * 2,
        "lines": "line of some words λ\n" * 2000,
        "blanks": "word " * 5000,
        "nothing": "x" * 30_000,
        "short": "word",
    }
    ends = {"empty lines": "\n\n", "lines": "\n", "blanks": " ", "nothing": "x", "short": "word"}
    for name, content in texts.items():
        file.write_text(content, "utf-8")
        monkeypatch.setattr(text_pieces, "_BYTES_AT_ONCE", 2**20)
        expected = list(pieces(file))
        monkeypatch.setattr(text_pieces, "_BYTES_AT_ONCE", at_once)
        assert list(pieces(file)) == expected
        assert "".join(expected) == content
        assert all(piece.endswith(ends[name]) and PIECE <= len(piece) <= 4 * PIECE for piece in expected[:-1])


def test_many_text_files_are_documents_each(tmp_path: Path) -> None:
    for number, each in enumerate(DOCUMENTS):
        (tmp_path / f"{number:03}.txt").write_text("\ufeff" + each * 60 if number == 5 else each, "utf-8")
    texts = [each * 60 if number == 5 else each for number, each in enumerate(DOCUMENTS)]
    loaded = data.load("text", path=str(tmp_path), **SMALL)
    assert decoded("train") == of("train", texts)
    assert decoded("heldout") == of("heldout", texts)
    assert loaded.facts["files"] == len(DOCUMENTS) >= documents.FILES_AS_DOCUMENTS


def test_the_tokenizer_never_sees_held_out_documents(tmp_path: Path) -> None:
    held_out = of("heldout", [f"{each} {'zebra ' * 5}" for each in DOCUMENTS])
    trained = of("train", [f"{each} {'horse ' * 5}" for each in DOCUMENTS])
    assert held_out
    jsonl(tmp_path / "some.jsonl", [*held_out, *trained])
    data.load("text", path=str(tmp_path / "some.jsonl"), vocabulary=350, context=16)
    learned = Tokenizer.from_file(str(cached_folder() / "tokenizer.json")).get_vocab()
    assert [token for token in learned if "horse" in token]
    assert not [token for token in learned if "zeb" in token]


def test_a_learned_tokenizer_reads_no_more_than_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jsonl(tmp_path / "some.jsonl", [*DOCUMENTS, *["zebra zebra"] * 50])
    monkeypatch.setattr(text, "_LEARN_FROM", 2000)
    data.load("text", path=str(tmp_path / "some.jsonl"), vocabulary=300, context=16)
    learned = Tokenizer.from_file(str(cached_folder() / "tokenizer.json")).get_vocab()
    assert not [token for token in learned if "zebra" in token]


@pytest.mark.parametrize("ends_itself", [True, False])
def test_a_given_tokenizer_is_used_as_it_is_and_ends_a_document_once(tmp_path: Path, ends_itself: bool) -> None:
    texts = [*DOCUMENTS, "the [EOS] cat"]
    jsonl(tmp_path / "some.jsonl", texts)
    file = word_piece(tmp_path, ends_itself=ends_itself)
    loaded = data.load("text", path=str(tmp_path / "some.jsonl"), tokenizer=str(file), context=16)
    own = Tokenizer.from_file(str(file))
    own.encode_special_tokens = True
    for part in ("train", "heldout"):
        expected = [[*own.encode(each, add_special_tokens=False).ids, 1] for each in of(part, texts)]
        assert stream(part).tolist() == [token for ids in expected for token in ids]
    assert loaded.vocabulary == own.get_vocab_size()
    assert loaded.facts["end_of_document"] == "[EOS]"


def test_a_tokenizer_without_an_end_token_runs_documents_together(tmp_path: Path) -> None:
    jsonl(tmp_path / "some.jsonl", DOCUMENTS)
    file = word_piece(tmp_path, ends_itself=False)
    file.write_text(file.read_text().replace("[EOS]", "[PAD]"))
    loaded = data.load("text", path=str(tmp_path / "some.jsonl"), tokenizer=str(file), context=16)
    assert loaded.facts["end_of_document"] is None
    assert not [part for part in ("train", "heldout") if (stream(part) == 1).any()]


def test_a_tokenizer_that_cuts_and_pads_does_neither_here(tmp_path: Path) -> None:
    jsonl(tmp_path / "some.jsonl", DOCUMENTS)
    file = word_piece(tmp_path)
    plain = data.load("text", path=str(tmp_path / "some.jsonl"), tokenizer=str(file), context=16)
    cutting = Tokenizer.from_file(str(file))
    cutting.enable_truncation(5)
    cutting.enable_padding(length=100)
    cutting.save(str(tmp_path / "cutting.json"))
    cut = data.load("text", path=str(tmp_path / "some.jsonl"), tokenizer=str(tmp_path / "cutting.json"), context=16)
    np.testing.assert_array_equal(plain.train, cut.train)


def test_a_folder_with_a_tokenizer_is_read_by_transformers(tmp_path: Path) -> None:
    jsonl(tmp_path / "some.jsonl", DOCUMENTS)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(word_piece(tmp_path, ends_itself=False).read_text())
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "mat", "unk_token": "[UNK]"}'
    )
    loaded = data.load("text", path=str(tmp_path / "some.jsonl"), tokenizer=str(folder), context=16)
    # The end token that the folder names, not one of the usual names.
    assert loaded.facts["end_of_document"] == "mat"


def test_the_second_time_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = jsonl(tmp_path / "some.jsonl", DOCUMENTS)
    first = data.load("text", path=str(file), **SMALL)
    monkeypatch.setattr(text, "_tokenise", None)
    monkeypatch.setattr("spectral_reach.studies.data.file_hashes.sha256_of_file", None)
    second = data.load("text", path=str(file), **SMALL)
    assert second.content_hash == first.content_hash
    assert second.unigram_entropy == first.unigram_entropy
    assert not second.train.flags.owndata
    np.testing.assert_array_equal(second.train, first.train)


def test_the_content_hash_follows_texts_column_and_tokenizer(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "some.jsonl", DOCUMENTS)
    rows = [{"text": a, "other": a.upper()} for a in DOCUMENTS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = data.load("text", path=str(file), **SMALL).content_hash
    assert data.load("text", path=str(file), vocabulary=290, context=8).content_hash == first
    hashes = {first, data.load("text", path=str(file), column="other", **SMALL).content_hash}
    for ends_itself in (True, False):
        given = str(word_piece(tmp_path, ends_itself=ends_itself))
        hashes.add(data.load("text", path=str(file), tokenizer=given).content_hash)
    jsonl(file, DOCUMENTS[:-1])
    hashes.add(data.load("text", path=str(file), **SMALL).content_hash)
    assert len(hashes) == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"ab\xffcd", r"a\.txt is no UTF-8 text: byte 0xff at position 2 \(.*\)\. Expected UTF-8; convert"),
        ("a.txt", b"x" * (2**20 - 1) + b"\xc3(", r"byte 0xc3 at position 1048575 "),
        ("a.txt", b"ab\xc3", r"byte 0xc3 at position 2 \(unexpected end of data\)"),
        ("a.txt", b"", r"a\.txt is empty; expected documents\. Remove it, or fill it"),
        ("a.jsonl", b"\n\n", r"a\.jsonl is empty; expected documents"),
        ("a.txt", b" \n ", r"yields 0 documents to train on, 0 to hold out and 1 without text; .*give more documents"),
        ("a.txt", b"one", r"yields . documents to train on, . to hold out and 0 without text"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"', r"a\.jsonl, line 2 is no JSON: .*Expected an object on each line"),
        ("a.jsonl", b'{"text": "\xff"}', r"a\.jsonl, line 1 is no JSON: .*can't decode byte 0xff"),
        ("a.jsonl", b"[" * 10**5, r"a\.jsonl, line 1 is no JSON"),
        ("a.jsonl", b'{"a": 1, "b": 2}', r"line 1 holds a, b; expected text\. Name the column that holds the text"),
        ("a.jsonl", b"[1]", r"line 1 holds a list; expected text"),
        ("a.jsonl", b'{"text": 3}', r"line 1: text is a int; expected text\. Choose another column"),
        ("a.jsonl", b'{"text": "\\ud83d"}', r"line 1: text holds half a surrogate pair; expected Unicode"),
        ("a.parquet", b"PAR1", r"a\.parquet is no whole Parquet file: .*download or write it again"),
        ("a.parquet", b"", r"a\.parquet is no whole Parquet file"),
        ("a.csv", b"text", r"a\.csv ends in '\.csv'; expected \.jsonl, \.parquet, \.txt\. Rename or convert"),
        ("a", b"text", "a ends in 'nothing'; expected"),
    ],
)
def test_files_that_hold_no_text_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.load("text", path=str(tmp_path / name), **SMALL)
    assert not [file for folder in cache.cache_root().glob("text-*") for file in folder.glob("*.*[!k]")]


def test_a_cut_parquet_file_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", DOCUMENTS, "text")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a\.parquet is no whole Parquet file: .*Expected one"):
        data.load("text", path=str(tmp_path), **SMALL)
    (tmp_path / "a.parquet").write_bytes(content)
    first = pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(1).dictionary_page_offset
    damaged = content[:first] + bytes(60) + content[first + 60 :]
    (tmp_path / "a.parquet").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"a\.parquet is no whole Parquet file"):
        data.load("text", path=str(tmp_path), **SMALL)


def test_a_parquet_file_without_the_column_lists_what_it_has(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", DOCUMENTS, "story")
    with pytest.raises(ValueError, match=r"a\.parquet has the columns number, story; expected text\. Name the column"):
        list(rows_of(tmp_path / "a.parquet", "text"))
    with pytest.raises(ValueError, match=r"number is a column of int64; expected text\. Choose another column"):
        list(rows_of(tmp_path / "a.parquet", "number"))


def test_a_folder_without_texts_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a")
    with pytest.raises(ValueError, match=r"holds no file that ends in .* \(1 others\); expected at least one"):
        find_documents(tmp_path, "text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": 256}, "vocabulary is 256; expected at least 257, every byte"),
        ({"vocabulary": 10**5}, r"vocabulary is 100000, but .* yields only \d+ tokens; choose at most"),
        ({"vocabulary": "many"}, "vocabulary is 'many', a str; expected a whole number"),
        ({"context": 0}, "context is 0; expected at least 1"),
        ({"vocabulary": 280, "context": 10**6}, "too short for one sequence of 1000000"),
        ({"column": ""}, "column is empty"),
        ({"path": "/nowhere/at/all"}, "path is '/nowhere/at/all', which does not exist; expected a file or folder of"),
        ({"vocabulary": 300, "tokenizer": "x"}, "vocabulary is 300 with the tokenizer 'x', which has its own"),
        ({"tokenizer": "/nowhere/t.json"}, "tokenizer is '/nowhere/t.json', which does not exist; expected a file"),
        (
            {"tokenizer": "nobody/nothing"},
            "tokenizer is 'nobody/nothing', which could not be loaded: .*Expected a folder or a name on the Hugging "
            "Face hub. Connect to the network once, check the name, or give the model's tokenizer.json as a local file",
        ),
    ],
)
def test_impossible_options_are_named(tmp_path: Path, options: dict[str, object], message: str) -> None:
    jsonl(tmp_path / "some.jsonl", DOCUMENTS)
    with pytest.raises(ValueError, match=message):
        data.load("text", **{"path": str(tmp_path), **options})


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"{}", lambda c: b"", lambda c: b"\xff" + c])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, damage: object) -> None:
    jsonl(tmp_path / "some.jsonl", DOCUMENTS)
    file = word_piece(tmp_path)
    assert callable(damage)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=rf"{file.name} cannot be read as a tokenizer: .*Expected a whole JSON file"):
        data.load("text", path=str(tmp_path / "some.jsonl"), tokenizer=str(file))


def test_an_outline_knows_sizes_and_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    # No text: whoever decodes or tokenises it fails.
    (tmp_path / "texts" / "a.txt").write_bytes(b"\xff" * 48_000)
    outlined = data.outline("text", path=str(tmp_path / "texts"), context=50)
    assert outlined.dimensions == {"vocabulary": 4096, "context": 50}
    assert (outlined.units("train"), outlined.units("heldout")) == (304, 16)
    assert outlined.label == "Text (texts)"
    assert "48,000 bytes in 1 files of texts, at about 3 bytes a token" in outlined.description
    assert not cache.cache_root().exists()
    assert data.outline("text", path=str(tmp_path), vocabulary=300).dimensions["vocabulary"] == 300
    file = word_piece(tmp_path)
    given = data.outline("text", path=str(tmp_path / "texts"), tokenizer=str(file))
    assert given.dimensions["vocabulary"] == Tokenizer.from_file(str(file)).get_vocab_size()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": 256}, "vocabulary is 256; expected at least 257, every byte"),
        ({"context": 0}, "context is 0; expected at least 1"),
        ({"column": ""}, "column is empty"),
        ({"path": "/nowhere/at/all"}, "path is '/nowhere/at/all', which does not exist; expected a file or folder of"),
        ({"vocabulary": 300, "tokenizer": "x"}, "vocabulary is 300 with the tokenizer 'x', which has its own"),
        ({"tokenizer": "a/b"}, "tokenizer is 'a/b', neither a file nor a folder; a dry run asks no hub"),
    ],
)
def test_an_outline_refuses_impossible_options_too(tmp_path: Path, options: dict[str, object], message: str) -> None:
    jsonl(tmp_path / "some.jsonl", DOCUMENTS)
    with pytest.raises(ValueError, match=message):
        data.outline("text", **{"path": str(tmp_path), **options})


def test_runs_name_files_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tokenizer = jsonl(tmp_path / "some.jsonl", DOCUMENTS), word_piece(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = DataConfig(name="text", options={"path": file.name, "tokenizer": tokenizer.name, "context": 16})
    resolved = given.resolved()
    assert resolved.options == {"path": str(file), "tokenizer": str(tokenizer), "context": 16}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.resolved("text", {"path": "~/some.jsonl"}) == {"path": str(file)}
    planned = given.load()
    monkeypatch.chdir("/")
    assert resolved.load().content_hash == planned.content_hash
    with pytest.raises(ValueError, match="which does not exist"):
        given.load()
    with pytest.raises(ValueError, match="path is 3, a int; expected text"):
        data.resolved("text", {"path": 3})


def test_the_path_can_follow_the_name() -> None:
    assert data.parse_name("text:/some/where.txt") == ("text", {"path": "/some/where.txt"})
    with pytest.raises(ValueError, match="'text' lacks its option 'path'; give it, for example as text:PATH"):
        data.load("text")
