"""Deletes what is of no use any more: entries that checkpoints have, chunks of former ones, and what nothing refers to.

Deletes are fenced, in small steps, and possible when etcd is full.
"""

from collections.abc import Collection, Sequence
from typing import Final, final

from kvs.adapters.storage.etcd.client.requests import delete
from kvs.adapters.storage.etcd.steps import Steps

ENTRIES_PER_CUT: Final = 500
NAMES_PER_DELETE: Final = 64

NAMES_PER_LISTING: Final = 64
"""etcd also reads the values when it is asked for names."""


@final
class Disposal:
    """Deletes; one thread calls it.

    Args:
        steps: Calls etcd.
        head: Number of the last entry when this server took the lead.
    """

    def __init__(self, steps: Steps, head: int) -> None:
        self._steps = steps
        self._head = head

    def cut(self, number: int) -> None:
        """Delete the journal up to an entry, the oldest entries first: what is left has no gap."""
        steps, keys = self._steps, self._steps.keys
        found = steps.until_answered(
            lambda: steps.client.range(keys.entries, keys.end(keys.entries), limit=1, keys_only=True)
        )
        first = int(found.kvs[0].key.removeprefix(keys.entries)) if found.kvs else number + 1
        for at in range(first, number + 1, ENTRIES_PER_CUT):
            end = min(at + ENTRIES_PER_CUT, number + 1)
            steps.fenced([delete(keys.entry(at), keys.entry(end)), delete(keys.parts, keys.part(end, 0, 0))])
            steps.pace()

    def delete(self, names: Sequence[bytes]) -> None:
        """Delete keys."""
        for at in range(0, len(names), NAMES_PER_DELETE):
            self._steps.fenced([delete(name) for name in names[at : at + NAMES_PER_DELETE]])
            self._steps.pace()

    def sweep(self, kept: Collection[bytes]) -> None:
        """Delete what leaders have left that did not get further: all chunks but these, and parts without an entry."""
        keys, term = self._steps.keys, self._steps.lead.term
        self.delete([name for name in self._listed(keys.chunks) if name not in kept])
        lost: list[bytes] = []
        for name in self._listed(keys.parts):
            number, of_term, _ = name.removeprefix(keys.parts).split(b"/")
            if int(number) > self._head and int(of_term) != term:
                lost.append(name)
        self.delete(lost)

    def _listed(self, prefix: bytes) -> list[bytes]:
        steps = self._steps
        names: list[bytes] = []
        first, end, more = prefix, steps.keys.end(prefix), True
        while more:
            page = steps.until_answered(
                lambda start=first: steps.client.range(start, end, limit=NAMES_PER_LISTING, keys_only=True)  # type: ignore[misc]
            )
            names += [found.key for found in page.kvs]
            more = page.more
            first = names[-1] + b"\0" if names else end
            steps.pace()
        return names
