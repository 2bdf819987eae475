"""Real text that every machine has: the Python sources of the running interpreter's standard library."""

from __future__ import annotations

import io
import os
import sysconfig
import tokenize
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spectral_reach.studies.config import check_whole_number
from spectral_reach.studies.data.byte_bpe import SMALLEST_VOCABULARY, learn_byte_bpe
from spectral_reach.studies.data.cache import cached
from spectral_reach.studies.data.registry import register
from spectral_reach.studies.data.split import part_of
from spectral_reach.studies.data.tokens import TokenData, digest, windows

END_OF_FILE = "<|endoffile|>"
"""The token after every file."""

_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})
_LARGEST_VOCABULARY = 2**16  # tokens are stored as uint16
# Part of the cache key: raise it when the selection, the split or the tokens of the same sources change.
_FORMAT = 2
# Sequences of one file have gradients alike, so that the mean gradient of few files is longer than that of all and
# seems to lie higher in the spectrum: 1.3 to 1.7 times with 26 training files, 1.1 to 1.2 times with 129
# (benchmarks/heldout_control.py).
_HELDOUT_ONE_IN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One file: its path below the library's root with ``/``, its raw bytes, its text or why it has none."""

    path: str
    content: bytes
    text: str | None
    problem: str | None = None

    @property
    def held_out(self) -> bool:
        """About a fifth of the files, chosen by a hash of the path: no file is ever in both parts."""
        return part_of(self.path.encode(), _HELDOUT_ONE_IN) == "heldout"


@register("stdlib")
def load_stdlib(*, vocabulary: int = 384, context: int = 64) -> TokenData:
    """The standard library as byte-level BPE tokens, split by file; the tokenizer sees only training files.

    Args:
        vocabulary: tokens to learn, END_OF_FILE and the 256 bytes among them.
        context: T, the tokens of a sequence; sequences are consecutive windows and may span files.

    Raises:
        ValueError: a vocabulary or context out of range, or an interpreter that ships no sources.
        SettingTypeError: one that is no whole number.
        RecordError: the cache folder cannot be written.
    """
    check_whole_number("vocabulary", vocabulary)
    check_whole_number("context", context)
    if not SMALLEST_VOCABULARY <= vocabulary <= _LARGEST_VOCABULARY:
        raise ValueError(
            f"vocabulary is {vocabulary}; expected {SMALLEST_VOCABULARY} (every byte and the end of a file) "
            f"to {_LARGEST_VOCABULARY}."
        )
    if context < 1:
        raise ValueError(f"context is {context}; expected at least 1 token.")
    sources = read_sources(stdlib_root())
    content_hash = digest(*(part for s in sources for part in (s.path.encode(), s.content)))
    key = f"stdlib-{content_hash[:16]}-vocabulary{vocabulary}-format{_FORMAT}"
    files = cached(key, lambda: _tokenise(sources, vocabulary))
    return TokenData(
        name="stdlib",
        label="Text (Python standard library)",
        description=f"Python sources of the standard library, {len(sources)} files, BPE of {vocabulary} "
        f"tokens, one file in {_HELDOUT_ONE_IN} held out",
        train=windows(_from_npy(files["train.npy"]), context),
        heldout=windows(_from_npy(files["heldout.npy"]), context),
        vocabulary=vocabulary,
        content_hash=content_hash,
        facts={
            "files": len(sources),
            "files_heldout": sum(s.held_out for s in sources),
            "files_undecodable": {s.path: s.problem for s in sources if s.problem is not None},
        },
    )


def stdlib_root() -> Path:
    """Where the running interpreter keeps its library."""
    return Path(sysconfig.get_paths()["stdlib"])


def read_sources(root: Path) -> list[Source]:
    """Every ``.py`` file of the library, sorted by path.

    Left out: installed packages, test folders, and what the build wrote about its own machine
    (``_sysconfigdata*``, ``config-*``), so that equal Python releases give equal text. A file that Python
    itself cannot decode stays in the list, and so in the content hash, with its ``problem``.
    """
    paths = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [s for s in subfolders if s not in _LEFT_OUT and not s.startswith("config-")]
        paths += [Path(folder) / n for n in names if n.endswith(".py") and not n.startswith("_sysconfigdata")]
    if not paths:
        raise ValueError(
            f"{root} holds no Python sources; expected the interpreter's standard library as .py files. "
            "Use an interpreter that ships them (not one with a zipped or compiled library)."
        )
    by_name = sorted((path.relative_to(root).as_posix(), path) for path in paths)
    return [_read(name, path) for name, path in by_name]


def _read(name: str, path: Path) -> Source:
    content = path.read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        with io.TextIOWrapper(io.BytesIO(content), encoding) as lines:
            return Source(path=name, content=content, text=lines.read())
    except (SyntaxError, UnicodeDecodeError) as error:
        return Source(path=name, content=content, text=None, problem=str(error))


def _tokenise(sources: list[Source], vocabulary: int) -> dict[str, bytes]:
    parts = {
        "train": [s.text for s in sources if s.text is not None and not s.held_out],
        "heldout": [s.text for s in sources if s.text is not None and s.held_out],
    }
    for part, texts in parts.items():
        if not texts:
            raise ValueError(
                f"The standard library at {stdlib_root()} has {len(sources)} files, none of them for the "
                f"{part} part; expected an interpreter with its whole library."
            )
    tokenizer = learn_byte_bpe(parts["train"], vocabulary, END_OF_FILE)
    end = tokenizer.token_to_id(END_OF_FILE)
    files = {"tokenizer.json": tokenizer.to_str().encode()}
    for part, texts in parts.items():
        stream = [np.array([*e.ids, end], dtype=np.uint16) for e in tokenizer.encode_batch_fast(texts)]
        files[f"{part}.npy"] = _to_npy(np.concatenate(stream))
    return files


def _to_npy(array: npt.NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _from_npy(content: bytes) -> npt.NDArray[np.uint16]:
    array: npt.NDArray[np.uint16] = np.load(io.BytesIO(content), allow_pickle=False)
    return array
