"""CIFAR-5M: six million synthetic 32 x 32 photographs in the ten classes of CIFAR-10 (Nakkiran et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectral_reach.studies.config import SettingTypeError, check_whole_number
from spectral_reach.studies.data.image_rows import ImageRows
from spectral_reach.studies.data.images import ImageData, channel_statistics
from spectral_reach.studies.data.npz_images import NpzImages, open_npz_images
from spectral_reach.studies.data.options import absolute_path, check_one_of, check_text, existing_folder
from spectral_reach.studies.data.outline import Outline
from spectral_reach.studies.data.pixels import Colour, PixelData, check_pixels
from spectral_reach.studies.data.registry import register
from spectral_reach.studies.data.tokens import digest

CLASSES = 10
TRAINING_PARTS = (0, 1, 2, 3, 4)
HELDOUT_PART = 5
HELDOUT_IMAGES = 10_000
IMAGES_A_PART = 1_000_448

_SIZE = 32
_SHAPE = (_SIZE, _SIZE, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chosen:
    """What the options say, checked and with the defaults put in; images to classify are whole and in colour."""

    parts: tuple[int, ...]
    levels: int
    colour: Colour
    size: int

    @property
    def values(self) -> int:
        """Of an image: its pixels, or three for each in colour."""
        return self.size**2 * (3 if self.colour == "rgb" else 1)


def outline_cifar5m(
    *,
    folder: str,
    task: str = "pixels",
    parts: Sequence[int] | None = None,
    levels: int | None = None,
    colour: str | None = None,
    size: int | None = None,
) -> Outline:
    """The published files: a part has 1,000,448 images. Whether the folder is there is not asked."""
    check_text("folder", folder)
    chosen = _chosen(task=task, parts=parts, levels=levels, colour=colour, size=size)
    if task == "classes":
        dimensions = {"classes": CLASSES, "channels": _SHAPE[2], "image_size": _SIZE}
    else:
        dimensions = {"vocabulary": chosen.levels + 1, "context": chosen.values}
    return Outline(
        name="cifar5m",
        label="Images (CIFAR-5M)",
        dimensions=dimensions,
        train_units=IMAGES_A_PART * len(chosen.parts),
        heldout_units=HELDOUT_IMAGES,
    )


def resolved_cifar5m(options: Mapping[str, Any]) -> dict[str, Any]:
    """The folder by its absolute path."""
    return {**options, "folder": absolute_path("folder", options["folder"])}


@register("cifar5m", outline=outline_cifar5m, resolved=resolved_cifar5m)
def load_cifar5m(
    *,
    folder: str,
    task: str = "pixels",
    parts: Sequence[int] | None = None,
    levels: int | None = None,
    colour: str | None = None,
    size: int | None = None,
) -> PixelData | ImageData:
    """The files ``part0.npz`` to ``part5.npz`` of a folder; 0 to 4 are trained on, ``part5[:10000]`` is held out.

    Args:
        folder: where the files are. Each is converted once into the cache (3 GB a part) and memory-mapped.
        task: "pixels", next-pixel prediction (``PixelData``), or "classes" (``ImageData``, 32 x 32 RGB).
        parts: the training parts to use, for example [0]; by default all five, which must be there.
        levels: of a pixel, for "pixels": 2 to 256, by default 256.
        colour: for "pixels": "grey", the default, or "rgb".
        size: for "pixels": 32, the default, or a divisor of it to which the images are averaged.

    Raises:
        ValueError: an option is out of range or does not belong to the task; a part is missing, cut, damaged or not in
            the format.
        SettingTypeError: an option of the wrong type.
        RecordError: the cache folder cannot be written.
    """
    chosen = _chosen(task=task, parts=parts, levels=levels, colour=colour, size=size)
    files = _files(existing_folder("folder", folder, "the folder of part0.npz to part5.npz"), chosen.parts)
    trained = [open_npz_images(files[part], _SHAPE, CLASSES) for part in chosen.parts]
    heldout = open_npz_images(files[HELDOUT_PART], _SHAPE, CLASSES)
    train = ImageRows(tuple(part.images for part in trained))
    unseen = ImageRows((heldout.images[:HELDOUT_IMAGES],))
    left_out = [part for part in TRAINING_PARTS if part not in chosen.parts]
    common: dict[str, Any] = {
        "name": "cifar5m",
        "train": train,
        "heldout": unseen,
        "content_hash": digest(*(part.sha256.encode() for part in (*trained, heldout))),
        "facts": {"parts": list(chosen.parts), "parts_left_out": left_out},
    }
    what = f"{len(train):,} images of CIFAR-5M (parts {', '.join(map(str, chosen.parts))}"
    what += f"; without {', '.join(map(str, left_out))})" if left_out else ")"
    split = f"the first {len(unseen):,} of part {HELDOUT_PART} held out"
    if task == "pixels":
        tokens = f"{chosen.values:,} {chosen.colour} pixel tokens of {chosen.levels} levels"
        return PixelData(
            label=f"Images (CIFAR-5M, {chosen.size} × {chosen.size} pixels)",
            description=f"{what} as {tokens}, {split}",
            levels=chosen.levels,
            colour=chosen.colour,
            size=chosen.size,
            **common,
        )
    mean, std = channel_statistics(_histogram(trained))
    return ImageData(
        label="Images (CIFAR-5M, classes)",
        description=f"{what} in {CLASSES} classes, {split}",
        train_labels=np.concatenate([part.labels for part in trained]),
        heldout_labels=heldout.labels[:HELDOUT_IMAGES],
        classes=CLASSES,
        mean=mean,
        std=std,
        **common,
    )


def _chosen(
    *, task: str, parts: Sequence[int] | None, levels: int | None, colour: str | None, size: int | None
) -> _Chosen:
    check_one_of("task", task, ("pixels", "classes"))
    training_parts = _training_parts(parts)
    if task == "classes":
        given = {"levels": levels, "colour": colour, "size": size}
        if not_for_classes := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"{' and '.join(not_for_classes)} given with task 'classes'; expected none: images to classify are "
                "whole and in colour. Leave them out, or choose task 'pixels'."
            )
        return _Chosen(parts=training_parts, levels=256, colour="rgb", size=_SIZE)
    levels = 256 if levels is None else levels
    colour = "grey" if colour is None else colour
    size = _SIZE if size is None else size
    for name, value in (("levels", levels), ("size", size)):
        check_whole_number(name, value)
    check_one_of("colour", colour, ("grey", "rgb"))
    # Before gigabytes are converted: an image of the right shape says what the options can make of one.
    check_pixels(ImageRows((np.zeros((1, *_SHAPE), dtype=np.uint8),)), levels=levels, colour=colour, size=size)
    return _Chosen(parts=training_parts, levels=levels, colour="rgb" if colour == "rgb" else "grey", size=size)


def _training_parts(parts: Sequence[int] | None) -> tuple[int, ...]:
    if parts is None:
        return TRAINING_PARTS
    if not isinstance(parts, list | tuple) or not all(type(part) is int for part in parts):
        raise SettingTypeError(f"parts is {parts!r}; expected a list of whole numbers, for example [0].")
    if not parts or len(set(parts)) != len(parts) or not set(parts) <= set(TRAINING_PARTS):
        raise ValueError(
            f"parts is {list(parts)}; expected at least one of {', '.join(map(str, TRAINING_PARTS))}, each once "
            f"(part {HELDOUT_PART} is held out)."
        )
    return tuple(sorted(parts))


def _files(folder: Path, chosen: tuple[int, ...]) -> dict[int, Path]:
    files = {part: folder / f"part{part}.npz" for part in (*chosen, HELDOUT_PART)}
    if missing := [file.name for file in files.values() if not file.is_file()]:
        there = [part for part in TRAINING_PARTS if (folder / f"part{part}.npz").is_file()]
        remedy = "Download them (they are public, gs://gresearch/cifar5m)"
        if there and HELDOUT_PART not in {part for part, file in files.items() if file.name in missing}:
            remedy += f", or name the training parts that are there: parts={there}"
        wanted = ", ".join(file.name for file in files.values())
        raise ValueError(f"{folder} lacks {', '.join(missing)}; expected {wanted}. {remedy}.")
    return files


def _histogram(parts: Sequence[NpzImages]) -> npt.NDArray[np.int64]:
    total: npt.NDArray[np.int64] = np.sum([part.histogram for part in parts], axis=0)
    return total
