"""The engine whose journal is in etcd."""
