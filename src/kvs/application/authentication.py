"""Finds out whether a secret is that of a user, without holding up the loop, and without telling anything else.

What can be answered at once is: a token, whose hash is quick; a password that has been checked before, which is
remembered by a keyed hash; a user that needs no secret. All else waits in a queue for a thread, whatever is wrong with
it. So what an attacker can measure is the same for an unknown user, for one that is switched off, for one without a
password, and for a wrong secret: the queue, and then as many slow hashes as some user has.

The queue has a place per address (of IPv6: per network of 64 bits). Places are served in turn, so an address that
fails ten thousand times waits behind itself. An address that has failed several times has to wait before its
next check; a right secret that can be answered at once never waits. Attempts with the same name and secret share one
check, so a thousand clients of one user that start together cost one.
"""

import hmac
import os
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, final

from kvs.application import secret_hashes
from kvs.application.attempts import Attempt, Check, Done, Place
from kvs.application.background import Background, Loop
from kvs.application.executor import Job
from kvs.application.failures import Failures, network_of
from kvs.application.secret_hashes import MAX_SECRET_BYTES, Parameters, ProcessKey
from kvs.application.users import User, Users
from kvs.domain.accounts import Account
from kvs.log_type import FilteringBoundLogger

THREADS: Final = max(1, min(4, (os.cpu_count() or 1) // 2))
"""Threads that check passwords: half of the processors, since the loop needs one."""

UNKNOWN: Final = "(unknown)"
"""In the log, in place of the name of a user that there is not: it may be a secret in the wrong place."""

_NO_ACCOUNT: Final = Account()
_NO_MAC: Final = bytes(32)
_NO_TOKENS: Final = ("-" * 64,)


@final
class Authenticator:
    """Checks secrets.

    Concurrency: on the loop only.

    Args:
        users: The users.
        key: Key of this process, which those who remember secrets share.
        background: Threads for checks of passwords.
        threads: How many it has.
        loop: Returns the running loop.
        clock: Monotonic seconds.
        log: Bound logger.

    Attributes:
        succeeded: Attempts whose secret was right.
        failed: Attempts whose secret was wrong.
        checks: Passwords that threads have checked.
    """

    def __init__(
        self,
        users: Users,
        key: ProcessKey,
        background: Background,
        threads: int,
        loop: Callable[[], Loop],
        clock: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self.succeeded = 0
        self.failed = 0
        self.checks = 0
        self._users = users
        self._background = background
        self._threads = threads
        self._loop = loop
        self._clock = clock
        self._log = log
        self._key = key
        self._failures = Failures()
        self._shapes: list[tuple[Parameters, ...]] = []
        self._shapes_version = -1
        self._epoch = 0
        self._bound: Loop | None = None
        self._places: dict[bytes, Place] = {}
        self._ready: deque[Place] = deque()
        self._later: list[tuple[float, int, Place]] = []
        self._pushed = 0
        self._same: dict[bytes, dict[Attempt, None]] = {}
        self._flying: set[bytes] = set()
        self._in_flight = 0
        self._timer_s = float("inf")

    @property
    def checking(self) -> int:
        """How many passwords threads are checking."""
        return self._in_flight

    @property
    def is_busy(self) -> bool:
        """Whether anything is left of any attempt, but for failures."""
        return bool(self._places or self._same or self._flying or self._in_flight)

    @property
    def waiting(self) -> int:
        """How many attempts have not been answered."""
        return sum([len(attempts) for attempts in self._same.values()])

    def check(self, name: str, secret: bytes, address: str, done: Done) -> Attempt:
        """Find out whether a secret is that of a user.

        Args:
            name: Name of the user.
            secret: The secret.
            address: Where it comes from, as :attr:`Peer.address` has it.
            done: Called on the loop when the answer is there, unless it is when this method returns.
        """
        if len(secret) > MAX_SECRET_BYTES:
            secret = b""
        mac = self._key.hash(name, secret)
        attempt = Attempt(name, secret, address, mac, done)
        user = self._known(name, secret, mac)
        if user is not None:
            self.succeeded += 1
            attempt.finish(user)
            return attempt
        self._bind()
        key = network_of(address)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place(key)
        place.attempts[attempt] = None
        attempt.place = place
        self._same.setdefault(mac, {})[attempt] = None
        self._queue(place)
        self._serve()
        attempt.deferred = not attempt.finished
        return attempt

    def cancel(self, attempt: Attempt) -> None:
        """Forget an attempt whose client has left. If it is being checked, it counts all the same."""
        if not attempt.finished:
            attempt.forget()
            self._take(attempt)
            attempt.finish(None)

    def run(self, job: Job, done: Job) -> None:
        """Have a job about passwords run by a thread, and then a callback by the loop. The job must not raise.

        Raises:
            RuntimeError: No thread can be started.
        """
        self._background.run(job, done)

    # What can be answered at once.

    def _known(self, name: str, secret: bytes, mac: bytes) -> User | None:
        """Return the user if that is known at once. All users cost the same, as does none."""
        user = self._users.get(name)
        account = _NO_ACCOUNT if user is None else user.account
        right = user is not None and user.nopass
        token = secret_hashes.hash_token(secret)
        for each in account.tokens or _NO_TOKENS:
            right |= hmac.compare_digest(token, each)
        for each in account.passwords:
            remembered = _NO_MAC if user is None else user.remembered.get(each, _NO_MAC)
            right |= hmac.compare_digest(mac, remembered)
        given = _NO_MAC if user is None or not user.given else user.given
        right |= hmac.compare_digest(mac, given)
        return user if user is not None and right and user.enabled else None

    # The queue.

    def _bind(self) -> None:
        """Begin anew if another loop runs: what waited for the former one has gone with it."""
        loop = self._loop()
        if loop is not self._bound:
            self._bound = loop
            self._epoch += 1
            self._places, self._same = {}, {}
            self._ready, self._later = deque(), []
            self._flying = set()
            self._in_flight, self._timer_s = 0, float("inf")

    def _queue(self, place: Place) -> None:
        """Have a place served, as soon as its address may try again."""
        if place.is_queued or (place.checks and self._failures.has(place.key)):
            return  # in the second case, it is queued when the check ends
        place.is_queued = True
        not_before_s = self._failures.not_before_s(place.key)
        if not_before_s > self._clock():
            self._pushed += 1
            heappush(self._later, (not_before_s, self._pushed, place))
        else:
            self._ready.append(place)

    def _serve(self) -> None:
        """Start checks, a place after the other, as long as there are threads."""
        now_s = self._clock()
        while self._later and self._later[0][0] <= now_s:
            self._ready.append(heappop(self._later)[2])
        while self._ready and self._in_flight < self._threads:
            place = self._ready.popleft()
            place.is_queued = False
            if not place.attempts:
                self._look_after(place)
                continue
            if self._failures.not_before_s(place.key) > now_s:
                self._queue(place)
                continue
            attempt = next(iter(place.attempts))
            del place.attempts[attempt]  # it still knows the place
            if attempt.mac not in self._flying:  # or the answer is on its way
                self._start(attempt, place)
            if place.attempts:
                self._queue(place)
        self._set_timer(now_s)

    def _set_timer(self, now_s: float) -> None:
        if self._later and self._later[0][0] < self._timer_s and self._bound is not None:
            self._timer_s = self._later[0][0]
            self._bound.call_later(max(0.0, self._timer_s - now_s), self._wake)

    def _wake(self) -> None:
        self._timer_s = float("inf")
        self._serve()

    def _start(self, attempt: Attempt, place: Place) -> None:
        user = self._users.get(attempt.name)
        hashes = () if user is None else user.account.passwords
        waste = () if hashes else self.shape_of(attempt.name)
        check = Check(self._checked, attempt, place, hashes, waste, self._epoch)
        self._in_flight += 1
        self._flying.add(attempt.mac)
        place.checks += 1
        try:
            if hashes or waste:
                self._background.run(check.run, check.finish)
                self.checks += 1
                return
        except RuntimeError:  # there is no thread
            pass
        self._settle(check)

    def _checked(self, check: Check) -> None:
        if check.epoch == self._epoch:
            self._settle(check)
            self._serve()

    def _settle(self, check: Check) -> None:
        """Answer all who wanted to know what a check has found."""
        first, place = check.attempt, check.place
        self._in_flight -= 1
        self._flying.discard(first.mac)
        place.checks -= 1
        user = self._users.get(first.name)
        if user is not None and check.found in user.account.passwords:
            user.remembered[check.found] = first.mac
        else:
            user = None
        if user is not None and not user.enabled:
            user = None
        attempts = list(self._same.get(first.mac, ()))
        for attempt in attempts:
            self._take(attempt)
        told: list[tuple[Attempt, int]] = []
        if user is not None:
            self.succeeded += len(attempts)
        else:
            told = self._slow_down(attempts if first in attempts else [*attempts, first])
        self._look_after(place)
        for attempt in attempts:
            attempt.finish(user)
        self._tell(told)

    def _look_after(self, place: Place) -> None:
        """Have a place served if anything waits there, or forget it."""
        if place.attempts:
            self._queue(place)
        elif not place.is_queued and not place.checks:
            self._places.pop(place.key, None)

    def _slow_down(self, attempts: list[Attempt]) -> list[tuple[Attempt, int]]:
        """Slow the addresses of failed attempts down; return what to log: an attempt of each, and a number."""
        now_s = self._clock()
        by_network: dict[bytes, list[Attempt]] = {}
        for attempt in attempts:
            by_network.setdefault(network_of(attempt.address), []).append(attempt)
        self.failed += len(attempts)
        return [(failed[0], self._failures.add(network, len(failed), now_s)) for network, failed in by_network.items()]

    def _tell(self, told: list[tuple[Attempt, int]]) -> None:
        for attempt, number in told:
            if number:
                known = self._users.get(attempt.name) is not None
                self._log.warning(
                    "authentication_failed",
                    peer=attempt.address,
                    user=attempt.name if known else UNKNOWN,
                    failures=number,
                )

    def _take(self, attempt: Attempt) -> None:
        """Take an attempt out of the queue."""
        same = self._same.get(attempt.mac)
        if same is not None:
            same.pop(attempt, None)
            if not same:
                del self._same[attempt.mac]
        place, attempt.place = attempt.place, None
        if place is not None:
            place.attempts.pop(attempt, None)
            self._look_after(place)

    def shape_of(self, name: str) -> tuple[Parameters, ...]:
        """Return what a user without a password seems to have: the same as some other user, always the same one."""
        if self._shapes_version != self._users.version:
            self._shapes_version = self._users.version
            self._shapes = sorted(
                [
                    tuple([secret_hashes.parameters_of(text) for text in user.account.passwords])
                    for user in self._users.all()
                    if user.account.passwords
                ]
            )
        if not self._shapes:
            return ()
        return self._shapes[int.from_bytes(self._key.hash(name)[:8], "big") % len(self._shapes)]
