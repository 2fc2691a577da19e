"""Storage engines, and the look-up of engines by name."""
