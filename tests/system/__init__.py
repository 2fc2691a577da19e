"""Tests of a real ``python -m kvs`` process over real sockets."""
