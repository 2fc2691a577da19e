"""The gate, over every command of both protocols: what their tables declare is what is refused."""

import pytest

from kvs.adapters.inbound.line import commands as line
from kvs.adapters.inbound.protocol.command import KEY, PREFIX, VALUE, Command
from kvs.adapters.inbound.protocol.gate import Gate
from kvs.adapters.inbound.protocol.peer import Peer
from kvs.adapters.inbound.resp.command import RespCommand
from kvs.adapters.inbound.resp.commands import registry
from kvs.application.memory_budget import MemoryBudget
from kvs.domain.errors import LimitError, TooLargeError, UsageError
from tests.support.sessions import UNLIMITED, Bench
from tests.support.users import open_to_all

MAX_KEY_BYTES = 10
MAX_VALUE_BYTES = 20

RESP_COMMANDS = [
    command
    for entry in registry.COMMANDS
    for command in (entry, *({} if entry.subcommands is None else entry.subcommands).values())
]
LINE_COMMANDS = list(line.COMMANDS.values())

SESSION = Bench().open()

ANYBODY = Peer()
ANYBODY.become(open_to_all().first_user())

commands = pytest.mark.parametrize("command", [*LINE_COMMANDS, *RESP_COMMANDS], ids=lambda one: one.name.decode())


def gate(used_bytes: int = 0, max_key_bytes: int = MAX_KEY_BYTES, max_value_bytes: int = MAX_VALUE_BYTES) -> Gate:
    """Return a gate with small limits."""
    budget = MemoryBudget(used_bytes or UNLIMITED)
    budget.used_bytes = used_bytes
    return Gate(max_key_bytes, max_value_bytes, budget, open_to_all())


def request_of(command: Command) -> list[bytes]:
    """Return a request that is let through, with every argument that is declared, and what repeats twice."""
    number = command.arity
    if number < 0:
        number = max(-number, 1 + len(command.arguments)) + command.repeated
    return [command.name, *[b"x"] * (number - 1)]


@commands
def test_gate_counts_the_arguments(command: Command) -> None:
    """As the table says, with the usage for a message."""
    least = abs(command.arity)
    for number in range(1, least + 4):
        request = [command.name, *[b"x"] * (number - 1)]
        if number == least or (command.arity < 0 and number > least):
            gate().check(command, request, ANYBODY, SESSION)
        else:
            with pytest.raises(UsageError) as caught:
                gate().check(command, request, ANYBODY, SESSION)
            assert str(caught.value) == command.usage


@commands
@pytest.mark.parametrize(("max_key_bytes", "max_value_bytes"), [(10, 20), (20, 10), (10, 10)])
def test_gate_knows_each_kind_of_argument(command: Command, max_key_bytes: int, max_value_bytes: int) -> None:
    """A key is not empty; nothing is too long by a byte, and nothing is refused at its limit."""
    checks = gate(max_key_bytes=max_key_bytes, max_value_bytes=max_value_bytes)
    request = request_of(command)
    limits = {KEY: max_key_bytes, PREFIX: max_key_bytes, VALUE: max_value_bytes}
    for at in range(1, len(request)):
        kind = command.kind_of(at)
        limit = limits.get(kind, 1000)
        for size in (0, 1, limit, limit + 1):
            changed = [*request[:at], b"y" * size, *request[at + 1 :]]
            if kind == KEY and size == 0:
                with pytest.raises(UsageError) as refused:
                    checks.check(command, changed, ANYBODY, SESSION)
                assert str(refused.value) == command.empty_key
            elif kind in limits and size > limit:
                with pytest.raises(TooLargeError, match=f"{size} bytes"):
                    checks.check(command, changed, ANYBODY, SESSION)
            else:
                checks.check(command, changed, ANYBODY, SESSION)


@commands
def test_gate_lets_through_without_memory_what_gives_it_back(command: Command) -> None:
    """And nothing else; the number of arguments is checked before."""
    full = gate(used_bytes=1)
    assert not full.is_open()
    assert gate().is_open()
    if command.runs_when_full:
        full.check(command, request_of(command), ANYBODY, SESSION)
    else:
        with pytest.raises(LimitError):
            full.check(command, request_of(command), ANYBODY, SESSION)


@pytest.mark.parametrize("command", RESP_COMMANDS, ids=lambda one: one.name.decode())
def test_gate_takes_for_keys_what_the_catalogue_calls_keys(command: RespCommand) -> None:
    """COMMAND INFO and the limits speak of the same arguments."""
    least = abs(command.arity)
    for number in [least] if command.arity > 0 else [least, least + 2 * max(1, command.repeated)]:
        places: set[int] = set()
        words = [b"%d" % at for at in range(number)]
        for keys in command.about.keys:
            if keys.counted:
                words[keys.first] = b"%d" % ((number - 1 - keys.first) // keys.step)
            places.update(keys.places(words))
        assert {at for at in range(1, number) if command.kind_of(at) == KEY} == places
        assert command.keys(words) == [words[at] for at in sorted(places)]
