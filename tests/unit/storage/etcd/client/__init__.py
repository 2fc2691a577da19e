"""Tests of the client of etcd."""
