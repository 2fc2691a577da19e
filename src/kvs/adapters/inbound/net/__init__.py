"""Sockets and the event loop, independent of protocols."""
