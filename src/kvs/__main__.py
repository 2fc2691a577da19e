"""``python -m kvs``, and the command ``kvs``: the only part that runs before a signal can be dealt with."""

import os
import signal
from types import FrameType


def main() -> None:
    """Import the command line, which takes a while, and run it; a signal meanwhile ends the process without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # which would show a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getpid() == 1:  # for whom the kernel drops what has no handler
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end)
    from kvs.cli.main import main as run  # noqa: PLC0415

    run()


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)  # as a shell tells of it


if __name__ == "__main__":
    main()
