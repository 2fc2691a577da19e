"""``python -m kvs`` and the command ``kvs``: handles signals before anything else is imported."""

import _signal  # type: ignore[import-not-found]  # ``signal`` wraps this in enumerations, which are slow to import
import os

TYPE_CHECKING = False  # typing is slow to import, too
if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Let signals end the process silently, import the command line, which takes a while, and run it."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # which would show a traceback
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    if os.getpid() == 1:  # the kernel drops signals for which process 1 has no handler
        for number in (_signal.SIGINT, _signal.SIGTERM):
            _signal.signal(number, _end)
        # It becomes the parent of all orphans, such as those that a check of its health leaves; the kernel buries them.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
    from kvs.cli.main import main as run  # noqa: PLC0415

    run()


def _end(number: int, _: "FrameType | None") -> None:
    os._exit(128 + number)  # the exit code that a shell reports for it


if __name__ == "__main__":
    main()
