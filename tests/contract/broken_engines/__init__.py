"""Engines that are each broken in one way, and by name the promise that each of them breaks.

``NaiveStorage``, ``LockedStorage`` and the example ``WholeFileStorage`` are right. Every class that is entered with
``breaks`` is one of them with one fault, and the contract has to find it out: see ``test_broken_engines.py``. A case
that no engine here fails might hold nothing, so a new case comes with the engine that it is there for.
"""

from tests.contract.broken_engines import changes, commits, durability, reads, records, snapshots, threads, updates
from tests.contract.broken_engines.faults import FAULTS, Fault

__all__ = ["FAULTS", "Fault", "changes", "commits", "durability", "reads", "records", "snapshots", "threads", "updates"]
