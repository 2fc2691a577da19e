"""Conversations that go alike in every protocol: who says what, and what comes of it.

Each line is a client, what it asks, and the outcome: ``ok``, a value, ``nothing``, ``yes`` or ``no``, a number, keys in
brackets, or an error by its code after ``!``.
"""

from typing import NamedTuple


class Step(NamedTuple):
    """One request and its outcome."""

    client: str
    words: tuple[str, ...]
    outcome: str


def parse(text: str) -> list[Step]:
    """Return the steps of a conversation."""
    steps = []
    for line in text.strip().splitlines():
        said, _, outcome = line.partition(" -> ")
        client, _, request = said.partition(":")
        steps.append(Step(client.strip(), tuple(request.split()), outcome.strip()))
    return steps


CONVERSATIONS: dict[str, str] = {
    "a value is stored, read, and deleted": """
        a: GET k -> nothing
        a: PUT k v -> ok
        a: GET k -> v
        a: PUT k w -> ok
        b: GET k -> w
        b: DEL k -> yes
        a: DEL k -> no
        a: GET k -> nothing
        a: PING -> PONG
    """,
    "keys are listed in order and counted": """
        a: KEYS -> []
        a: COUNT -> 0
        a: PUT b 1 -> ok
        a: PUT a 1 -> ok
        a: PUT ab 1 -> ok
        b: KEYS -> [a ab b]
        b: KEYS a -> [a ab]
        b: COUNT -> 3
    """,
    "nobody sees what is not committed, and then all of it": """
        a: START -> ok
        a: PUT x 1 -> ok
        a: PUT y 1 -> ok
        a: GET x -> 1
        b: GET x -> nothing
        b: KEYS -> []
        a: COMMIT -> ok
        b: GET x -> 1
        b: KEYS -> [x y]
    """,
    "what is rolled back never was": """
        a: PUT k v -> ok
        a: START -> ok
        a: DEL k -> yes
        a: PUT other 1 -> ok
        a: GET k -> nothing
        a: ROLLBACK -> ok
        a: GET k -> v
        a: GET other -> nothing
        a: ROLLBACK -> !no_transaction
        a: COMMIT -> !no_transaction
    """,
    "frames nest, and each is undone alone": """
        a: START -> ok
        a: PUT k 1 -> ok
        a: START -> ok
        a: PUT k 2 -> ok
        a: START -> ok
        a: DEL k -> yes
        a: GET k -> nothing
        a: ROLLBACK -> ok
        a: GET k -> 2
        a: COMMIT -> ok
        a: GET k -> 2
        b: GET k -> nothing
        a: COMMIT -> ok
        b: GET k -> 2
        a: COMMIT -> !no_transaction
    """,
    "a lost update is a conflict, and ends the transaction": """
        a: PUT n 10 -> ok
        a: START -> ok
        b: START -> ok
        a: GET n -> 10
        b: GET n -> 10
        a: PUT n 11 -> ok
        b: PUT n 12 -> ok
        a: COMMIT -> ok
        b: COMMIT -> !conflict
        b: GET n -> 11
        b: ROLLBACK -> !no_transaction
        b: START -> ok
        b: GET n -> 11
        b: PUT n 12 -> ok
        b: COMMIT -> ok
        a: GET n -> 12
    """,
    "a write skew is a conflict": """
        a: PUT x 1 -> ok
        a: PUT y 1 -> ok
        a: START -> ok
        b: START -> ok
        a: GET x -> 1
        a: GET y -> 1
        b: GET x -> 1
        b: GET y -> 1
        a: PUT x 0 -> ok
        b: PUT y 0 -> ok
        a: COMMIT -> ok
        b: COMMIT -> !conflict
        a: GET y -> 1
    """,
    "a phantom is a conflict": """
        b: START -> ok
        b: KEYS user. -> []
        b: PUT total 0 -> ok
        a: PUT user.1 x -> ok
        b: COMMIT -> !conflict
        b: START -> ok
        b: COUNT -> 1
        b: PUT total 1 -> ok
        a: DEL user.1 -> yes
        b: COMMIT -> !conflict
        a: GET total -> nothing
    """,
    "a put of equal bytes is a change, a delete of an absent key is none": """
        a: PUT k v -> ok
        b: START -> ok
        b: GET k -> v
        b: GET absent -> nothing
        b: PUT mine 1 -> ok
        a: DEL absent -> no
        b: COMMIT -> ok
        b: START -> ok
        b: GET k -> v
        b: PUT mine 2 -> ok
        a: PUT k v -> ok
        b: COMMIT -> !conflict
        b: GET mine -> 1
    """,
    "what was read in a frame that was undone still counts": """
        a: PUT k v -> ok
        b: START -> ok
        b: START -> ok
        b: GET k -> v
        b: ROLLBACK -> ok
        b: PUT mine 1 -> ok
        a: PUT k w -> ok
        b: COMMIT -> !conflict
    """,
    "a blind put never conflicts": """
        a: START -> ok
        b: START -> ok
        a: PUT k 1 -> ok
        b: PUT k 2 -> ok
        a: COMMIT -> ok
        b: COMMIT -> ok
        a: GET k -> 2
    """,
    "who only reads never conflicts, and reads one moment": """
        a: PUT x 1 -> ok
        a: PUT y 1 -> ok
        b: START -> ok
        b: GET x -> 1
        a: PUT y 2 -> ok
        a: PUT z 2 -> ok
        b: GET y -> 1
        b: KEYS -> [x y]
        b: COMMIT -> ok
        b: GET y -> 2
    """,
    "a promise not to write is held to": """
        a: PUT k v -> ok
        a: START READONLY -> ok
        a: GET k -> v
        a: PUT k w -> !usage
        a: DEL k -> !usage
        a: START -> ok
        a: PUT k w -> !usage
        a: COMMIT -> ok
        a: COMMIT -> ok
        a: GET k -> v
    """,
    "mistakes leave everything as it was": """
        a: START -> ok
        a: PUT k v -> ok
        a: GET -> !usage
        a: NOSUCH k -> !unknown_command
        a: GET k -> v
        a: COMMIT -> ok
        b: GET k -> v
    """,
}
