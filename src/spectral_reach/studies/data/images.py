"""Images with a class each: what a classifier is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spectral_reach.studies.data.dataset import Batch, Part, Rows
from spectral_reach.studies.data.image_rows import ImageRows, Images
from spectral_reach.studies.data.tokens import entropy_of_counts

Labels = npt.NDArray[np.int64]
"""(n): the class of each image."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageData:
    """Square images and their classes; a model reads the image and predicts the class.

    Attributes:
        name: the data set's name in the registry.
        label: what a figure calls it.
        description: one sentence on what the data are and how they were split.
        train: images to train on; read when a batch asks for them.
        train_labels: (n_train) classes, from 0.
        heldout: images that training never sees.
        heldout_labels: (n_heldout).
        classes: how many there are, K.
        mean: of each channel's values over the training images; subtracted.
        std: their standard deviation, over which the values are divided.
        content_hash: sha256 of the source content, so that a run can tell whether the data are the same.
        facts: anything worth recording about how the data were made; ``mean`` and ``std`` are added.
        unigram_entropy: nats per image of the held-out classes under the training classes' frequencies (each count
            plus one); what a model that ignores the image can reach. Computed on construction.
    """

    name: str
    label: str
    description: str
    train: ImageRows
    train_labels: Labels
    heldout: ImageRows
    heldout_labels: Labels
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    content_hash: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    unigram_entropy: float = field(init=False)

    def __post_init__(self) -> None:
        pairs = (("train", self.train, self.train_labels), ("heldout", self.heldout, self.heldout_labels))
        for name, images, labels in pairs:
            if labels.shape != (len(images),) or labels.dtype != np.int64:
                raise ValueError(
                    f"Data set {self.name!r}: {name} classes are {labels.dtype} of shape {labels.shape}; expected "
                    f"int64 of shape ({len(images)},), one for each image."
                )
            if labels.min() < 0 or labels.max() >= self.classes:
                raise ValueError(
                    f"Data set {self.name!r}: {name} has classes {labels.min()} to {labels.max()}; expected 0 to "
                    f"{self.classes - 1}."
                )
        if (self.train.size, self.train.channels) != (self.heldout.size, self.heldout.channels):
            raise ValueError(
                f"Data set {self.name!r}: train images have size {self.train.size} and {self.train.channels} channels, "
                f"held-out ones {self.heldout.size} and {self.heldout.channels}; expected them equal."
            )
        if not len(self.mean) == len(self.std) == self.train.channels or not min(self.std) > 0:
            raise ValueError(
                f"Data set {self.name!r}: mean is {self.mean} and std {self.std}; expected {self.train.channels} "
                "values each, and deviations above 0. Images that are all alike cannot be normalised."
            )
        facts = {**self.facts, "mean": list(self.mean), "std": list(self.std)}
        object.__setattr__(self, "facts", MappingProxyType(facts))
        counts = [np.bincount(labels, minlength=self.classes) for _, _, labels in pairs]
        object.__setattr__(self, "unigram_entropy", entropy_of_counts(*counts))

    @property
    def dimensions(self) -> Mapping[str, int]:
        """Classes, channels and image size, which a model has to share."""
        return {"classes": self.classes, "channels": self.train.channels, "image_size": self.train.size}

    def units(self, part: Part) -> int:
        """How many images a part has."""
        return len(self.train if part == "train" else self.heldout)

    def batch(self, part: Part, rows: Rows) -> Batch:
        """Images (B, C, H, W), float32, (value - mean) / std for each channel; and their classes (B), int64."""
        images, labels = (self.train, self.train_labels) if part == "train" else (self.heldout, self.heldout_labels)
        values = (images.take(rows) - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return torch.from_numpy(values.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels[rows])


def channel_histogram(images: Images) -> npt.NDArray[np.int64]:
    """How often each channel has each value, (C, 256), of images (n, H, W, C)."""
    return np.stack([np.bincount(images[..., c].reshape(-1), minlength=256) for c in range(images.shape[-1])])


def channel_statistics(histogram: npt.NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, from ``channel_histogram`` of all images."""
    values = np.arange(histogram.shape[1])
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())
