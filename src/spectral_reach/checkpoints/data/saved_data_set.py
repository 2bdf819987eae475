"""A data set of the ``datasets`` library: saved in a folder, or from the hub."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from spectral_reach.checkpoints.data.spec import HUB
from spectral_reach.checkpoints.first_line import first_line
from spectral_reach.records.needed import needed


class SavedRows:
    """Rows of a ``datasets.Dataset``."""

    def __init__(self, data_set: Any, folder: Path) -> None:
        self.folder = folder
        self._data = data_set
        self._selected: dict[tuple[str, ...], Any] = {}
        self.columns = tuple(data_set.column_names)

    def __len__(self) -> int:
        return len(self._data)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        """The values of ``columns`` that the data set has."""
        wanted = tuple(column for column in self.columns if column in columns)
        # Images of other columns are not decoded; a selection takes longer than a row.
        if wanted not in self._selected:
            self._selected[wanted] = self._data.select_columns(list(wanted))
        found: Mapping[str, Any] = self._selected[wanted][index]
        return found

    def where(self, index: int) -> str:
        """Rows are counted from 1."""
        return f"row {index + 1}"

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """Those of a ``ClassLabel``."""
        names = getattr(self._data.features.get(column), "names", None)
        return None if names is None else tuple(names)


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of datasets made this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def from_disk(folder: Path, split: str | None) -> SavedRows:
    """What ``save_to_disk`` has saved in ``folder``.

    Raises:
        ValueError: it is damaged, or has not the split or several.
        ImportError: datasets is not installed.
    """
    with needed("data"):
        from datasets import load_from_disk

    try:
        found = load_from_disk(str(folder))
    except Exception as error:  # whatever arrow, json and fsspec raise for damaged files
        raise ValueError(f"{folder} cannot be read by datasets ({first_line(error)}); save it again") from error
    return SavedRows(_one_split(found, split, str(folder)), folder)


def from_hub(name: str, split: str | None) -> SavedRows:
    """``DATASET[:CONFIG[:SPLIT]]`` by ``datasets.load_dataset``, which runs no code of the data set's.

    Raises:
        ValueError: there is no such data set, configuration or split, or no network.
        ImportError: datasets is not installed.
    """
    with needed("data"):
        from datasets import load_dataset

    path, config, own_split = (*name.split(":", 2), "", "")[:3]
    if split is not None and own_split:
        raise ValueError(f"{HUB}{name} names the split {own_split!r} and split={split!r}; expected one of them")
    try:
        found = load_dataset(path, config or None, split=own_split or split or None)
    except Exception as error:  # whatever the network, the hub's client and the readers of files raise
        raise ValueError(
            f"{HUB}{name} cannot be loaded ({type(error).__name__}: {first_line(error)}); expected "
            f"{HUB}DATASET[:CONFIG[:SPLIT]] of the Hugging Face hub, as in {HUB}Salesforce/wikitext:wikitext-2-v1:test"
        ) from error
    return SavedRows(_one_split(found, None, f"{HUB}{name}"), Path.cwd())


def _one_split(found: Any, split: str | None, place: str) -> Any:
    if not isinstance(found, dict):
        if split is not None:
            raise ValueError(f"{place} has no splits; leave out split={split}")
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        asked = "is needed" if split is None else f"{split!r} is not there"
        raise ValueError(f"{place} has the splits {', '.join(found)}; one {asked}: name it with split=")
    return found[split]
