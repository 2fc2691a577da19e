"""``python -m kvs``, and the command ``kvs``: sees to signals before anything else is imported."""

import _signal  # type: ignore[import-not-found]  # what ``signal`` wraps in enumerations, which take a while to import
import os

TYPE_CHECKING = False  # that of typing takes a while to import, too
if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Have signals end the process without a word, import the command line, which takes a while, and run it."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # which would show a traceback
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    if os.getpid() == 1:  # the kernel drops signals for which process 1 has no handler
        for number in (_signal.SIGINT, _signal.SIGTERM):
            _signal.signal(number, _end)
    from kvs.cli.main import main as run  # noqa: PLC0415

    run()


def _end(number: int, _: "FrameType | None") -> None:
    os._exit(128 + number)  # the exit code that a shell reports for it


if __name__ == "__main__":
    main()
