"""Dumps and loads of a storage engine, without a process around them."""

import io
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.adapters.storage.memory.storage import MemoryStorage
from kvs.domain.errors import TimedOutError
from kvs.domain.keyspace import clients_key, stored_key
from kvs.domain.values import MAX_DEADLINE_MS, Key, Record, Value, deadline_of, entry_bytes
from kvs.dump.engine_endpoint import PAGE_KEYS, SYNC_BYTES, SYNC_ENTRIES, EngineSink, EngineSource
from kvs.dump.errors import DumpError
from kvs.dump.format import HEADER, clock_line, entry_line, trailer_line
from kvs.dump.loader import MAX_PROBLEMS, Loaded, load, longest_line_bytes
from kvs.dump.writer import dump
from kvs.ports.storage import Storage
from kvs.testing.leak_checked_storage import LeakCheckedStorage
from tests.support.naive_storage import NaiveStorage
from tests.support.scripted_storage import GO_ON, Behaviour, ScriptedStorage, raising, returning

pytestmark = pytest.mark.one_build

UNLIMITED = 1 << 40
ENGINES: dict[str, Callable[[], Storage]] = {"memory": lambda: MemoryStorage(0, UNLIMITED), "naive": NaiveStorage}

engines = pytest.mark.parametrize("open_engine", ENGINES.values(), ids=ENGINES)


class Pipe(io.BytesIO):
    """What cannot be read twice."""

    def seekable(self) -> bool:
        """Return that it cannot."""
        return False


NOW_MS = 1764350000000


def dumped(storage: Storage, now_ms: int = NOW_MS) -> bytes:
    """Return a dump of an engine."""
    counted = LeakCheckedStorage(storage)
    output = io.BytesIO()
    source = EngineSource(counted, now_ms)
    dump(source, output)
    source.close()
    assert counted.open_snapshots == 0
    assert counted.misuses == []
    return output.getvalue()


def load_into(storage: Storage, stream: io.BytesIO, max_key_bytes: int = 100, max_value_bytes: int = 1000) -> int:
    """Load a dump into an engine; return how many entries are said to be durable."""
    return loaded(storage, stream, max_key_bytes, max_value_bytes).stored


def loaded(
    storage: Storage,
    stream: io.BytesIO,
    max_key_bytes: int = 100,
    max_value_bytes: int = 1000,
    *,
    now_ms: int = NOW_MS,
    records: bool = True,
    extend: bool = False,
) -> Loaded:
    """Load a dump into an engine."""
    sink = EngineSink(storage, max_key_bytes, max_value_bytes, records=records, clock=lambda: now_ms / 1000)
    done = load(stream, sink, longest_line_bytes(max_key_bytes, max_value_bytes), extend=extend)
    assert done.stored == sink.stored
    return done


def filled(storage: Storage, data: Mapping[Key, Value]) -> Storage:
    """Return an engine with data in it."""
    for key, value in data.items():
        storage.put(stored_key(key), value)
    storage.sync()
    return storage


def contents(storage: Storage) -> dict[Key, Value | None]:
    """Return all the data, by the keys that clients have."""
    return {clients_key(key): storage.get(key) for key in storage.scan(b"", b"", 1 << 30)}


LIVING = st.builds(Record, st.binary(max_size=100), st.integers(NOW_MS + 1, MAX_DEADLINE_MS))
VALUES: st.SearchStrategy[Value] = st.one_of(st.binary(max_size=1000), LIVING)
KEYS = st.one_of(st.binary(min_size=1, max_size=100), st.binary(max_size=99).map(lambda rest: b"\xff" + rest))


@engines
@given(data=st.dictionaries(KEYS, VALUES, max_size=20))
def test_any_data_survives(open_engine: Callable[[], Storage], data: dict[Key, Value]) -> None:
    """Through a file and through a pipe, and the dump of what was loaded is the very same."""
    written = dumped(filled(open_engine(), data))
    for kind in (io.BytesIO, Pipe):
        copy = open_engine()
        assert load_into(copy, kind(written)) == len(data)
        assert contents(copy) == data
        assert dumped(copy) == written


