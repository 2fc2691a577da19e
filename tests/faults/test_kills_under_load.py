"""A server is killed at random while many clients write, again and again, over the same data."""

import random
import socket
import threading
from pathlib import Path
from typing import Final

import pytest

from tests.faults.scale import KILLS, full_scale_has_time
from tests.faults.server import TIMEOUT_S, ServerProcess
from tests.support.seeds import SEED

pytestmark = [pytest.mark.draws, full_scale_has_time]

CLIENTS: Final = 12
ACCOUNTS: Final = 8
BALANCE: Final = 1000
MOST_COMMITS: Final = 600
"""Before a kill; it comes after a random number of them."""


class Connection:
    """A connection that may break at any moment, which raises ``ConnectionError``."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._replies = self._socket.makefile("rb")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self._socket.close()

    def send(self, *lines: str) -> None:
        """Send lines."""
        self._socket.sendall("".join(line + "\n" for line in lines).encode())

    def reply(self) -> str:
        """Return the next reply."""
        line = self._replies.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError
        return line.decode()

    def ask(self, *lines: str) -> list[str]:
        """Send lines and return their replies."""
        self.send(*lines)
        return [self.reply() for _ in lines]

    def get(self, *keys: str) -> list[str | None]:
        """Return the values of keys."""
        return [_result(reply) for reply in self.ask(*(f"GET {key}" for key in keys))]


def _result(reply: str) -> str | None:
    if '"result": null' in reply:
        return None
    return reply.split('"result": "')[1].rpartition('"')[0]


class Writer:
    """A client that numbers its transactions, and knows which of them were acknowledged.

    Each writes its number to three keys, and moves money from one of the accounts to another, in one transaction. Some
    write without waiting for replies.
    """

    def __init__(self, number: int, chance: random.Random, load: "Load") -> None:
        self._keys = [f"{number}/{name}" for name in "abc"]
        self._random = chance
        self._load = load
        self._sent = 0
        self._acknowledged = 0

    def run(self, port: int) -> None:
        """Write until the server is gone."""
        try:
            with Connection(port) as connection:
                while True:
                    if self._random.random() < 0.5:
                        self._transfer(connection)
                    else:
                        self._pipeline(connection)
        except ConnectionError:
            pass

    def check(self, connection: Connection) -> None:
        """Check that everything acknowledged is there and nothing in part; then go on from what is there."""
        values = connection.get(*self._keys)
        numbers = [0 if value is None else int(value.partition(" ")[0]) for value in values]
        assert len(set(numbers)) == 1, f"a transaction is there in part: {self._keys} are {numbers}"
        found = numbers[0]
        assert self._acknowledged <= found <= self._sent, (
            f"{self._keys}: {found}, not {self._acknowledged}..{self._sent}"
        )
        self._sent = self._acknowledged = found

    def _writes(self) -> list[str]:
        self._sent += 1
        padding = "x" * self._random.choice((10, 300, 6000))
        one, two, three = (f"PUT {key} {self._sent} {padding}" for key in self._keys)
        return [one, "START", two, "COMMIT", three]

    def _pipeline(self, connection: Connection) -> None:
        count = self._random.randint(1, 4)
        first = self._sent + 1
        connection.send(*(line for _ in range(count) for line in ("START", *self._writes(), "COMMIT")))
        for number in range(first, first + count):
            replies = [connection.reply() for _ in range(7)]
            assert set(replies) == {'{"status": "Ok"}\n'}, replies
            self._acknowledge(number)

    def _transfer(self, connection: Connection) -> None:
        one, two = self._random.sample(range(ACCOUNTS), 2)
        amount = self._random.randint(1, 5)
        replies = connection.ask("START", f"GET account{one}", f"GET account{two}")
        balances = [int(_result(reply) or "") for reply in replies[1:]]
        moved = [f"PUT account{one} {balances[0] - amount}", f"PUT account{two} {balances[1] + amount}"]
        *_, last = connection.ask(*moved, *self._writes(), "COMMIT")
        if "conflict" in last:
            self._sent -= 1
        else:
            assert last == '{"status": "Ok"}\n', last
            self._acknowledge(self._sent)

    def _acknowledge(self, number: int) -> None:
        self._acknowledged = number
        self._load.count()


class Load:
    """Counts what all writers together have had acknowledged."""

    def __init__(self) -> None:
        self._counted = threading.Condition()
        self._commits = 0

    def count(self) -> None:
        """Count one more."""
        with self._counted:
            self._commits += 1
            self._counted.notify()

    def wait_for(self, commits: int) -> None:
        """Wait for so many more."""
        with self._counted:
            self._commits = 0
            assert self._counted.wait_for(lambda: self._commits >= commits, TIMEOUT_S)


def test_killed_under_load(tmp_path: Path) -> None:
    """After each kill a restart finds every acknowledged transaction, none in part, and not one coin more or less."""
    chance = random.Random(SEED)
    load = Load()
    writers = [Writer(number, random.Random(chance.random()), load) for number in range(CLIENTS)]
    accounts = [f"account{number}" for number in range(ACCOUNTS)]
    for kill in range(KILLS + 1):
        with ServerProcess(tmp_path / "data") as server:
            assert server.listens(), server.other_lines
            with Connection(server.port) as connection:
                if kill == 0:
                    connection.ask(*(f"PUT {account} {BALANCE}" for account in accounts))
                assert sum(int(balance or "") for balance in connection.get(*accounts)) == ACCOUNTS * BALANCE
                for writer in writers:
                    writer.check(connection)
            if kill == KILLS:
                break
            threads = [threading.Thread(target=writer.run, args=(server.port,)) for writer in writers]
            for thread in threads:
                thread.start()
            load.wait_for(chance.randint(1, MOST_COMMITS))
            server.kill()
            server.wait_exit()
            for thread in threads:
                thread.join()
