"""Makes what watches requests: the observation of a server, and the audit log of its settings."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from kvs.adapters.inbound.protocol.audit import Audit
from kvs.adapters.inbound.protocol.observation import Observation
from kvs.application.users import Users
from kvs.audit_file import AuditFile
from kvs.config import ConfigError, Settings
from kvs.log_type import FilteringBoundLogger
from kvs.ports.storage import Storage
from kvs.standard_streams import BackgroundStream, reason_of


def dropped_events(stderr: BackgroundStream) -> Callable[[], int]:
    """Return a function that returns how many events could not be logged."""
    return lambda: stderr.dropped


def audit_figures(audit: Audit | None) -> Callable[[], Mapping[str, int]]:
    """Return a function that returns how the audit log fares."""
    return audit.figures if audit is not None else lambda: {"audit_lines_lost": 0, "audit_log_failing": 0}


def make_observation(settings: Settings, storage: Storage, audit: Audit | None) -> Observation:
    """Return the observation of a server."""
    made = Observation(
        slowlog_log_slower_than=settings.slowlog_log_slower_than,
        slowlog_max_len=settings.slowlog_max_len,
        audit=audit,
    )
    if storage.blocking:
        made.use_workers()
    return made


def opened_audit(settings: Settings, version: str, log: FilteringBoundLogger, users: Users) -> Iterator[Audit | None]:
    """Open the audit log, and write what waits for it at the end. A provider of one resource.

    Raises:
        ConfigError: It is required, and there is none, or it cannot be opened.
    """
    if settings.audit_log:
        with _opened(settings, version, log, users) as audit:
            yield audit
    elif settings.audit_required:
        raise ConfigError("audit_required: there is no audit_log; name its file: --audit-log FILE")
    else:
        yield None


@contextmanager
def _opened(settings: Settings, version: str, log: FilteringBoundLogger, users: Users) -> Iterator[Audit]:
    path = os.path.abspath(settings.audit_log)  # noqa: PTH100  # a link in it may be changed by who rotates
    file = AuditFile(path, settings.max_log_buffer_bytes, _reporting(log, path))
    try:
        file.open()
    except OSError as error:
        if settings.audit_required:
            raise ConfigError(f"audit_log: cannot open {path}: {reason_of(error)}; and audit_required is set") from None
    audit = Audit(
        file,
        time.time,
        all_commands=settings.audit_commands == "all",
        required=settings.audit_required,
        is_user=lambda name: users.get(name) is not None,
    )
    file.notice = audit.notice
    audit.tell("started", pid=os.getpid(), version=version)
    try:
        yield audit
    finally:
        audit.tell("stopped", pid=os.getpid())
        file.finish()


def _reporting(log: FilteringBoundLogger, path: str) -> Callable[[str], None]:
    def report(trouble: str) -> None:
        if trouble:
            log.warning("audit_log_failed", path=path, reason=trouble)
        else:
            log.info("audit_log_works", path=path)

    return report
