"""The standard library as text: what is in it, how it is split, tokenised and cached."""

from pathlib import Path

import numpy as np
import pytest
from small_library import FILES, paths, write_library
from tokenizers import Tokenizer

from spectral_reach.studies import data
from spectral_reach.studies.data import cache, stdlib
from spectral_reach.studies.data.byte_bpe import learn_byte_bpe
from spectral_reach.studies.data.stdlib import END_OF_FILE, read_sources, stdlib_root


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small library in place of the interpreter's, and an empty cache."""
    root = write_library(tmp_path / "library")
    monkeypatch.setattr(stdlib, "stdlib_root", lambda: root)
    monkeypatch.setenv("SPECTRAL_REACH_CACHE", str(tmp_path / "cache"))
    return root


def streams(name: str) -> np.ndarray:
    (folder,) = [f for f in cache.cache_root().iterdir() if f.is_dir()]
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def tokenizer() -> Tokenizer:
    (folder,) = [f for f in cache.cache_root().iterdir() if f.is_dir()]
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_only_the_sources_of_the_library_are_read_in_a_fixed_order(library: Path) -> None:
    sources = read_sources(library)
    names = [s.path for s in sources]
    assert len(names) == FILES
    assert names == sorted(names)
    assert not [s.path for s in sources if "excluded" in (s.text or "")]


def test_the_real_library_is_there_without_tests_and_packages() -> None:
    sources = read_sources(stdlib_root())
    names = {s.path for s in sources}
    assert {"abc.py", "json/decoder.py", "asyncio/events.py"} <= names
    folders = {part for name in names for part in name.split("/")[:-1]}
    assert not folders & {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    held_out = paths(sources, held_out=True)
    assert 0.15 < len(held_out) / len(names) < 0.25


def test_the_split_is_by_file_and_depends_on_the_path_alone(library: Path) -> None:
    before = read_sources(library)
    assert paths(before, held_out=True)
    assert paths(before, held_out=True).isdisjoint(paths(before, held_out=False))
    (library / "module_0.py").write_text("changed = True\n")
    (library / "another.py").write_text("new = True\n")
    after = read_sources(library)
    assert paths(before, held_out=True) <= paths(after, held_out=True)
    assert paths(before, held_out=False) <= paths(after, held_out=False)


def test_every_token_stream_decodes_to_its_files_and_nothing_else(library: Path) -> None:
    loaded = data.load("stdlib", vocabulary=300, context=16)
    sources = read_sources(library)
    end = tokenizer().token_to_id(END_OF_FILE)
    for name, held_out in (("train", False), ("heldout", True)):
        text = tokenizer().decode(streams(name).tolist(), skip_special_tokens=False)
        assert text == "".join((s.text or "") + END_OF_FILE for s in sources if s.held_out is held_out)
        assert (streams(name) == end).sum() == len(paths(sources, held_out=held_out))
        # Windows overlap by one token: laid end to end they are the stream.
        sequences = getattr(loaded, name)
        assert sequences.shape[1] == 17
        np.testing.assert_array_equal(
            np.append(sequences[:, :-1].reshape(-1), sequences[-1, -1]), streams(name)[: sequences.shape[0] * 16 + 1]
        )
    assert loaded.vocabulary == 300 == tokenizer().get_vocab_size()
    assert loaded.context == 16


def test_any_text_survives_the_tokenizer_also_one_that_spells_the_separator_out() -> None:
    learned = learn_byte_bpe(["def f(x):\n    return x\n" * 50], 270, END_OF_FILE)
    for text in ("naïve λ\t\r\n\x00 🦉", f"a {END_OF_FILE} b", "   \n\n\tdef"):
        ids = learned.encode(text).ids
        assert learned.decode(ids, skip_special_tokens=False) == text
        assert learned.token_to_id(END_OF_FILE) not in ids


def test_the_tokenizer_never_sees_held_out_files(library: Path) -> None:
    held_out = sorted(paths(read_sources(library), held_out=True))[0]
    (library / held_out).write_text("zebra_crossing " * 2000)
    data.load("stdlib", vocabulary=400)
    assert not [token for token in tokenizer().get_vocab() if "zebra" in token]


def test_the_content_hash_follows_paths_and_contents(library: Path) -> None:
    first = data.load("stdlib", vocabulary=300).content_hash
    assert data.load("stdlib", vocabulary=300, context=8).content_hash == first
    (library / "module_2.py").rename(library / "module_2b.py")
    renamed = data.load("stdlib", vocabulary=300).content_hash
    (library / "module_2b.py").write_text("changed = True\n")
    assert len({first, renamed, data.load("stdlib", vocabulary=300).content_hash}) == 3


def test_a_file_that_cannot_be_decoded_is_counted_and_named(library: Path) -> None:
    (library / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1"))
    (library / "broken.py").write_bytes(b"name = '\xff\xfe'\n")
    (library / "unknown.py").write_bytes(b"# -*- coding: klingon -*-\n")
    loaded = data.load("stdlib", vocabulary=300)
    assert set(loaded.facts["files_undecodable"]) == {"broken.py", "unknown.py"}
    assert "klingon" in loaded.facts["files_undecodable"]["unknown.py"]
    assert loaded.facts["files"] == FILES + 3
    by_path = {s.path: s for s in read_sources(library)}
    assert by_path["latin.py"].text == "# -*- coding: latin-1 -*-\nname = 'é'\n"


def test_training_the_tokenizer_is_deterministic(library: Path) -> None:
    texts = [s.text for s in read_sources(library) if s.text is not None]
    assert learn_byte_bpe(texts, 320, "<end>").to_str() == learn_byte_bpe(texts, 320, "<end>").to_str()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": 256}, r"vocabulary is 256; expected 257 .* to 65536"),
        ({"vocabulary": 2**16 + 1}, r"vocabulary is 65537; expected 257"),
        ({"vocabulary": 60_000}, r"yields only \d+ tokens; choose at most \d+"),
        ({"vocabulary": 300, "context": 0}, r"context is 0; expected at least 1"),
        (
            {"vocabulary": 300, "context": 10**6},
            r"too short for one sequence of 1000000 \+ 1; choose a smaller context",
        ),
        ({"contxt": 64}, r"no option 'contxt'; its options are vocabulary, context"),
    ],
)
def test_impossible_options_are_named(library: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.load("stdlib", **options)


def test_an_interpreter_without_sources_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no Python sources; expected .* Use an interpreter that ships them"):
        read_sources(tmp_path)


def test_an_unknown_data_set_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"Unknown data set 'wikitext'; the known ones are cifar5m, digits, .*stdlib"):
        data.load("wikitext")
