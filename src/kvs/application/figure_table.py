"""The one table of figures: what INFO, ``/metrics`` and the status page call them, and what they tell.

A figure that an engine of another package gives, and that is not here, is in ``/metrics`` as ``kvs_engine_figure``.
"""

from typing import Final

from kvs.application.figures import ABORTS, COUNTER, GAUGE, HISTOGRAM, TEXT, Figure

_ALL: Final = (
    # The server.
    Figure("version", TEXT, "version of kvs", "build_info"),
    Figure("build", TEXT, "pure: plain Python; compiled: its hot modules are compiled", "build_info"),
    Figure("engine", TEXT, "name of the storage engine", "build_info"),
    Figure("uptime_s", GAUGE, "time since the server started"),
    Figure("ready", GAUGE, "1: it serves clients, itself or by relaying them to the leader; 0: it does not"),
    Figure("loop_delay_s", GAUGE, "how long the loop took to look after it was asked for these figures"),
    Figure("cpu_s", COUNTER, "processor time of the process"),
    Figure("ticks", COUNTER, "turns of the loop with something to do"),
    Figure("work_units", COUNTER, "work of all clients; a unit is about a microsecond"),
    Figure("log_events_dropped", COUNTER, "events that could not be logged"),
    Figure("audit_lines_lost", COUNTER, "lines of the audit log that could not be written"),
    Figure("audit_log_failing", GAUGE, "1: the audit log cannot be written; 0: it can, or there is none"),
    # Several servers.
    Figure("role", TEXT, "leader, or standby", in_metrics=False),
    Figure("leader", TEXT, "host and port of the leader", in_metrics=False),
    Figure("leads", GAUGE, "1: this server answers by itself; 0: it stands by, loads, or leads without etcd"),
    Figure("has_leader", GAUGE, "1: this server leads or knows who does; 0: no leader can answer"),
    Figure("standbys", GAUGE, "servers that run and stand by"),
    Figure("replica_entries", GAUGE, "entries of the journal that a standby has read"),
    # Clients.
    Figure("clients", GAUGE, "connected clients"),
    Figure("max_clients", GAUGE, "most clients at a time"),
    Figure("clients_accepted", COUNTER, "clients that have connected"),
    Figure("clients_refused", COUNTER, "clients that were refused because there were too many"),
    Figure("authentications", COUNTER, "attempts to authenticate with a right secret"),
    Figure("authentication_failures", COUNTER, "attempts to authenticate with a wrong secret"),
    Figure("password_checks", COUNTER, "passwords that threads have hashed, to check them"),
    Figure(
        "tls_certificate_expires",
        GAUGE,
        "when the certificate expires, in seconds since 1970",
        "tls_certificate_expiry_timestamp_seconds",
    ),
    Figure("tls_handshakes", COUNTER, "connections that TLS has secured"),
    Figure("tls_handshakes_failed", COUNTER, "connections whose handshake failed, or took too long"),
    Figure("received_bytes", COUNTER, "bytes received from clients"),
    Figure("sent_bytes", COUNTER, "bytes given to the kernel, or waiting to be, for clients"),
    Figure("tracking_clients", GAUGE, "clients that track keys"),
    Figure("tracked_keys", GAUGE, "keys in the table of those that clients track"),
    Figure("admin_requests", COUNTER, "requests to the admin port, by status", "admin_requests", "status"),
    # Commands.
    Figure("command_ns", HISTOGRAM, "how long commands took, by command", "command_duration_seconds", "command"),
    Figure("commands_failed", COUNTER, "commands that were answered with an error", "commands_failed", "command"),
    Figure("commands_refused", COUNTER, "commands that were not run: not allowed then", "commands_refused", "command"),
    Figure("errors", COUNTER, "replies that are errors, by code", "errors", "code"),
    Figure("slow_commands", COUNTER, "commands that came into the slow log"),
    Figure("keyspace_hits", COUNTER, "keys that were read and had a value"),
    Figure("keyspace_misses", COUNTER, "keys that were read and had none"),
    # Transactions.
    Figure("open_transactions", GAUGE, "clients inside a transaction"),
    Figure("oldest_snapshot_s", GAUGE, "age of the oldest open transaction", "oldest_transaction_seconds"),
    Figure("transactions_bytes", GAUGE, "memory of open transactions and watched keys", "open_transactions_bytes"),
    Figure("largest_transaction_bytes", GAUGE, "memory of the largest open transaction"),
    Figure("commits", COUNTER, "outermost COMMITs that succeeded"),
    Figure("conflicts", COUNTER, "outermost COMMITs that ended in a conflict"),
    Figure("aborts", COUNTER, "transactions ended by the server", in_metrics=False),
    Figure(ABORTS, COUNTER, "transactions ended by the server, by why the connection ended", "aborts", "reason"),
    # Expiry.
    Figure("expired_keys", COUNTER, "keys deleted because their deadline was reached"),
    Figure("expiry_lag_s", GAUGE, "time since the earliest deadline of a key that has not been deleted"),
    Figure("server_time_ahead_ms", GAUGE, "by how much the server's time is ahead of the clock of the machine"),
    # Memory.
    Figure("resident_bytes", GAUGE, "memory of the process that is resident", "resident_memory_bytes"),
    Figure("malloc_bytes", GAUGE, "memory that the C library has taken from the system"),
    Figure("malloc_free_bytes", GAUGE, "memory that the C library has taken and that is free"),
    Figure("clients_bytes", GAUGE, "input, unread output and transactions of all clients"),
    Figure("max_clients_bytes", GAUGE, "limit of input, output and transactions of all clients"),
    Figure("held_output_bytes", GAUGE, "replies that wait for commits to be durable"),
    # Engines.
    Figure("keys", GAUGE, "committed keys"),
    Figure("deadlines", GAUGE, "keys that expire", "expiring_keys"),
    Figure("snapshots", GAUGE, "different commits that open transactions see"),
    Figure("history_bytes", GAUGE, "old versions kept for open snapshots"),
    Figure("max_history_bytes", GAUGE, "limit of old versions"),
    Figure("data_bytes", GAUGE, "size of the data, if there is a limit"),
    Figure("max_data_bytes", GAUGE, "limit of the data, if there is one"),
    Figure("append_ns", HISTOGRAM, "how long the disk, or etcd, took for a batch", "append_duration_seconds"),
    Figure("batch_rows", HISTOGRAM, "keys written in a batch", "batch_keys"),
    Figure("batches_in_flight", GAUGE, "ticks whose commits are being made durable"),
    Figure("in_flight_bytes", GAUGE, "memory of commits that are being made durable"),
    Figure("journal_rows", GAUGE, "rows of the journal that are not compacted"),
    Figure("journal_bytes", GAUGE, "size of the journal behind the last compaction or checkpoint"),
    Figure("term", GAUGE, "term of the leader"),
    Figure("journal_entries", GAUGE, "number of the last entry of the journal"),
    Figure("checkpoint_entry", GAUGE, "the last entry that the last checkpoint has"),
    Figure("checkpoint_age_s", GAUGE, "time since the last checkpoint"),
    Figure("clock_ahead_ms", GAUGE, "by how much the clock of the machine is ahead of the server's time"),
    Figure("etcd_bytes", GAUGE, "size of the largest file of etcd's members"),
    Figure("etcd_used_bytes", GAUGE, "space of etcd that is in use"),
    Figure("etcd_quota_bytes", GAUGE, "space that etcd may have"),
)

FIGURES: Final = {figure.name: figure for figure in _ALL}
"""Every figure by its name, in the order of ``/metrics``."""

ENGINE_FIGURE: Final = Figure("engine_figure", GAUGE, "figures of an engine of another package", label="name")
