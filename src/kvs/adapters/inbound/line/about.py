"""The line protocol's commands about the server, and about who the client is."""

import json
from typing import Final

from kvs.adapters.inbound.line import replies
from kvs.adapters.inbound.line.command import LineCommand
from kvs.adapters.inbound.line.context import LineContext
from kvs.adapters.inbound.protocol.command import ANSWERED, OTHER, SECRET, SLOW_COST, everywhere
from kvs.domain.grants import ADMIN, CONNECTION
from kvs.ports.session import Session, Steps

PUBLIC_FIGURES: Final = frozenset({"version", "build", "engine", "uptime_s", "role"})
"""What INFO tells of the server to a user without administration: nothing that others have done."""


def _info(session: Session, context: LineContext, _: list[bytes]) -> bytes:
    info = session.info()
    if not context.peer.may_run(b"info", ADMIN):
        info["server"] = {name: figure for name, figure in info["server"].items() if name in PUBLIC_FIGURES}
    return replies.result_json(json.dumps(info).encode())


def _auth(session: Session, context: LineContext, words: list[bytes]) -> Steps[bytes]:
    yield from context.security.log_in(session, context.peer, words[1], words[2], "AUTH")
    return replies.OK


COMMANDS: Final[list[LineCommand]] = [
    LineCommand(
        "INFO",
        _info,
        1,
        (),
        "INFO takes nothing after it.",
        "INFO: figures about this session and the server.",
        cost=SLOW_COST,
        runs_when_full=True,
        on_standby=ANSWERED,
        categories=CONNECTION,
    ),
    LineCommand(
        "AUTH",
        _auth,
        3,
        (OTHER, SECRET),
        "AUTH takes a user and a secret: AUTH user secret.",
        "AUTH user secret: say who you are, outside of a transaction. The secret is the rest of the line.",
        is_local=everywhere,
        runs_when_full=True,
        takes_value=True,
        on_standby=ANSWERED,
        categories=CONNECTION,
        is_open=True,
        on_loop=True,
    ),
]
