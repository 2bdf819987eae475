"""A batch as a short text that is another one for any other batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def digest_of(batch: Any) -> str:
    """sha256 over names, dtypes, shapes and values, in hexadecimal; the order of a mapping's names does not count.

    Raises:
        TypeError: the batch holds something whose value cannot be told.
    """
    digest = hashlib.sha256()
    for name, value in _leaves(batch, "batch"):
        if isinstance(value, Tensor):
            whole = value.detach().cpu().contiguous()
            digest.update(f"{name} {whole.dtype} {tuple(whole.shape)}\n".encode())
            # reshape: a tensor without axes has no bytes to look at.
            digest.update(whole.reshape(-1).view(torch.uint8).numpy().tobytes())
        elif value is None or isinstance(value, (bool, int, float, str)):
            digest.update(f"{name} {type(value).__name__} {value!r}\n".encode())
        else:
            raise TypeError(f"{name} is a {type(value).__name__}; expected tensors, numbers and text in a batch")
    return digest.hexdigest()


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _leaves(value[key], f"{name}[{str(key)!r}]")
    elif isinstance(value, (tuple, list)):
        yield f"{name} length", len(value)
        for place, part in enumerate(value):
            yield from _leaves(part, f"{name}[{place}]")
    else:
        yield name, value
