"""Plain text files, decoded strictly and cut into pieces at empty lines, without holding a large file in memory."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

PIECE = 2048
"""Characters of the shortest piece; the longest has four times as many."""

_LONGEST = 4 * PIECE
_BYTES_AT_ONCE = 2**20
# Where a piece may end, best first: after an empty line, after a line, after a blank.
_ENDS = (re.compile(r"\n[ \t\r]*\n\s*"), re.compile(r"\n"), re.compile(r"\s"))


def decoded(file: Path) -> Iterator[str]:
    """The text of a UTF-8 file (with or without a byte order mark) as it comes from the disk.

    Raises:
        ValueError: a byte is no UTF-8; the message says where.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with file.open("rb") as handle:
        read = 0
        while True:
            content = handle.read(_BYTES_AT_ONCE)
            read += len(content)
            try:
                text = decoder.decode(content, final=not content)
            except UnicodeDecodeError as error:
                position = read - len(error.object) + error.start
                raise ValueError(
                    f"{file} is no UTF-8 text: byte 0x{error.object[error.start]:02x} at position {position} "
                    f"({error.reason}). Expected UTF-8; convert the file, or leave it out."
                ) from error
            if text:
                yield text
            if not content:
                return


def pieces(file: Path) -> Iterator[str]:
    """The text in pieces of ``PIECE`` characters or somewhat more, each up to an empty line where there is one.

    Raises:
        ValueError: the file is no UTF-8.
    """
    rest = ""
    for text in decoded(file):
        rest += text
        start = 0
        while len(rest) - start >= _LONGEST:
            end = _end_of_piece(rest, start)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    while len(rest) > 2 * PIECE:
        end = _end_of_piece(rest, 0)
        yield rest[:end]
        rest = rest[end:]
    if rest:
        yield rest


def _end_of_piece(text: str, start: int) -> int:
    """Where the piece of ``text`` from ``start`` ends; it looks no farther than the longest piece."""
    limit = min(start + _LONGEST, len(text))
    for ends in _ENDS:
        if found := ends.search(text, start + PIECE, limit):
            return found.end()
    return limit
