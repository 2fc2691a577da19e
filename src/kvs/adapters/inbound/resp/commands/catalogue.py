"""The table of all commands, by name: it checks arguments, finds keys, and feeds COMMAND.

For Redis's commands it is that of Redis 7.0, as ``tests/interop/test_commands.py`` checks. The summaries are kvs's own.
"""

from typing import Final, NamedTuple

from kvs.adapters.inbound.resp.commands import catalogue_of_roles, catalogue_of_users
from kvs.domain.errors import UsageError

COUNT_DIGITS: Final = 10
"""Longest number of keys."""

CATEGORIES: Final = (
    *("keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo"),
    *("stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting"),
)
"""Redis's categories, in its order."""

OF_FLAGS: Final = {
    "readonly": ("read",),
    "write": ("write",),
    "admin": ("admin", "dangerous"),
    "fast": ("fast",),
    "pubsub": ("pubsub",),
}
"""Categories implied by flags; commands that are not fast are slow."""


class Keys(NamedTuple):
    """Arguments that are keys.

    Attributes:
        flags: How the command uses them, in Redis's words.
        first: Position of the first.
        last: Distance of the last from the first; negative: counted from the end.
        step: Step from one to the next.
        counted: At ``first`` is the number of keys instead, and ``last`` is the distance of the first key from it.
    """

    flags: tuple[str, ...]
    first: int
    last: int
    step: int
    counted: bool = False

    def places(self, arguments: list[bytes]) -> range:
        """Return the positions of the keys in a request.

        Raises:
            UsageError: The number of keys is wrong.
        """
        if not self.counted:
            end = (self.first + self.last if self.last >= 0 else len(arguments) + self.last) + 1
            return range(self.first, end, self.step)
        number = arguments[self.first]
        first = self.first + self.last
        keys = int(number) if number.isdigit() and len(number) < COUNT_DIGITS else 0
        if not 0 < keys * self.step <= len(arguments) - first:
            raise UsageError("Invalid arguments specified for command")
        return range(first, first + keys * self.step, self.step)


class About(NamedTuple):
    """The entry of a command.

    Attributes:
        arity: Number of arguments, including its name; negative: so many or more.
        since: The first version of Redis, or of kvs, that has it.
        group: As in COMMAND DOCS.
        flags: As in COMMAND INFO.
        categories: As in COMMAND INFO, in the order of :data:`CATEGORIES`.
        keys: Positions of its keys.
        summary: A sentence for people.
        tips: As in COMMAND INFO.
    """

    arity: int
    since: str
    group: str
    flags: tuple[str, ...]
    categories: tuple[str, ...]
    keys: tuple[Keys, ...]
    summary: str
    tips: tuple[str, ...]

    @property
    def key_range(self) -> tuple[int, int, int]:
        """Position of the first key, or 0; position of the last, negative if counted from the end; and the step.

        0 if requests have different numbers of keys, and something after them.
        """
        if not self.keys or self.keys[0].counted:
            return 0, 0, 0
        first, last = self.keys[0], self.keys[-1]
        return first.first, last.last if last.last < 0 else last.first + last.last, first.step


