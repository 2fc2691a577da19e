"""A headless Chromium, driven by its DevTools protocol over a pair of pipes."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.waiting import TIMEOUT_S, polling

PROGRAMS: Final = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
FLAGS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-extensions", "--disable-component-update", "--disable-background-networking", "--mute-audio"),
    *("--remote-debugging-pipe", "--no-proxy-server", "--host-resolver-rules=MAP *.example 127.0.0.1"),
)
"""Every name that ends in ``.example`` leads here, as that of a hostile site may."""


FIRST_FREE: Final = 10


def found() -> str | None:
    """Return the program, if it is installed."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """A browser with one page. Use it as a context manager: it ends the process on every way out."""

    def __init__(self) -> None:
        self._next = 0
        self._buffer = b""
        self._session: str | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="kvs-browser-", ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        program = found()
        assert program is not None
        reads, self._writes = os.pipe()
        self._reads, writes = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, FIRST_FREE) for end in (reads, writes)]

        def take_ends() -> None:
            for number, end in enumerate(ends, 3):  # where the browser expects them
                os.dup2(end, number)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._directory.name}"],
            preexec_fn=take_ends,  # noqa: PLW1509  # there is no other way to choose the numbers
            pass_fds=(3, 4),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for end in ends:
            os.close(end)
        os.close(reads)
        os.close(writes)
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            self.call("Page.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with suppress(OSError):
            os.killpg(self._process.pid, 9)
        self._process.wait(TIMEOUT_S)
        os.close(self._reads)
        os.close(self._writes)
        self._directory.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._next:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
        raise AssertionError("the browser has ended")

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            message, end, rest = self._buffer.partition(b"\0")
            if end:
                self._buffer = rest
                yield json.loads(message)
                continue
            data = os.read(self._reads, 1 << 16)
            if not data:
                return
            self._buffer += data

    # The page.

    def resize(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Show pages in a size, and in light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Open a page."""
        assert "errorText" not in self.call("Page.navigate", url=url), url

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression, also of a promise."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Wait until an expression is true."""
        for _ in polling(f"the page shows {script}"):
            if self.evaluate(f"!!({script})"):
                return

    def screenshot(self, path: Path) -> None:
        """Write what is shown, all of it, as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
