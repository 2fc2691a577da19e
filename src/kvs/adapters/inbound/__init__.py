"""Bytes in, bytes out: protocols, transports, and the loop that moves them."""
