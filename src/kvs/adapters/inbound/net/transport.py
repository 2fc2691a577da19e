"""What each backend implements for a channel, under the names that asyncio's transports have."""

from abc import abstractmethod

from kvs.adapters.inbound.net.tick_member import TickMember


class Transport(TickMember):
    """One socket."""

    __slots__ = ()

    @abstractmethod
    def write(self, output: list[bytes], size: int) -> None:
        """Send pieces of so many bytes, and keep the rest.

        Call ``pause_writing`` and ``resume_writing`` of the channel alternately.
        """

    @abstractmethod
    def write_sealed(self, data: bytes) -> None:
        """Send ciphertext that TLS has made by itself, behind all that was sealed before."""

    @abstractmethod
    def get_write_buffer_size(self) -> int:
        """Return the number of buffered bytes."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the descriptor of the socket, or -1 if it is closed."""

    @abstractmethod
    def find_local_address(self) -> str:
        """Return the address that the client has connected to; empty if the socket is closed."""

    @abstractmethod
    def unread_bytes(self) -> int:
        """Return the size of input in the kernel's buffer."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Stop reading."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read again."""

    @abstractmethod
    def write_eof(self) -> None:
        """Shut down the sending side after the last of the output."""

    @abstractmethod
    def close(self) -> None:
        """Close after the last of the output."""

    @abstractmethod
    def abort(self) -> None:
        """Close now; output that has not been sent is lost."""
