"""The sqlite engine on real files: what lasts, what is compacted, what is refused, and how it fails."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from kvs.adapters.storage.journal_writer import Row
from kvs.adapters.storage.journaled import JournaledStorage
from kvs.adapters.storage.sqlite.compaction import BATCHES, WAKE_S, Compaction
from kvs.adapters.storage.sqlite.file import NAME, connect, open_database
from kvs.adapters.storage.sqlite.journal import HORIZON_STEP_MS, JournalError, SqliteJournal
from kvs.adapters.storage.sqlite.schema import read_horizon
from kvs.config import ConfigError, Given, Settings
from kvs.domain.codec import MAX_KIND, value_of
from kvs.domain.commit import CommitRequest
from kvs.domain.values import MAX_DEADLINE_MS, NO_DEADLINE, TOMBSTONE, Key, Record, Value
from kvs.engine import StorageOpenError
from kvs.engines import open_storage
from kvs.logs import make_logger
from kvs.ports.storage import Storage
from tests.support.journals import append

pytestmark = pytest.mark.one_build

LOG = make_logger("critical", "json")
SMALL_JOURNAL = {"max_journal_bytes": Given(1 << 20, "test")}
MISUSED = "table folded|no such table|in part|damaged|missing|old|begins|order|not a database"

LATE_MS = 1 << 45
"""A time in the future."""

Contents = dict[Key, Value]


def opened(directory: Path, options: dict[str, Given] | None = None) -> AbstractContextManager[Storage]:
    """Open the engine."""
    return open_storage(Settings(storage="sqlite", data_dir=str(directory)), options or {}, LOG)


def contents(storage: Storage) -> Contents:
    """Return everything that is stored."""
    found = {key: storage.get(key) for key in storage.scan(b"", b"", 1 << 30)}
    assert storage.count(b"") == len(found)
    return {key: value for key, value in found.items() if value is not None}


def stored(directory: Path) -> Contents:
    """Return what an engine that is opened there holds."""
    with opened(directory) as storage:
        return contents(storage)


@contextmanager
def database(directory: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as the sqlite3 tool does."""
    with closing(sqlite3.connect(directory / NAME, isolation_level=None)) as connection:
        yield connection


def rows_in(connection: sqlite3.Connection, table: str) -> Contents:
    """Return the data in a table."""
    query = f"SELECT key, kind, deadline_ms, value FROM {table}"  # noqa: S608  # not from outside
    return {key: value_of(*fields) for key, *fields in connection.execute(query)}


