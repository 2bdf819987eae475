"""Repositories on the Hugging Face hub: their branches, tags and commits, and what goes wrong there, told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from spectral_reach.checkpoints.first_line import first_line
from spectral_reach.checkpoints.revision import Revision, step_of
from spectral_reach.records.needed import needed


def revisions(repository: str) -> list[Revision]:
    """Every branch and tag of a repository.

    Raises:
        ValueError: there is no such repository, or it may not be read.
        ConnectionError: the hub cannot be reached.
    """
    with needed("hf"):
        from huggingface_hub import HfApi
    with hub_errors_told(repository):
        refs = HfApi().list_repo_refs(repository)
    commits = {each.name: each.target_commit for each in (*refs.tags, *refs.branches)}
    return [_revision(repository, name, commit) for name, commit in commits.items()]


def revision(repository: str, name: str) -> Revision:
    """A branch, tag or commit; without a network, or with the hub switched off, what the cache holds under its name.

    Raises:
        ValueError: there is no such repository or revision, or it may not be read.
        ConnectionError: the hub cannot be reached, and the revision is not in the cache.
    """
    with needed("hf"):
        from huggingface_hub import HfApi, hf_hub_download
    try:
        with hub_errors_told(repository, name):
            commit = HfApi().model_info(repository, revision=name).sha
            # By its name, which the cache then knows without a network; all else is fetched by the commit.
            hf_hub_download(repository, "config.json", revision=name)
    except ConnectionError:
        cached = _cached(repository, name)
        if cached is None:
            raise
        # The folder itself: each file that a repository may have, and this one has not, would be asked for again.
        return replace(_revision(repository, name, cached.name), source=cached)
    assert commit is not None  # of a request for one revision
    return _revision(repository, name, commit)


@lru_cache(maxsize=256)  # a commit never changes
def files_of(repository: str, commit: str) -> list[str]:
    """Names of the files at the top of a commit, sorted.

    Raises:
        ValueError, ConnectionError: the hub cannot be asked.
    """
    from huggingface_hub import HfApi

    with hub_errors_told(repository, commit):
        names = [each.rfilename for each in HfApi().model_info(repository, revision=commit).siblings or ()]
    return sorted(name for name in names if "/" not in name)


@contextmanager
def hub_errors_told(repository: str, name: str | None = None) -> Iterator[None]:
    """Turn what the hub's client raises, itself or wrapped by transformers, into an error with a remedy.

    Raises:
        ValueError: no such repository or revision, a gated or private one, or a refusal of another kind.
        ConnectionError: no network.
    """
    try:
        yield
    except Exception as error:
        told = _told(error, repository, name)
        if told is None:
            raise
        raise told from error


def _told(error: BaseException, repository: str, name: str | None) -> Exception | None:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The error of the client's own library, whichever it is: what it raises without an answer of the hub is none of
    # HfHubHTTPError.
    client: Any = HfHubHTTPError.__mro__[1]
    for each in _chain(error):
        match each:
            case GatedRepoError():
                return ValueError(
                    f"{repository} is gated: its authors let it be read on request only. Ask for access on its page "
                    "on the hub, then log in on this machine with `hf auth login`, or set HF_TOKEN."
                )
            case RepositoryNotFoundError():
                return ValueError(
                    f"{repository} is no repository on the hub that you may read, and there is no folder of this name "
                    "here. Check the spelling; for a private one log in with `hf auth login`, or set HF_TOKEN."
                )
            case RevisionNotFoundError():
                return ValueError(
                    f"{repository} has no revision {name!r} on the hub; expected a branch, a tag or a commit. "
                    "--revision all --dry-run lists branches and tags."
                )
            case OfflineModeIsEnabled():
                return ConnectionError(
                    f"{repository} has to be asked for on the hub, and HF_HUB_OFFLINE says not to. Unset it, or name a "
                    "revision that has been downloaded, or a folder."
                )
            case RemoteEntryNotFoundError():
                return ValueError(f"{repository} is no model of transformers: it has no config.json. Check the name.")
            case HFValidationError():
                return ValueError(f"{repository} is neither a folder nor the name of a repository: {each}")
            case HfHubHTTPError():
                status = getattr(each.response, "status_code", None)
                if status is not None and status != 404:
                    return ValueError(
                        f"The hub answered {status} about {repository}: {first_line(each)}. Try again later; what is "
                        "measured already is not measured again."
                    )
            case ConnectionError() | TimeoutError():
                return _unreachable(repository, each)
            case _ if isinstance(each, client) and not isinstance(each, HfHubHTTPError):
                return _unreachable(repository, each)
    return None


def _unreachable(repository: str, error: BaseException) -> ConnectionError:
    return ConnectionError(
        f"The hub cannot be reached for {repository} ({first_line(error)}), and it is not in the cache. Check the "
        "network, or name a folder."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _cached(repository: str, name: str) -> Path | None:
    """The folder of a downloaded revision."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json", revision=name)
    return Path(found).parent if isinstance(found, str) else None


def _revision(repository: str, name: str, commit: str) -> Revision:
    return Revision(model=repository, name=name, step=step_of(name), source=repository, commit=commit)
