"""Clients that others wrote, and servers to be compared with: Redis, its tools and libraries."""
