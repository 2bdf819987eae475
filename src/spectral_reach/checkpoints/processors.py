"""The tokenizer or image processor that a revision comes with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from spectral_reach.checkpoints.first_line import first_line
from spectral_reach.checkpoints.kinds import Kind
from spectral_reach.checkpoints.loading import LoadOptions
from spectral_reach.checkpoints.revision import Revision
from spectral_reach.records.needed import needed

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)
_IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")


def load_processor(revision: Revision, kind: Kind, options: LoadOptions) -> Any:
    """The tokenizer, or for image classifiers the image processor, from the revision or the folder that it is in.

    Raises:
        ValueError: there is none, it is damaged, or it needs code that is not trusted.
        ConnectionError: the hub cannot be reached.
        ImportError: transformers is not installed.
    """
    with needed("hf"):
        from transformers import AutoImageProcessor, AutoTokenizer
    from spectral_reach.checkpoints.hub import hub_errors_told

    is_image = kind is Kind.IMAGE_CLASSIFICATION
    auto: Any = AutoImageProcessor if is_image else AutoTokenizer
    what = "image processor" if is_image else "tokenizer"
    source = _place(revision, _IMAGE_FILES if is_image else _TOKENIZER_FILES)
    if source is None:
        raise ValueError(
            f"{revision.label} comes without {'an' if is_image else 'a'} {what}; expected its files beside config.json"
            f"{'' if revision.beside is None else f' or in {revision.beside}'}. Save it there with save_pretrained, or "
            "give batches that are ready (input_ids, pixel_values)."
        )
    try:
        with hub_errors_told(str(source), revision.name):
            return auto.from_pretrained(
                str(source), revision=revision.commit, trust_remote_code=options.trust_remote_code
            )
    except ConnectionError:
        raise
    except Exception as error:
        # Tokenizers raise whatever their parsers do.
        flag = " It has code of its own: --trust-remote-code runs it." if "trust_remote_code" in str(error) else ""
        raise ValueError(
            f"The {what} of {revision.label} cannot be loaded from {source}: {first_line(error)}.{flag} Expected what "
            "save_pretrained writes."
        ) from error


def fingerprint(processor: Any) -> str:
    """sha256 of all that decides what the processor makes of a text or an image."""
    backend = getattr(processor, "backend_tokenizer", None)
    if backend is not None:
        about = [backend.to_str()]
    elif hasattr(processor, "get_vocab"):
        about = [json.dumps(processor.get_vocab(), sort_keys=True)]
    else:
        about = [processor.to_json_string()]
    about.append(repr(getattr(processor, "chat_template", None)))
    about.append(json.dumps(getattr(processor, "special_tokens_map", {}), sort_keys=True, default=str))
    return hashlib.sha256("\n".join(about).encode()).hexdigest()


def _place(revision: Revision, names: tuple[str, ...]) -> str | Path | None:
    if isinstance(revision.source, str):
        return revision.source
    folders = [revision.source, *([revision.beside] if revision.beside is not None else [])]
    return next((folder for folder in folders if any((folder / name).is_file() for name in names)), None)
