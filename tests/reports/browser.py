"""A headless Chromium spoken to over two pipes, in Chromium's own debugging protocol: no driver, no package, no port.

Not a test: the tests of the page import it. https://chromedevtools.github.io/devtools-protocol/ describes the messages.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
EXECUTABLE = next((path for name in _NAMES if (path := shutil.which(name)) is not None), None)

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# The browser reads commands from file descriptor 3 and writes answers to 4.
_PUT_PIPES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_SECONDS = 60.0


@dataclass
class Page:
    """A page that has been opened, with what it has said and asked for so far.

    Attributes:
        complaints: errors and warnings of its console, exceptions nobody caught, refusals of its security policy.
        requests: addresses that it has asked the network, or the disk, for.
    """

    browser: Browser
    session: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the page and wait for its answer."""
        return self.browser.call(method, session=self.session, **parameters)

    def value(self, expression: str) -> Any:
        """What a JavaScript expression, or the promise that it gives, comes to."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until the expression is true."""
        deadline = time.monotonic() + _SECONDS
        while not self.value(expression):
            assert time.monotonic() < deadline, f"{expression} has not become true; the page says {self.complaints}"
            time.sleep(0.05)

    def show(self, *, width: int, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Bring the page to the front, in a window of this width, for a reader who likes it light or dark."""
        self.call("Page.bringToFront")  # one behind another page draws nothing
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def press(self, key: str, code: int) -> None:
        """A key of the keyboard, on what has the focus."""
        for kind in ("rawKeyDown", "char", "keyUp"):
            text = {"text": "\r" if key == "Enter" else " "} if kind == "char" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def point_at(self, x: float, y: float) -> None:
        """Rest the mouse there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, file: Path, *, whole: bool = True) -> Path:
        """What it looks like, as PNG: the window, or the ``whole`` page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(answer["data"]))
        return file

    def heard(self, method: str, event: dict[str, Any]) -> None:
        """Take note of what the browser tells about the page."""
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(event["entry"]["text"])


class Browser:
    """The process and its two pipes."""

    def __init__(self, profile: Path) -> None:
        assert EXECUTABLE is not None, "Chromium is not installed"
        read_end, self._commands = os.pipe()
        self._answers, write_end = os.pipe()
        command = [EXECUTABLE, *_FLAGS, f"--user-data-dir={profile}"]
        self._log = (profile / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PUT_PIPES, str(read_end), str(write_end), *command],
            pass_fds=(read_end, write_end),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        os.close(read_end)
        os.close(write_end)
        self._buffer = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come meanwhile go to their pages."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            if (page := self._pages.get(answer.get("sessionId", ""))) is not None and "method" in answer:
                page.heard(answer["method"], answer["params"])

    def open(
        self, file: Path, *, width: int = 1400, height: int = 900, dark: bool = False, scripts: bool = True
    ) -> Page:
        """Open a file of the disk and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.show(width=width, height=height, dark=dark)
        page.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        page.call("Page.navigate", url=file.resolve().as_uri())
        address = json.dumps(file.resolve().as_uri())
        page.wait_for(f"location.href === {address} && document.readyState === 'complete'")
        return page

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(timeout=_SECONDS)
        os.close(self._commands)
        os.close(self._answers)
        self._log.close()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], _SECONDS)
            piece = os.read(self._answers, 1 << 20) if ready else b""
            assert piece, f"Chromium has ended or said nothing for {_SECONDS:.0f} s; see {self._log.name}"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a new, empty profile, that ends with the block."""
    started = Browser(profile)
    try:
        yield started
    finally:
        started.close()
