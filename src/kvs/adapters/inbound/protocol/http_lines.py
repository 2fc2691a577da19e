"""What HTTP looks like.

A web page can make a browser send HTTP, with a body of its choice, to a port on the user's own machine, so no HTTP
request must ever execute a command.
"""

import re
from typing import Final

VERSION_BYTES: Final = 9

_VERSION: Final = re.compile(rb" HTTP/[0-9]\.[0-9]\Z")


def is_request_line(line: bytes) -> bool:
    """Return whether a line, without its end, ends as the first one of an HTTP request does."""
    if line[-1:] in (b" ", b"\t"):  # else nothing is copied: a line may be long
        line = line.rstrip(b" \t")
    return _VERSION.match(line[-VERSION_BYTES:]) is not None


def is_header(verb: bytes) -> bool:
    """Return whether the first word of a line is the name of an HTTP header."""
    return verb.endswith(b":")
