"""One suite of conversations for all protocols: each alone, and both at a time over the same data."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from typing import Final, Protocol

import pytest

from tests.support.conversations import CONVERSATIONS, parse
from tests.support.harness import Server
from tests.support.resp_wire import NULL, Reply, Typed, Wire

from .conftest import TRANSPORTS_AND_ENGINES, flags_of


@pytest.fixture(scope="session", params=TRANSPORTS_AND_ENGINES)
def transport_flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the flags that choose the transport under test, or an engine that blocks."""
    return flags_of(request.param)


class Speaker(Protocol):
    """**Protocol:** One client, of whatever protocol."""

    def outcome(self, words: tuple[str, ...]) -> str:
        """Ask, and return what came of it as a conversation has it."""


class LineSpeaker:
    """Speaks the line protocol."""

    def __init__(self, server: Server, _: ExitStack) -> None:
        self._client = server.connect()

    def outcome(self, words: tuple[str, ...]) -> str:
        """See :class:`Speaker`."""
        reply = self._client.ask(" ".join(words))
        if reply["status"] == "Error":
            return f"!{reply['code']}"
        if "result" not in reply:
            return "ok"
        result = reply["result"]
        if result is None:
            return "nothing"
        if isinstance(result, bool):
            return "yes" if result else "no"
        return f"[{' '.join(result)}]" if isinstance(result, list) else str(result)


class RespSpeaker:
    """Speaks RESP."""

    NAMES: Final = {"PUT": "SET", "COUNT": "DBSIZE"}
    MISTAKES: Final = {"NOSUCH": "unknown_command"}  # all of them have one code in RESP

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self._client = stack.enter_context(Wire(("127.0.0.1", server.port)))

    def outcome(self, words: tuple[str, ...]) -> str:
        """See :class:`Speaker`."""
        verb, *rest = words
        if verb == "KEYS":
            rest = [f"{rest[0] if rest else ''}*"]
        return self._shown(verb, self._client.ask(self.NAMES.get(verb, verb), *rest))

    def _shown(self, verb: str, reply: Reply) -> str:
        if isinstance(reply, Typed) and isinstance(reply.value, bytes):
            code = reply.value.decode().partition(" ")[0].lower()
            if reply.kind == "+":
                return code if code == "ok" else reply.value.decode()
            return f"!{code}" if code != "err" else f"!{self.MISTAKES.get(verb, 'usage')}"
        if reply == NULL:
            return "nothing"
        if isinstance(reply, list):
            return f"[{' '.join([key.decode() for key in reply if isinstance(key, bytes)])}]"
        if verb == "DEL":
            return "yes" if reply else "no"
        return reply.decode() if isinstance(reply, bytes) else str(reply)


SPEAKERS: Final[dict[str, Callable[[Server, ExitStack], Speaker]]] = {"line": LineSpeaker, "resp": RespSpeaker}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("protocols", list(product(SPEAKERS, repeat=2)), ids="-".join)
@pytest.mark.parametrize("title", CONVERSATIONS)
def test_a_conversation_goes_alike(server: Server, stack: ExitStack, title: str, protocols: tuple[str, str]) -> None:
    """Every reply is the expected one, whichever protocol each of the two clients speaks."""
    speakers = {name: SPEAKERS[protocol](server, stack) for name, protocol in zip("ab", protocols, strict=True)}
    for number, step in enumerate(parse(CONVERSATIONS[title]), start=1):
        outcome = speakers[step.client].outcome(step.words)
        assert outcome == step.outcome, f"step {number}: {step.client}: {' '.join(step.words)}"