@engines
@pytest.mark.parametrize("count", [0, 1, PAGE_KEYS - 1, PAGE_KEYS, PAGE_KEYS + 1, 2 * PAGE_KEYS])
def test_a_dump_has_every_key_once_and_in_order(open_engine: Callable[[], Storage], count: int) -> None:
    """Whole pages, and a last one of any length."""
    data = {b"%06d" % number: b"v" for number in range(count)}
    expected = [HEADER, *(entry_line(key, value) for key, value in data.items()), trailer_line(count)]
    assert dumped(filled(open_engine(), data)) == b"".join(expected)


def test_a_load_overwrites_and_leaves_the_rest_alone() -> None:
    """It merges; and of a key that is there twice, the later entry counts."""
    storage = filled(NaiveStorage(), {b"a": b"old", b"b": b"old"})
    assert load_into(storage, io.BytesIO(b"".join(entry_line(b"a", value) for value in (b"1", b"2")))) == 2
    assert contents(storage) == {b"a": b"2", b"b": b"old"}


def test_a_load_begins_where_the_file_is() -> None:
    """As with a redirection that something else has read from before."""
    storage = NaiveStorage()
    stream = io.BytesIO(b"not for us\n" + entry_line(b"a", b"1"))
    stream.readline()
    assert load_into(storage, stream) == 1
    assert contents(storage) == {b"a": b"1"}


def syncing(*failing: int) -> tuple[ScriptedStorage, list[int]]:
    """Return an engine, and how much has been put before each sync; the syncs of these numbers fail."""
    synced: list[int] = []
    waiting: list[int] = []

    def put(key: Key, value: Value) -> object:
        waiting.append(entry_bytes(key, value))
        return GO_ON

    def sync() -> None:
        if len(synced) in failing:
            raise RuntimeError("the disk is gone")
        assert sum(waiting[:-1]) < SYNC_BYTES
        synced.append(len(waiting))
        waiting.clear()

    return ScriptedStorage({"put": put, "sync": sync}), synced


def test_a_load_makes_durable_little_by_little_and_all_in_the_end() -> None:
    """Many small entries, and few large ones."""
    storage, synced = syncing()
    lines = [entry_line(b"%d" % number, b"") for number in range(2 * SYNC_ENTRIES + 5)]
    assert load_into(storage, io.BytesIO(b"".join(lines))) == len(lines)
    assert synced == [SYNC_ENTRIES, SYNC_ENTRIES, 5]
    storage, synced = syncing()
    lines = [entry_line(b"%d" % number, bytes(SYNC_BYTES // 2)) for number in range(5)]
    assert load_into(storage, Pipe(b"".join(lines)), max_value_bytes=SYNC_BYTES) == 5
    assert synced == [2, 2, 1]


def test_what_is_not_durable_does_not_count_as_loaded() -> None:
    """The message tells how many are."""
    storage, _ = syncing(1)
    lines = [entry_line(b"%d" % number, b"") for number in range(2 * SYNC_ENTRIES)]
    outcome = f"{SYNC_ENTRIES:,} entries were loaded, and up to {SYNC_ENTRIES:,} more may have been"
    with pytest.raises(DumpError, match=f"disk is gone.*; {outcome}"):
        load_into(storage, io.BytesIO(b"".join(lines)))


def test_a_limit_of_the_engine_is_told_with_the_line_and_what_came_before_is_kept() -> None:
    """And is durable."""
    storage = MemoryStorage(2 * entry_bytes(b"a", b"1"), UNLIMITED)
    lines = [HEADER, *(entry_line(key, b"1") for key in (b"a", b"b", b"c", b"d")), trailer_line(4)]
    with pytest.raises(DumpError, match=r"^line 4: limit: The data set is full.*[^.]; 2 entries were loaded$"):
        load_into(storage, io.BytesIO(b"".join(lines)))
    assert contents(storage) == {b"a": b"1", b"b": b"1"}


def test_an_engine_that_breaks_its_contract_ends_a_load() -> None:
    """In one line."""
    with pytest.raises(DumpError, match=r"the storage engine failed: .*; nothing was loaded$"):
        load_into(ScriptedStorage({"put": raising(ZeroDivisionError())}), io.BytesIO(entry_line(b"a", b"1")))


GOOD = entry_line(b"a", b"1")
LONG_KEY, LONG_VALUE = entry_line(b"k" * 101, b""), entry_line(b"k", b"v" * 1001)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GOOD + LONG_KEY, "line 2: the key has 101 bytes; max_key_bytes is 100"),
        (GOOD + LONG_VALUE, "line 2: the value has 1001 bytes; max_value_bytes is 1000"),
        (GOOD + b"nonsense\n", "line 2: not a valid entry"),
        (HEADER + GOOD, "truncated after line 2"),
        (b"", "empty"),
    ],
)
def test_a_file_is_checked_whole_before_anything_is_stored(data: bytes, words: str) -> None:
    """A pipe cannot be: what comes before the mistake is stored."""
    storage = NaiveStorage()
    with pytest.raises(DumpError) as refused:
        load_into(storage, io.BytesIO(data))
    assert words in str(refused.value)
    assert str(refused.value).endswith("; nothing was loaded")
    assert contents(storage) == {}
    stored = int(GOOD in data)
    with pytest.raises(DumpError) as refused:
        load_into(storage, Pipe(data))
    assert words in str(refused.value)
    assert str(refused.value).endswith("; 1 entry was loaded" if stored else "; nothing was loaded")
    assert contents(storage) == ({b"a": b"1"} if stored else {})


