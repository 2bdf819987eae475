"""Models on disk: one in Hugging Face form, a folder of checkpoints, or a run folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectral_reach.checkpoints.revision import MAIN, Revision, in_order, step_of
from spectral_reach.records.run_folder import FORMAT, RunFolder

_EXPECTED = "expected a run folder, or a Hugging Face folder with config.json and safetensors"
_OF_RUN = re.compile(r"(?:step-?)?(\d+)")


def revisions_in(folder: Path, model: str) -> list[Revision]:
    """Every revision in ``folder``, which the user called ``model``, in natural order.

    Of a run these are its snapshots and its latest checkpoint, called ``step300`` and so on; else the folder itself,
    called ``main``, and each subfolder with a ``config.json``, called by its name.

    Raises:
        ValueError: it is no folder, or there is no model in it.
        ForeignFolderError: a run folder that this version does not read.
    """
    if (folder / "study.json").is_file():
        raise ValueError(f"{folder} is a study; name one of its runs: {folder / 'runs'}/NAME.")
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; {_EXPECTED}.")
    has_config = (folder / "config.json").is_file()
    if has_config and _header(folder).get("format") == FORMAT:
        return _of_run(RunFolder.open(folder), model)
    found = [
        Revision(model=model, name=each.name, step=step_of(each.name), source=each, beside=folder)
        for each in folder.iterdir()
        if (each / "config.json").is_file()
    ]
    if has_config:
        found.append(Revision(model=model, name=MAIN, step=None, source=folder))
    if not found:
        if (folder / "adapter_config.json").is_file() or any(folder.glob("*/adapter_config.json")):
            raise ValueError(
                f"{folder} holds adapters of PEFT and no whole model; {_EXPECTED}. Merge them first: "
                "AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload().save_pretrained(...)."
            )
        raise ValueError(f"{folder} has no config.json, and no subfolder with one; {_EXPECTED}.")
    return sorted(found, key=lambda each: in_order(each.name))


def default(folder: Path, there: Sequence[Revision]) -> Revision:
    """The revision that is meant where none is named.

    Raises:
        ValueError: a folder of checkpoints, where it could be any.
    """
    if there[0].run is not None:
        return max(there, key=lambda each: each.step or 0)
    main = named(there, MAIN)
    if main is None:
        raise ValueError(
            f"{folder} has no config.json of its own but checkpoints: {', '.join(each.name for each in there[:20])}. "
            "Name some of them with --revision (in Python revisions=), for example 'all'."
        )
    return main


def named(there: Sequence[Revision], name: str) -> Revision | None:
    """The revision of that name; one of a run also by its step alone or by the name of its folder."""
    if there and there[0].run is not None and (match := _OF_RUN.fullmatch(name)):
        name = f"step{int(match[1])}"
    return next((each for each in there if each.name == name), None)


def _of_run(run: RunFolder, model: str) -> list[Revision]:
    places = {step: run.snapshots.path(step) for step in run.snapshots.steps()}
    latest = run.checkpoints.latest()
    if latest is not None:
        places.setdefault(latest.step, latest.path)
    if not places:
        raise ValueError(f"{run.path} has no checkpoint yet; let the run go on until it has written one.")
    return [
        Revision(model=model, name=f"step{step}", step=step, source=places[step], run=run.config)
        for step in sorted(places)
    ]


def _header(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}; {_EXPECTED} that you may read.") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); {_EXPECTED}.") from error
    return header if isinstance(header, dict) else {}
