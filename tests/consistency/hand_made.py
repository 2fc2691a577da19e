"""Transactions as a test wants them, and when."""

from typing import Final

from tests.support.consistency.history import Operation, Outcome, Transaction

MS: Final = 1_000_000
COMMITTED, ABORTED, UNKNOWN = Outcome.COMMITTED, Outcome.ABORTED, Outcome.UNKNOWN


def during(begin_ms: float, end_ms: float, *operations: Operation, outcome: Outcome = COMMITTED) -> Transaction:
    """Return a transaction whose COMMIT was sent right after START was answered, half-way between two times."""
    begin, end = round(begin_ms * MS), round(end_ms * MS)
    middle = (begin + end) // 2
    return Transaction(0, 0, list(operations), outcome, (begin, middle), (middle, end))


def at(time_ms: float, *operations: Operation, outcome: Outcome = COMMITTED) -> Transaction:
    """Return a transaction that took a millisecond from a time on."""
    return during(time_ms, time_ms + 0.9, *operations, outcome=outcome)


def overlapping(*transactions: Transaction) -> list[Transaction]:
    """Return transactions that were all under way at the same time."""
    for each in transactions:
        each.begun = each.ended = (0, 1000 * MS)
    return list(transactions)


def later(transactions: list[Transaction], *others: Transaction) -> list[Transaction]:
    """Return transactions, and others that began when they had ended."""
    for number, each in enumerate(others):
        begin = (2000 + number) * MS
        each.begun = each.ended = (begin, begin + MS // 2)
    return [*transactions, *others]


def numbered(history: list[Transaction]) -> list[Transaction]:
    """Return a history whose transactions are numbered, and each by a client of its own."""
    for number, each in enumerate(history):
        each.number = each.client = number
    return history
