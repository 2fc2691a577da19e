"""Sockets and the event loop. Nothing here knows a protocol."""