TABLE: Final = """
get | 2 | 1.0.0 | string | readonly fast | string | RO access 1 0 1
    Returns the value of a key.
set | -3 | 1.0.0 | string | write denyoom | string | RW access update variable_flags 1 0 1
    Stores a value, if NX or XX hold; may return the old.
setnx | 3 | 1.0.0 | string | write denyoom fast | string | OW insert 1 0 1
    Stores a value if the key does not exist.
setex | 4 | 2.0.0 | string | write denyoom | string | OW update 1 0 1
    Stores a value that expires, in seconds.
psetex | 4 | 2.6.0 | string | write denyoom | string | OW update 1 0 1
    Stores a value that expires, in milliseconds.
getex | -2 | 6.2.0 | string | write fast | string | RW access update 1 0 1
    Returns the value of a key and sets or removes its deadline.
delex | -2 | 8.4.0 | string | write fast | string | RW access delete variable_flags 1 0 1
    Deletes a key, if its value is equal to another, or is not.
delifeq | 3 | 9.0.0 | string | write fast | string | RW access delete 1 0 1
    Deletes a key if its value is equal to another.
getset | 3 | 1.0.0 | string | write denyoom fast | string | RW access update 1 0 1
    Stores a value and returns the old one.
getdel | 2 | 6.2.0 | string | write fast | string | RW access delete 1 0 1
    Returns the value of a key and deletes it.
append | 3 | 2.0.0 | string | write denyoom fast | string | RW insert 1 0 1
    Appends bytes to a value.
strlen | 2 | 2.2.0 | string | readonly fast | string | RO 1 0 1
    Returns the length of a value in bytes.
getrange | 4 | 2.4.0 | string | readonly | string | RO access 1 0 1
    Returns part of a value.
setrange | 4 | 2.2.0 | string | write denyoom | string | RW update 1 0 1
    Overwrites part of a value.
incr | 2 | 1.0.0 | string | write denyoom fast | string | RW access update 1 0 1
    Adds one to a number.
decr | 2 | 1.0.0 | string | write denyoom fast | string | RW access update 1 0 1
    Subtracts one from a number.
incrby | 3 | 1.0.0 | string | write denyoom fast | string | RW access update 1 0 1
    Adds to a number.
decrby | 3 | 1.0.0 | string | write denyoom fast | string | RW access update 1 0 1
    Subtracts from a number.
incrbyfloat | 3 | 2.6.0 | string | write denyoom fast | string | RW access update 1 0 1
    Adds to a decimal number.
mget | -2 | 1.0.0 | string | readonly fast | string | RO access 1 -1 1
    Returns the values of keys, at one moment. | request_policy:multi_shard
mset | -3 | 1.0.1 | string | write denyoom | string | OW update 1 -1 2
    Stores values, all of them at once. | request_policy:multi_shard response_policy:all_succeeded
msetnx | -3 | 1.0.1 | string | write denyoom | string | OW insert 1 -1 2
    Stores values if none of the keys exists. | request_policy:multi_shard response_policy:agg_min
setbit | 4 | 2.2.0 | bitmap | write denyoom | bitmap | RW access update 1 0 1
    Sets or clears a bit of a value.
getbit | 3 | 2.2.0 | bitmap | readonly fast | bitmap | RO access 1 0 1
    Returns a bit of a value.
bitcount | -2 | 2.6.0 | bitmap | readonly | bitmap | RO access 1 0 1
    Counts the bits of a value that are set.
bitpos | -3 | 2.8.7 | bitmap | readonly | bitmap | RO access 1 0 1
    Finds the first bit of a value that is set, or clear.
bitop | -4 | 2.6.0 | bitmap | write denyoom | bitmap | OW update 2 0 1; RO access 3 -1 1
    Combines the bits of values, and stores the result.
bitfield | -2 | 3.2.0 | bitmap | write denyoom | bitmap | RW access update variable_flags 1 0 1
    Reads and writes integers of any width in a value.
bitfield_ro | -2 | 6.0.0 | bitmap | readonly fast | bitmap | RO access 1 0 1
    Reads integers of any width in a value.
lcs | -3 | 7.0.0 | string | readonly | string | RO access 1 1 1
    Finds the longest common subsequence of two values.
msetex | -4 | 8.4.0 | string | write denyoom movablekeys | string | OW update numkeys 1 1 2
    Stores values, all of them at once, if NX or XX hold for all; they may expire.
exists | -2 | 1.0.0 | generic | readonly fast | keyspace | RO 1 -1 1
    Counts the keys that exist. | request_policy:multi_shard response_policy:agg_sum
touch | -2 | 3.2.1 | generic | readonly fast | keyspace | RO 1 -1 1
    The same as EXISTS: accesses are not recorded. | request_policy:multi_shard response_policy:agg_sum
del | -2 | 1.0.0 | generic | write | keyspace | RM delete 1 -1 1
    Deletes keys, all of them at once. | request_policy:multi_shard response_policy:agg_sum
unlink | -2 | 4.0.0 | generic | write fast | keyspace | RM delete 1 -1 1
    The same as DEL. | request_policy:multi_shard response_policy:agg_sum
type | 2 | 1.0.0 | generic | readonly fast | keyspace | RO 1 0 1
    Returns string, or none.
keys | 2 | 1.0.0 | generic | readonly | keyspace dangerous |
    Lists the keys that match a pattern. | request_policy:all_shards nondeterministic_output_order
scan | -2 | 2.8.0 | generic | readonly | keyspace |
    Lists keys, some at a time. | nondeterministic_output request_policy:special
randomkey | 1 | 1.0.0 | generic | readonly | keyspace |
    Returns any key. | request_policy:all_shards nondeterministic_output
rename | 3 | 1.0.0 | generic | write | keyspace | RW access delete 1 0 1; OW update 2 0 1
    Renames a key.
renamenx | 3 | 1.0.0 | generic | write fast | keyspace | RW access delete 1 0 1; OW insert 2 0 1
    The same, if that key is not there.
copy | -3 | 6.2.0 | generic | write denyoom | keyspace | RO access 1 0 1; OW update 2 0 1
    Stores a value under another key as well.
expire | -3 | 1.0.0 | generic | write fast | keyspace | RW update 1 0 1
    Makes a key expire, in seconds from now.
pexpire | -3 | 2.6.0 | generic | write fast | keyspace | RW update 1 0 1
    Makes a key expire, in milliseconds from now.
expireat | -3 | 1.2.0 | generic | write fast | keyspace | RW update 1 0 1
    Makes a key expire at a Unix time in seconds.
pexpireat | -3 | 2.6.0 | generic | write fast | keyspace | RW update 1 0 1
    Makes a key expire at a Unix time in milliseconds.
persist | 2 | 2.2.0 | generic | write fast | keyspace | RW update 1 0 1
    Removes the deadline of a key.
ttl | 2 | 1.0.0 | generic | readonly fast | keyspace | RO access 1 0 1
    Returns how long a key will exist, in seconds. | nondeterministic_output
pttl | 2 | 2.6.0 | generic | readonly fast | keyspace | RO access 1 0 1
    Returns how long a key will exist, in milliseconds. | nondeterministic_output
expiretime | 2 | 7.0.0 | generic | readonly fast | keyspace | RO access 1 0 1
    Returns the deadline of a key as a Unix time in seconds.
pexpiretime | 2 | 7.0.0 | generic | readonly fast | keyspace | RO access 1 0 1
    Returns the deadline of a key as a Unix time in milliseconds.
object | -2 | 2.2.3 | generic |  |  |
    Describes how values are stored.
object|encoding | 3 | 2.2.3 | generic | readonly | keyspace | RO 2 0 1
    Returns raw: values are bytes. | nondeterministic_output
object|freq | 3 | 4.0.0 | generic | readonly | keyspace | RO 2 0 1
    Is refused: accesses are not counted. | nondeterministic_output
object|help | 2 | 6.2.0 | generic | loading stale | keyspace |
    Lists the subcommands.
object|idletime | 3 | 2.2.3 | generic | readonly | keyspace | RO 2 0 1
    Is refused: accesses are not recorded. | nondeterministic_output
object|refcount | 3 | 2.2.3 | generic | readonly | keyspace | RO 2 0 1
    Returns 1: values are not shared. | nondeterministic_output
memory | -2 | 4.0.0 | server |  |  |
    Describes the memory that keys take.
memory|help | 2 | 4.0.0 | server | loading stale |  |
    Lists the subcommands.
memory|usage | -3 | 4.0.0 | server | readonly |  | RO 2 0 1
    Returns what a key is charged for, as limits count it.
move | 3 | 1.0.0 | generic | write fast | keyspace | RW access update 1 0 1
    Is refused: there is one database.
swapdb | 3 | 4.0.0 | server | write fast | keyspace dangerous |
    Is refused: there is one database.
dbsize | 1 | 1.0.0 | server | readonly fast | keyspace |
    Returns the number of keys. | request_policy:all_shards response_policy:agg_sum
flushdb | -1 | 1.0.0 | server | write | keyspace dangerous |
    Deletes every key. | request_policy:all_shards response_policy:all_succeeded
flushall | -1 | 1.0.0 | server | write | keyspace dangerous |
    Deletes every key. | request_policy:all_shards response_policy:all_succeeded
multi | 1 | 1.2.0 | transactions | noscript loading stale fast allow_busy | transaction |
    Begins a queue of commands.
exec | 1 | 1.2.0 | transactions | noscript loading stale skip_slowlog | transaction |
    Runs the queue as one transaction, if nothing watched has changed.
discard | 1 | 2.0.0 | transactions | noscript loading stale fast allow_busy | transaction |
    Drops the queue.
watch | -2 | 2.2.0 | transactions | noscript loading stale fast allow_busy | transaction | RO 1 -1 1
    Makes the next EXEC depend on keys.
unwatch | 1 | 2.2.0 | transactions | noscript loading stale fast allow_busy | transaction |
    Stops watching all keys.
start | -1 | 0.1.0 | transactions | noscript fast | transaction |
    Opens a transaction, or one nested in it; READONLY: refuses writes.
commit | 1 | 0.1.0 | transactions | noscript | transaction |
    Keeps the innermost; the outermost is applied, or answers CONFLICT.
rollback | 1 | 0.1.0 | transactions | noscript fast | transaction |
    Undoes the innermost.
ping | -1 | 1.0.0 | connection | fast | connection |
    Returns PONG, or its argument. | request_policy:all_shards response_policy:all_succeeded
echo | 2 | 1.0.0 | connection | loading stale fast | connection |
    Returns its argument.
quit | -1 | 1.0.0 | connection | noscript loading stale fast no_auth allow_busy | connection |
    Ends the connection.
reset | 1 | 6.2.0 | connection | noscript loading stale fast no_auth allow_busy | connection |
    Resets the connection.
select | 2 | 1.0.0 | connection | loading stale fast | connection |
    Chooses a database; there is one, 0.
hello | -1 | 6.0.0 | connection | noscript loading stale fast no_auth allow_busy | connection |
    Chooses the version of the protocol.
client | -2 | 2.4.0 | connection |  |  |
    Describes and closes connections.
client|caching | 3 | 6.0.0 | connection | noscript loading stale | connection |
    Tracks the keys of the next command, or not, against the rule.
client|getname | 2 | 2.6.9 | connection | noscript loading stale | connection |
    Returns the name that was set.
client|getredir | 2 | 6.0.0 | connection | noscript loading stale | connection |
    Returns 0: messages come to this connection; or -1 if there are none.
client|help | 2 | 5.0.0 | connection | loading stale | connection |
    Lists the subcommands.
client|id | 2 | 5.0.0 | connection | noscript loading stale | connection |
    Returns the number of this connection.
client|info | 2 | 6.2.0 | connection | noscript loading stale | connection |
    Describes this connection. | nondeterministic_output
client|kill | -3 | 2.4.0 | connection | admin noscript loading stale | connection |
    Closes connections.
client|list | -2 | 2.4.0 | connection | admin noscript loading stale | connection |
    Describes all connections. | nondeterministic_output
client|no-evict | 3 | 7.0.0 | connection | admin noscript loading stale | connection |
    Does nothing: clients are not evicted.
client|pause | -3 | 2.9.50 | connection | admin noscript loading stale | connection |
    Is refused: clients cannot be paused.
client|reply | 3 | 3.2.0 | connection | noscript loading stale | connection |
    Turns replies to this connection off and on.
client|setname | 3 | 2.6.9 | connection | noscript loading stale | connection |
    Names this connection, for CLIENT LIST.
client|tracking | -3 | 6.0.0 | connection | noscript loading stale | connection |
    Sends messages when keys change that were read, in RESP3.
client|trackinginfo | 2 | 6.2.0 | connection | noscript loading stale | connection |
    Tells how keys are tracked.
client|unblock | -3 | 5.0.0 | connection | admin noscript loading stale | connection |
    Returns 0: no command blocks.
client|unpause | 2 | 6.2.0 | connection | admin noscript loading stale | connection |
    Does nothing: clients are not paused.
client|setinfo | 4 | 7.2.0 | connection | noscript loading stale | connection |
    Sets the name or version of the client's library, for CLIENT LIST.
client|no-touch | 3 | 7.2.0 | connection | noscript loading stale | connection |
    Does nothing: accesses are not recorded.
time | 1 | 2.6.0 | server | loading stale fast |  |
    Returns seconds since 1970, and microseconds. | nondeterministic_output
info | -1 | 1.0.0 | server | loading stale | dangerous |
    Returns figures for people. | nondeterministic_output request_policy:all_shards response_policy:special
config | -2 | 2.0.0 | server |  |  |
    Describes parameters.
config|get | -3 | 2.0.0 | server | admin noscript loading stale |  |
    Returns parameters by the names that Redis has for them.
config|help | 2 | 5.0.0 | server | loading stale |  |
    Lists the subcommands.
config|resetstat | 2 | 2.0.0 | server | admin noscript loading stale |  |
    Sets the figures of INFO that count events to 0.
config|rewrite | 2 | 2.8.0 | server | admin noscript loading stale |  |
    Is refused: changes last until the server stops.
config|set | -4 | 2.0.0 | server | admin noscript loading stale |  |
    Changes parameters that can change while the server runs. | request_policy:all_nodes response_policy:all_succeeded
monitor | 1 | 1.0.0 | server | admin noscript loading stale |  |
    Shows the commands of all clients.
latency | -2 | 2.8.13 | server |  |  |
    Tells what has held the server up, and how long commands take.
latency|help | 2 | 2.8.13 | server | loading stale |  |
    Lists the subcommands.
latency|histogram | -2 | 7.0.0 | server | admin noscript loading stale |  |
    Counts calls by how long they took. | nondeterministic_output request_policy:all_nodes response_policy:special
latency|history | 3 | 2.8.13 | server | admin noscript loading stale |  |
    Returns when an event took long. | nondeterministic_output request_policy:all_nodes response_policy:special
latency|latest | 2 | 2.8.13 | server | admin noscript loading stale |  |
    Returns the latest events that took long. | nondeterministic_output request_policy:all_nodes response_policy:special
latency|reset | -2 | 2.8.13 | server | admin noscript loading stale |  |
    Forgets events, all of them or some. | request_policy:all_nodes response_policy:all_succeeded
slowlog | -2 | 2.2.12 | server |  |  |
    Tells of commands that took long.
slowlog|get | -2 | 2.2.12 | server | admin loading stale |  |
    Returns the latest of them. | request_policy:all_nodes nondeterministic_output
slowlog|help | 2 | 6.2.0 | server | loading stale |  |
    Lists the subcommands.
slowlog|len | 2 | 2.2.12 | server | admin loading stale |  |
    Returns how many are known. | request_policy:all_nodes response_policy:agg_sum nondeterministic_output
slowlog|reset | 2 | 2.2.12 | server | admin loading stale |  |
    Forgets all of them. | request_policy:all_nodes response_policy:all_succeeded
command | -1 | 2.8.13 | server | loading stale | connection |
    Describes commands. | nondeterministic_output_order
command|count | 2 | 2.8.13 | server | loading stale | connection |
    Returns the number of commands.
command|docs | -2 | 7.0.0 | server | loading stale | connection |
    Describes commands for people. | nondeterministic_output_order
command|getkeys | -4 | 2.8.13 | server | loading stale | connection |
    Returns the keys of a command that is given in full.
command|getkeysandflags | -4 | 7.0.0 | server | loading stale | connection |
    Returns the keys of a command that is given in full, and what becomes of each.
command|help | 2 | 5.0.0 | server | loading stale | connection |
    Lists the subcommands.
command|info | -2 | 2.8.13 | server | loading stale | connection |
    Describes commands for programs. | nondeterministic_output_order
command|list | -2 | 7.0.0 | server | loading stale | connection |
    Lists their names. | nondeterministic_output_order
"""
"""Two lines for each: name, arity, since, group, flags, categories that do not follow from flags, and keys, each with
their flags, ``numkeys`` if they are counted, first, last and step; then its summary, and tips."""

