"""Documents in files: .txt, .jsonl and .parquet, read as they are asked for."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from spectral_reach.studies.data.dataset import Part
from spectral_reach.studies.data.split import HELDOUT_ONE_IN, part_of
from spectral_reach.studies.data.text_pieces import decoded, pieces

SUFFIXES = (".jsonl", ".parquet", ".txt")
FILES_AS_DOCUMENTS = 100
"""With as many .txt files or more each is a document; fewer are cut into pieces, so that some can be held out."""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentFiles:
    """The files of a folder, or one file, that hold documents.

    Attributes:
        root: what the user named.
        files: sorted by path.
        left_out: how many files of other kinds are beside them.
        column: the field of .jsonl and .parquet files that holds the text.
    """

    root: Path
    files: tuple[Path, ...]
    left_out: int
    column: str

    def documents(self, tally: Counter[str]) -> Iterator[tuple[Part, str]]:
        """Every document with its part, in the order of the files; ``tally`` counts them.

        A row of a .jsonl or .parquet file is a document; without text it is only counted. So is a .txt file, where
        there are many; the pieces of a few are put together again where neighbours are in the same part. The part
        follows from the text alone: copies of a document are never in both parts.

        Raises:
            ValueError: a file is empty, damaged or cannot be decoded; a row has no such column; or a part stays empty.
        """
        whole = sum(file.suffix == ".txt" for file in self.files) >= FILES_AS_DOCUMENTS
        for file in self.files:
            before = sum(tally.values())
            for part, text in self._of_file(file, whole):
                if not text.strip():
                    tally["empty"] += 1
                    continue
                tally[part] += 1
                yield part, text
            if sum(tally.values()) == before:
                raise ValueError(f"{file} is empty; expected documents. Remove it, or fill it.")
        if not (tally["train"] and tally["heldout"]):
            raise ValueError(
                f"{self.root} yields {tally['train']} documents to train on, {tally['heldout']} to hold out and "
                f"{tally['empty']} without text; expected some of the first two. About one in {HELDOUT_ONE_IN} is held "
                "out, by a hash of its text: give more documents."
            )

    def _of_file(self, file: Path, whole: bool) -> Iterator[tuple[Part, str]]:
        if file.suffix == ".txt" and not whole:
            for part, neighbours in groupby(pieces(file), key=lambda piece: part_of(piece.encode())):
                yield part, "".join(neighbours)
            return
        if file.suffix == ".txt":
            texts = iter(["".join(decoded(file))]) if file.stat().st_size else iter(())
        else:
            texts = rows_of(file, self.column)
        for text in texts:
            yield part_of(text.encode()), text


def find_documents(root: Path, column: str) -> DocumentFiles:
    """The file ``root``, or all files below the folder whose suffix is one of ``SUFFIXES``; hidden ones are left out.

    Raises:
        ValueError: there is none.
    """
    kinds = ", ".join(SUFFIXES)
    if root.is_file():
        if root.suffix not in SUFFIXES:
            raise ValueError(
                f"{root} ends in {root.suffix or 'nothing'!r}; expected {kinds}. Rename or convert the file."
            )
        return DocumentFiles(root=root, files=(root,), left_out=0, column=column)
    found, left_out = [], 0
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        of_kind = [name for name in names if Path(name).suffix in SUFFIXES and not name.startswith(".")]
        found += [Path(folder) / name for name in of_kind]
        left_out += len(names) - len(of_kind)
    if not found:
        raise ValueError(
            f"{root} holds no file that ends in {kinds} ({left_out} others); expected at least one. Check the folder."
        )
    files = tuple(sorted(found, key=lambda file: file.relative_to(root).as_posix()))
    return DocumentFiles(root=root, files=files, left_out=left_out, column=column)


def rows_of(file: Path, column: str) -> Iterator[str]:
    """The texts of a .jsonl or .parquet file, row by row; a missing text (null) is an empty one.

    Raises:
        ValueError: the file is damaged, or a row has no such column or no text in it; the message says where.
    """
    return (_jsonl if file.suffix == ".jsonl" else _parquet)(file, column)


def _jsonl(file: Path, column: str) -> Iterator[str]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where} is no JSON: {error}. Expected an object on each line; mend it.") from error
            if not isinstance(row, dict) or column not in row:
                found = ", ".join(row) if isinstance(row, dict) else f"a {type(row).__name__}"
                raise ValueError(f"{where} holds {found or 'nothing'}; {_expected(column)}")
            text = "" if row[column] is None else row[column]
            if not isinstance(text, str):
                raise ValueError(f"{where}: {column} is a {type(text).__name__}; expected text. {_CHOOSE}")
            if not _is_unicode(text):
                raise ValueError(
                    f"{where}: {column} holds half a surrogate pair; expected Unicode text. Mend the line."
                )
            yield text


def _parquet(file: Path, column: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            schema = table.schema_arrow
            if column not in schema.names:
                raise ValueError(f"{file} has the columns {', '.join(schema.names) or 'none'}; {_expected(column)}")
            kind = schema.field(column).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise ValueError(f"{file}: {column} is a column of {kind}; expected text. {_CHOOSE}")
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[column]):
                for text in batch.column(0).to_pylist():
                    yield text or ""
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} is no whole Parquet file: {error}. Expected one; download or write it again."
        ) from error


_CHOOSE = "Choose another column."


def _expected(column: str) -> str:
    return f"expected {column}. Name the column that holds the text."


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
