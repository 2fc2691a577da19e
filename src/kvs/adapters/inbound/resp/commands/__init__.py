"""The commands of RESP."""