def test_longest_key_and_value_are_taken() -> None:
    """Of control characters even, which are the longest to write."""
    assert load_into(NaiveStorage(), io.BytesIO(entry_line(b"\x01" * 100, b"\x02" * 1000))) == 1


@pytest.mark.parametrize("count", [2, MAX_PROBLEMS - 1, MAX_PROBLEMS, MAX_PROBLEMS + 1, 100 * MAX_PROBLEMS])
def test_a_check_tells_of_several_mistakes_and_not_of_thousands(count: int) -> None:
    """One line each."""
    storage = NaiveStorage()
    with pytest.raises(DumpError) as refused:
        load_into(storage, io.BytesIO(GOOD + b"nonsense\n" * count + GOOD))
    first, *lines = str(refused.value).splitlines()
    assert first == f"nothing was loaded; {f'the first {MAX_PROBLEMS} ' if count >= MAX_PROBLEMS else ''}errors:"
    assert [line.split(":")[0] for line in lines] == [f"  line {at + 2}" for at in range(min(count, MAX_PROBLEMS))]
    assert contents(storage) == {}


def torn(key: Key) -> object:
    """Read one key of two."""
    if key == b"b":
        raise TimedOutError("The snapshot was given up.")
    return GO_ON


@pytest.mark.parametrize(
    ("keys", "method", "behaviour", "words"),
    [
        ([b"a", b"b"], "Snapshot.get", torn, "The snapshot was given up"),
        ([b"a"], "Snapshot.count", returning(2), "expected 2 entries, got 1"),
    ],
)
def test_a_dump_that_fails_has_no_last_line(keys: list[Key], method: str, behaviour: Behaviour, words: str) -> None:
    """So that nobody takes it for a whole one."""
    storage = ScriptedStorage()
    for key in keys:
        storage.put(key, b"1")
    storage.on[method] = behaviour
    output = io.BytesIO()
    with pytest.raises(DumpError, match=words):
        dump(EngineSource(storage, NOW_MS), output)
    assert output.getvalue() == HEADER + GOOD


# Deadlines.

PLAIN, EARLY, LATE = b"1", Record(b"2", NOW_MS + 10), Record(b"3", NOW_MS + 1000)


def memory(*records: Value) -> MemoryStorage:
    """Return an engine with values under the keys ``a``, ``b``, and so on."""
    storage = MemoryStorage(0, UNLIMITED)
    for number, value in enumerate(records):
        storage.put(b"%c" % (ord("a") + number), value)
    return storage


def test_the_time_comes_before_the_first_deadline() -> None:
    """A dump without deadlines has none, so that version 0.1.0 can read it."""
    assert dumped(memory(PLAIN, EARLY, LATE)).splitlines(keepends=True) == [
        HEADER,
        entry_line(b"a", PLAIN),
        clock_line(NOW_MS),
        entry_line(b"b", EARLY),
        entry_line(b"c", LATE),
        trailer_line(3),
    ]
    assert b"time" not in dumped(memory(PLAIN))


