"""Which revisions of a model there are, and which of them are asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from spectral_reach.checkpoints import folders, hub
from spectral_reach.checkpoints.revision import MAIN, Revision, in_order

ALL = "all"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def find_revisions(model: str | Path, wanted: str | Sequence[str] | None = None) -> list[Revision]:
    """The revisions of ``model`` that are asked for, in natural order of their names, each once.

    Args:
        model: a folder (of one Hugging Face model, of several checkpoints, or of a run), or else the name of a
            repository on the Hugging Face hub. A folder that is there comes first.
        wanted: names, patterns with ``*``, ``?`` and ``[...]``, or ``"all"``; several in one string between commas, or
            in a sequence. None for the model of the folder itself, the latest checkpoint of a run, or the default
            branch on the hub. On the hub a name is that of a branch or a tag, or a commit.

    Raises:
        ValueError: there is no such model or revision (the message lists those that there are).
        ConnectionError: the hub cannot be reached.
        ForeignFolderError: a run folder that this version does not read.
    """
    names = _names(wanted)
    path = Path(model).expanduser()
    if path.exists() or not _HUB_NAME.fullmatch(str(model)):
        there = folders.revisions_in(path, str(model))
        if names is None:
            return [folders.default(path, there)]
        found = _chosen(names, there, f"{model}", lambda name: folders.named(there, name))
    elif names is None:
        return [hub.revision(str(model), MAIN)]
    else:
        found = _from_hub(str(model), names)
    once = {each.name: each for each in found}
    return sorted(once.values(), key=lambda each: in_order(each.name))


def _from_hub(repository: str, names: Sequence[str]) -> list[Revision]:
    listed = hub.revisions(repository) if any(name == ALL or _is_pattern(name) for name in names) else []
    return _chosen(names, listed, f"{repository} on the hub", lambda name: hub.revision(repository, name))


def _chosen(
    names: Sequence[str], there: Sequence[Revision], where: str, by_name: Callable[[str], Revision | None]
) -> list[Revision]:
    found: list[Revision] = []
    for name in names:
        if name == ALL:
            some = list(there)
        elif _is_pattern(name):
            some = [each for each in there if fnmatchcase(each.name, name)]
        else:
            one = by_name(name)
            some = [] if one is None else [one]
        if not some:
            what = f"revision that matches {name!r}" if _is_pattern(name) else f"revision {name!r}"
            raise ValueError(f"{where} has no {what}; it has {_listed(each.name for each in there)}.")
        found += some
    return found


def _names(wanted: str | Sequence[str] | None) -> list[str] | None:
    if wanted is None:
        return None
    several = [wanted] if isinstance(wanted, str) else list(wanted)
    names = [name.strip() for each in several for name in each.split(",")]
    if not names or not all(names):
        raise ValueError(
            f"revisions is {wanted!r}; expected names, for example 'step1000,step2000', patterns such as 'step*', or "
            "'all'."
        )
    return names


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _listed(names: Iterable[str], most: int = 20) -> str:
    ordered = sorted(names, key=in_order)
    if not ordered:
        return "none"
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
