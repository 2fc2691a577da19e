"""What every engine owes, run for each engine."""
