"""Images and classes in an .npz file of any size, converted once into files that are memory-mapped."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from spectral_reach.studies.data.cache import cached_files
from spectral_reach.studies.data.file_hashes import file_hash
from spectral_reach.studies.data.image_rows import Images
from spectral_reach.studies.data.images import Labels, channel_histogram

_IMAGES_AT_ONCE = 4096
_AGAIN = "Download the file again."
# Part of the cache key: raise it when the converted files change.
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NpzImages:
    """The images of one file, memory-mapped, their classes, and how often each channel has each value."""

    images: Images
    labels: Labels
    histogram: npt.NDArray[np.int64]
    sha256: str


def open_npz_images(file: Path, shape: tuple[int, int, int], classes: int) -> NpzImages:
    """Arrays ``X`` (n, *shape), uint8, and ``Y`` (n), integers from 0 to ``classes`` - 1, of an .npz file.

    The file is hashed once, and read a second time for the conversion, a few thousand images at a time. Nothing in it
    is unpickled.

    Raises:
        ValueError: the file is missing, cut, damaged, or not of this form; the message names it.
        RecordError: the cache folder cannot be written.
    """
    sha256 = file_hash(file)
    files = cached_files(f"images-{sha256[:32]}-format{_FORMAT}", lambda folder: _convert(file, folder, shape, classes))
    labels = np.load(files["labels.npy"], allow_pickle=False).astype(np.int64)
    images = np.memmap(files["images.u8"], dtype=np.uint8, mode="r", shape=(len(labels), *shape))
    histogram = np.load(files["histogram.npy"], allow_pickle=False)
    return NpzImages(images=images, labels=labels, histogram=histogram, sha256=sha256)


def _convert(file: Path, folder: Path, shape: tuple[int, int, int], classes: int) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            labels = _labels(file, archive, classes)
            histogram = _copy_images(file, archive, folder / "images.u8", (len(labels), *shape))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        # RuntimeError: an encrypted archive, or one compressed in a way that zipfile does not know.
        raise ValueError(
            f"{file} is no whole .npz file: {error}. Expected an archive of the arrays X and Y. {_AGAIN}"
        ) from error
    np.save(folder / "labels.npy", labels.astype(np.uint8), allow_pickle=False)
    np.save(folder / "histogram.npy", histogram, allow_pickle=False)


def _labels(file: Path, archive: zipfile.ZipFile, classes: int) -> npt.NDArray[np.integer]:
    with _member(file, archive, "Y") as member:
        shape, dtype = _header(file, "Y", member)
        if len(shape) != 1 or shape[0] < 1 or dtype.kind not in "iu":
            raise ValueError(
                f"{file}: Y is {dtype} of shape {shape}; expected one whole number for each image, (images,). {_AGAIN}"
            )
        labels: npt.NDArray[np.integer] = np.frombuffer(_read(file, "Y", member, shape[0] * dtype.itemsize), dtype)
        _check_end(file, "Y", member)
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"{file}: Y holds classes {labels.min()} to {labels.max()}; expected 0 to {classes - 1}. {_AGAIN}"
        )
    return labels


def _copy_images(file: Path, archive: zipfile.ZipFile, target: Path, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    histogram = np.zeros((shape[-1], 256), dtype=np.int64)
    with _member(file, archive, "X") as member, target.open("wb") as out:
        found, dtype = _header(file, "X", member)
        if found != shape or dtype != np.uint8:
            expected = f"({shape[0]}, {', '.join(map(str, shape[1:]))})"
            raise ValueError(
                f"{file}: X is {dtype} of shape {found}; expected uint8 of shape {expected}: an image, channels last, "
                f"for each of the {shape[0]} classes in Y. {_AGAIN}"
            )
        for first in range(0, shape[0], _IMAGES_AT_ONCE):
            some = (min(_IMAGES_AT_ONCE, shape[0] - first), *shape[1:])
            content = _read(file, "X", member, int(np.prod(some)))
            out.write(content)
            histogram += channel_histogram(np.frombuffer(content, np.uint8).reshape(some))
        _check_end(file, "X", member)
    return histogram


def _member(file: Path, archive: zipfile.ZipFile, key: str) -> IO[bytes]:
    try:
        return archive.open(f"{key}.npy")
    except KeyError:
        keys = ", ".join(name.removesuffix(".npy") for name in archive.namelist()) or "nothing"
        raise ValueError(f"{file} holds {keys}; expected the arrays X and Y. {_AGAIN}") from None


def _header(file: Path, key: str, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array; the member is left at its first value."""
    try:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read(member)
    except ValueError as error:
        raise ValueError(f"{file}: {key} is no NumPy array: {error}. {_AGAIN}") from error
    if columns_first and len(shape) > 1:
        raise ValueError(
            f"{file}: {key} is stored column by column; expected rows (C order). Save it again with NumPy."
        )
    return shape, dtype


def _read(file: Path, key: str, member: IO[bytes], count: int) -> bytes:
    content = member.read(count)
    if len(content) != count:
        raise ValueError(f"{file}: {key} ends {count - len(content)} bytes early. {_AGAIN}")
    return content


def _check_end(file: Path, key: str, member: IO[bytes]) -> None:
    # Reading past the last byte is what makes zipfile compare the checksum.
    if member.read(1):
        raise ValueError(f"{file}: {key} goes on after its last value. {_AGAIN}")
