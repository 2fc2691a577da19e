"""The options that SET, GETEX and MSETEX have in common: conditions and deadlines, in any order."""

from typing import Final, final

from kvs.domain.deadlines import expiring
from kvs.domain.errors import UsageError
from kvs.domain.updates import Condition, IsEqual, IsUnequal, integer, is_absent, is_present
from kvs.domain.values import MAX_DEADLINE_MS, NO_DEADLINE, Write

UNITS_MS: Final = {b"EX": 1000, b"PX": 1, b"EXAT": 1000, b"PXAT": 1}
"""Options that set a deadline, each followed by a number of this unit."""

RELATIVE: Final = (b"EX", b"PX")
"""Those that count from now."""

KEEPTTL: Final = b"KEEPTTL"
PERSIST: Final = b"PERSIST"
CONDITIONS: Final[dict[bytes, Condition]] = {b"NX": is_absent, b"XX": is_present}
COMPARISONS: Final = (b"IFEQ", b"IFNE")
DIGEST_COMPARISONS: Final = (b"IFDEQ", b"IFDNE")

OF_GETEX: Final = frozenset({*UNITS_MS, PERSIST})
OF_MSETEX: Final = frozenset({*UNITS_MS, *CONDITIONS, KEEPTTL})
OF_SET: Final = frozenset({*OF_MSETEX, *COMPARISONS, *DIGEST_COMPARISONS, b"GET"})


@final
class Options:
    """Options of one request.

    Attributes:
        condition: Condition on the old value; None: none.
        compared_bytes: Length of what the condition compares.
        answers_old: The reply is the old value.
        lifetime: The option that decides about the deadline; empty: none.
        amount: Its number, as text.
    """

    def __init__(self) -> None:
        self.condition: Condition | None = None
        self.compared_bytes = 0
        self.answers_old = False
        self.lifetime = b""
        self.amount = b""

    def deadline_ms(self, command: bytes, now_ms: int) -> int:
        """Return the deadline; :data:`NO_DEADLINE` if no option sets one.

        Raises:
            UsageError: It is not a number, or no valid time.
        """
        if self.lifetime not in UNITS_MS:
            return NO_DEADLINE
        return deadline_ms(command, self.lifetime, self.amount, now_ms)

    def write(self, command: bytes, value: bytes, now_ms: int) -> Write:
        """Return what to write for a value: a tombstone if its deadline has passed.

        Raises:
            UsageError: The deadline is not a number, or no valid time.
        """
        return expiring(value, self.deadline_ms(command, now_ms), now_ms)


def parse_options(arguments: list[bytes], first: int, allowed: frozenset[bytes]) -> Options:
    """Return the options from an argument on. An option may be repeated; then the last one counts.

    Raises:
        UsageError: One is unknown, contradicts another, or lacks its argument.
    """
    options = Options()
    condition = b""
    at = first
    while at < len(arguments):
        word = arguments[at].upper()
        if word not in allowed:
            raise UsageError("syntax error")
        if word in DIGEST_COMPARISONS:
            raise digests_unsupported()
        argument = b""
        if word in UNITS_MS or word in COMPARISONS:
            at += 1
            if at == len(arguments):
                raise UsageError("syntax error")
            argument = arguments[at]
        if word == b"GET":
            options.answers_old = True
        elif word in CONDITIONS or word in COMPARISONS:
            if condition not in (b"", word):
                raise UsageError("syntax error")
            condition = word
            options.condition = CONDITIONS[word] if word in CONDITIONS else comparison(word, argument)
            options.compared_bytes = len(argument)
        else:
            if options.lifetime not in (b"", word):
                raise UsageError("syntax error")
            options.lifetime = word
            options.amount = argument
        at += 1
    return options


def comparison(word: bytes, string: bytes) -> Condition:
    """Return the condition of IFEQ or IFNE."""
    return IsEqual(string) if word == b"IFEQ" else IsUnequal(string)


def digests_unsupported() -> UsageError:
    """Return the error for IFDEQ and IFDNE."""
    return UsageError("IFDEQ and IFDNE are not supported: there are no digests of values; use IFEQ or IFNE")


def deadline_ms(command: bytes, unit: bytes, amount: bytes, now_ms: int) -> int:
    """Return the deadline that an amount of a unit means.

    Raises:
        UsageError: It is not a number, or no valid time.
    """
    number = integer(amount)
    if number > 0:
        deadline = number * UNITS_MS[unit] + (now_ms if unit in RELATIVE else 0)
        if deadline <= MAX_DEADLINE_MS:
            return deadline
    raise invalid_expire_time(command)


def invalid_expire_time(command: bytes) -> UsageError:
    """Return the error for a time that is out of range, given the command as it was sent."""
    return UsageError(f"invalid expire time in '{command.decode().lower()}' command")
