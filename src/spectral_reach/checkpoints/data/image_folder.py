"""A folder of images: a folder inside for every class, as torchvision and datasets have it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


class ImageFolder:
    """Rows with the columns ``image``, a path, and ``label``, the place of its class in the order of the alphabet."""

    columns: tuple[str, ...] = ("image", "label")

    def __init__(self, folder: Path, classes: tuple[str, ...]) -> None:
        self.folder = folder
        self._classes = classes
        self._images = [(image, label) for label, name in enumerate(classes) for image in _images(folder / name)]

    def __len__(self) -> int:
        return len(self._images)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        """The path of an image from the folder on, and its class."""
        return {"image": self.where(index), "label": self._images[index][1]}

    def where(self, index: int) -> str:
        """The path of the image from the folder on."""
        return str(self._images[index][0].relative_to(self.folder))

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The names of the folders."""
        return self._classes if column == "label" else None


def open_image_folder(folder: Path, split: str | None) -> ImageFolder:
    """The images of ``folder``, or of the folder ``split`` in it.

    Raises:
        ValueError: it has no folder of that name, or no folders with images.
    """
    place = folder if split is None else folder / split
    if not place.is_dir():
        raise ValueError(f"{folder} has no folder {split!r}; it has {', '.join(_folders(folder)) or 'none'}")
    classes = tuple(name for name in _folders(place) if _images(place / name))
    if not classes:
        splits = [
            name for name in _folders(place) if any(_images(place / name / inner) for inner in _folders(place / name))
        ]
        if splits:
            raise ValueError(f"{place} has the splits {', '.join(splits)}; name one with split=")
        raise ValueError(
            f"{place} is neither saved by datasets nor has it folders with images; expected one of these, or a file"
        )
    return ImageFolder(place, classes)


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
