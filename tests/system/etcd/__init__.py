"""The client of etcd, with real clusters."""