DEPRECATED: Final = {
    "getset": ("6.2.0", "`SET` with the `!GET` argument"),
    "slaveof": ("5.0.0", "`REPLICAOF`"),
    "sentinel|slaves": ("5.0.0", "`SENTINEL REPLICAS`"),
}
"""Since when, and what to use instead."""

NOTES: Final = {
    "set": "RW and ACCESS due to the optional `GET` argument",
    "bitfield": "This command allows both access and modification of the key",
    "getex": "RW and UPDATE because it changes the TTL",
}
"""On keys."""


def _read(table: str) -> dict[str, About]:
    lines = table.strip().splitlines()
    return dict(map(_about, lines[::2], lines[1::2]))


def _about(row: str, description: str) -> tuple[str, About]:
    name, arity, since, group, flags, categories, keys = row.split(" |")  # in the name of a subcommand is a bar, too
    summary, _, tips = description.strip().partition(" | ")
    named = {category for flag in flags.split() for category in OF_FLAGS.get(flag, ())} | set(categories.split())
    named |= set() if "fast" in named else {"slow"}
    about = About(
        arity=int(arity),
        since=since.strip(),
        group=group.strip(),
        flags=tuple(flags.split()),
        categories=tuple(category for category in CATEGORIES if category in named),
        keys=tuple(_keys(part.split()) for part in keys.split(";") if part.strip()),
        summary=summary,
        tips=tuple(tips.split()),
    )
    return name, about


def _keys(words: list[str]) -> Keys:
    *flags, first, last, step = words
    counted = "numkeys" in flags
    return Keys(tuple(flag for flag in flags if flag != "numkeys"), int(first), int(last), int(step), counted)


ABOUT: Final = _read(TABLE) | _read(catalogue_of_roles.TABLE) | _read(catalogue_of_users.TABLE)
