"""What takes a while about changes of chosen passwords, for a thread to find out."""

from typing import Final, final

from kvs.application.secret_hashes import DEFAULT, Parameters, hash_password, is_password


@final
class Passwords:
    """What has been found out.

    Attributes:
        present: The hash of each password that the user has already.
        hashes: A new hash of each password to be added, also of one that is present: a rule before may remove that.
    """

    def __init__(self) -> None:
        self.present: dict[bytes, str] = {}
        self.hashes: dict[bytes, str] = {}


@final
class PasswordJob:
    """Finds out which of some passwords a user has, and hashes those to be added.

    Args:
        existing: The hashes of the passwords that the user has.
        added: Passwords to be added.
        removed: Passwords to be removed.
        parameters: What a new hash costs.

    Attributes:
        found: What has been found out.
        finished: Set by who runs it, on the loop.
        failed: There was no memory.
    """

    def __init__(
        self,
        existing: tuple[str, ...],
        added: list[bytes],
        removed: list[bytes],
        parameters: Parameters = DEFAULT,
    ) -> None:
        self._existing = existing
        self._added = added
        self._removed = removed
        self._parameters = parameters
        self.found: Final = Passwords()
        self.finished = False
        self.failed = False

    def run(self) -> None:
        """Take a fifth of a second, usually, for each hash that is made or compared. On a thread."""
        try:
            for password in dict.fromkeys([*self._added, *self._removed]):
                for text in self._existing:
                    if is_password(password, text):
                        self.found.present[password] = text
            for password in dict.fromkeys(self._added):
                self.found.hashes[password] = hash_password(password, self._parameters)
        except Exception:  # noqa: BLE001  # no memory, above all
            self.failed = True
