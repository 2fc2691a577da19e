"""Replies that tell of errors."""

import pytest

from kvs.adapters.inbound.resp import replies
from kvs.domain.errors import KvsError, LimitError, ResultTooLargeError, TooLargeError, UsageError
from kvs.domain.updates import INTEGER_MAX, Add, Append, Overwrite, Update


@pytest.mark.parametrize(
    ("update", "reply"),
    [
        (Add(1), b"-ERR value is not an integer or out of range\r\n"),
        (Append(b"new", 5), b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"),
        (Overwrite(3, b"new", 5), b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"),
    ],
)
def test_an_update_that_fails_is_told_in_the_words_of_redis(update: Update, reply: bytes) -> None:
    """Its clients know errors by them; the domain does not."""
    with pytest.raises(KvsError) as caught:
        update(b"old")
    assert replies.error(caught.value) == reply
    assert b"proto-max" not in str(caught.value).encode()


def test_a_sum_that_is_too_large_is_told_in_the_words_of_redis() -> None:
    """Whatever it was that was to be added."""
    with pytest.raises(UsageError) as caught:
        Add(1)(b"%d" % INTEGER_MAX)
    assert replies.error(caught.value) == b"-ERR increment or decrement would overflow\r\n"


def test_a_reply_that_is_too_large_names_the_setting() -> None:
    """The application was given a number, and does not know of what."""
    error = ResultTooLargeError(20_000)
    assert replies.error(error) == b"-LIMIT The reply would hold more than max_reply_bytes = 20000.\r\n"
    assert "max_reply_bytes" not in str(error)


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (UsageError("syntax error"), b"-ERR syntax error\r\n"),
        (TooLargeError("much"), b"-ERR much\r\n"),
        (LimitError("more"), b"-LIMIT more\r\n"),
    ],
)
def test_other_errors_say_what_they_say(error: KvsError, reply: bytes) -> None:
    """With the code of Redis for mistakes, and our own for all else."""
    assert replies.error(error) == reply
