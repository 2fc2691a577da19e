"""The reference model: what the server must answer, said as simply as it can be.

Everything that is clever elsewhere is done by copying here. START copies the whole data set, a nested START copies the
pending writes, and each key has the number of the commit that last changed it. The model takes the lines that a client
sends and predicts the whole reply; only the wording of an error is left open.

CLEAR stands for what the line protocol has no verb for: to delete every key. A page of KEYS is never full here.

It knows well-formed lines only, and no limits: grammar and limits have tables of their own.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Reply: TypeAlias = dict[str, Any]

OK: Reply = {"status": "Ok"}


def error(code: str) -> Reply:
    """Return the prediction of an error; its wording is open."""
    return {"status": "Error", "code": code}


def agrees(actual: Reply, predicted: Reply) -> bool:
    """Return whether a reply is the predicted one, its fields in the order that is promised."""
    if predicted["status"] == "Ok":
        return list(actual.items()) == list(predicted.items())
    named = list(actual) == ["status", "code", "mesg"] and isinstance(actual["mesg"], str) and actual["mesg"] != ""
    return named and actual["status"] == "Error" and actual["code"] == predicted["code"]


@dataclass
class ModelTransaction:
    """An open transaction: a copy of everything, and what was seen."""

    snapshot: dict[str, str]
    started_at: int
    frames: list[dict[str, str | None]]  # each a full copy of the pending writes; None is a tombstone
    read_only: bool
    keys_read: set[str] = field(default_factory=set)
    pages_read: set[tuple[str, str]] = field(default_factory=set)  # prefix and `after`, each to the end of the prefix
    cleared: list[bool] = field(default_factory=lambda: [False])  # by frame: whether it has deleted every key

    def view(self) -> dict[str, str]:
        """Return the data as this transaction sees it."""
        merged = {**({} if self.cleared[-1] else self.snapshot), **self.frames[-1]}
        return {key: value for key, value in merged.items() if value is not None}


class Model:
    """A server with any number of sessions, each named by a number and there from its first command on.

    Attributes:
        data: What is committed.
        changed_at: Number of the commit that last changed a key, for keys that ever changed.
        commits: How many commits there were.
        transactions: Open transactions by session.
    """

    def __init__(self) -> None:
        self.data: dict[str, str] = {}
        self.changed_at: dict[str, int] = {}
        self.commits = 0
        self.transactions: dict[int, ModelTransaction] = {}

    def execute(self, session: int, line: str) -> Reply:
        """Return what this line is answered with."""
        verb, _, words = line.partition(" ")
        reply: Reply = getattr(self, "_" + verb.lower())(session, words)
        return reply

    def disconnect(self, session: int) -> None:
        """A lost connection aborts its transaction; the session's next command comes on a new one."""
        self.transactions.pop(session, None)

    def depth(self, session: int) -> int:
        """Return how many frames a session has open."""
        transaction = self.transactions.get(session)
        return 0 if transaction is None else len(transaction.frames)

    def conflicts(self, session: int) -> tuple[set[str], set[tuple[str, str]]]:
        """Return the keys and the pages that would make the outermost commit conflict now."""
        transaction = self.transactions[session]
        if not transaction.frames[-1] and not transaction.cleared[-1]:
            return set(), set()
        keys = {key for key in transaction.keys_read if self.changed_at.get(key, 0) > transaction.started_at}
        pages = {
            page for page in transaction.pages_read if _page(self.data, *page) != _page(transaction.snapshot, *page)
        }
        return keys, pages

    # The commands.

    def _put(self, session: int, words: str) -> Reply:
        key, _, value = words.partition(" ")
        transaction = self.transactions.get(session)
        if transaction is None:
            self._apply({key: value})
        elif transaction.read_only:
            return error("usage")
        else:
            transaction.frames[-1][key] = value
        return OK

    def _get(self, session: int, key: str) -> Reply:
        value = self._read(session, key)
        if value is None:
            return {"status": "Ok", "result": None, "mesg": f"{key} was not found."}
        return {"status": "Ok", "result": value}

    def _del(self, session: int, key: str) -> Reply:
        transaction = self.transactions.get(session)
        if transaction is not None and transaction.read_only:
            return error("usage")
        present = self._read(session, key) is not None
        if present:
            if transaction is None:
                self._apply({key: None})
            else:
                transaction.frames[-1][key] = None
        return {"status": "Ok", "result": present}

    def _keys(self, session: int, words: str) -> Reply:
        prefix, _, after = words.partition(" ")
        return {"status": "Ok", "result": sorted(self._list(session, prefix, after))}

    def _count(self, session: int, prefix: str) -> Reply:
        return {"status": "Ok", "result": len(self._list(session, prefix))}

    def _start(self, session: int, words: str) -> Reply:
        read_only = words == "READONLY"
        transaction = self.transactions.get(session)
        if transaction is None:
            self.transactions[session] = ModelTransaction(dict(self.data), self.commits, [{}], read_only)
        elif read_only and not transaction.read_only:
            return error("usage")
        else:
            transaction.frames.append(dict(transaction.frames[-1]))
            transaction.cleared.append(transaction.cleared[-1])
        return OK

    def _commit(self, session: int, _: str) -> Reply:
        transaction = self.transactions.get(session)
        if transaction is None:
            return error("no_transaction")
        if len(transaction.frames) > 1:
            transaction.frames[-2:] = transaction.frames[-1:]
            transaction.cleared[-2:] = transaction.cleared[-1:]
            return OK
        keys, pages = self.conflicts(session)
        del self.transactions[session]
        if keys or pages:
            return error("conflict")
        cleared: dict[str, str | None] = dict.fromkeys(self.data if transaction.cleared[0] else ())
        if cleared or transaction.frames[0]:
            self._apply(cleared | transaction.frames[0])
        return OK

    def _rollback(self, session: int, _: str) -> Reply:
        transaction = self.transactions.get(session)
        if transaction is None:
            return error("no_transaction")
        transaction.frames.pop()
        transaction.cleared.pop()
        if not transaction.frames:
            del self.transactions[session]
        return OK

    def _clear(self, session: int, _: str) -> Reply:
        transaction = self.transactions.get(session)
        if transaction is None:
            self._apply(dict.fromkeys(self.data))
        elif transaction.read_only:
            return error("usage")
        else:
            transaction.frames[-1] = {}
            transaction.cleared[-1] = True
        return OK

    # What they are made of.

    def _read(self, session: int, key: str) -> str | None:
        transaction = self.transactions.get(session)
        if transaction is None:
            return self.data.get(key)
        if key in transaction.frames[-1]:
            return transaction.frames[-1][key]  # one's own pending write: nothing is observed
        if transaction.cleared[-1]:
            return None  # likewise
        transaction.keys_read.add(key)
        return transaction.snapshot.get(key)

    def _list(self, session: int, prefix: str, after: str = "") -> set[str]:
        transaction = self.transactions.get(session)
        if transaction is None:
            return _page(self.data, prefix, after)
        if not transaction.cleared[-1]:
            transaction.pages_read.add((prefix, after))
        return _page(transaction.view(), prefix, after)

    def _apply(self, writes: dict[str, str | None]) -> None:
        self.commits += 1
        for key, value in writes.items():
            if value is not None:
                self.data[key] = value
                self.changed_at[key] = self.commits
            elif key in self.data:
                del self.data[key]
                self.changed_at[key] = self.commits


def _page(data: dict[str, str], prefix: str, after: str) -> set[str]:
    return {key for key in data if key.startswith(prefix) and key > after}
