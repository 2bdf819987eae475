"""Columns ``image`` and ``label``: pictures as the model's own image processor sees them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectral_reach.checkpoints.data.class_labels import ClassLabels
from spectral_reach.checkpoints.data.conditions import Conditions
from spectral_reach.checkpoints.data.unit import Unit
from spectral_reach.records.needed import needed

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageClassification:
    """Encodes a picture with its label."""

    def __init__(self, conditions: Conditions, labels: ClassLabels, folder: Path) -> None:
        self._conditions = conditions
        self._labels = labels
        self._folder = folder

    def __call__(self, row: Mapping[str, Any], index: int) -> Unit:
        """Pixels (channels, height, width), and the label."""
        config = self._conditions.config
        picture = self._opened(row["image"]).convert(_MODES[getattr(config, "num_channels", 3)])
        pixels = self._conditions.processor(images=picture, return_tensors="pt")["pixel_values"][0]
        expected = _sides(getattr(config, "image_size", None))
        if expected is not None and tuple(pixels.shape[1:]) != expected:
            raise ValueError(
                f"the image processor makes images of {_by(pixels.shape[1:])} pixels and the model reads "
                f"{_by(expected)}; expected the processor that the model was trained with"
            )
        return Unit(tensors={"pixel_values": pixels, "labels": self._labels(row["label"])}, n_labels=1)

    def _opened(self, value: object) -> Any:
        """A picture from a path, from what Parquet files of the hub hold, or as datasets gives it."""
        with needed("data"):
            from PIL import Image, UnidentifiedImageError

        if isinstance(value, Image.Image):
            return value
        if isinstance(value, Mapping) and value.get("bytes") is not None:
            file: Any = io.BytesIO(value["bytes"])
        elif isinstance(value, Mapping) and isinstance(value.get("path"), str):
            file = self._folder / value["path"]
        elif isinstance(value, str):
            file = self._folder / value
        elif isinstance(value, bytes):
            file = io.BytesIO(value)
        else:
            raise ValueError(f"image is a {type(value).__name__}; expected a path, bytes, or an image of datasets")
        try:
            picture = Image.open(file)
            picture.load()
        except FileNotFoundError as error:
            raise ValueError(f"there is no image {file}; expected a path from {self._folder} on") from error
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            what = "the image" if isinstance(file, io.BytesIO) else str(file)
            raise ValueError(f"{what} cannot be read ({error}); expected a whole image") from error
        return picture


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    return tuple(size) if isinstance(size, (tuple, list)) and len(size) == 2 else None


def _by(sides: Any) -> str:
    return " x ".join(str(int(side)) for side in sides)
