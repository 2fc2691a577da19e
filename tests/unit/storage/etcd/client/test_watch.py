"""What comes of a watch, made into whole revisions."""

import pytest

from kvs.adapters.storage.etcd.client.answers import PUT, Event, Header, KeyValue, WatchAnswer
from kvs.adapters.storage.etcd.client.watch import Changes, Revisions

pytestmark = pytest.mark.one_build


def answer(*revisions: int, fragment: bool = False) -> WatchAnswer:
    """Return an answer with changes of these revisions."""
    return WatchAnswer(Header(revision=99), False, False, 0, "", fragment, events(*revisions))


def events(*revisions: int) -> tuple[Event, ...]:
    """Return changes of these revisions."""
    return tuple(Event(PUT, KeyValue(b"key", mod_revision=revision)) for revision in revisions)


def test_a_revision_is_held_until_it_is_whole() -> None:
    """Over as many fragments as it takes."""
    revisions = Revisions(5)
    assert revisions.take(answer(5, 5, 6, fragment=True)) == Changes(5, events(5, 5))
    assert revisions.take(answer(6, fragment=True)) is None
    assert revisions.take(answer(6, 7, fragment=True)) == Changes(6, events(6, 6, 6))
    assert revisions.take(answer(7)) == Changes(7, events(7, 7))
    assert revisions.take(answer()) == Changes(99, ())


def test_what_was_told_is_not_told_again_nor_what_was_not_asked_for() -> None:
    """Whatever a member sends."""
    revisions = Revisions(5)
    assert revisions.take(answer(3, 4)) is None
    assert revisions.take(answer(4, 5, 6)) == Changes(6, events(5, 6))
    assert revisions.take(answer(5, 6)) is None
    assert revisions.take(answer(6, 7, 7)) == Changes(7, events(7, 7))
    assert Revisions(0).take(answer(1)) == Changes(1, events(1))
