"""What etcd answers (``rpc.proto``), understood as tuples."""

from typing import Final, NamedTuple

from kvs.adapters.storage.etcd.client.wire import WireError, numbers_and_bytes, signed

PUT: Final = 0
DELETE: Final = 1


class Header(NamedTuple):
    """What every answer says of its sender. ``revision`` is that of the store when the answer was made."""

    cluster_id: int = 0
    member_id: int = 0
    revision: int = 0
    raft_term: int = 0


class KeyValue(NamedTuple):
    """A key as it was at some revision; of a deleted one, only the key and when it was deleted (``mod_revision``)."""

    key: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    value: bytes = b""
    lease: int = 0


class RangeResult(NamedTuple):
    """Keys of a range; ``more`` follow behind the last, and ``total`` are in the whole range."""

    header: Header
    kvs: tuple[KeyValue, ...]
    more: bool
    total: int


class TxnResult(NamedTuple):
    """Whether all compares held, and what the operations of that branch found: ranges only, the others are None."""

    header: Header
    succeeded: bool
    ranges: tuple[RangeResult | None, ...]


class Lease(NamedTuple):
    """A lease. ``ttl_s`` is what is left of it, or -1 if it has expired or never was."""

    header: Header
    id: int
    ttl_s: int


class Member(NamedTuple):
    """A member of the cluster; one that has not started has no name."""

    id: int
    name: str
    client_urls: tuple[str, ...]
    is_learner: bool


class Alarm(NamedTuple):
    """An alarm, and the member that raised it."""

    member_id: int
    kind: int


class Status(NamedTuple):
    """What a member says of itself; ``leader`` is 0 if it knows none, ``quota_bytes`` before etcd 3.6."""

    header: Header
    version: str = ""
    db_size_bytes: int = 0
    db_used_bytes: int = 0
    leader: int = 0
    raft_index: int = 0
    raft_term: int = 0
    quota_bytes: int = 0
    errors: tuple[str, ...] = ()


class Event(NamedTuple):
    """A change: ``PUT`` or ``DELETE``."""

    kind: int
    kv: KeyValue


class WatchAnswer(NamedTuple):
    """One message of a watch."""

    header: Header
    created: bool
    cancelled: bool
    compact_revision: int
    reason: str
    fragment: bool
    events: tuple[Event, ...]


def header_of(message: bytes) -> Header:
    """Return the header of any answer but that of a watch: its first field."""
    for field, _, data in numbers_and_bytes(message):
        if field == 1:
            return _header(data)
    return Header()


def _header(data: bytes) -> Header:
    values = [0, 0, 0, 0]
    for field, number, _ in numbers_and_bytes(data):
        if 1 <= field <= 4:
            values[field - 1] = number
    return Header(*values)


def _key_value(data: bytes) -> KeyValue:
    key = value = b""
    numbers = [0] * 7
    for field, number, content in numbers_and_bytes(data):
        if field == 1:
            key = content
        elif field == 5:
            value = content
        elif field < 7:
            numbers[field] = number
    return KeyValue(key, numbers[2], numbers[3], numbers[4], value, signed(numbers[6]))


def range_result(message: bytes) -> RangeResult:
    header = Header()
    kvs: list[KeyValue] = []
    more = False
    count = 0
    for field, number, data in numbers_and_bytes(message):
        if field == 1:
            header = _header(data)
        elif field == 2:
            kvs.append(_key_value(data))
        elif field == 3:
            more = bool(number)
        elif field == 4:
            count = number
    return RangeResult(header, tuple(kvs), more, count)


def txn_result(message: bytes) -> TxnResult:
    header = Header()
    succeeded = False
    ranges: list[RangeResult | None] = []
    for field, number, data in numbers_and_bytes(message):
        if field == 1:
            header = _header(data)
        elif field == 2:
            succeeded = bool(number)
        elif field == 3:
            found = [content for kind, _, content in numbers_and_bytes(data) if kind == 1]
            ranges.append(range_result(found[0]) if found else None)
    return TxnResult(header, succeeded, tuple(ranges))


def lease_result(message: bytes) -> Lease:
    """Understand the answers to granting a lease, and to keeping it alive."""
    header = Header()
    numbers = [0] * 4
    for field, number, data in numbers_and_bytes(message):
        if field == 1:
            header = _header(data)
        elif field < 4:
            numbers[field] = signed(number)
    return Lease(header, numbers[2], numbers[3])


def members_result(message: bytes) -> tuple[Member, ...]:
    return tuple(_member(data) for field, _, data in numbers_and_bytes(message) if field == 2)


def _member(data: bytes) -> Member:
    number = 0
    name = ""
    urls: list[str] = []
    learner = False
    for field, value, content in numbers_and_bytes(data):
        if field == 1:
            number = value
        elif field == 2:
            name = _text(content)
        elif field == 4:
            urls.append(_text(content))
        elif field == 5:
            learner = bool(value)
    return Member(number, name, tuple(urls), learner)


def alarms_result(message: bytes) -> tuple[Alarm, ...]:
    alarms: list[Alarm] = []
    for field, _, data in numbers_and_bytes(message):
        if field == 2:
            numbers = {number: value for number, value, _ in numbers_and_bytes(data)}
            alarms.append(Alarm(numbers.get(1, 0), numbers.get(2, 0)))
    return tuple(alarms)


def status_result(message: bytes) -> Status:
    header = Header()
    version = ""
    errors: list[str] = []
    numbers = [0] * 14
    for field, number, data in numbers_and_bytes(message):
        if field == 1:
            header = _header(data)
        elif field == 2:
            version = _text(data)
        elif field == 8:
            errors.append(_text(data))
        elif field < len(numbers):
            numbers[field] = number
    return Status(
        header,
        version,
        db_size_bytes=numbers[3],
        db_used_bytes=numbers[9],
        leader=numbers[4],
        raft_index=numbers[5],
        raft_term=numbers[6],
        quota_bytes=numbers[12],
        errors=tuple(errors),
    )


def token_of(message: bytes) -> str:
    """Return the token of an answer to Authenticate."""
    for field, _, data in numbers_and_bytes(message):
        if field == 2:
            return _text(data)
    raise WireError("no token")


def watch_answer(message: bytes) -> WatchAnswer:
    header = Header()
    numbers = [0] * 8
    reason = ""
    events: list[Event] = []
    for field, number, data in numbers_and_bytes(message):
        if field == 1:
            header = _header(data)
        elif field == 6:
            reason = _text(data)
        elif field == 11:
            events.append(_event(data))
        elif field < 8:
            numbers[field] = number
    return WatchAnswer(header, bool(numbers[3]), bool(numbers[4]), numbers[5], reason, bool(numbers[7]), tuple(events))


def _event(data: bytes) -> Event:
    kind = PUT
    kv = KeyValue()
    for field, number, content in numbers_and_bytes(data):
        if field == 1:
            kind = number
        elif field == 2:
            kv = _key_value(content)
    return Event(kind, kv)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
