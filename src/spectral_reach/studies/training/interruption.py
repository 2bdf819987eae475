"""Ctrl-C and SIGTERM as a request to stop between two steps, never in the middle of one."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """A function that tells whether SIGINT or SIGTERM came; call it between steps. For the main thread.

    The first signal only asks. A second one acts as it would have without this, so that nobody is held captive.
    """
    requested = False
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        requested = True
        restore()

    for number in _SIGNALS:
        signal.signal(number, request)
    try:
        yield lambda: requested
    finally:
        restore()