@pytest.mark.parametrize("kind", [io.BytesIO, Pipe])
def test_what_is_due_is_not_loaded(kind: type[io.BytesIO]) -> None:
    """Nor does it touch the key that is there; and it is told how many there were."""
    written = dumped(memory(PLAIN, EARLY, LATE))
    for now_ms, expected in ((EARLY.deadline_ms - 1, [PLAIN, EARLY, LATE]), (EARLY.deadline_ms, [PLAIN, b"old", LATE])):
        storage = memory(b"old", b"old", b"old")
        done = loaded(storage, kind(written), now_ms=now_ms)
        assert list(contents(storage).values()) == expected
        assert done == Loaded(2 + (b"old" not in expected), b"old" in expected)


def test_a_dump_can_be_extended() -> None:
    """A day later everything has the time left that it had, and what was due then is due."""
    day_ms = 86_400_000
    written = dumped(memory(PLAIN, EARLY, LATE))
    assert loaded(memory(), io.BytesIO(written), now_ms=NOW_MS + day_ms) == Loaded(1, 2)
    storage = memory()
    assert loaded(storage, io.BytesIO(written), now_ms=NOW_MS + day_ms, extend=True) == Loaded(3, 0)
    deadlines = [deadline_of(value) for value in contents(storage).values()]
    assert deadlines == [0, EARLY.deadline_ms + day_ms, LATE.deadline_ms + day_ms]
    by_hand = written.replace(clock_line(NOW_MS), clock_line(EARLY.deadline_ms))
    assert loaded(memory(), io.BytesIO(by_hand), now_ms=NOW_MS + day_ms, extend=True) == Loaded(2, 1)


def test_what_is_due_is_not_dumped() -> None:
    """It goes before the snapshot, so the number of entries is right."""
    dump_then = dumped(memory(PLAIN, EARLY, LATE), EARLY.deadline_ms)
    assert dump_then == b"".join(
        [HEADER, entry_line(b"a", PLAIN), clock_line(EARLY.deadline_ms), entry_line(b"c", LATE), trailer_line(2)]
    )


def test_the_clock_of_the_engine_counts_if_it_is_later() -> None:
    """As at a start."""
    storage = ScriptedStorage({"horizon_ms": returning(NOW_MS)})
    assert EngineSource(storage, NOW_MS - 5).time_ms == NOW_MS
    assert EngineSource(storage, NOW_MS + 5).time_ms == NOW_MS + 5
    assert EngineSink(storage, 1, 1, clock=lambda: 1.0).now_ms() == NOW_MS


def test_a_dump_is_as_of_its_beginning_though_everything_falls_due() -> None:
    """The snapshot keeps what expires meanwhile."""
    storage = MemoryStorage(0, UNLIMITED)
    data = {b"%06d" % number: Record(b"v", NOW_MS + 1) for number in range(5 * PAGE_KEYS)}
    filled(storage, data)
    source = EngineSource(storage, NOW_MS)
    entries = source.entries()
    found = dict([next(entries)])
    while storage.earliest_deadline_ms() <= NOW_MS + 1:
        storage.expire(NOW_MS + 1, 1000)
    assert storage.count(b"") == 0
    assert found | dict(entries) == data
    source.close()


def test_an_engine_without_records_takes_no_deadlines() -> None:
    """It is told with the line."""
    written = dumped(memory(PLAIN, EARLY))
    with pytest.raises(DumpError, match="line 4: the storage engine does not store deadlines; nothing was loaded"):
        loaded(NaiveStorage(), io.BytesIO(written), records=False)


def test_what_is_reserved_is_not_dumped() -> None:
    """Nor counted."""
    storage = filled(MemoryStorage(0, UNLIMITED), {b"a": b"1", b"\xff": b"2", b"\xff\xff": b"3"})
    storage.put(b"\xff\0ours", b"4")
    storage.put(b"\xff\xfeours", b"5")
    lines = [entry_line(key, value) for key, value in ((b"a", b"1"), (b"\xff", b"2"), (b"\xff\xff", b"3"))]
    assert dumped(storage) == b"".join([HEADER, *lines, trailer_line(3)])


def test_a_type_that_is_not_known_is_not_dumped() -> None:
    """It is told with the key."""
    with pytest.raises(DumpError, match="cannot dump the type that this key has: b'b'"):
        dumped(memory(PLAIN, Record(b"", 0, 5)))
