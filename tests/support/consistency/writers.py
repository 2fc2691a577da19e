"""Who has written what was read, and so which of those whose outcome is unknown have happened."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tests.support.consistency.anomalies import Anomaly
from tests.support.consistency.effects import Appended, Effects, Pending
from tests.support.consistency.history import Outcome, element_of, elements_of, is_number
from tests.support.consistency.words import Story


class Writers:
    """The transactions by what they have written.

    Args:
        effects: The transactions.
        story: Tells of them.
        found: Is told what is wrong: the anomaly, in words, and which transactions are part of it.

    Attributes:
        of: The number of the transaction that wrote an element to a key.
        doubtful: Elements with their keys that several may have written.
        happened: Whether a transaction has happened, by its number. One that was aborted has seen a snapshot, too, and
            is like one that only reads.
        blind_increments: How many increments of a counter there may have been to a sum that nobody was told.
    """

    def __init__(self, effects: Sequence[Effects], story: Story, found: Callable[..., None]) -> None:
        self._effects = effects
        self._story = story
        self._found = found
        self._dropped: set[tuple[str, str]] = set()
        self.of: Final[dict[tuple[str, str], int]] = {}
        self.doubtful: Final[set[tuple[str, str]]] = set()
        self.happened: Final = [each.transaction.outcome is not Outcome.UNKNOWN for each in effects]
        self.blind_increments: Final[dict[str, int]] = {}

    def find(self) -> None:
        """Find out who has written what, and who has happened."""
        self._note_writers()
        self._note_doubts()
        self._follow_reads()

    def _note_writers(self) -> None:
        for at, effects in enumerate(self._effects):
            for key in effects.blind_increments:
                self.blind_increments[key] = self.blind_increments.get(key, 0) + 1
            for key, value in effects.writes.items():
                for element in _elements_written(value):
                    self._note_writer(key, element, at)
            for key, element in effects.dropped:
                if not is_number(element):  # of counters, who comes next increments to the same
                    self._dropped.add((key, element))
                    self._note_writer(key, element, at)

    def _note_writer(self, key: str, element: str, at: int) -> None:
        if is_number(element) and self._effects[at].transaction.outcome is Outcome.ABORTED:
            return  # who comes next increments to the same
        other = self.of.setdefault((key, element), at)
        if other == at:
            return
        if not is_number(element):
            raise ValueError(f"two transactions write {element!r} to {key!r}: a history needs values that are unique")
        outcomes = [self._effects[each].transaction.outcome for each in (other, at)]
        if outcomes == [Outcome.COMMITTED] * 2:
            text = f"{self._story.who(other)} and {self._story.who(at)} both incremented {key} to {element}."
            self._found(Anomaly.LOST_UPDATE, text, other, at)
        elif outcomes[1] is Outcome.COMMITTED:
            self.of[key, element] = at
        elif outcomes == [Outcome.UNKNOWN] * 2:
            self.doubtful.add((key, element))

    def _note_doubts(self) -> None:
        """Note which sums may be those of increments that nobody was told of, too."""
        for (key, element), at in self.of.items():
            unknown = self._effects[at].transaction.outcome is Outcome.UNKNOWN
            if unknown and is_number(element) and self.blind_increments.get(key):
                self.doubtful.add((key, element))

    def _follow_reads(self) -> None:
        """Find out whose writes were read by those that have happened, and by those that have therefore."""
        checked: set[tuple[str, str]] = set()
        open_ = [at for at, happened in enumerate(self.happened) if happened]
        while open_:
            at = open_.pop()
            for key, value in self._effects[at].reads.items():
                if value is None or (key, value) in checked:
                    continue
                checked.add((key, value))
                for writer in self._writers_of(at, key, value):
                    if not self.happened[writer]:
                        self.happened[writer] = True
                        open_.append(writer)

    def _writers_of(self, at: int, key: str, value: str) -> Iterator[int]:
        """Yield who must have happened for this value to be there."""
        elements = elements_of(value)
        if len(set(elements)) < len(elements):
            twice = sorted({each for each in elements if elements.count(each) > 1})
            self._found(Anomaly.APPLIED_TWICE, f"{self._story.who(at)} read {key} = {value!r}: {twice} twice.", at)
        for place, element in enumerate(elements):
            writer = self.of.get((key, element))
            if (key, element) in self.doubtful:
                continue
            if writer is None:
                if not (is_number(element) and self.blind_increments.get(key)):
                    text = f"{self._story.who(at)} read {key} = {value!r}; nobody wrote {element!r}."
                    self._found(Anomaly.INVENTED, text, at)
            elif writer == at:
                text = f"{self._story.who(at)} read {key} = {value!r}, which it only wrote later."
                self._found(Anomaly.CIRCULAR_FLOW, text, at)
            elif self._effects[writer].transaction.outcome is Outcome.ABORTED:
                text = f"{self._story.who(at)} read {key} = {value!r}, which {self._story.who(writer)} wrote."
                self._found(Anomaly.ABORTED_READ, text, at, writer)
            elif (key, element) in self._dropped and not (
                place + 1 < len(elements) and self.of.get((key, elements[place + 1])) == writer
            ):
                text = f"{self._story.who(at)} read {key} = {value!r}; {self._story.who(writer)} had written that, and"
                self._found(Anomaly.INTERMEDIATE_READ, f"{text} then something else, or rolled it back.", at, writer)
            else:
                yield writer
        if len(elements) > 1 and (writer := self.of.get((key, elements[-1]))) is not None:
            written = self._effects[writer].writes.get(key)
            if isinstance(written, str) and element_of(written) == elements[-1] and written != value:
                text = f"{self._story.who(at)} read {key} = {value!r}; {self._story.who(writer)} wrote {written!r}."
                self._found(Anomaly.INVENTED, text, at, writer)


def _elements_written(value: Pending) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Appended):
        return elements_of(value.end)
    return [element_of(value)]
