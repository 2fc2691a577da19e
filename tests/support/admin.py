"""The admin port of a server, as tests ask it."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families as parse

from tests.support.launcher import LoggedProcess
from tests.support.waiting import TIMEOUT_S

TOKEN: Final = "a token of the tests"  # noqa: S105


class Answer(NamedTuple):
    """A response."""

    status: int
    text: str
    headers: Mapping[str, str]


class Admin:
    """The admin port of a server that was started with ``--admin-port 0``.

    Args:
        server: The server, which may be loading.
        tls: Whom to trust; None: it is not encrypted.

    Attributes:
        port: Where it is.
    """

    def __init__(self, server: LoggedProcess, tls: ssl.SSLContext | None = None) -> None:
        self.port: int = server.wait_for("admin_listening")["port"]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._tls = tls

    def ask(self, path: str, headers: Mapping[str, str] | None = None, body: object = None) -> Answer:
        """Return the response to a request; one with a body is a change."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, dict(headers or {}))  # noqa: S310  # of this test
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._tls) as response:  # noqa: S310
                return Answer(response.status, response.read().decode(), dict(response.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), dict(error.headers))

    def metrics(self, headers: Mapping[str, str] | None = None) -> dict[str, float]:
        """Return the samples of ``/metrics``, by name and the value of the label, as ``name label``."""
        answer = self.ask("/metrics", headers)
        assert answer.status == 200
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in parse(answer.text)
            for sample in family.samples
        }

    def status(self, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what the status page is told."""
        answer = self.ask("/api/status", headers)
        assert answer.status == 200
        found: dict[str, Any] = json.loads(answer.text)
        return found


def token_file(directory: Path, token: str = TOKEN) -> str:
    """Write a token; return the path of the file."""
    path = directory / f"token-{len(token)}"
    path.write_text(token + "\n")
    path.chmod(0o600)
    return str(path)


def bearer(token: str = TOKEN) -> dict[str, str]:
    """Return the header with a token."""
    return {"Authorization": f"Bearer {token}"}
