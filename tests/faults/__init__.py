"""Faults, enumerated: kills, failing disks, power loss, damaged files, for the engine that keeps its data on disk."""
