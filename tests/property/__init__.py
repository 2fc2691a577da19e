"""Random commands from several sessions, every reply predicted."""
