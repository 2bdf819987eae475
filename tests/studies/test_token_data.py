"""Token sequences: what they must be, their unigram entropy, and the digits as pixels."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from spectral_reach.studies import data
from spectral_reach.studies.data import registry
from spectral_reach.studies.data.digits import BEGIN
from spectral_reach.studies.data.token_streams import open_streams, write_facts, write_streams
from spectral_reach.studies.data.tokens import TokenData, digest, unigram_entropy, windows


def tokens(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.uint16)


def make(train: np.ndarray, heldout: np.ndarray, vocabulary: int = 5) -> TokenData:
    return TokenData(
        name="n",
        label="l",
        description="d",
        train=train,
        heldout=heldout,
        vocabulary=vocabulary,
        content_hash="0",
    )


def test_unigram_entropy_is_that_of_a_direct_count() -> None:
    rng = np.random.default_rng(0)
    train, heldout = (rng.integers(0, 9, size=(n, 7)).astype(np.uint16) for n in (40, 30))
    vocabulary = 12  # Three tokens never occur in training: add-one keeps the entropy finite.
    heldout[0, 3] = 11
    counts = Counter(int(t) for row in train for t in row[1:])
    total = sum(counts.values()) + vocabulary
    expected = [-math.log((counts[int(t)] + 1) / total) for row in heldout for t in row[1:]]
    loaded = make(train, heldout, vocabulary)
    # Sums of 180 float64 terms near 2: rounding is below 180 * 2^-52 relative.
    assert loaded.unigram_entropy == pytest.approx(math.fsum(expected) / len(expected), rel=1e-13)


def test_unigram_entropy_of_equal_frequencies_is_log_v() -> None:
    row = np.arange(8, dtype=np.uint16)
    assert unigram_entropy(row, row, 8) == pytest.approx(math.log(8), rel=1e-14)


def test_the_first_token_is_an_input_only() -> None:
    loaded = make(tokens([4, 1, 1], [4, 1, 1]), tokens([4, 1, 1]), vocabulary=5)
    assert loaded.unigram_entropy == pytest.approx(-math.log(5 / 9), rel=1e-14)
    assert loaded.context == 2


@pytest.mark.parametrize(
    ("train", "heldout", "message"),
    [
        (tokens([1, 2]).astype(np.int64), tokens([1, 2]), r"train tokens are int64 .*; expected uint16 or uint32"),
        (tokens([1, 2])[0], tokens([1, 2]), r"train tokens are uint16 of shape \(2,\)"),
        (tokens([1, 2]), np.zeros((0, 2), dtype=np.uint16), r"heldout tokens are uint16 of shape \(0, 2\)"),
        (tokens([1, 2]), tokens([1, 5]), r"heldout holds token 5; expected tokens below the vocabulary 5"),
        (tokens([1, 2]), tokens([1, 2, 3]), r"train sequences have 2 tokens and held-out ones 3"),
    ],
)
def test_sequences_that_are_none_are_refused(train: np.ndarray, heldout: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(train, heldout)


def test_windows_make_every_token_but_the_first_a_target_once() -> None:
    stream = np.arange(23, dtype=np.uint16)
    cut = windows(stream, 5)
    assert cut[:, 1:].reshape(-1).tolist() == list(range(1, 21))
    assert cut[:, 0].tolist() == [0, 5, 10, 15]


def test_a_digest_tells_where_a_part_ends() -> None:
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert digest(b"ab", b"c") == digest(b"ab", b"c")


def test_digits_are_all_the_images_once_row_by_row() -> None:
    from sklearn.datasets import load_digits

    loaded = data.load("digits")
    assert loaded.train.shape == (1500, 65)
    assert loaded.heldout.shape == (297, 65)
    assert loaded.vocabulary == 18
    together = np.concatenate([loaded.train, loaded.heldout])
    assert (together[:, 0] == BEGIN).all()
    assert BEGIN not in together[:, 1:]
    pixels = load_digits().data.astype(int)
    assert sorted(map(tuple, together[:, 1:].tolist())) == sorted(map(tuple, pixels.tolist()))


def test_every_digit_is_held_out_in_proportion() -> None:
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    digit_of = {tuple(image.astype(int)): digit for image, digit in zip(images, digits, strict=True)}
    held_out = Counter(digit_of[tuple(row)] for row in data.load("digits").heldout[:, 1:].tolist())
    for digit, count in Counter(digits.tolist()).items():
        # Evenly spaced places in a list sorted by digit: at most one more or less than the exact share.
        assert abs(held_out[digit] - count * 297 / 1797) <= 1


def test_digits_are_the_same_every_time() -> None:
    first, second = data.load("digits"), data.load("digits")
    assert first.content_hash == second.content_hash
    np.testing.assert_array_equal(first.train, second.train)


def test_an_unknown_option_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'digits' has no option 'size'; its options are shifts"):
        data.load("digits", size=8)


@pytest.mark.parametrize(("vocabulary", "dtype"), [(50, np.uint16), (2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_streams_on_disk_are_the_same_data_without_reading_them(
    tmp_path: Path, vocabulary: int, dtype: type[np.generic]
) -> None:
    rng = np.random.default_rng(0)
    parts = {"train": rng.integers(0, 50, size=104), "heldout": rng.integers(0, 50, size=61)}
    parts["heldout"][30] = vocabulary - 1
    pieces = [("train", parts["train"][:40]), ("heldout", parts["heldout"]), ("train", parts["train"][40:])]
    write_streams(tmp_path, iter(pieces), vocabulary)
    write_facts(tmp_path, {"documents": 3})
    streams = open_streams({file.name: file for file in tmp_path.iterdir()})
    assert streams.facts == {"documents": 3}
    opened = TokenData(name="n", label="l", description="d", content_hash="0", **streams.sequences(10))
    for part, stream in parts.items():
        tokens = getattr(opened, part)
        assert tokens.dtype == dtype
        np.testing.assert_array_equal(tokens, windows(stream.astype(dtype), 10))
        assert np.shares_memory(tokens, getattr(streams, part).tokens)
        counted = np.bincount(tokens[:, 1:].reshape(-1), minlength=vocabulary)
        np.testing.assert_array_equal(opened.target_counts[part], counted)
    in_memory = make(np.array(opened.train), np.array(opened.heldout), vocabulary)
    # Sums of at most 100 terms: rounding is far below.
    assert opened.unigram_entropy == pytest.approx(in_memory.unigram_entropy, rel=1e-13)
    inputs, targets = opened.batch("heldout", np.array([2, 0]))
    assert inputs[:, 0].tolist() == [parts["heldout"][20], parts["heldout"][0]]
    assert targets[0, -1] == vocabulary - 1


def test_a_token_that_the_vocabulary_lacks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"The tokenizer gives token 7; expected tokens below its vocabulary 7\. Use"):
        write_streams(tmp_path, [("train", np.array([1, 7]))], 7)


@pytest.mark.parametrize("counts", [[0, 1, 2], [0, 3, 0, 0, 0], [0, 3, -1, 0, 0]])
def test_counts_that_are_not_of_these_targets_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"counts of train targets have shape .*; expected \(5,\) and 2\. Count the"):
        TokenData(
            name="n",
            label="l",
            description="d",
            train=tokens([4, 1, 1]),
            heldout=tokens([4, 1, 1]),
            vocabulary=5,
            content_hash="0",
            target_counts={"train": np.array(counts), "heldout": np.array([0, 2, 0, 0, 0])},
        )


def test_a_first_token_out_of_the_vocabulary_is_refused_also_with_counts() -> None:
    counts = np.array([0, 2, 0, 0, 0])
    with pytest.raises(ValueError, match=r"train holds token 5; expected tokens below the vocabulary 5"):
        TokenData(
            name="n",
            label="l",
            description="d",
            train=tokens([5, 1, 1]),
            heldout=tokens([4, 1, 1]),
            vocabulary=5,
            content_hash="0",
            target_counts={"train": counts, "heldout": counts},
        )


def test_a_data_set_is_named_in_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._loaders, "plain", lambda: None)
    assert data.parse_name("digits") == ("digits", {})
    assert data.parse_name("stdlib:512") == ("stdlib", {"vocabulary": "512"})
    with pytest.raises(ValueError, match="Unknown data set 'cats'"):
        data.parse_name("cats:x")
    with pytest.raises(ValueError, match="'plain:x' has something after the colon, but 'plain' has no options"):
        data.parse_name("plain:x")
    with pytest.raises(ValueError, match="'stdlib:' has nothing after the colon; expected stdlib:VOCABULARY"):
        data.parse_name("stdlib:")
