"""The log of refusals: bounded, and equal ones are one entry."""

from kvs.application.refusals import COMPARED, GROUPING_S, MAX_ENTRIES, MAX_TEXT_CHARACTERS, Refusals


class Clock:
    """Unix time that stands still."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_equal_refusals_are_one_entry() -> None:
    """The newest is the first, with the client of the last one."""
    clock = Clock()
    refusals = Refusals(clock)
    refusals.add("command", "toplevel", "get", "tom", "id=1")
    refusals.add("key", "toplevel", "a", "tom", "id=1")
    clock.now_s += 10
    refusals.add("command", "toplevel", "get", "tom", "id=2")
    found = [(each.entry_id, each.object, each.count, each.client) for each in refusals.newest(10)]
    assert found == [(0, "get", 2, "id=2"), (1, "a", 1, "id=1")]
    (entry,) = refusals.newest(1)
    assert (entry.created_s, entry.updated_s) == (1000, 1010)


def test_unlike_or_late_ones_are_not() -> None:
    """Any part may differ."""
    clock = Clock()
    refusals = Refusals(clock)
    entry = ("command", "toplevel", "get", "tom")
    refusals.add(*entry, "id=1")
    for at in range(len(entry)):
        reason, context, item, name = (f"{part}2" if at == number else part for number, part in enumerate(entry))
        refusals.add(reason, context, item, name, "id=1")
    clock.now_s += GROUPING_S + 1
    refusals.add(*entry, "id=1")
    assert [each.count for each in refusals.newest(10)] == [1] * 6


def test_only_the_newest_are_compared() -> None:
    """So that a refusal costs little."""
    refusals = Refusals(Clock())
    for number in range(COMPARED + 1):
        refusals.add("key", "toplevel", f"{number}", "tom", "")
    refusals.add("key", "toplevel", "0", "tom", "")
    assert [each.count for each in refusals.newest(100)] == [1] * (COMPARED + 2)


def test_it_is_bounded() -> None:
    """In entries, and in what each holds."""
    refusals = Refusals(Clock())
    for number in range(MAX_ENTRIES + 5):
        refusals.add("key", "toplevel", f"{number}" + "x" * 10_000, "y" * 10_000, "")
    found = refusals.newest(10_000)
    assert len(found) == MAX_ENTRIES
    assert found[0].entry_id == MAX_ENTRIES + 4
    assert {len(each.object) for each in found} == {len(each.username) for each in found} == {MAX_TEXT_CHARACTERS}
    assert refusals.newest(0) == refusals.newest(-1) == []
    refusals.clear()
    assert refusals.newest(10) == []
