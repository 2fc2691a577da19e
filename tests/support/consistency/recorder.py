"""One client: it runs transactions on a connection, which may be lost, and writes down what came of them."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.consistency.actions import BEGIN, Action, Answer, Failed
from tests.support.consistency.connections import Connection, LostError
from tests.support.consistency.history import Operation, Outcome, Transaction, Window, read

UNKNOWN_CODES: Final = frozenset({"outcome_unknown"})
"""With these, what was asked for may have been done."""

ENDING_CODES: Final = frozenset({"internal", "timeout", "conflict", "outcome_unknown"})
"""With these, a transaction has ended; with others it goes on without the command that was refused."""


REFUSED: Final = "unavailable"
"""With this, nothing was done, and it is worth while to ask again, perhaps another server."""


class UnexpectedAnswerError(Exception):
    """The server refused something for a reason that the run does not provoke."""


@dataclass
class Records:
    """What all clients have written down.

    Attributes:
        transactions: The history.
        codes: How many answers there were with each error.
        outcomes: How many transactions ended in each way.
    """

    transactions: list[Transaction] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)


class Recorder:
    """Runs transactions of one client.

    Args:
        client: Its number.
        connect: Returns a connection to a server that listens.
        numbers: Numbers for transactions.
        records: Where they are written down.
        allows: Codes of errors that may come.

    Attributes:
        refusals: How often a server was unavailable.
    """

    def __init__(
        self,
        client: int,
        connect: Callable[[], Connection],
        numbers: Iterator[int],
        records: Records,
        allows: frozenset[str],
    ) -> None:
        self._client = client
        self._connect = connect
        self._numbers = numbers
        self._records = records
        self._allows = allows
        self._connection: Connection | None = None
        self._operations: list[Operation] = []
        self._begun: Window = (0, 0)
        self.refusals = 0

    @property
    def connection(self) -> Connection:
        """A connection; another one if the last was lost."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, which has not been lost."""
        return self._connection is not None

    def leave(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Single commands.

    def single(self, action: Action) -> None:
        """Run a command by itself."""
        sent_ns = time.monotonic_ns()
        try:
            (answer,) = self.connection.ask([action])
        except LostError:
            self._connection = None
            self._note_single(action, None, (sent_ns, time.monotonic_ns()))
        else:
            self._note_single(action, answer, (sent_ns, time.monotonic_ns()))

    def _note_single(self, action: Action, answer: Answer, window: Window, *, answered: bool = True) -> None:
        lost = self._connection is None or not answered
        if lost or (isinstance(answer, Failed) and self._failed(answer) in UNKNOWN_CODES):
            if action.unanswered:
                self._note(list(action.unanswered), Outcome.UNKNOWN, window, window)
        elif not isinstance(answer, Failed):
            self._note(action.told(answer), Outcome.COMMITTED, window, window)
        elif action.unanswered:
            self._note(list(action.unanswered), Outcome.ABORTED, window, window)

    # Transactions of START, step by step.

    def begin(self, action: Action = BEGIN) -> bool:
        """Open a transaction; return whether it is open."""
        sent_ns = time.monotonic_ns()
        self._operations = []
        try:
            (answer,) = self.connection.ask([action])
        except LostError:
            self._connection = None
            return False
        self._begun = sent_ns, time.monotonic_ns()
        if isinstance(answer, Failed):
            self._failed(answer)
            return False
        return True

    def step(self, *actions: Action) -> list[Answer] | None:
        """Run commands in the transaction; return their answers, or None if it is over, and had no effect."""
        try:
            answers = self.connection.ask(actions)
        except LostError as lost:
            self._connection = None
            answers = lost.answers
        failed = False
        for action, answer in zip(actions, answers, strict=False):
            if isinstance(answer, Failed):
                self._failed(answer)
                failed = True
                break
            self._operations += action.told(answer)
        if len(answers) == len(actions) and not failed:
            return answers
        self.leave()  # which aborts what there is
        now_ns = time.monotonic_ns()
        self._note(self._operations, Outcome.ABORTED, self._begun, (now_ns, now_ns))
        return None

    def end(self, verb: str) -> None:
        """Commit the transaction, or roll it back."""
        sent_ns = time.monotonic_ns()
        answer: Answer = None
        try:
            (answer,) = self.connection.ask_words([[verb]])
        except LostError:
            self._connection = None
            outcome = Outcome.UNKNOWN if verb == "COMMIT" else Outcome.ABORTED
        else:
            outcome = Outcome.COMMITTED if verb == "COMMIT" else Outcome.ABORTED
        if isinstance(answer, Failed):
            code = self._failed(answer)
            outcome = Outcome.UNKNOWN if code in UNKNOWN_CODES else Outcome.ABORTED
            if code not in ENDING_CODES:
                self.leave()  # it is still open
        self._note(self._operations, outcome, self._begun, (sent_ns, time.monotonic_ns()))

    # Transactions that are sent at once.

    def at_once(self, actions: Sequence[Action], begin: Action = BEGIN) -> None:
        """Open a transaction, run commands and commit, all in one packet."""
        requests = [self.connection.words(action) for action in (begin, *actions)]
        window, answers = self._ask_all([*requests, ["COMMIT"]])
        if not answers:
            # Nobody knows whether it was even begun; if it was, this is what it did.
            self._note([each for action in actions for each in action.unanswered], Outcome.UNKNOWN, window, window)
            return
        if isinstance(answers[0], Failed):
            self._failed(answers[0])
            self._note_singles(actions, answers[1:], window)
            return
        operations: list[Operation] = []
        for at, action in enumerate(actions, 1):
            answer = answers[at] if at < len(answers) else None
            if at >= len(answers):
                operations += action.unanswered
            elif not isinstance(answer, Failed):
                operations += action.told(answer)
            elif self._failed(answer) in ENDING_CODES:
                self._note(operations, Outcome.ABORTED, window, window)
                self._note_singles(actions[at:], answers[at + 1 :], window)
                return
        if len(answers) < len(requests) + 1:
            outcome = Outcome.UNKNOWN
        elif not isinstance(answers[-1], Failed):
            outcome = Outcome.COMMITTED
        else:
            code = self._failed(answers[-1])
            outcome = Outcome.UNKNOWN if code in UNKNOWN_CODES else Outcome.ABORTED
            if code not in ENDING_CODES:
                self.leave()
        self._note(operations, outcome, window, window)

    def _note_singles(self, actions: Sequence[Action], answers: Sequence[Answer], window: Window) -> None:
        """Note commands that were run outside the transaction for which they were meant."""
        for at, action in enumerate(actions):
            answered = at < len(answers)
            self._note_single(action, answers[at] if answered else None, window, answered=answered)

    def queue(self, actions: Sequence[Action], watched: str | None = None) -> bool:
        """Run commands by MULTI and EXEC, after a WATCH and a read of a key; return whether they were run.

        If nobody else has written the key, it still has the value when EXEC runs, so that is read by it, too.
        """
        operations: list[Operation] = []
        if watched is not None:
            window, answers = self._ask_all([["WATCH", watched], ["GET", watched]])
            if len(answers) < 2 or isinstance(answers[0], Failed) or isinstance(answers[1], Failed):
                self.leave()
                return False
            self._note([read(watched, answers[1])], Outcome.COMMITTED, window, window)
            operations = [read(watched, answers[1])]
        requests = [["MULTI"], *(self.connection.words(action) for action in actions), ["EXEC"]]
        window, answers = self._ask_all(requests)
        if len(answers) < len(requests):
            outcome = Outcome.UNKNOWN
        elif isinstance(answers[-1], list):
            outcome = Outcome.COMMITTED
        elif answers[-1] is None:
            outcome = Outcome.ABORTED
        else:
            for answer in answers[:-1]:
                if isinstance(answer, Failed):
                    self._failed(answer)
            outcome = Outcome.UNKNOWN if self._failed(answers[-1]) in UNKNOWN_CODES else Outcome.ABORTED
        done = outcome is Outcome.COMMITTED
        for at, action in enumerate(actions):
            if not done:
                operations += action.unanswered
            elif isinstance(answers[-1][at], Failed):
                raise UnexpectedAnswerError(answers[-1][at].code)
            else:
                operations += action.told(answers[-1][at])
        if outcome is Outcome.ABORTED:
            operations = operations[1:] if watched is not None else operations  # which was read, and is so no more
        self._note(operations, outcome, window, window)
        return done

    # Notes.

    def _ask_all(self, requests: Sequence[Sequence[str]]) -> tuple[Window, list[Answer]]:
        sent_ns = time.monotonic_ns()
        try:
            answers = self.connection.ask_words(requests)
        except LostError as lost:
            self._connection = None
            answers = lost.answers
        return (sent_ns, time.monotonic_ns()), answers

    def _failed(self, answer: Failed) -> str:
        self._records.codes[answer.code] += 1
        if answer.code not in self._allows:
            raise UnexpectedAnswerError(answer.code)
        self.refusals += answer.code == REFUSED
        return answer.code

    def _note(self, operations: Sequence[Operation], outcome: Outcome, begun: Window, ended: Window) -> None:
        self._records.outcomes[outcome] += 1
        if operations:
            transaction = Transaction(next(self._numbers), self._client, list(operations), outcome, begun, ended)
            self._records.transactions.append(transaction)
