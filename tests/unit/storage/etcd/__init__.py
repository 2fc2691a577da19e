"""Unit tests of the client of etcd."""