def scribble(storage: Storage, random: Random, steps: int, value_bytes: int = 40) -> None:
    """Put, delete and commit; keys come and go."""
    for step in range(steps):
        key = b"key%d" % random.randrange(steps // 2)
        if step % 3:
            storage.put(key, value_from(random, value_bytes))
        elif step % 2:
            storage.delete(key)
        else:
            storage.commit(CommitRequest((), {key: TOMBSTONE, key + b"x": b"", b"absent": TOMBSTONE}))
        if step % 10 == 0:
            storage.sync()
    storage.sync()


# What lasts.


def test_what_was_synced_is_there_again(tmp_path: Path) -> None:
    """Puts, deletes and commits, however often it is opened; what was never synced is not."""
    with opened(tmp_path) as storage:
        scribble(storage, Random(1), 1000)
        expected = contents(storage)
        storage.put(b"never synced", b"")
    assert stored(tmp_path) == expected
    with opened(tmp_path) as storage:
        scribble(storage, Random(2), 1000)
        expected = contents(storage)
    assert stored(tmp_path) == expected


@pytest.mark.parametrize("compacted", [False, True])
def test_records_are_there_again(tmp_path: Path, compacted: bool) -> None:
    """Of every kind, with a deadline or without, and a key whose record has become a bare string, and back."""
    records: Contents = {
        b"bare": b"1",
        b"deadline": Record(b"2", LATE_MS),
        b"kind": Record(b"3", NO_DEADLINE, 1),
        b"both": Record(b"", MAX_DEADLINE_MS, MAX_KIND),
    }
    with compaction_by_hand(tmp_path) as (journal, compaction):
        for value in (Record(b"old", LATE_MS), b"old"):
            append(journal, [(key, value) for key in records])
        append(journal, list(records.items()))
        while compacted and journal.waiting_rows:
            compaction.compact()
    assert stored(tmp_path) == records
    with opened(tmp_path) as storage:
        assert storage.earliest_deadline_ms() <= LATE_MS
        assert storage.expire(LATE_MS, 100) == [b"deadline"]
        storage.sync()
    del records[b"deadline"]
    assert stored(tmp_path) == records


def test_a_deadline_before_all_that_were_stored_is_found(tmp_path: Path) -> None:
    """One that is set after a restart, and sooner than every stored one, is due at its time."""
    with opened(tmp_path) as storage:
        storage.put(b"far", Record(b"v", LATE_MS))
        storage.sync()
    with opened(tmp_path) as storage:
        storage.put(b"near", Record(b"v", LATE_MS // 2))
        assert storage.earliest_deadline_ms() <= LATE_MS // 2
        assert storage.expire(LATE_MS // 2, 100) == [b"near"]


def test_the_limit_on_data_counts_what_was_there_before(tmp_path: Path) -> None:
    """And applies to growth only: what was accepted once is served."""
    with opened(tmp_path) as storage:
        storage.put(b"k", b"v" * 1000)
        storage.sync()
    settings = Settings(storage="sqlite", data_dir=str(tmp_path), max_data_bytes=500)
    with open_storage(settings, {}, LOG) as storage:
        assert storage.get(b"k") == b"v" * 1000
        with pytest.raises(Exception, match="max_data_bytes"):
            storage.put(b"n", b"")
        assert storage.delete(b"k")
        storage.put(b"n", b"")


@pytest.mark.parametrize("durability", ["full", "normal", "off"])
def test_the_file_is_as_durable_as_was_asked(tmp_path: Path, durability: str) -> None:
    """SQLite is told so; in every case what was synced outlives the process."""
    with opened(tmp_path, {"durability": Given(durability, "test")}) as storage:
        storage.put(b"k", b"v")
        storage.sync()
        assert isinstance(storage, JournaledStorage)
    with closing(connect(tmp_path / NAME, durability)) as connection:  # type: ignore[arg-type]  # parametrized
        level = {"off": 0, "normal": 1, "full": 2}[durability]
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert stored(tmp_path) == {b"k": b"v"}


def test_the_file_can_be_read_by_the_sqlite3_tool_while_it_is_served(tmp_path: Path) -> None:
    """View ``data`` has what was committed, compacted or not."""
    with opened(tmp_path, SMALL_JOURNAL) as storage:
        scribble(storage, Random(3), 3000, 400)
        with database(tmp_path) as connection:
            assert rows_in(connection, "data") == contents(storage)


# Compaction.


@contextmanager
def compaction_by_hand(directory: Path, max_journal_bytes: int = 1 << 20) -> Iterator[tuple[SqliteJournal, Compaction]]:
    """Open a database whose compaction runs when a test says so."""
    path = directory / NAME
    with closing(open_database(path, "full")) as connection, closing(connect(path, "full")) as background:
        journal = SqliteJournal(connection, path, last_seq=0, rows=0, row_bytes=0, max_bytes=max_journal_bytes)
        yield journal, Compaction(background, journal, LOG)


def value_from(random: Random, max_bytes: int) -> Value:
    """Return a value, in one case of five with a deadline."""
    payload = random.randbytes(random.randrange(max_bytes))
    return Record(payload, LATE_MS + random.randrange(100)) if random.random() < 0.2 else payload


def rows_of(random: Random, count: int, keys: int) -> list[Row]:
    """Return puts and deletes of some keys."""
    return [
        (b"key%d" % random.randrange(keys), None if random.random() < 0.3 else value_from(random, 300))
        for _ in range(count)
    ]


@pytest.mark.parametrize("keys", [1, 50, 100_000])
def test_compaction_changes_where_the_data_are_and_not_what_they_are(tmp_path: Path, keys: int) -> None:
    """After any number of portions, entries and what is left of the journal tell the same as all of the journal."""
    random = Random(keys)
    expected: Contents = {}
    with compaction_by_hand(tmp_path) as (journal, compaction):
        for _ in range(6):
            batch = rows_of(random, 700, keys)
            append(journal, batch)
            for key, value in batch:
                expected.pop(key, None) if value is None else expected.update({key: value})
            compaction.compact()
            with database(tmp_path) as connection:
                assert rows_in(connection, "data") == expected
        assert 0 < journal.waiting_rows < 6 * 700
        while journal.waiting_rows:
            compaction.compact()
        assert journal.waiting_bytes == 0
        with database(tmp_path) as connection:
            assert rows_in(connection, "entries") == expected
            assert connection.execute("SELECT count(*) FROM journal").fetchone() == (0,)
    assert stored(tmp_path) == expected


@pytest.mark.parametrize("after", range(4))
def test_a_clear_ends_a_compaction_under_way(tmp_path: Path, after: int) -> None:
    """Wherever it comes in between, nothing of what it deleted comes back, and what came after it is there."""
    with compaction_by_hand(tmp_path) as (journal, compaction):
        append(journal, [(b"%04d" % number, b"old" * 500) for number in range(700)])
        pauses = 0

        def pause() -> None:
            nonlocal pauses
            if pauses == after:
                append(journal, [(b"0001", b"new"), (b"n", b"new")], clears=True)
            pauses += 1

        compaction._run_periodic_tasks = pause  # type: ignore[method-assign]
        compaction.compact()
        assert pauses > after
        assert (journal.waiting_rows, journal.clears) == (2, 1)
        while journal.waiting_rows:
            compaction.compact()
        with database(tmp_path) as connection:
            expected = [(b"0001", b"new"), (b"n", b"new")]
            assert connection.execute("SELECT key, value FROM entries ORDER BY key").fetchall() == expected
    assert stored(tmp_path) == {b"0001": b"new", b"n": b"new"}


@pytest.mark.parametrize(("batches", "pauses", "waits"), [(2, True, True), (6, True, False), (13, False, False)])
def test_a_compaction_leaves_the_processor_to_commits(tmp_path: Path, batches: int, pauses: bool, waits: bool) -> None:
    """While clients commit it waits; with a quarter of the journal full it only pauses, and near its end not even that.

    A commit comes in each of the first five pauses, and none after them.
    """
    taken_s: list[float] = []
    with compaction_by_hand(tmp_path, max_journal_bytes=1 << 22) as (journal, compaction):
        append(journal, [(b"%05d" % number, b"v" * 500) for number in range(batches * (1 << 22) // BATCHES // 530)])

        def wait(timeout: float | None = None) -> bool:
            assert timeout is not None
            taken_s.append(timeout)
            if len(taken_s) <= 5:
                append(journal, [(b"k", b"v")])
            return False

        compaction._stopping.wait = wait  # type: ignore[method-assign]
        rows = journal.waiting_rows
        compaction.compact()
        assert journal.waiting_rows < rows
    assert [at for at, pause_s in enumerate(taken_s) if pause_s == WAKE_S] == ([1, 2, 3, 4, 5] if waits else [])
    assert (len(taken_s) > 5) == pauses


def test_the_log_does_not_grow_while_a_compaction_waits(tmp_path: Path) -> None:
    """Clients commit for as long as they like meanwhile, and each commit appends a page or more."""
    log = tmp_path / (NAME + "-wal")
    sizes: list[int] = []
    with compaction_by_hand(tmp_path, max_journal_bytes=1 << 22) as (journal, compaction):
        append(journal, rows_of(Random(1), 300, 300))

        def wait(timeout: float | None = None) -> bool:
            if len(sizes) < 200:
                append(journal, [(b"k", b"v")])
                sizes.append(log.stat().st_size)
            return False

        compaction._stopping.wait = wait  # type: ignore[method-assign]
        compaction.compact()
        assert len(sizes) == 200
        assert max(sizes) < 2 * (1 << 22) // BATCHES


def test_rows_are_numbered_on_when_all_have_been_compacted(tmp_path: Path) -> None:
    """The journal is empty, and the next row is not the first: else a lost journal could not be told from none."""
    with compaction_by_hand(tmp_path) as (journal, compaction):
        append(journal, [(b"k", b"1"), (b"k", b"2")])
        compaction.compact()
    with opened(tmp_path) as storage:
        storage.put(b"k", b"3")
        storage.sync()
        with database(tmp_path) as connection:
            assert connection.execute("SELECT seq FROM journal").fetchall() == [(3,)]
    assert stored(tmp_path) == {b"k": b"3"}


def test_the_log_is_started_anew_and_does_not_grow_on(tmp_path: Path) -> None:
    """However much is written, with a checkpoint now and then the write-ahead log keeps its size."""
    log = tmp_path / (NAME + "-wal")
    sizes = []
    with compaction_by_hand(tmp_path, max_journal_bytes=1 << 22) as (journal, compaction):
        for _ in range(8):
            for _ in range(10):
                append(journal, rows_of(Random(1), 200, 1000))
            while journal.waiting_bytes >= (1 << 22) // BATCHES:
                compaction.compact()
            compaction.checkpoint()
            sizes.append(log.stat().st_size)
    assert max(sizes) < 2 * sizes[2]


def test_a_reader_of_the_log_delays_nobody(tmp_path: Path) -> None:
    """A backup may read for long: compaction and checkpoints go on, and the WAL is restarted when it has ended."""
    with compaction_by_hand(tmp_path) as (journal, compaction), database(tmp_path) as reader:
        append(journal, [(b"k", b"1")])
        reader.execute("BEGIN")
        before = reader.execute("SELECT * FROM data").fetchall()
        for _ in range(20):
            append(journal, rows_of(Random(2), 200, 1000))
            compaction.compact()
            compaction.checkpoint()
        assert reader.execute("SELECT * FROM data").fetchall() == before


@pytest.mark.parametrize(
    ("rows", "size", "statements"), [(0, 1, 0), (1, 1 << 21, 1), (512, 10, 1), (513, 10, 2), (70, 1 << 16, 5)]
)
def test_a_statement_is_bounded(tmp_path: Path, rows: int, size: int, statements: int) -> None:
    """In rows and in bytes, for the loop does not get Python's lock while its parameters are bound."""
    expected = {b"%04d" % number: b"v" * size for number in range(rows)}
    with compaction_by_hand(tmp_path, max_journal_bytes=1 << 24) as (journal, _):
        batch = journal.begin()
        for key, value in expected.items():
            batch.add([(key, value)], clears=False, horizon_ms=0)
        assert len(batch.inserts(0)) == statements
        journal.append(batch)
    assert stored(tmp_path) == expected


def test_a_clear_frees_what_it_deletes(tmp_path: Path) -> None:
    """Of a batch that is not written yet."""
    with compaction_by_hand(tmp_path) as (journal, _):
        batch = journal.begin()
        for _ in range(3):
            batch.add([(b"k", b"v" * 1000)], clears=True, horizon_ms=0)
            assert batch.held_bytes < 2000
        journal.append(batch)
    assert stored(tmp_path) == {b"k": b"v" * 1000}


def test_the_loop_appends_only_what_waits_for_nobody(tmp_path: Path) -> None:
    """Not while the compaction writes, nor if the journal is full and has to wait for it."""
    with compaction_by_hand(tmp_path) as (journal, compaction):
        batch = journal.begin()
        batch.add([(b"k", b"v")], clears=False, horizon_ms=0)
        with ThreadPoolExecutor(1) as other:
            other.submit(journal.write_lock.acquire).result()
            assert not journal.append_at_once(batch)
            other.submit(journal.write_lock.release).result()
        assert journal.append_at_once(batch)
        append(journal, [(b"large", b"v" * (1 << 20))])
        assert not journal.append_at_once(batch)
        while journal.waiting_rows:
            compaction.compact()
        assert journal.append_at_once(batch)
        assert journal.last_seq == 3
    assert stored(tmp_path) == {b"k": b"v", b"large": b"v" * (1 << 20)}


def test_the_loop_does_not_append_beside_a_checkpoint(tmp_path: Path) -> None:
    """Which syncs megabytes: the thread waits for that, and the loop goes on."""
    tried: list[bool] = []
    with compaction_by_hand(tmp_path) as (journal, compaction):
        append(journal, [(b"k", b"1")])
        batch = journal.begin()
        batch.add([(b"k", b"2")], clears=False, horizon_ms=0)

        def try_it(statement: str) -> None:
            if "wal_checkpoint" in statement:
                tried.append(journal.append_at_once(batch))

        compaction._connection.set_trace_callback(try_it)
        compaction.checkpoint()
        assert tried
        assert not any(tried)
        assert journal.append_at_once(batch)
    assert stored(tmp_path) == {b"k": b"2"}


def test_writes_wait_for_compaction_when_the_journal_is_full(tmp_path: Path) -> None:
    """Many times as much as the journal may hold goes through, and it never holds more than that and one batch."""
    value = b"v" * 10_000
    with opened(tmp_path, SMALL_JOURNAL) as storage:
        for number in range(800):
            storage.put(b"%d" % number, value)
            storage.sync()
            assert storage.stats()["journal_bytes"] <= (1 << 20) + 11_000
    assert stored(tmp_path) == {b"%d" % number: value for number in range(800)}


# How it fails.


def test_a_commit_that_cannot_be_written_is_the_last(tmp_path: Path) -> None:
    """The disk is full: sync raises, and from then on always; what was synced before is there again."""
    with opened(tmp_path) as storage:
        storage.put(b"before", b"1")
        storage.sync()
        assert isinstance(storage, JournaledStorage)
        _connection(storage).execute("PRAGMA max_page_count = 1")  # no page more than there are
        storage.put(b"too much", b"v" * 100_000)
        for _ in range(2):
            with pytest.raises(JournalError, match=f"{NAME}: cannot be written: .*full.*SQLITE_FULL"):
                storage.sync()
        storage.put(b"after", b"1")
        with pytest.raises(JournalError):
            storage.sync()
    assert stored(tmp_path) == {b"before": b"1"}


def _connection(storage: JournaledStorage) -> sqlite3.Connection:
    journal = storage._journal
    assert isinstance(journal, SqliteJournal)
    return journal._connection


def test_a_failure_in_the_background_fails_the_next_sync(tmp_path: Path) -> None:
    """Even one that has nothing to write, for reads are told of as well."""
    with compaction_by_hand(tmp_path) as (journal, compaction):
        append(journal, [(b"%d" % number, b"v" * 1000) for number in range(200)])
        with database(tmp_path) as connection:
            connection.execute("ALTER TABLE entries RENAME TO elsewhere")
        compaction.start()
        compaction._thread.join()
        with pytest.raises(JournalError, match="no such table"):
            journal.check()


# What is refused.


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second opener is told who has it; the lock goes with its holder, and is no obstacle afterwards."""
    code = (
        "import sys; from tests.unit.storage.sqlite.test_engine import *\n"
        "with opened(Path(sys.argv[1])): print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(StorageOpenError, match=f"data_dir: {tmp_path} is in use by process {other.pid}"):
            stored(tmp_path)
        other.kill()
        other.wait()
    assert stored(tmp_path) == {}


def test_a_directory_is_needed_and_made(tmp_path: Path) -> None:
    """With its parents, for this user alone; what is no directory is refused."""
    with pytest.raises(ConfigError, match=r"data_dir: .*--data-dir"), open_storage(Settings(storage="sqlite"), {}, LOG):
        pass
    assert stored(tmp_path / "a" / "b") == {}
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageOpenError, match=f"data_dir: cannot use {tmp_path}/file"):
        stored(tmp_path / "file")


def test_values_that_sqlite_cannot_store_are_refused_at_the_start(tmp_path: Path) -> None:
    """Not when the first one comes."""
    settings = Settings(storage="sqlite", data_dir=str(tmp_path), max_value_bytes=1 << 30)
    with pytest.raises(ConfigError, match=r"max_value_bytes: .* no more than 9999"), open_storage(settings, {}, LOG):
        pass


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET value = x'00' WHERE key = CAST('key1' AS BLOB)",
        "UPDATE entries SET value = CAST(value AS TEXT) WHERE key = CAST('key1' AS BLOB)",
        "DELETE FROM entries WHERE key = CAST('key1' AS BLOB)",
        "INSERT INTO entries SELECT x'00', value, checksum, 0, 0 FROM entries LIMIT 1",
        "DELETE FROM entries",
        "UPDATE journal SET value = NULL WHERE seq = (SELECT max(seq) FROM journal)",
        "UPDATE journal SET checksum = checksum + 1 WHERE seq = (SELECT min(seq) FROM journal)",
        "DELETE FROM journal WHERE seq = (SELECT min(seq) FROM journal) + 1",
        "DELETE FROM journal WHERE seq < (SELECT max(seq) FROM journal)",
        "DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)",
        "DELETE FROM journal",
        "UPDATE journal SET checksum = CAST(checksum AS TEXT) || 'x'",
        "DELETE FROM folded",
        "INSERT INTO folded VALUES (0, 0, 0, 0)",
        "UPDATE folded SET required_seq = required_seq + 99",
        "UPDATE folded SET required_seq = 'x'",
        "UPDATE folded SET entries = entries + 1",
        "UPDATE folded SET checksums = 'x'",
        "UPDATE folded SET through_seq = through_seq - 9",
        "DROP TABLE folded",
        "DROP TABLE journal",
        "UPDATE entries SET kind = 1 WHERE key = CAST('key1' AS BLOB)",
        "UPDATE entries SET deadline_ms = 1 WHERE key = CAST('key1' AS BLOB)",
        "UPDATE entries SET deadline_ms = deadline_ms + 1 WHERE key = CAST('record1' AS BLOB)",
        "UPDATE entries SET deadline_ms = 0 WHERE key = CAST('record1' AS BLOB)",
        "UPDATE entries SET deadline_ms = 'x' WHERE key = CAST('record1' AS BLOB)",
        "UPDATE journal SET kind = kind + 1 WHERE seq = (SELECT max(seq) FROM journal)",
        "UPDATE journal SET kind = -1 WHERE seq = (SELECT max(seq) FROM journal)",
        "UPDATE journal SET kind = 1 WHERE value IS NULL",
        "DELETE FROM clock",
        "INSERT INTO clock SELECT * FROM clock",
        "UPDATE clock SET horizon_ms = horizon_ms + 1",
        "UPDATE clock SET horizon_ms = -1",
        "UPDATE clock SET horizon_ms = 'x'",
        "DROP TABLE clock",
        "DROP VIEW data",
        "PRAGMA application_id = 1",
    ],
)
def test_what_is_not_as_it_was_written_is_refused(tmp_path: Path, statement: str) -> None:
    """A row that is damaged, missing, too many or old: the file is named, nothing is served, and nothing changed."""
    with compaction_by_hand(tmp_path) as (journal, compaction):
        append(journal, [(b"key%d" % number, b"%d" % number) for number in range(20)])
        append(journal, [(b"record%d" % number, Record(b"%d" % number, LATE_MS + number)) for number in range(5)])
        while journal.waiting_rows:
            compaction.compact()
        append(journal, [(b"more%d" % number, b"%d" % number) for number in range(20)])
        append(journal, [(b"key2", None), (b"more1", Record(b"1", LATE_MS))], horizon_ms=LATE_MS)
    assert len(stored(tmp_path)) == 44
    with database(tmp_path) as connection:
        connection.execute(statement)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(StorageOpenError, match=f"{NAME}: .*({MISUSED})"):
        stored(tmp_path)
    assert (tmp_path / NAME).read_bytes() == before


def create_foreign_database(path: Path) -> None:
    """Create the database of another program."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda path: path.write_bytes(b"no database, but long enough to be looked at as one" * 100), "not a database"),
        (lambda path: path.mkdir(), "unable to open"),
        (create_foreign_database, "not a database of kvs"),
    ],
)
def test_what_is_no_database_of_ours_is_refused(tmp_path: Path, prepare: Callable[[Path], object], reason: str) -> None:
    """And left alone."""
    prepare(tmp_path / NAME)
    with pytest.raises(StorageOpenError, match=f"{NAME}: cannot be opened: .*{reason}"):
        stored(tmp_path)


def test_a_format_that_is_not_known_is_refused(tmp_path: Path) -> None:
    """A later version may have written it."""
    stored(tmp_path)
    with database(tmp_path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageOpenError, match="has format 99; this version of kvs knows formats 1 to 3"):
        stored(tmp_path)


# The clock.


def test_the_time_is_stored_with_what_is_made_durable(tmp_path: Path) -> None:
    """Not without anything, and not if it has hardly moved."""
    with opened(tmp_path) as storage:
        assert storage.horizon_ms == 0
        storage.note_horizon(LATE_MS)
        storage.sync()
        assert horizon_in(tmp_path) == 0
        stored_ms = []
        for now_ms in (LATE_MS, LATE_MS + HORIZON_STEP_MS - 1, LATE_MS + HORIZON_STEP_MS, LATE_MS + 5000):
            storage.put(b"k", b"v")
            storage.note_horizon(now_ms)
            storage.sync()
            stored_ms.append(horizon_in(tmp_path))
    assert stored_ms == [LATE_MS, LATE_MS, LATE_MS + HORIZON_STEP_MS, LATE_MS + 5000]


@pytest.mark.parametrize("killed", [False, True])
def test_the_time_is_there_again(tmp_path: Path, killed: bool) -> None:
    """That of the last commit after a kill, and that of the stop if there was one."""
    with opened(tmp_path / "data") as storage:
        storage.put(b"k", b"v")
        storage.note_horizon(LATE_MS)
        storage.sync()
        storage.note_horizon(LATE_MS + 7)
        shutil.copytree(tmp_path / "data", tmp_path / "left")
    with opened(tmp_path / ("left" if killed else "data")) as storage:
        assert storage.horizon_ms == LATE_MS + (0 if killed else 7)


def test_the_time_outlasts_a_clear_and_compaction(tmp_path: Path) -> None:
    """Which empty the tables of data."""
    with compaction_by_hand(tmp_path) as (journal, compaction):
        append(journal, [(b"k", b"v")], horizon_ms=LATE_MS)
        compaction.compact()
        append(journal, [], clears=True)
        compaction.compact()
    with opened(tmp_path) as storage:
        assert storage.horizon_ms == LATE_MS


def horizon_in(directory: Path) -> int:
    """Return the time that is stored."""
    with database(directory) as connection:
        return read_horizon(connection)
