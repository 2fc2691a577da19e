"""The storage of a server that has no data: one that stands by, whose clients are relayed before they ask for any."""

from typing import NoReturn, final

from kvs.domain.commit import CommitRequest
from kvs.domain.errors import StorageUnavailableError
from kvs.override import override
from kvs.ports.storage import Storage


@final
class AbsentStorage(Storage):
    """Refuses everything."""

    @override
    def snapshot(self) -> NoReturn:
        raise _unavailable()

    @override
    def commit(self, request: CommitRequest) -> NoReturn:
        raise _unavailable()

    @override
    def stats(self) -> dict[str, int]:
        return {"keys": 0}

    @override
    def close(self) -> None:
        pass


def _unavailable() -> StorageUnavailableError:
    return StorageUnavailableError("This server stands by, and has no data.")
